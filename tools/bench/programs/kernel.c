/* What programs ask of the kernel, and what it notices by faults. */
#define _GNU_SOURCE
#include "row.h"

#include <err.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096
#define TOUCHED 256

static uint64_t system_call(uint64_t count)
{
	while (count--)
		syscall(SYS_getppid);
	return 0;
}

static char *map(size_t bytes)
{
	char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		err(1, "mmap");
	return at;
}

/* COUNT times TOUCHED pages that are not there. */
static uint64_t page_fault(uint64_t count)
{
	char *at = map(TOUCHED * PAGE);
	uint64_t sum = 0;

	madvise(at, TOUCHED * PAGE, MADV_NOHUGEPAGE);
	while (count--) {
		for (size_t page = 0; page < TOUCHED; page++)
			sum += ++at[page * PAGE];
		madvise(at, TOUCHED * PAGE, MADV_DONTNEED);
	}
	return sum;
}

static uint64_t protect(uint64_t count)
{
	char *at = map(PAGE);

	for (uint64_t i = 0; i < count; i++) {
		mprotect(at, PAGE, PROT_READ);
		mprotect(at, PAGE, PROT_READ | PROT_WRITE);
		at[0]++;
	}
	return at[0];
}

static uint64_t map_and_touch(uint64_t count)
{
	uint64_t sum = 0;

	while (count--) {
		char *at = map(4 * PAGE);

		at[0] = count;
		sum += at[0] + at[3 * PAGE];
		munmap(at, 4 * PAGE);
	}
	return sum;
}

static volatile uint64_t handled;

static void handle(int number)
{
	handled += number;
}

static uint64_t signals(uint64_t count)
{
	signal(SIGUSR1, handle);
	while (count--)
		raise(SIGUSR1);
	return handled;
}

static const struct row rows[] = {
	{ "syscall", "kernel", 200, NULL, system_call, NULL, 0 },
	{ "page-fault", "kernel", 200, NULL, page_fault, NULL, 0 },
	{ "mprotect", "kernel", 200, NULL, protect, NULL, 0 },
	{ "mmap", "kernel", 200, NULL, map_and_touch, NULL, 0 },
	{ "signal", "kernel", 200, NULL, signals, NULL, 0 },
};

const struct rows kernel_rows = ROWS(rows);
