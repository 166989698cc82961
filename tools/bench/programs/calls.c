/* Calls and returns; calls through pointers whose targets change. */
#include "row.h"

static uint64_t __attribute__((noinline, noclone, optimize("no-optimize-sibling-calls", "O1")))
fibonacci(uint64_t n)
{
	return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t calls(uint64_t count)
{
	uint64_t sum = 0;

	while (count--)
		sum += fibonacci(20 + (count & 1));
	return sum;
}

#define TARGET(name, expression)                                        \
	static uint64_t __attribute__((noinline, noclone)) name(uint64_t x) \
	{                                                               \
		return expression;                                      \
	}
TARGET(add, x + 0x9e3779b9)
TARGET(shift, x ^ x << 13)
TARGET(fold, x ^ x >> 7)
TARGET(scale, x * 25 + 7)

typedef uint64_t target(uint64_t);
static target *volatile const targets[8] = { add, shift, fold, scale, shift, add, scale, fold };

static uint64_t indirect(uint64_t count)
{
	uint64_t x = 1;

	for (uint64_t i = 0; i < count; i++)
		x = targets[i & 7](x);
	return x;
}

static uint64_t one_target(uint64_t count)
{
	target *volatile where = fold;
	uint64_t x = 1;

	for (uint64_t i = 0; i < count; i++)
		x = where(x) + i;
	return x;
}

static const struct row rows[] = {
	{ "calls", "calls", 200, NULL, calls, NULL, 0 },
	{ "indirect-calls", "calls", 200, NULL, indirect, NULL, 0 },
	{ "indirect-calls-one-target", "calls", 200, NULL, one_target, NULL, 0 },
};

const struct rows call_rows = ROWS(rows);
