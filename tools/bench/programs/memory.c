/*
 * Loads: a chain of pointers, where each waits for the one before, and sums, where none does.
 * 16 KiB are in the first-level cache, 512 KiB in the second, 64 MiB in neither.
 */
#include "row.h"

#define LINE 64
#define L1 (16 << 10)
#define L2 (512 << 10)
#define DRAM (64 << 20)

static char *area;
static size_t size;

/* One circle through all lines in random order (Sattolo's shuffle). */
static void prepare_chase(size_t bytes)
{
	size_t lines = bytes / LINE;
	uint64_t random = 42;
	uint32_t *order = pages(lines * sizeof(*order));

	area = pages(bytes);
	for (size_t i = 0; i < lines; i++)
		order[i] = i;
	for (size_t i = lines - 1; i > 0; i--) {
		size_t j = next_random(&random) % i;
		uint32_t other = order[i];

		order[i] = order[j];
		order[j] = other;
	}
	for (size_t i = 0; i < lines; i++)
		*(void **)(area + (size_t)order[i] * LINE) =
			area + (size_t)order[(i + 1) % lines] * LINE;
}

static void chase_l1(void)
{
	prepare_chase(L1);
}

static void chase_l2(void)
{
	prepare_chase(L2);
}

static void chase_dram(void)
{
	prepare_chase(DRAM);
}

static uint64_t chase(uint64_t count)
{
	void **at = (void **)area;

	while (count--)
		at = *at;
	return (char *)at - area;
}

static void prepare_sum(size_t bytes)
{
	uint64_t random = 7;

	area = pages(bytes);
	size = bytes;
	for (size_t i = 0; i < bytes / 8; i++)
		((uint64_t *)area)[i] = next_random(&random);
}

static void sum_l1(void)
{
	prepare_sum(L1);
}

static void sum_l2(void)
{
	prepare_sum(L2);
}

static void sum_dram(void)
{
	prepare_sum(DRAM);
}

static uint64_t sum(uint64_t count)
{
	const uint64_t *number = (uint64_t *)area;
	uint64_t a = 0, b = 0;

	while (count--) {
		for (size_t i = 0; i < size / 8; i += 4) {
			a += number[i] + number[i + 1];
			b ^= number[i + 2] + number[i + 3];
		}
		__asm__ volatile("" : "+r"(a), "+r"(b) : : "memory");
	}
	return a + b;
}

/* Reads, changes and writes each number. */
static uint64_t change(uint64_t count)
{
	uint64_t *number = (uint64_t *)area;

	for (uint64_t turn = 0; turn < count; turn++)
		for (size_t i = 0; i < size / 8; i++) {
			number[i] += turn;
			__asm__ volatile("" : : : "memory");
		}
	return number[0] + number[size / 8 - 1];
}

static const struct row rows[] = {
	{ "chase-L1", "memory", 200, chase_l1, chase, NULL, 0 },
	{ "chase-L2", "memory", 200, chase_l2, chase, NULL, 0 },
	{ "chase-DRAM", "memory", 200, chase_dram, chase, NULL, 0 },
	{ "sum-L1", "memory", 200, sum_l1, sum, NULL, 0 },
	{ "sum-L2", "memory", 200, sum_l2, sum, NULL, 0 },
	{ "sum-DRAM", "memory", 200, sum_dram, sum, NULL, 0 },
	{ "read-modify-write-L1", "memory", 200, sum_l1, change, NULL, 0 },
};

const struct rows memory_rows = ROWS(rows);
