/*
 * Loops of loops.S on this CPU and in a guest in 64-bit mode, in turns.
 *
 * Usage: loops DEVICE ROUNDS
 * Prints "name guest native ratio" per loop: millions of instructions a second in the guest and
 * natively, and how many times longer the guest took (all medians over the rounds). The guest's
 * result is compared with the native one.
 */
#include "vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#define RAM_SIZE 0x200000
#define PML4 0x10000
#define PDPT 0x11000
#define PD 0x12000
#define CODE 0x20000
#define DATA 0x30000
#define STACK 0x40000

#define TURNS 4000000
#define MAX_ROUNDS 1000

typedef uint64_t loop_fn(uint8_t *data, uint64_t turns);

extern uint8_t loops_begin[], loops_end[], loop_halt[];
extern loop_fn loop_memory, loop_xorshift, loop_flags, loop_sum, loop_branches, loop_calls,
	loop_multiply, loop_sse2, loop_double, loop_copy, loop_avx2, loop_x87;

static const struct {
	const char *name;
	loop_fn *run;
	double instructions; /* in one turn */
} loops[] = {
	{ "memory", loop_memory, 5 },	  { "xorshift", loop_xorshift, 11 },
	{ "flags", loop_flags, 8 },	  { "sum", loop_sum, 5 },
	{ "branches", loop_branches, 6.5 }, { "calls", loop_calls, 7 },
	{ "multiply", loop_multiply, 7 }, { "sse2", loop_sse2, 4 },
	{ "double", loop_double, 5 },	  { "copy", loop_copy, 12 },
	{ "avx2", loop_avx2, 6 },	  { "x87", loop_x87, 5 },
};
#define LOOPS (sizeof loops / sizeof *loops)

static double now_us(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec * 1e-3;
}

static void fill(uint8_t *data)
{
	for (int i = 0; i < 4096; i++)
		data[i] = i * 37;
}

static void enter_long_mode(const struct vcpu *vcpu, uint8_t *ram)
{
	*(uint64_t *)(ram + PML4) = PDPT | 3;
	*(uint64_t *)(ram + PDPT) = PD | 3;
	*(uint64_t *)(ram + PD) = 0x83;

	struct kvm_sregs sregs;
	CHECK(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0);
	sregs.cr3 = PML4;
	sregs.cr4 |= 0x20 | 0x200 | 0x40000; /* PAE, OSFXSR, OSXSAVE */
	sregs.cr0 |= 0x80000001;
	sregs.efer |= 0x500;
	struct kvm_segment flat = {
		.limit = 0xffffffff, .type = 3, .present = 1, .s = 1, .g = 1, .db = 1,
	};
	sregs.ds = sregs.es = sregs.ss = flat;
	flat.type = 11;
	flat.db = 0;
	flat.l = 1;
	sregs.cs = flat;
	CHECK(ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) == 0);

	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = 7 };
	CHECK(ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs) == 0);
}

/* Everything that the device supports. */
static void set_cpuid(int kvm, const struct vcpu *vcpu)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid = { .head.nent = 256 };
	CHECK(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	CHECK(ioctl(vcpu->fd, KVM_SET_CPUID2, &cpuid) == 0);
}

static uint64_t in_guest(uint8_t *at)
{
	return CODE + (at - loops_begin);
}

/* Microseconds of one run in the guest; its result. */
static double run_guest(const struct vcpu *vcpu, uint8_t *ram, loop_fn *loop, uint64_t *result)
{
	struct kvm_regs regs = {
		.rip = in_guest((uint8_t *)loop),
		.rsp = STACK,
		.rdi = DATA,
		.rsi = TURNS,
		.rflags = 2,
	};
	fill(ram + DATA);
	*(uint64_t *)(ram + STACK) = in_guest(loop_halt);
	vcpu_set_regs(vcpu, &regs);
	double begin = now_us();
	CHECK(vcpu_run(vcpu) == KVM_EXIT_HLT);
	double end = now_us();
	*result = vcpu_get_regs(vcpu).rax;
	return end - begin;
}

static double run_native(loop_fn *loop, uint64_t *result)
{
	static uint8_t data[4096] __attribute__((aligned(4096)));
	fill(data);
	double begin = now_us();
	*result = loop(data, TURNS);
	return now_us() - begin;
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;
	return (a > b) - (a < b);
}

static double median(double *values, int count)
{
	qsort(values, count, sizeof *values, compare);
	return values[count / 2];
}

int main(int argc, char **argv)
{
	static double guest[LOOPS][MAX_ROUNDS], native[LOOPS][MAX_ROUNDS], ratio[LOOPS][MAX_ROUNDS];
	int rounds = argc == 3 ? atoi(argv[2]) : 0;
	CHECK(rounds >= 1 && rounds <= MAX_ROUNDS);

	int kvm = kvm_open(argc, argv);
	int vm = vm_create(kvm);
	uint8_t *ram = ram_map(RAM_SIZE);
	memcpy(ram + CODE, loops_begin, loops_end - loops_begin);
	vm_set_memory(vm, 0, 0, ram, RAM_SIZE);
	struct vcpu vcpu = vcpu_create(kvm, vm, 0);
	set_cpuid(kvm, &vcpu);
	enter_long_mode(&vcpu, ram);

	for (int round = 0; round < rounds; round++) {
		for (size_t i = 0; i < LOOPS; i++) {
			uint64_t here, there;
			native[i][round] = run_native(loops[i].run, &here);
			guest[i][round] = run_guest(&vcpu, ram, loops[i].run, &there);
			ratio[i][round] = guest[i][round] / native[i][round];
			CHECK(here == there);
		}
	}
	for (size_t i = 0; i < LOOPS; i++) {
		double instructions = loops[i].instructions * TURNS;
		printf("%s %.1f %.1f %.2f\n", loops[i].name, instructions / median(guest[i], rounds),
		       instructions / median(native[i], rounds), median(ratio[i], rounds));
	}
	return 0;
}
