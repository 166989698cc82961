/*
 * The programs that are measured, in one file that runs on the machine and in guests.
 *
 * Usage: programs            a line "NAME GROUP MILLISECONDS" for each row
 *        programs NAME COUNT does it COUNT times, prints "@@ NAME NANOSECONDS DIGEST"
 */
#define _GNU_SOURCE
#include "row.h"

#include <err.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static const struct rows *const subjects[] = {
	&integer_rows, &call_rows,   &interpreter_rows,	   &memory_rows, &sort_rows,	&floating_rows,
	&copy_rows,    &atomic_rows, &self_modifying_rows, &kernel_rows, &process_rows, &tool_rows,
};
#define SUBJECTS (sizeof(subjects) / sizeof(*subjects))

void *pages(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		err(1, "%zu bytes", bytes);
	return at;
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void list(void)
{
	for (size_t i = 0; i < SUBJECTS; i++)
		for (size_t j = 0; j < subjects[i]->count; j++) {
			const struct row *row = &subjects[i]->row[j];

			printf("%s %s %u\n", row->name, row->group, row->milliseconds);
		}
}

static const struct row *find(const char *name)
{
	for (size_t i = 0; i < SUBJECTS; i++)
		for (size_t j = 0; j < subjects[i]->count; j++)
			if (!strcmp(subjects[i]->row[j].name, name))
				return &subjects[i]->row[j];
	errx(2, "there is no %s", name);
}

static void stay_on_this_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		err(1, "sched_setaffinity");
}

int main(int argc, char **argv)
{
	const struct row *row;
	uint64_t count, begin, end, digest;

	if (argc == 1) {
		list();
		return 0;
	}
	/* What the row exec executes. */
	if (argc == 2 && !strcmp(argv[1], "nothing"))
		return 0;
	if (argc != 3)
		errx(2, "usage: programs [NAME COUNT]");
	row = find(argv[1]);
	count = strtoull(argv[2], NULL, 10);
	if (row->one_cpu)
		stay_on_this_cpu();
	if (row->prepare)
		row->prepare();
	begin = now_ns();
	digest = row->run(count);
	end = now_ns();
	if (row->conclude)
		digest += row->conclude();
	printf("@@ %s %" PRIu64 " %" PRIx64 "\n", row->name, end - begin, digest);
	return 0;
}
