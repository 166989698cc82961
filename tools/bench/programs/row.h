/* A row of the table: work that is done COUNT times, the same work wherever it runs. */
#ifndef ROW_H
#define ROW_H

#include <stddef.h>
#include <stdint.h>

struct row {
	const char *name;
	const char *group;
	/* How long it shall take on the machine itself; less for what TCG is very slow at. */
	unsigned milliseconds;
	/* Called before the clock is read; may be NULL. */
	void (*prepare)(void);
	/* A digest of what was worked out: it depends on nothing but COUNT. */
	uint64_t (*run)(uint64_t count);
	/* Called after the clock has been read: more of the digest; may be NULL. */
	uint64_t (*conclude)(void);
	/* It is several processes, which shall be on one processor, as in the guests. */
	int one_cpu;
};

struct rows {
	const struct row *row;
	size_t count;
};

#define ROWS(array) { array, sizeof(array) / sizeof(*array) }

extern const struct rows integer_rows, call_rows, interpreter_rows, memory_rows, sort_rows;
extern const struct rows floating_rows, copy_rows, atomic_rows, self_modifying_rows;
extern const struct rows kernel_rows, process_rows, tool_rows;

/* Memory of its own, page-aligned. */
void *pages(size_t bytes);

/* The next of a sequence of numbers that looks random; STATE is not 0. */
static inline uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

#endif
