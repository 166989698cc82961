#include "confine.h"
#include "vm.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define MAX_INSTRUCTIONS 256
#define LOW_HALF_OF_ARGUMENT(n) (offsetof(struct seccomp_data, args) + (n) * sizeof(uint64_t))

struct program {
	struct sock_filter code[MAX_INSTRUCTIONS];
	size_t length;
};

static void emit(struct program *program, struct sock_filter instruction)
{
	CHECK(program->length < MAX_INSTRUCTIONS);
	program->code[program->length++] = instruction;
}

static void load(struct program *program, unsigned offset)
{
	emit(program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
}

static void answer(struct program *program, unsigned what)
{
	emit(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, what));
}

/* What was loaded last is allowed if it is `value`. */
static void allow(struct program *program, unsigned value)
{
	emit(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
	answer(program, SECCOMP_RET_ALLOW);
}

void confine(const unsigned *calls, size_t number, const unsigned long *ioctls, size_t requests)
{
	static _Thread_local struct program program;
	load(&program, offsetof(struct seccomp_data, arch));
	emit(&program,
	     (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
	answer(&program, SECCOMP_RET_TRAP);

	load(&program, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < number; i++)
		allow(&program, calls[i]);
	emit(&program,
	     (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 1, 0));
	answer(&program, SECCOMP_RET_TRAP);

	load(&program, LOW_HALF_OF_ARGUMENT(1));
	for (size_t i = 0; i < requests; i++)
		allow(&program, ioctls[i]);
	answer(&program, SECCOMP_RET_TRAP);

	struct sock_fprog filter = { .len = program.length, .filter = program.code };
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
}
