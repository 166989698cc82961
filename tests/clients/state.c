#include "state.h"

#include <sys/ioctl.h>

void state_prepare(int kvm, struct vcpu_state *state)
{
	static struct {
		struct kvm_msr_list head;
		uint32_t indices[STATE_MAX_MSRS];
	} list;
	list.head.nmsrs = STATE_MAX_MSRS;
	CHECK(ioctl(kvm, KVM_GET_MSR_INDEX_LIST, &list) == 0);
	state->msrs.head.nmsrs = list.head.nmsrs;
	for (unsigned i = 0; i < list.head.nmsrs; i++)
		state->msrs.entries[i].index = list.indices[i];
	CHECK(ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2) <= (int)sizeof state->xsave);
}

void state_save_vcpu(const struct vcpu *vcpu, struct vcpu_state *state)
{
	int fd = vcpu->fd;
	CHECK(ioctl(fd, KVM_GET_MP_STATE, &state->mp_state) == 0);
	CHECK(ioctl(fd, KVM_GET_REGS, &state->regs) == 0);
	CHECK(ioctl(fd, KVM_GET_SREGS, &state->sregs) == 0);
	CHECK(ioctl(fd, KVM_GET_XSAVE2, state->xsave) == 0);
	CHECK(ioctl(fd, KVM_GET_XCRS, &state->xcrs) == 0);
	CHECK(ioctl(fd, KVM_GET_DEBUGREGS, &state->debugregs) == 0);
	CHECK(ioctl(fd, KVM_GET_LAPIC, &state->lapic) == 0);
	state->tsc_khz = ioctl(fd, KVM_GET_TSC_KHZ, 0);
	CHECK(state->tsc_khz > 0);
	state->cpuid.head.nent = STATE_MAX_CPUID;
	CHECK(ioctl(fd, KVM_GET_CPUID2, &state->cpuid) == 0);
	CHECK(ioctl(fd, KVM_GET_MSRS, &state->msrs) == (int)state->msrs.head.nmsrs);
	CHECK(ioctl(fd, KVM_GET_VCPU_EVENTS, &state->events) == 0);
}

void state_restore_vcpu(const struct vcpu *vcpu, const struct vcpu_state *state)
{
	int fd = vcpu->fd;
	CHECK(ioctl(fd, KVM_SET_CPUID2, &state->cpuid) == 0);
	CHECK(ioctl(fd, KVM_SET_TSC_KHZ, state->tsc_khz) == 0);
	CHECK(ioctl(fd, KVM_SET_MP_STATE, &state->mp_state) == 0);
	CHECK(ioctl(fd, KVM_SET_REGS, &state->regs) == 0);
	CHECK(ioctl(fd, KVM_SET_SREGS, &state->sregs) == 0);
	CHECK(ioctl(fd, KVM_SET_XSAVE, state->xsave) == 0);
	CHECK(ioctl(fd, KVM_SET_XCRS, &state->xcrs) == 0);
	CHECK(ioctl(fd, KVM_SET_DEBUGREGS, &state->debugregs) == 0);
	CHECK(ioctl(fd, KVM_SET_LAPIC, &state->lapic) == 0);
	CHECK(ioctl(fd, KVM_SET_MSRS, &state->msrs) == (int)state->msrs.head.nmsrs);
	CHECK(ioctl(fd, KVM_SET_VCPU_EVENTS, &state->events) == 0);
}

void state_save_vm(int vm, struct vm_state *state)
{
	CHECK(ioctl(vm, KVM_GET_CLOCK, &state->clock) == 0);
	state->clock.flags = 0; /* the clock goes on from the value, whatever the time */
	CHECK(ioctl(vm, KVM_GET_PIT2, &state->pit) == 0);
	for (unsigned id = 0; id < 3; id++) {
		state->chips[id].chip_id = id;
		CHECK(ioctl(vm, KVM_GET_IRQCHIP, &state->chips[id]) == 0);
	}
}

void state_restore_vm(int vm, struct vm_state *state)
{
	CHECK(ioctl(vm, KVM_SET_PIT2, &state->pit) == 0);
	CHECK(ioctl(vm, KVM_SET_CLOCK, &state->clock) == 0);
	for (unsigned id = 0; id < 3; id++)
		CHECK(ioctl(vm, KVM_SET_IRQCHIP, &state->chips[id]) == 0);
}
