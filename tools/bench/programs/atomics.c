/* Locked instructions. */
#include "row.h"

static uint64_t cell;

static uint64_t increment(uint64_t count)
{
	cell = 0;
	for (uint64_t i = 0; i < count; i++)
		__atomic_fetch_add(&cell, 1, __ATOMIC_SEQ_CST);
	return cell;
}

static uint64_t compare_exchange(uint64_t count)
{
	cell = 1;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t seen = __atomic_load_n(&cell, __ATOMIC_RELAXED);

		while (!__atomic_compare_exchange_n(&cell, &seen, seen * 5 + i, 0, __ATOMIC_SEQ_CST,
						    __ATOMIC_SEQ_CST))
			;
	}
	return cell;
}

static uint64_t exchange(uint64_t count)
{
	uint64_t value = 1;

	cell = 2;
	for (uint64_t i = 0; i < count; i++)
		value = __atomic_exchange_n(&cell, value + i, __ATOMIC_SEQ_CST);
	return cell + value;
}

static const struct row rows[] = {
	{ "lock-add", "atomics", 200, NULL, increment, NULL, 0 },
	{ "lock-cmpxchg", "atomics", 200, NULL, compare_exchange, NULL, 0 },
	{ "xchg", "atomics", 200, NULL, exchange, NULL, 0 },
};

const struct rows atomic_rows = ROWS(rows);
