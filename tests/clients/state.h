/*
 * All that KVM knows of a vCPU and of a VM, taken out and put into others. Saving makes no system
 * call but ioctl, so that a confined thread can do it.
 */
#ifndef KVMSHIM_TESTS_CLIENTS_STATE_H
#define KVMSHIM_TESTS_CLIENTS_STATE_H

#include "vm.h"

#define STATE_MAX_MSRS 512
#define STATE_MAX_CPUID 256
#define STATE_XSAVE_WORDS 4096

struct vcpu_state {
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	int tsc_khz;
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[STATE_MAX_CPUID];
	} cpuid;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[STATE_MAX_MSRS];
	} msrs;
	uint32_t xsave[STATE_XSAVE_WORDS]; /* struct kvm_xsave and what KVM_GET_XSAVE2 has behind it */
};

struct vm_state {
	struct kvm_irqchip chips[3];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
};

/* Which MSRs to save: those of KVM_GET_MSR_INDEX_LIST. */
void state_prepare(int kvm, struct vcpu_state *state);

void state_save_vcpu(const struct vcpu *vcpu, struct vcpu_state *state);
void state_restore_vcpu(const struct vcpu *vcpu, const struct vcpu_state *state);

/* The VM's controllers and its clock. */
void state_save_vm(int vm, struct vm_state *state);
void state_restore_vm(int vm, struct vm_state *state);

#endif
