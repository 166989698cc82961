#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define KVMSHIM_CAP_IDENTITY 0x6b76736d

_Noreturn void check_failed(const char *condition, const char *file, int line)
{
	fprintf(stderr, "%s:%d: %s does not hold (errno: %s)\n", file, line, condition,
		strerror(errno));
	exit(1);
}

int kvm_open(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "/dev/kvm";
	int kvm = open(path, O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		perror(path);
		exit(1);
	}

	const char *expect = getenv("KVMSHIM_EXPECT");
	if (expect && !strcmp(expect, "1") &&
	    ioctl(kvm, KVM_CHECK_EXTENSION, KVMSHIM_CAP_IDENTITY) != KVMSHIM_CAP_IDENTITY) {
		fprintf(stderr, "%s is not served by kvmshim\n", path);
		exit(77);
	}
	return kvm;
}

int vm_create(int kvm)
{
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	CHECK(vm >= 0);
	return vm;
}

uint8_t *ram_map(size_t size)
{
	void *ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(ram != MAP_FAILED);
	return ram;
}

void vm_set_memory(int vm, uint32_t slot, uint64_t gpa, void *host, uint64_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};
	CHECK(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
}

struct vcpu vcpu_create(int kvm, int vm, unsigned id)
{
	struct vcpu vcpu = { .fd = ioctl(vm, KVM_CREATE_VCPU, id) };
	CHECK(vcpu.fd >= 0);

	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	CHECK(size >= (int)sizeof(struct kvm_run));
	vcpu.run_size = size;
	vcpu.run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.fd, 0);
	CHECK(vcpu.run != MAP_FAILED);
	return vcpu;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	CHECK(munmap(vcpu->run, vcpu->run_size) == 0);
	CHECK(close(vcpu->fd) == 0);
	vcpu->fd = -1;
}

void vcpu_enter_real_mode(const struct vcpu *vcpu, uint16_t ip)
{
	struct kvm_sregs sregs;
	CHECK(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0);
	sregs.cs.selector = 0;
	sregs.cs.base = 0;
	sregs.ds.limit = sregs.es.limit = 0xffffffff;
	sregs.ds.g = sregs.es.g = 1;
	CHECK(ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) == 0);

	struct kvm_regs regs = { .rip = ip, .rflags = 2 };
	vcpu_set_regs(vcpu, &regs);
}

struct kvm_regs vcpu_get_regs(const struct vcpu *vcpu)
{
	struct kvm_regs regs;
	CHECK(ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0);
	return regs;
}

void vcpu_set_regs(const struct vcpu *vcpu, const struct kvm_regs *regs)
{
	CHECK(ioctl(vcpu->fd, KVM_SET_REGS, regs) == 0);
}

uint32_t vcpu_run(const struct vcpu *vcpu)
{
	CHECK(ioctl(vcpu->fd, KVM_RUN, 0) == 0);
	return vcpu->run->exit_reason;
}

uint32_t vcpu_io_value(const struct vcpu *vcpu)
{
	uint32_t value;
	memcpy(&value, (uint8_t *)vcpu->run + vcpu->run->io.data_offset, sizeof value);
	return value;
}
