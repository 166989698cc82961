/* Copies: the library's memcpy, as it finds the processor, and the string instructions. */
#include "row.h"

#include <string.h>

#define LARGE (64 << 10)

static char *from, *to;

static void prepare(void)
{
	uint64_t random = 3;

	from = pages(LARGE);
	to = pages(LARGE);
	for (size_t i = 0; i < LARGE; i++)
		from[i] = next_random(&random);
}

static uint64_t large(uint64_t count)
{
	while (count--) {
		memcpy(to, from, LARGE);
		__asm__ volatile("" : : : "memory");
	}
	return to[LARGE - 1];
}

/* From 16 to 143 bytes, at all alignments. */
static uint64_t small(uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		size_t at = i * 37 & 4095;
		size_t len = 16 + (i & 127);

		__asm__ volatile("" : "+r"(at), "+r"(len));
		memcpy(to + at, from + (at ^ 1), len);
	}
	return to[100] + to[2000];
}

static uint64_t rep_movsb(uint64_t count)
{
	while (count--) {
		void *source = from, *target = to;
		size_t left = LARGE;

		__asm__ volatile("rep movsb" : "+S"(source), "+D"(target), "+c"(left) : : "memory");
	}
	return to[LARGE - 1];
}

static uint64_t rep_movsq(uint64_t count)
{
	while (count--) {
		void *source = from, *target = to;
		size_t left = 4096 / 8;

		__asm__ volatile("rep movsq" : "+S"(source), "+D"(target), "+c"(left) : : "memory");
	}
	return to[4095];
}

static uint64_t rep_stosb(uint64_t count)
{
	while (count--) {
		void *target = to;
		size_t left = 4096;

		__asm__ volatile("rep stosb" : "+D"(target), "+c"(left) : "a"(count) : "memory");
	}
	return to[4095];
}

static const struct row rows[] = {
	{ "memcpy-64K", "copies", 40, prepare, large, NULL, 0 },
	{ "memcpy-small", "copies", 200, prepare, small, NULL, 0 },
	{ "rep-movsb-64K", "copies", 40, prepare, rep_movsb, NULL, 0 },
	{ "rep-movsq-4K", "copies", 40, prepare, rep_movsq, NULL, 0 },
	{ "rep-stosb-4K", "copies", 40, prepare, rep_stosb, NULL, 0 },
};

const struct rows copy_rows = ROWS(rows);
