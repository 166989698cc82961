/*
 * A whole virtual machine in one file, in the manner of https://zserge.com/posts/kvm/: 64 KiB of
 * memory, one vCPU in real mode, a guest that counts on port 0x10 and halts.
 *
 * Usage: demo [DEVICE], DEVICE being /dev/kvm unless given. Prints what the guest wrote; exits with
 * 0 if it halted, and with 77 if KVMSHIM_EXPECT=1 is set and something else than kvmshim answers.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define KVMSHIM_CAP_IDENTITY 0x6b76736d
#define RAM_SIZE 0x10000

extern const uint8_t demo_guest[], demo_guest_end[];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int open_device(const char *path)
{
	int kvm = open(path, O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die(path);

	const char *expect = getenv("KVMSHIM_EXPECT");
	if (expect && !strcmp(expect, "1") &&
	    ioctl(kvm, KVM_CHECK_EXTENSION, KVMSHIM_CAP_IDENTITY) != KVMSHIM_CAP_IDENTITY) {
		fprintf(stderr, "%s is not served by kvmshim\n", path);
		exit(77);
	}
	return kvm;
}

static int create_vm(int kvm)
{
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		die("KVM_CREATE_VM");

	uint8_t *ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ram == MAP_FAILED)
		die("mmap of the guest's memory");
	memcpy(ram, demo_guest, demo_guest_end - demo_guest);

	struct kvm_userspace_memory_region region = {
		.slot = 0,
		.guest_phys_addr = 0,
		.memory_size = RAM_SIZE,
		.userspace_addr = (uintptr_t)ram,
	};
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		die("KVM_SET_USER_MEMORY_REGION");
	return vm;
}

static void start_at_zero(int vcpu)
{
	struct kvm_sregs sregs;
	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		die("KVM_GET_SREGS");
	sregs.cs.selector = 0;
	sregs.cs.base = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0)
		die("KVM_SET_SREGS");

	struct kvm_regs regs = { .rip = 0, .rflags = 2 };
	if (ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
		die("KVM_SET_REGS");
}

static void run(int vcpu, struct kvm_run *state)
{
	for (;;) {
		if (ioctl(vcpu, KVM_RUN, 0) < 0)
			die("KVM_RUN");

		switch (state->exit_reason) {
		case KVM_EXIT_IO: {
			/* The guest writes 16 bits; the post prints an int, so the rest must be 0. */
			uint32_t value;
			memcpy(&value, (uint8_t *)state + state->io.data_offset, sizeof value);
			printf("port 0x%x: %u\n", state->io.port, value);
			break;
		}
		case KVM_EXIT_HLT:
			puts("the guest halted");
			return;
		case KVM_EXIT_SHUTDOWN:
			puts("the guest shut down");
			return;
		default:
			fprintf(stderr, "exit reason %u\n", state->exit_reason);
			exit(1);
		}
	}
}

int main(int argc, char **argv)
{
	int kvm = open_device(argc > 1 ? argv[1] : "/dev/kvm");
	int vm = create_vm(kvm);
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		die("KVM_CREATE_VCPU");

	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < 0)
		die("KVM_GET_VCPU_MMAP_SIZE");
	struct kvm_run *state = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (state == MAP_FAILED)
		die("mmap of kvm_run");

	start_at_zero(vcpu);
	run(vcpu, state);
	return 0;
}
