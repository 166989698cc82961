/*
 * Busybox at work on a text that is made here. It is `busybox` in the working directory, where the
 * text and what comes of it are, too.
 */
#include "row.h"

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define INPUT "input"
#define OUTPUT "output"
#define LINES 12000

static const char *const words[] = {
	"guest", "host",   "page", "fault", "clock", "memory",	  "interrupt", "register",
	"vector", "cache", "line", "stack", "the",   "processor", "of",	       "translation",
};

static void make_input(void)
{
	FILE *file = fopen(INPUT, "w");
	uint64_t random = 1234567;

	if (!file)
		err(1, INPUT);
	for (int line = 0; line < LINES; line++) {
		fprintf(file, "%05u", (unsigned)(next_random(&random) % 100000));
		for (int word = 0; word < 8; word++)
			fprintf(file, " %s", words[next_random(&random) >> 60]);
		fprintf(file, " %x\n", (unsigned)next_random(&random));
	}
	if (fclose(file))
		err(1, INPUT);
}

static void redirect(const char *path, int flags, int to)
{
	int fd = open(path, flags, 0600);

	if (fd < 0 || dup2(fd, to) < 0)
		_exit(126);
	close(fd);
}

static uint64_t run(uint64_t count, char *const *arguments)
{
	while (count--) {
		int status;
		pid_t child = fork();

		if (child < 0)
			err(1, "fork");
		if (child == 0) {
			redirect(INPUT, O_RDONLY, 0);
			redirect(OUTPUT, O_WRONLY | O_CREAT | O_TRUNC, 1);
			execv("./busybox", arguments);
			_exit(127);
		}
		if (waitpid(child, &status, 0) != child || status)
			errx(1, "%s: status %x", arguments[1], status);
	}
	return 0;
}

static uint64_t digest_output(void)
{
	FILE *file = fopen(OUTPUT, "r");
	uint64_t digest = 14695981039346656037ull;
	int byte;

	if (!file)
		err(1, OUTPUT);
	while ((byte = getc(file)) != EOF)
		digest = (digest ^ (unsigned)byte) * 1099511628211ull;
	fclose(file);
	return digest;
}

#define TOOL(name, ...)                                                 \
	static uint64_t name(uint64_t count)                            \
	{                                                               \
		return run(count, (char *[]){ "busybox", __VA_ARGS__, NULL }); \
	}

TOOL(gzip, "gzip", "-nc")
TOOL(bzip2, "bzip2", "-c")
TOOL(sha256, "sha256sum")
TOOL(awk, "awk", "{ n[$2] += $1; for (i = 3; i < NF; i++) c += length($i) } END "
		 "{ for (w in n) s += n[w]; print s, c, NR }")
TOOL(shell, "sh", "-c", "i=0; s=0; while [ $i -lt 20000 ]; do i=$((i + 1)); "
			"case $i in *7) s=$((s + i * 3 % 11));; esac; done; echo $s")
TOOL(shell_fork, "sh", "-c", "i=0; while [ $i -lt 50 ]; do i=$((i + 1)); s=$(echo $s$i | ./busybox cut -c1-40); "
			     "done; echo $s")
TOOL(sort, "sort", "-k3")
TOOL(grep, "grep", "-ci", "page.*[0-9a]fault\\|cache line .*ff")

#define ROW(name, run) { name, "busybox", 200, make_input, run, digest_output, 1 }
static const struct row rows[] = {
	ROW("gzip", gzip), ROW("bzip2", bzip2), ROW("sha256", sha256), ROW("awk", awk),
	ROW("sh", shell),  ROW("sh-fork", shell_fork), ROW("sort", sort), ROW("grep", grep),
};

const struct rows tool_rows = ROWS(rows);
