/* Sorting: comparisons and swaps, by a function that is called through a pointer and by one's own. */
#include "row.h"

#include <stdlib.h>
#include <string.h>

#define NUMBERS 65536

static uint32_t *numbers, *work;

static void prepare(void)
{
	uint64_t random = 99;

	numbers = pages(NUMBERS * sizeof(*numbers));
	work = pages(NUMBERS * sizeof(*work));
	for (size_t i = 0; i < NUMBERS; i++)
		numbers[i] = next_random(&random);
}

static int compare(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

static uint64_t library(uint64_t count)
{
	uint64_t sum = 0;

	while (count--) {
		memcpy(work, numbers, NUMBERS * sizeof(*work));
		qsort(work, NUMBERS, sizeof(*work), compare);
		sum += work[NUMBERS / 3] + work[0];
	}
	return sum;
}

static void sink(uint32_t *heap, size_t at, size_t end)
{
	uint32_t value = heap[at];

	for (size_t child; (child = 2 * at + 1) < end; at = child) {
		if (child + 1 < end && heap[child + 1] > heap[child])
			child++;
		if (heap[child] <= value)
			break;
		heap[at] = heap[child];
	}
	heap[at] = value;
}

static uint64_t heap(uint64_t count)
{
	uint64_t sum = 0;

	while (count--) {
		memcpy(work, numbers, NUMBERS * sizeof(*work));
		for (size_t at = NUMBERS / 2; at-- > 0;)
			sink(work, at, NUMBERS);
		for (size_t end = NUMBERS - 1; end > 0; end--) {
			uint32_t largest = work[0];

			work[0] = work[end];
			work[end] = largest;
			sink(work, 0, end);
		}
		sum += work[NUMBERS / 3] + work[0];
	}
	return sum;
}

static const struct row rows[] = {
	{ "sort-qsort", "memory", 200, prepare, library, NULL, 0 },
	{ "sort-heap", "memory", 200, prepare, heap, NULL, 0 },
};

const struct rows sort_rows = ROWS(rows);
