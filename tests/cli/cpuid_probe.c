/*
 * Programs that execute CPUID in many ways; the first argument chooses one. Each prints, for every
 * execution, 1 where the vendor's virtualization bit is set and 0 where it is not.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s: %m\n", __FILE__, __LINE__, #condition); \
			_exit(99); \
		} \
	} while (0)
#define THREADS 4
#define ROUNDS 50

int virtualization(void)
{
	unsigned a, b, c, d;
	__cpuid(0, a, b, c, d);
	int amd = b == signature_AMD_ebx || b == 0x6f677948;
	__cpuid(amd ? 0x80000001 : 1, a, b, c, d);
	return c >> (amd ? 2 : 5) & 1;
}

#ifndef LIBRARY

static volatile sig_atomic_t traps;

static void say(int value)
{
	printf("%d\n", value);
	fflush(stdout);
}

static int end_of(pid_t child)
{
	int status;
	CHECK(waitpid(child, &status, 0) == child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void count_trap(int number)
{
	(void)number;
	traps++;
}

static void *probe_often(void *sum)
{
	for (int i = 0; i < ROUNDS; i++)
		*(int *)sum += virtualization();
	return NULL;
}

static int plain(char **arguments)
{
	(void)arguments;
	say(virtualization());
	return 0;
}

static int forks(char **arguments)
{
	(void)arguments;
	say(virtualization());
	pid_t child = fork();
	if (child == 0) {
		say(virtualization());
		if (fork() == 0) {
			say(virtualization());
			_exit(0);
		}
		wait(NULL);
		_exit(3);
	}
	CHECK(end_of(child) == 3);
	say(virtualization());
	return 0;
}

static int in_threads(char **arguments)
{
	(void)arguments;
	pthread_t threads[THREADS];
	int sums[THREADS] = {0};
	for (int i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&threads[i], NULL, probe_often, &sums[i]));
	for (int i = 0; i < THREADS; i++) {
		CHECK(!pthread_join(threads[i], NULL));
		say(sums[i] / ROUNDS);
	}
	return 0;
}

static int in_library(char **arguments)
{
	for (int i = 0; i < 2; i++) {
		void *library = dlopen(arguments[0], RTLD_NOW);
		CHECK(library);
		int (*probe)(void) = (int (*)(void))dlsym(library, "virtualization");
		CHECK(probe && probe != virtualization);
		say(probe());
		CHECK(!dlclose(library));
	}
	return 0;
}

static int executes(char **arguments)
{
	say(virtualization());
	pid_t child = vfork();
	if (child == 0) {
		virtualization();
		execv(arguments[0], (char *[]){arguments[0], "plain", NULL});
		_exit(99);
	}
	CHECK(end_of(child) == 0);
	execv(arguments[0], (char *[]){arguments[0], "plain", NULL});
	return 99;
}

static void *execute_from_thread(void *program)
{
	execv(program, (char *[]){program, "plain", NULL});
	return NULL;
}

static int thread_executes(char **arguments)
{
	pthread_t thread;
	CHECK(!pthread_create(&thread, NULL, execute_from_thread, arguments[0]));
	pause();
	return 99;
}

static int traps_of_its_own(char **arguments)
{
	(void)arguments;
	signal(SIGTRAP, count_trap);
	say(virtualization());
	CHECK(traps == 0);
	__asm__ volatile("int3");
	CHECK(traps == 1);
	raise(SIGTRAP);
	CHECK(traps == 2);
	say(virtualization());
	CHECK(traps == 2);
	return 0;
}

static int all_blocked(char **arguments)
{
	(void)arguments;
	sigset_t all, now;
	sigfillset(&all);
	CHECK(!sigprocmask(SIG_SETMASK, &all, NULL));
	say(virtualization());
	CHECK(!sigprocmask(SIG_SETMASK, NULL, &now));
	CHECK(sigismember(&now, SIGTRAP));
	return 0;
}

static int look_alikes(char **arguments)
{
	(void)arguments;
	uint32_t immediate;
	uint16_t data;
	__asm__ volatile("mov $0x0fa20fa2, %0" : "=r"(immediate));
	__asm__ volatile("jmp 2f\n"
			 "1: .byte 0x0f, 0xa2\n"
			 "2: movzwl 1b(%%rip), %k0"
			 : "=r"(data));
	CHECK(immediate == 0x0fa20fa2 && data == 0xa20f);
	say(virtualization());
	return 0;
}

static int ignored_signal(char **arguments)
{
	(void)arguments;
	int gone[2], word[2];
	CHECK(!pipe(gone) && !pipe(word));
	struct epoll_event event = {.events = EPOLLIN};
	int epoll = epoll_create1(0);
	CHECK(!epoll_ctl(epoll, EPOLL_CTL_ADD, word[0], &event));
	pid_t parent = getpid();
	if (fork() == 0) {
		close(gone[0]);
		kill(parent, SIGWINCH);
		_exit(0);
	}
	if (fork() == 0) {
		char byte;
		close(gone[1]);
		CHECK(read(gone[0], &byte, 1) == 0);
		CHECK(write(word[1], "x", 1) == 1);
		_exit(0);
	}
	close(gone[1]);
	CHECK(epoll_wait(epoll, &event, 1, -1) == 1);
	say(virtualization());
	return 0;
}

static int stops(char **arguments)
{
	(void)arguments;
	int status, sum = 0, seen[2];
	CHECK(!pipe(seen));
	pid_t child = fork();
	if (child == 0) {
		pthread_t thread;
		char end;
		CHECK(!close(seen[1]));
		CHECK(!pthread_create(&thread, NULL, probe_often, &sum));
		raise(SIGSTOP);
		CHECK(!pthread_join(thread, NULL));
		/* Its end would hide from the parent that it went on. */
		CHECK(read(seen[0], &end, 1) == 0);
		_exit(sum / ROUNDS + 40);
	}
	CHECK(waitpid(child, &status, WUNTRACED) == child);
	CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	CHECK(waitpid(child, &status, WNOHANG) == 0);
	CHECK(!kill(child, SIGCONT));
	CHECK(waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status));
	CHECK(!close(seen[1]));
	say(end_of(child) - 40);
	return 0;
}

