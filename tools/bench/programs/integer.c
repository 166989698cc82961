/* Integer instructions: results that depend on each other, and flags that do. */
#include "row.h"

static uint64_t alu(uint64_t count)
{
	uint64_t a = 88172645463325252ull, b = 1, c = 2;

	while (count--) {
		a ^= a << 13;
		b += a >> 7;
		a ^= a >> 7;
		c = (c ^ b) - (a & 0xff);
		a ^= a << 17;
		b = b << 5 | b >> 59;
		__asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c));
	}
	return a + b + c;
}

/* A carry that goes through everything. */
static uint64_t flags(uint64_t count)
{
	uint64_t a = 0x123456789abcdef, b = 0xfedcba987654321, c = 7;

	__asm__ volatile("clc\n"
			 "1:	adc %[b], %[a]\n"
			 "	rcl $1, %[b]\n"
			 "	adc $3, %[c]\n"
			 "	sbb %[a], %[b]\n"
			 "	adc %[c], %[a]\n"
			 "	rcr $1, %[c]\n"
			 "	dec %[count]\n"
			 "	jnz 1b"
			 : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [count] "+r"(count)
			 :
			 : "cc");
	return a + b + c;
}

static uint64_t conditions(uint64_t count)
{
	uint64_t random = 1, taken = 0;

	while (count--) {
		uint64_t value = next_random(&random);

		if (value & 1)
			taken += 3;
		if ((int64_t)value < 0)
			taken ^= value;
		taken += (value & 0xff) > 77 ? 5 : 9;
		__asm__ volatile("" : "+r"(taken));
	}
	return taken;
}

static uint64_t multiply_divide(uint64_t count)
{
	uint64_t a = 0x9e3779b97f4a7c15ull;

	while (count--) {
		uint64_t divisor = a >> 32 | 1;

		a = a * 0xd1342543de82ef95ull + 1;
		a ^= a / divisor + a % divisor;
		__asm__ volatile("" : "+r"(a));
	}
	return a;
}

static const struct row rows[] = {
	{ "alu", "integer", 200, NULL, alu, NULL, 0 },
	{ "flags-chain", "integer", 120, NULL, flags, NULL, 0 },
	{ "branches", "integer", 200, NULL, conditions, NULL, 0 },
	{ "multiply-divide", "integer", 200, NULL, multiply_divide, NULL, 0 },
};

const struct rows integer_rows = ROWS(rows);
