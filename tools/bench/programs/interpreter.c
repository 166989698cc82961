/* A bytecode interpreter as many languages have one: a loop around a switch. */
#include "row.h"

enum code { LOAD, ADD, SUBTRACT, MULTIPLY, XOR, SHIFT, LESS, JUMP_IF, STORE, FETCH, MOVE, STOP };

struct instruction {
	uint8_t code, to, a, b;
};

/* r0 counts down from r1; the rest mixes what it finds. */
static const struct instruction program[] = {
	{ LOAD, 0, 200, 0 }, { LOAD, 2, 17, 0 },  { LOAD, 3, 5, 0 },   { LOAD, 4, 1, 0 },
	{ LOAD, 5, 0, 0 },   { ADD, 2, 2, 3 },    { XOR, 3, 3, 2 },    { SHIFT, 6, 2, 3 },
	{ STORE, 6, 0, 0 },  { MULTIPLY, 7, 2, 6 }, { FETCH, 3, 0, 0 }, { SUBTRACT, 2, 7, 3 },
	{ LESS, 6, 2, 3 },   { ADD, 3, 3, 6 },    { MOVE, 7, 2, 0 },   { SUBTRACT, 0, 0, 4 },
	{ LESS, 6, 5, 0 },   { JUMP_IF, 6, 5, 0 }, { STOP, 2, 3, 0 },
};

static uint64_t interpret(uint64_t seed)
{
	static uint64_t memory[256];
	uint64_t r[8] = { 0 };

	for (const struct instruction *at = program;;) {
		struct instruction now = *at++;

		switch ((enum code)now.code) {
		case LOAD:
			r[now.to] = now.a + (seed & 3);
			break;
		case ADD:
			r[now.to] = r[now.a] + r[now.b];
			break;
		case SUBTRACT:
			r[now.to] = r[now.a] - r[now.b];
			break;
		case MULTIPLY:
			r[now.to] = r[now.a] * r[now.b];
			break;
		case XOR:
			r[now.to] = r[now.a] ^ r[now.b];
			break;
		case SHIFT:
			r[now.to] = r[now.a] >> (r[now.b] & 31);
			break;
		case LESS:
			r[now.to] = (int64_t)r[now.a] < (int64_t)r[now.b];
			break;
		case JUMP_IF:
			if (r[now.to])
				at = program + now.a;
			break;
		case STORE:
			memory[r[now.a] & 255] = r[now.to];
			break;
		case FETCH:
			r[now.to] = memory[r[now.a] & 255] + 3;
			break;
		case MOVE:
			r[now.to] = r[now.a];
			break;
		case STOP:
			return r[now.to] + r[now.a];
		}
	}
}

static uint64_t run(uint64_t count)
{
	uint64_t sum = 0;

	while (count--)
		sum = sum * 31 + interpret(4 | count << 3);
	return sum;
}

static const struct row rows[] = {
	{ "bytecode-interpreter", "calls", 200, NULL, run, NULL, 0 },
};

const struct rows interpreter_rows = ROWS(rows);
