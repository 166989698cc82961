/* Processes: made, replaced, and talking to each other. */
#include "row.h"

#include <err.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t forked(void)
{
	pid_t child = fork();

	if (child < 0)
		err(1, "fork");
	return child;
}

static uint64_t wait_for(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) != child)
		err(1, "waitpid");
	return status;
}

static uint64_t fork_wait(uint64_t count)
{
	uint64_t sum = 0;

	while (count--) {
		pid_t child = forked();

		if (child == 0)
			_exit(3);
		sum += wait_for(child);
	}
	return sum;
}

static uint64_t execute(uint64_t count)
{
	uint64_t sum = 0;

	while (count--) {
		pid_t child = forked();

		if (child == 0) {
			execl("/proc/self/exe", "programs", "nothing", NULL);
			_exit(127);
		}
		sum += wait_for(child);
	}
	return sum;
}

/* A byte there and a byte back. */
static uint64_t ping_pong(uint64_t count)
{
	int there[2], back[2];
	uint64_t sum = 0;
	unsigned char byte;
	pid_t child;

	if (pipe(there) < 0 || pipe(back) < 0)
		err(1, "pipe");
	child = forked();
	if (child == 0) {
		close(there[1]);
		while (read(there[0], &byte, 1) == 1 )
			if (write(back[1], &byte, 1) != 1)
				break;
		_exit(0);
	}
	while (count--) {
		byte = count;
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			err(1, "pipe");
		sum += byte;
	}
	close(there[1]);
	return sum + wait_for(child);
}

static const struct row rows[] = {
	{ "fork", "kernel", 200, NULL, fork_wait, NULL, 1 },
	{ "exec", "kernel", 200, NULL, execute, NULL, 1 },
	{ "pipe", "kernel", 200, NULL, ping_pong, NULL, 1 },
};

const struct rows process_rows = ROWS(rows);
