/*
 * Several VMs with several vCPU threads each in one process, and what programs do with their fds:
 * vCPUs made before and after the memory slots, a dup'ed vCPU fd, kvm_run mapped twice, a fork.
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
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define RAM_SIZE 0x10000
#define VMS 3
#define VCPUS 3 /* of each VM */
#define TALLIES 0x900

struct job {
	struct vcpu vcpu;
	unsigned rounds;
	unsigned sum; /* of what the guest wrote */
};

/* Word of the guest's memory in which vCPU `id` of a VM counts. */
static uint16_t tally_address(unsigned id)
{
	return TALLIES + 4 * id;
}

static void *count_on_vcpu(void *argument)
{
	struct job *job = argument;
	while (vcpu_run(&job->vcpu) == KVM_EXIT_IO)
		job->sum += vcpu_io_value(&job->vcpu);
	CHECK(job->vcpu.run->exit_reason == KVM_EXIT_HLT);
	return NULL;
}

static void prepare_job(struct job *job, unsigned id, unsigned rounds)
{
	job->rounds = rounds;
	vcpu_enter_real_mode(&job->vcpu, 0);
	struct kvm_regs regs = vcpu_get_regs(&job->vcpu);
	regs.rbx = rounds;
	regs.rsi = tally_address(id);
	vcpu_set_regs(&job->vcpu, &regs);
}

/* All vCPUs of all VMs at once. Odd VMs get their vCPUs before their memory. */
static void run_many_vms(int kvm)
{
	struct job jobs[VMS][VCPUS] = { 0 };
	pthread_t threads[VMS][VCPUS];
	uint8_t *ram[VMS];
	int vms[VMS];

	for (unsigned i = 0; i < VMS; i++) {
		vms[i] = vm_create(kvm);
		ram[i] = ram_map(RAM_SIZE);
		LOAD_GUEST(ram[i], count_guest);
		if (i % 2 == 0)
			vm_set_memory(vms[i], 0, 0, ram[i], RAM_SIZE);
		for (unsigned id = 0; id < VCPUS; id++)
			jobs[i][id].vcpu = vcpu_create(kvm, vms[i], id);
		if (i % 2 == 1)
			vm_set_memory(vms[i], 0, 0, ram[i], RAM_SIZE);
	}
	for (unsigned i = 0; i < VMS; i++)
		for (unsigned id = 0; id < VCPUS; id++) {
			prepare_job(&jobs[i][id], id, 100 * (i + 1) + id);
			CHECK(!pthread_create(&threads[i][id], NULL, count_on_vcpu, &jobs[i][id]));
		}
	for (unsigned i = 0; i < VMS; i++) {
		for (unsigned id = 0; id < VCPUS; id++) {
			struct job *job = &jobs[i][id];
			CHECK(!pthread_join(threads[i][id], NULL));
			CHECK(*(uint16_t *)(ram[i] + tally_address(id)) == job->rounds);
			CHECK(job->sum == job->rounds * (job->rounds + 1) / 2);
			printf("vm %u vcpu %u: %u rounds\n", i, id, job->rounds);
			vcpu_destroy(&job->vcpu);
		}
		CHECK(close(vms[i]) == 0);
	}
}

static struct vcpu spinning_vcpu(int kvm, uint8_t **ram)
{
	int vm = vm_create(kvm);
	*ram = ram_map(RAM_SIZE);
	LOAD_GUEST(*ram, spin_guest);
	vm_set_memory(vm, 0, 0, *ram, RAM_SIZE);
	struct vcpu vcpu = vcpu_create(kvm, vm, 0);
	vcpu_enter_real_mode(&vcpu, 0);
	CHECK(close(vm) == 0); /* a vCPU keeps its VM */
	return vcpu;
}

static void run_through_dup(int kvm)
{
	uint8_t *ram;
	struct vcpu vcpu = spinning_vcpu(kvm, &ram);
	ram[SPIN_STOP] = 1;

	int copy = dup(vcpu.fd);
	CHECK(copy >= 0);
	CHECK(close(vcpu.fd) == 0);
	vcpu.fd = copy;
	CHECK(vcpu_run(&vcpu) == KVM_EXIT_HLT);
	vcpu_destroy(&vcpu);
	puts("a dup'ed vCPU fd runs after the first is closed");
}

static void on_signal(int signal)
{
	(void)signal;
}

static void *run_until_interrupted(void *argument)
{
	const struct vcpu *vcpu = argument;
	CHECK(ioctl(vcpu->fd, KVM_RUN, 0) == -1 && errno == EINTR);
	CHECK(vcpu->run->exit_reason == KVM_EXIT_INTR);
	CHECK(ioctl(vcpu->fd, KVM_RUN, 0) == -1 && errno == EINTR);
	return NULL;
}

/* immediate_exit is written through one mapping of kvm_run, the exit is read through another. */
static void map_run_twice(int kvm)
{
	uint8_t *ram;
	struct vcpu vcpu = spinning_vcpu(kvm, &ram);
	struct kvm_run *second =
		mmap(NULL, vcpu.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.fd, 0);
	CHECK(second != MAP_FAILED && second != vcpu.run);

	pthread_t thread;
	CHECK(!pthread_create(&thread, NULL, run_until_interrupted, &vcpu));
	while (!*(volatile uint32_t *)(ram + SPIN_COUNTER))
		sched_yield();
	__atomic_store_n(&second->immediate_exit, 1, __ATOMIC_SEQ_CST);
	CHECK(!pthread_kill(thread, SIGUSR1));
	CHECK(!pthread_join(thread, NULL));

	CHECK(second->exit_reason == KVM_EXIT_INTR);
	CHECK(munmap(second, vcpu.run_size) == 0);
	vcpu_destroy(&vcpu);
	puts("both mappings of kvm_run show one page");
}

/* KVM answers EIO to a process other than the one that made the VM. */
static void fork_with_vcpu(int kvm)
{
	uint8_t *ram;
	struct vcpu vcpu = spinning_vcpu(kvm, &ram);
	ram[SPIN_STOP] = 1;

	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		int refused = ioctl(vcpu.fd, KVM_RUN, 0) == -1 && errno == EIO;
		close(vcpu.fd);
		_exit(refused ? 0 : 1);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);

	CHECK(vcpu_run(&vcpu) == KVM_EXIT_HLT);
	vcpu_destroy(&vcpu);
	puts("a forked child is refused, its parent goes on");
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);

	int kvm = kvm_open(argc, argv);
	run_many_vms(kvm);
	run_through_dup(kvm);
	map_run_twice(kvm);
	fork_with_vcpu(kvm);
	return 0;
}