static int ends_by_signal(char **arguments)
{
	(void)arguments;
	pid_t child = fork();
	if (child == 0) {
		virtualization();
		__asm__ volatile("int3");
		_exit(0);
	}
	CHECK(end_of(child) == -SIGTRAP);
	say(virtualization());
	return 0;
}

static int is_traced(void)
{
	char line[128];
	int tracer = -1;
	FILE *file = fopen("/proc/self/status", "r");
	CHECK(file);
	while (fgets(line, sizeof line, file))
		sscanf(line, "TracerPid: %d", &tracer);
	fclose(file);
	return tracer != 0;
}

static int survives(char **arguments)
{
	say(virtualization());
	if (fork())
		return 0;
	while (is_traced())
		sched_yield();
	say(virtualization());
	execv(arguments[0], (char *[]){arguments[0], "plain", NULL});
	return 99;
}

static int waits(char **arguments)
{
	(void)arguments;
	say(virtualization());
	if (fork() == 0)
		virtualization();
	while (pause() == -1)
		;
	return 0;
}

static int traces(char **arguments)
{
	(void)arguments;
	say(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
	return 0;
}

static int makes_machines(char **arguments)
{
	(void)arguments;
	struct { uint32_t slot, flags; uint64_t gpa, size, address; } region = {0, 0, 0, 0x10000, 0};
	pthread_t thread;
	int sum = 0, kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	CHECK(kvm >= 0);
	CHECK(!pthread_create(&thread, NULL, probe_often, &sum));
	for (int i = 0; i < 10; i++) {
		void *ram = mmap(NULL, region.size, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		region.address = (uintptr_t)ram;
		int vm = ioctl(kvm, 0xae01, 0);
		CHECK(vm >= 0);
		CHECK(!ioctl(vm, 0x4020ae46, &region));
		int vcpu = ioctl(vm, 0xae41, 0);
		CHECK(vcpu >= 0);
		CHECK(virtualization());
		close(vcpu);
		close(vm);
	}
	CHECK(!pthread_join(thread, NULL));
	say(sum / ROUNDS);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(char **arguments);
} modes[] = {
	{"plain", plain}, {"forks", forks}, {"threads", in_threads}, {"library", in_library},
	{"executes", executes}, {"thread executes", thread_executes}, {"traps", traps_of_its_own},
	{"blocked", all_blocked}, {"look-alikes", look_alikes}, {"ignored", ignored_signal},
	{"stops", stops}, {"ends", ends_by_signal}, {"survives", survives}, {"waits", waits},
	{"traces", traces}, {"machines", makes_machines},
};

int main(int count, char **arguments)
{
	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
		if (count > 1 && !strcmp(arguments[1], modes[i].name))
			return modes[i].run(arguments + 2);
	return 98;
}

#endif
