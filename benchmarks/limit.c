/* How fast a core can multiply signs at all: XOR, count and sum on registers, no memory, no loop worth the name. Returns
 * how many products it has done; the caller takes the time. */
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define GROUPS 12
#define KEEP(x) __asm__ volatile("" : "+v"(x)) /* neither known nor left out */

__attribute__((target("avx512f,avx512bw,avx512vpopcntdq"))) static int64_t avx512(int64_t rounds)
{
    __m512i total[GROUPS], x = _mm512_set1_epi64(rounds);
#pragma GCC unroll 16
    for (int i = 0; i < GROUPS; i++)
        total[i] = _mm512_setzero_si512();
    for (int64_t k = 0; k < rounds; k++)
#pragma GCC unroll 16
        for (int i = 0; i < GROUPS; i++) {
            KEEP(x);
            total[i] = _mm512_add_epi64(total[i], _mm512_popcnt_epi64(_mm512_xor_si512(x, total[i])));
        }
#pragma GCC unroll 16
    for (int i = 0; i < GROUPS; i++)
        KEEP(total[i]);
    return rounds * GROUPS * 512;
}

__attribute__((target("avx2"))) static int64_t avx2(int64_t rounds)
{
    const __m256i low = _mm256_set1_epi8(15);
    __m256i total[GROUPS], x = _mm256_set1_epi64x(rounds), table = _mm256_set1_epi8(3);
#pragma GCC unroll 16
    for (int i = 0; i < GROUPS; i++)
        total[i] = _mm256_setzero_si256();
    for (int64_t k = 0; k < rounds; k++)
#pragma GCC unroll 16
        for (int i = 0; i < GROUPS; i++) {
            KEEP(x);
            const __m256i v = _mm256_xor_si256(x, total[i]);
            const __m256i a = _mm256_shuffle_epi8(table, _mm256_and_si256(v, low));
            const __m256i b = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), low));
            total[i] = _mm256_add_epi8(total[i], _mm256_add_epi8(a, b));
        }
#pragma GCC unroll 16
    for (int i = 0; i < GROUPS; i++)
        KEEP(total[i]);
    return rounds * GROUPS * 256;
}
#endif

int64_t limit(int level, int64_t rounds)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (level > 1)
        return avx512(rounds);
    if (level)
        return avx2(rounds);
#endif
    uint64_t total[4] = {0}, x = (uint64_t)rounds;
    for (int64_t k = 0; k < rounds; k++)
#pragma GCC unroll 16
        for (int i = 0; i < 4; i++)
            total[i] += (uint64_t)__builtin_popcountll((x += 3) ^ total[i]);
    return total[0] + total[1] + total[2] + total[3] ? rounds * 4 * 64 : 0;
}
