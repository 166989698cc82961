/*
 * The measured client: times ioctls of a vCPU from inside one process.
 *
 * Usage: exits DEVICE ROUNDS
 * Prints one "name value" line per figure. Times are medians over ROUNDS interleaved rounds, so
 * that what else the machine does falls on all of them alike.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define KVMSHIM_ECHO 0x6b00 /* kvmshim/abi/ioctls_gen.py */
#define CALLS 2000          /* ioctls per round */
#define MEMORY 0x10000
#define MAX_ROUNDS 1000

/* An endless `out %al, $0x10`. */
static const uint8_t out_loop[] = {0xe6, 0x10, 0xeb, 0xfc};

struct machine {
	int vm, vcpu;
	struct kvm_run *run;
	uint8_t *memory;
	double create_vm_us, first_exit_us;
};

static double now_us(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec * 1e-3;
}

static int checked(int result, const char *what)
{
	if (result < 0)
		err(1, "%s", what);
	return result;
}

static struct machine start(int kvm, const uint8_t *code, size_t size)
{
	struct machine machine = {0};
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rflags = 2};
	double begin = now_us();
	int bytes;

	machine.vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	machine.create_vm_us = now_us() - begin;
	machine.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(machine.memory, code, size);
	struct kvm_userspace_memory_region region = {
		.memory_size = MEMORY,
		.userspace_addr = (uintptr_t)machine.memory,
	};
	checked(ioctl(machine.vm, KVM_SET_USER_MEMORY_REGION, &region), "memory region");
	machine.vcpu = checked(ioctl(machine.vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	bytes = checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "mmap size");
	machine.run = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, machine.vcpu, 0);
	if (machine.run == MAP_FAILED)
		err(1, "mmap of the vCPU");
	checked(ioctl(machine.vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = sregs.cs.selector = 0;
	checked(ioctl(machine.vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	checked(ioctl(machine.vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
	checked(ioctl(machine.vcpu, KVM_RUN, 0), "KVM_RUN");
	machine.first_exit_us = now_us() - begin;
	return machine;
}

static void stop(struct machine *machine)
{
	munmap(machine->memory, MEMORY);
	close(machine->vcpu);
	close(machine->vm);
}

static double time_calls(int fd, unsigned long number)
{
	double begin = now_us();

	for (int call = 0; call < CALLS; call++)
		checked(ioctl(fd, number, 0), "ioctl");
	return (now_us() - begin) / CALLS;
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

static double median(double *values, int count)
{
	qsort(values, count, sizeof(*values), compare);
	return values[count / 2];
}

int main(int argc, char **argv)
{
	static double exits[MAX_ROUNDS], echoes[MAX_ROUNDS], ratios[MAX_ROUNDS];
	static double creates[MAX_ROUNDS], firsts[MAX_ROUNDS];
	int rounds = argc == 3 ? atoi(argv[2]) : 0;

	if (rounds < 1 || rounds > MAX_ROUNDS)
		errx(2, "usage: exits DEVICE ROUNDS");
	int kvm = checked(open(argv[1], O_RDWR | O_CLOEXEC), argv[1]);
	struct machine port = start(kvm, out_loop, sizeof(out_loop));

	for (int round = 0; round < rounds; round++) {
		exits[round] = time_calls(port.vcpu, KVM_RUN);
		echoes[round] = time_calls(port.vcpu, KVMSHIM_ECHO);
		ratios[round] = exits[round] / echoes[round];
		struct machine fresh = start(kvm, out_loop, sizeof(out_loop));
		creates[round] = fresh.create_vm_us;
		firsts[round] = fresh.first_exit_us;
		stop(&fresh);
	}
	printf("exit_us %.2f\n", median(exits, rounds));
	printf("echo_us %.2f\n", median(echoes, rounds));
	printf("exit_per_echo %.3f\n", median(ratios, rounds));
	printf("create_vm_us %.0f\n", median(creates, rounds));
	printf("first_exit_us %.0f\n", median(firsts, rounds));
	return 0;
}
