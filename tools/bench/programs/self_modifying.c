/* Code that is changed between its runs, and code that is made anew. */
#include "row.h"

#include <string.h>
#include <sys/mman.h>

typedef uint32_t made(void);

/* mov $0, %eax; ret */
static const uint8_t template[] = { 0xb8, 0, 0, 0, 0, 0xc3 };

static uint8_t *code;

static void prepare(void)
{
	code = pages(1 << 16);
	mprotect(code, 1 << 16, PROT_READ | PROT_WRITE | PROT_EXEC);
	memcpy(code, template, sizeof(template));
}

static uint64_t patch(uint64_t count)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++) {
		memcpy(code + 1, &i, sizeof(i));
		__asm__ volatile("" : : : "memory");
		sum += ((made *)code)();
	}
	return sum;
}

/* As a compiler at run time: each function at a new place, run a hundred times. */
static uint64_t generate(uint64_t count)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint8_t *at = code + (i * 64 & 0xffff);

		memcpy(at, template, sizeof(template));
		memcpy(at + 1, &i, sizeof(i));
		__asm__ volatile("" : : : "memory");
		for (int turn = 0; turn < 100; turn++)
			sum += ((made *)at)();
	}
	return sum;
}

static const struct row rows[] = {
	{ "code-patched", "self-modifying", 20, prepare, patch, NULL, 0 },
	{ "code-generated", "self-modifying", 40, prepare, generate, NULL, 0 },
};

const struct rows self_modifying_rows = ROWS(rows);
