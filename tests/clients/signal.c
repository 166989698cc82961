/*
 * How KVM_RUN ends early: a signal with an empty handler, immediate_exit set before the call, both
 * together from a handler that ran just before the call, and pthread_cancel.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "vm.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define RAM_SIZE 0x10000

static struct kvm_run *to_leave; /* whose immediate_exit the handler of SIGUSR2 sets */

static void ignore(int signal)
{
	(void)signal;
}

static void leave_at_once(int signal)
{
	(void)signal;
	to_leave->immediate_exit = 1;
}

static void check_interrupted(const struct vcpu *vcpu)
{
	CHECK(ioctl(vcpu->fd, KVM_RUN, 0) == -1);
	CHECK(errno == EINTR);
	CHECK(vcpu->run->exit_reason == KVM_EXIT_INTR);
}

static void *run_until_interrupted(void *argument)
{
	check_interrupted(argument);
	return NULL;
}

static void *run_until_cancelled(void *argument)
{
	const struct vcpu *vcpu = argument;
	CHECK(!pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL));
	ioctl(vcpu->fd, KVM_RUN, 0);
	return NULL;
}

/* Returns when the guest counts, that is when KVM_RUN is being executed. */
static void wait_for_guest(const uint8_t *ram)
{
	const volatile uint32_t *counter = (const volatile uint32_t *)(ram + SPIN_COUNTER);
	uint32_t before = *counter;
	while (*counter == before)
		sched_yield();
}

static void interrupt_by_signal(struct vcpu *vcpu, const uint8_t *ram)
{
	pthread_t thread;
	CHECK(!pthread_create(&thread, NULL, run_until_interrupted, vcpu));
	wait_for_guest(ram);
	CHECK(!pthread_kill(thread, SIGUSR1));
	CHECK(!pthread_join(thread, NULL));
	puts("a signal interrupts KVM_RUN");
}

static void exit_immediately(struct vcpu *vcpu)
{
	uint64_t rip = vcpu_get_regs(vcpu).rip;
	vcpu->run->immediate_exit = 1;
	check_interrupted(vcpu);
	vcpu->run->immediate_exit = 0;
	CHECK(vcpu_get_regs(vcpu).rip == rip);
	puts("immediate_exit lets no instruction run");
}

static void signal_before_run(struct vcpu *vcpu)
{
	to_leave = vcpu->run;
	CHECK(raise(SIGUSR2) == 0);
	check_interrupted(vcpu);
	vcpu->run->immediate_exit = 0;
	puts("a signal that came before KVM_RUN is not lost");
}

static void cancel_inside_run(struct vcpu *vcpu, const uint8_t *ram)
{
	pthread_t thread;
	void *result;
	CHECK(!pthread_create(&thread, NULL, run_until_cancelled, vcpu));
	wait_for_guest(ram);
	CHECK(!pthread_cancel(thread));
	CHECK(!pthread_join(thread, &result));
	CHECK(result == PTHREAD_CANCELED);
	puts("pthread_cancel ends a thread inside KVM_RUN");
}

int main(int argc, char **argv)
{
	struct sigaction empty = { .sa_handler = ignore };
	struct sigaction leaving = { .sa_handler = leave_at_once };
	CHECK(sigaction(SIGUSR1, &empty, NULL) == 0);
	CHECK(sigaction(SIGUSR2, &leaving, NULL) == 0);

	int kvm = kvm_open(argc, argv);
	int vm = vm_create(kvm);
	uint8_t *ram = ram_map(RAM_SIZE);
	LOAD_GUEST(ram, spin_guest);
	vm_set_memory(vm, 0, 0, ram, RAM_SIZE);
	struct vcpu vcpu = vcpu_create(kvm, vm, 0);
	vcpu_enter_real_mode(&vcpu, 0);

	interrupt_by_signal(&vcpu, ram);
	exit_immediately(&vcpu);
	signal_before_run(&vcpu);
	cancel_inside_run(&vcpu, ram);

	ram[SPIN_STOP] = 1;
	CHECK(vcpu_run(&vcpu) == KVM_EXIT_HLT);
	puts("the vCPU still runs");
	return 0;
}
