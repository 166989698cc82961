/*
 * A guest in 32-bit protected mode without paging. It is entered on cached descriptors alone: the
 * selectors keep their reset values and there is no GDT until the guest loads its own. The guest
 * then provokes #DE, #UD and #GP, handles them and says so on port 0xe9; the error code of #GP
 * comes on port 0x21.
 */
#include "guest.h"
#include "vm.h"

#include <stdio.h>
#include <sys/ioctl.h>

#define RAM_SIZE 0x10000

static const char expected[] = "protected mode\n"
			       "#DE handled\n"
			       "#UD handled\n"
			       "#GP handled\n"
			       "done\n";

static void enter_protected_mode(const struct vcpu *vcpu)
{
	struct kvm_sregs sregs;
	CHECK(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0);
	struct kvm_segment *segments[] = { &sregs.cs, &sregs.ds, &sregs.es, &sregs.ss };
	for (unsigned i = 0; i < sizeof segments / sizeof *segments; i++) {
		segments[i]->base = 0;
		segments[i]->limit = 0xffffffff;
		segments[i]->g = 1;
		segments[i]->db = 1;
	}
	sregs.cr0 |= 1;
	CHECK(ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) == 0);

	struct kvm_regs regs = { .rip = GUEST_CODE, .rsp = RAM_SIZE, .rflags = 2 };
	vcpu_set_regs(vcpu, &regs);
}

/* Appends what an OUT to port 0xe9 carries. */
static size_t collect(const struct vcpu *vcpu, char *text, size_t length, size_t capacity)
{
	const struct kvm_run *run = vcpu->run;
	size_t bytes = (size_t)run->io.size * run->io.count;
	CHECK(length + bytes < capacity);
	memcpy(text + length, (const uint8_t *)run + run->io.data_offset, bytes);
	return length + bytes;
}

int main(int argc, char **argv)
{
	int kvm = kvm_open(argc, argv);
	int vm = vm_create(kvm);
	uint8_t *ram = ram_map(RAM_SIZE);
	LOAD_GUEST(ram + GUEST_CODE, protected_guest);
	vm_set_memory(vm, 0, 0, ram, RAM_SIZE);
	struct vcpu vcpu = vcpu_create(kvm, vm, 0);
	enter_protected_mode(&vcpu);

	char text[256] = "";
	size_t length = 0;
	uint32_t error_code = 0;
	while (vcpu_run(&vcpu) == KVM_EXIT_IO) {
		CHECK(vcpu.run->io.direction == KVM_EXIT_IO_OUT);
		if (vcpu.run->io.port == 0xe9)
			length = collect(&vcpu, text, length, sizeof text);
		else
			error_code = vcpu_io_value(&vcpu);
	}
	fwrite(text, 1, length, stdout);
	printf("error code of #GP: 0x%x\n", error_code);

	CHECK(vcpu.run->exit_reason == KVM_EXIT_HLT);
	CHECK(!strcmp(text, expected));
	CHECK(error_code == 0x30);
	return 0;
}
