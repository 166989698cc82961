/* Floating point: products of matrices by pairs (SSE2) and one by one, and the x87. */
#include "row.h"

#include <emmintrin.h>
#include <string.h>

#define N 96

static double (*a)[N], (*b)[N], (*c)[N];

static void prepare(void)
{
	uint64_t random = 5;

	a = pages(sizeof(double[N][N]));
	b = pages(sizeof(double[N][N]));
	c = pages(sizeof(double[N][N]));
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++) {
			a[i][j] = (double)(next_random(&random) >> 40);
			b[i][j] = (double)(next_random(&random) >> 40) / 3;
		}
}

static uint64_t bits(double value)
{
	uint64_t same;

	memcpy(&same, &value, sizeof(same));
	return same;
}

static uint64_t pairs(uint64_t count)
{
	while (count--) {
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j += 4) {
				__m128d low = _mm_setzero_pd(), high = low;

				for (int k = 0; k < N; k++) {
					__m128d factor = _mm_set1_pd(a[i][k]);

					low = _mm_add_pd(low, _mm_mul_pd(factor, _mm_load_pd(&b[k][j])));
					high = _mm_add_pd(high,
							  _mm_mul_pd(factor, _mm_load_pd(&b[k][j + 2])));
				}
				_mm_store_pd(&c[i][j], low);
				_mm_store_pd(&c[i][j + 2], high);
			}
		__asm__ volatile("" : : : "memory");
	}
	return bits(c[N / 2][N / 3]);
}

static uint64_t singles(uint64_t count)
{
	while (count--) {
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j++) {
				double sum = 0;

				for (int k = 0; k < N; k++)
					sum += a[i][k] * b[k][j];
				c[i][j] = sum;
			}
		__asm__ volatile("" : : : "memory");
	}
	return bits(c[N / 2][N / 3]);
}

static uint64_t integers(uint64_t count)
{
	__m128i x = _mm_set_epi32(1, 2, 3, 4), y = _mm_set_epi32(5, 6, 7, 8);

	while (count--) {
		x = _mm_add_epi32(x, y);
		y = _mm_xor_si128(y, _mm_slli_epi32(x, 5));
		x = _mm_shuffle_epi32(_mm_sub_epi16(x, y), 0x39);
		y = _mm_unpacklo_epi8(y, x);
		__asm__ volatile("" : "+x"(x), "+x"(y));
	}
	return _mm_cvtsi128_si64(_mm_add_epi64(x, y));
}

static uint64_t x87(uint64_t count)
{
	long double x = 0.5L, sum = 0;

	while (count--) {
		x = 3.75L * x * (1 - x);
		sum += x / (1 + sum * sum);
		__asm__ volatile("" : "+m"(sum));
	}
	return bits((double)sum);
}

static const struct row rows[] = {
	{ "matmul-SSE2", "floating", 40, prepare, pairs, NULL, 0 },
	{ "matmul-scalar", "floating", 100, prepare, singles, NULL, 0 },
	{ "SSE2-integer", "floating", 100, NULL, integers, NULL, 0 },
	{ "x87", "floating", 100, NULL, x87, NULL, 0 },
};

const struct rows floating_rows = ROWS(rows);
