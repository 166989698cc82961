/*
 * Makes VMs, runs them and gives them up for ever, until it or its device is killed: something to
 * die in the middle of. Writes one byte to stdout after each step. When the device is gone it says
 * which call failed on stderr and ends with 3.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "vm.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_SIZE 0x100000
#define EXITS 50
#define COUNT_CODE 0x000
#define SPIN_CODE 0x400
#define TALLY 0x900

/* Calls `call` and ends the program with 3 if it fails. */
#define STEP(call) step((call) < 0 ? #call : NULL)

static void step(const char *failed)
{
	if (failed) {
		fprintf(stderr, "%s: %s\n", failed, strerror(errno));
		_exit(3);
	}
	CHECK(write(STDOUT_FILENO, ".", 1) == 1);
}

/* kvm_run of a device that died before it was first touched. */
static void on_sigbus(int signal)
{
	(void)signal;
	static const char message[] = "SIGBUS\n";
	(void)!write(STDERR_FILENO, message, sizeof message - 1);
	_exit(3);
}

static void ignore(int signal)
{
	(void)signal;
}

static struct vcpu new_vcpu(int kvm, int vm, unsigned id, uint64_t ip)
{
	struct vcpu vcpu;
	int size;
	STEP(vcpu.fd = ioctl(vm, KVM_CREATE_VCPU, id));
	STEP(size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	vcpu.run_size = size;
	vcpu.run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.fd, 0);
	step(vcpu.run == MAP_FAILED ? "mmap" : NULL);

	struct kvm_sregs sregs;
	STEP(ioctl(vcpu.fd, KVM_GET_SREGS, &sregs));
	sregs.cs.selector = 0;
	sregs.cs.base = 0;
	STEP(ioctl(vcpu.fd, KVM_SET_SREGS, &sregs));
	struct kvm_regs regs = { .rip = ip, .rflags = 2, .rbx = EXITS, .rsi = TALLY };
	STEP(ioctl(vcpu.fd, KVM_SET_REGS, &regs));
	return vcpu;
}

static void give_up_vcpu(const struct vcpu *vcpu)
{
	STEP(munmap(vcpu->run, vcpu->run_size));
	STEP(close(vcpu->fd));
}

/* Spins in the guest until the signal comes. */
static void *spin(void *argument)
{
	const struct vcpu *vcpu = argument;
	int result = ioctl(vcpu->fd, KVM_RUN, 0);
	step(result == 0 || errno != EINTR ? "KVM_RUN of the spinning vCPU" : NULL);
	return NULL;
}

static void one_life(int kvm)
{
	uint8_t *ram = ram_map(RAM_SIZE);
	LOAD_GUEST(ram + COUNT_CODE, count_guest);
	LOAD_GUEST(ram + SPIN_CODE, spin_guest);
	struct kvm_userspace_memory_region region = {
		.memory_size = RAM_SIZE,
		.userspace_addr = (uintptr_t)ram,
	};
	int vm;
	STEP(vm = ioctl(kvm, KVM_CREATE_VM, 0));
	STEP(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region));
	struct vcpu counting = new_vcpu(kvm, vm, 0, COUNT_CODE);
	struct vcpu spinning = new_vcpu(kvm, vm, 1, SPIN_CODE);

	pthread_t thread;
	CHECK(!pthread_create(&thread, NULL, spin, &spinning));
	do
		STEP(ioctl(counting.fd, KVM_RUN, 0));
	while (counting.run->exit_reason == KVM_EXIT_IO);
	while (!*(volatile uint32_t *)(ram + SPIN_COUNTER))
		sched_yield();
	CHECK(!pthread_kill(thread, SIGUSR1));
	CHECK(!pthread_join(thread, NULL));

	give_up_vcpu(&counting);
	give_up_vcpu(&spinning);
	STEP(close(vm));
	STEP(munmap(ram, RAM_SIZE));
}

int main(int argc, char **argv)
{
	struct sigaction empty = { .sa_handler = ignore };
	struct sigaction bus = { .sa_handler = on_sigbus };
	CHECK(sigaction(SIGUSR1, &empty, NULL) == 0);
	CHECK(sigaction(SIGBUS, &bus, NULL) == 0);

	int kvm = kvm_open(argc, argv);
	for (;;)
		one_life(kvm);
}
