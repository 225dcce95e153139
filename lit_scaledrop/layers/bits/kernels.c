/* Products of +-1 as XOR and popcount on packed words. Plain C, no library; one source for all processors.
 *
 * A pixel of one group of channels is a unit of bytes, a bit a channel, the lowest first; bits beyond the last channel
 * are 0. Units of fewer than 64 channels have 1, 2 or 4 bytes, so that the taps of a window lie densely; others have whole
 * words. A window is its units, row by row, filled up to whole words; so is a filter. With n products, of which d are of
 * unequal signs, the sum is n - 2 d. Borders of zeros are 0 bits, which count as -1, and a table by position corrects it.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "units are written little-endian"
#endif

enum { PIXELS = 4, FILTERS = 8, CHUNK = 64 }; /* of a block of sums; pixels that are gathered at once */

typedef struct {
    int64_t channels, groups, unit;                    /* of a group; bytes of a unit */
    int64_t height, width;                             /* of the input */
    int64_t top, left, padded_height, padded_width;    /* with its border */
    int64_t out_height, out_width;
    int64_t kernel_height, kernel_width, stride_height, stride_width, dilation_height, dilation_width;
    int64_t filters, words;                            /* of a group; of a window */
    int64_t products;                                  /* that a whole window sums up */
} Geometry;

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define X86 1
#endif

/* the best of the kernels below that this processor has: 0 portable, 1 AVX2, 2 AVX-512 with VPOPCNTDQ */
int bits_best(void)
{
#ifdef X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("fma"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 1;
#endif
    return 0;
}

/* What makes an input a bit: for channel c and the case of its image, 1 where direction x >= threshold. */
typedef struct {
    const float *threshold, *direction; /* [cases][groups * channels] */
    const int32_t *of_image;            /* its case */
} Cases;

/* 32 channels of some pixels: bit c of line[i] is that of x[c * plane + i] */
typedef void Collect(const float *x, int64_t plane, int64_t channels, int64_t pixels, const float *threshold,
                     const float *direction, uint32_t *line);

static inline void collect_portable(const float *x, int64_t plane, int64_t channels, int64_t pixels,
                                    const float *threshold, const float *direction, uint32_t *line)
{
    memset(line, 0, (size_t)pixels * sizeof *line);
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < pixels; i++)
            line[i] |= direction[c] * x[c * plane + i] >= threshold[c] ? 1u << c : 0;
}

#ifdef X86
/* the same for 8 pixels times blocks, whose bits stay in registers */
__attribute__((target("avx2"), always_inline)) static inline void
collect_block(const float *x, int64_t plane, int64_t channels, int blocks, const float *threshold,
              const float *direction, uint32_t *line)
{
    __m256i found[CHUNK / 8], bit = _mm256_set1_epi32(1);
    for (int k = 0; k < blocks; k++)
        found[k] = _mm256_setzero_si256();
    for (int64_t c = 0; c < channels; c++) {
        const __m256 least = _mm256_set1_ps(threshold[c]), sign = _mm256_set1_ps(direction[c]);
        for (int k = 0; k < blocks; k++) {
            const __m256 v = _mm256_mul_ps(sign, _mm256_loadu_ps(x + c * plane + 8 * k));
            const __m256i set = _mm256_castps_si256(_mm256_cmp_ps(v, least, _CMP_GE_OQ));
            found[k] = _mm256_or_si256(found[k], _mm256_and_si256(bit, set));
        }
        bit = _mm256_slli_epi32(bit, 1);
    }
    for (int k = 0; k < blocks; k++)
        _mm256_storeu_si256((__m256i *)(line + 8 * k), found[k]);
}

__attribute__((target("avx2"))) static inline void collect_avx2(const float *x, int64_t plane, int64_t channels,
                                                                int64_t pixels, const float *threshold,
                                                                const float *direction, uint32_t *line)
{
    int64_t i = 0;
    for (; i + CHUNK <= pixels; i += CHUNK)
        collect_block(x + i, plane, channels, CHUNK / 8, threshold, direction, line + i);
    for (; i + 8 <= pixels; i += 8)
        collect_block(x + i, plane, channels, 1, threshold, direction, line + i);
    collect_portable(x + i, plane, channels, pixels - i, threshold, direction, line + i);
}
#endif

static inline __attribute__((always_inline)) void place(const uint32_t *line, int64_t pixels, int64_t step, int64_t bytes,
                                                        uint8_t *to)
{
    for (int64_t i = 0; i < pixels; i++)
        memcpy(to + i * step, line + i, (size_t)bytes); /* little-endian */
}

static inline __attribute__((always_inline)) void pack_rows(Collect *collect, const Geometry *g, const float *x,
                                                            const Cases *cases, uint8_t *out, int64_t begin,
                                                            int64_t end)
{
    const int64_t plane = g->height * g->width, all = g->groups * g->channels;
    const int64_t pixel = g->groups * g->unit, border = (g->padded_width - g->width) * pixel;
    uint32_t line[CHUNK];
    for (int64_t at = begin, stop; at < end; at = stop) { /* rows of one image, which lie one behind the other */
        const int64_t image = at / g->height, row = at % g->height;
        stop = end < (image + 1) * g->height ? end : (image + 1) * g->height;
        const int64_t last = (row + stop - at) * g->width;
        for (int64_t group = 0; group < g->groups; group++)
            for (int64_t first = 0; first < g->channels; first += 32)
                for (int64_t start = row * g->width; start < last; start += CHUNK) {
                    const int64_t left = g->channels - first, channel = group * g->channels + first;
                    const int64_t pixels = last - start < CHUNK ? last - start : CHUNK;
                    const int64_t of_case = cases->of_image[image] * all + channel;
                    collect(x + (image * all + channel) * plane + start, plane, left < 32 ? left : 32, pixels,
                            cases->threshold + of_case, cases->direction + of_case, line);
                    const int64_t y = start / g->width;
                    int64_t column = start % g->width;
                    uint8_t *to = out + ((image * g->padded_height + g->top + y) * g->padded_width + g->left + column) *
                                            pixel + group * g->unit + first / 8;
                    for (int64_t i = 0; i < pixels;) {
                        const int64_t rest = pixels - i, room = g->width - column, some = rest < room ? rest : room;
                        switch (g->unit) { /* of a known size memcpy is one instruction */
                        case 1: place(line + i, some, pixel, 1, to); break;
                        case 2: place(line + i, some, pixel, 2, to); break;
                        default: place(line + i, some, pixel, 4, to);
                        }
                        i += some;
                        to += some * pixel + border;
                        column = 0;
                    }
                }
    }
}

/* the window of one output pixel */
static inline __attribute__((always_inline)) void gather(const Geometry *g, const uint8_t *in, int64_t group,
                                                         int64_t image, int64_t place, uint64_t *window)
{
    const int64_t y = place / g->out_width * g->stride_height, x = place % g->out_width * g->stride_width;
    const int64_t unit = g->unit, pixel = g->groups * unit, row_bytes = g->padded_width * pixel;
    const uint8_t *row = in + (image * g->padded_height + y) * row_bytes + x * pixel + group * unit;
    uint8_t *to = (uint8_t *)window;
    window[g->words - 1] = 0;
    for (int64_t i = 0; i < g->kernel_height; i++, row += g->dilation_height * row_bytes) {
        const uint8_t *from = row;
        for (int64_t j = 0; j < g->kernel_width; j++, from += g->dilation_width * pixel, to += unit)
            switch (unit) { /* of a known size memcpy is one instruction */
            case 1: memcpy(to, from, 1); break;
            case 2: memcpy(to, from, 2); break;
            case 4: memcpy(to, from, 4); break;
            default:
                for (int64_t k = 0; k < unit; k += 8)
                    memcpy(to + k, from + k, 8);
            }
    }
}

/* Unequal signs of PIXELS windows and FILTERS filters, whose words alternate: unequal[filter * CHUNK + pixel]. */
static inline void block_portable(const uint64_t *windows, const uint64_t *filters, int64_t words, int32_t *unequal)
{
    for (int f = 0; f < FILTERS; f++)
        for (int p = 0; p < PIXELS; p++) {
            int64_t sum = 0;
            for (int64_t k = 0; k < words; k++)
                sum += __builtin_popcountll(windows[p * words + k] ^ filters[k * FILTERS + f]);
            unequal[f * CHUNK + p] = (int32_t)sum;
        }
}

#ifdef X86
__attribute__((target("avx2"))) static inline void block_avx2(const uint64_t *windows, const uint64_t *filters,
                                                              int64_t words, int32_t *unequal)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2,
                                           2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    for (int half = 0; half < FILTERS; half += 4) {
        __m256i total[PIXELS] = {zero, zero, zero, zero};
        for (int64_t start = 0; start < words; start += 31) { /* a byte holds 31 times 8 */
            const int64_t stop = start + 31 < words ? start + 31 : words;
            __m256i some[PIXELS] = {zero, zero, zero, zero};
            for (int64_t k = start; k < stop; k++) {
                const __m256i filter = _mm256_loadu_si256((const __m256i *)(filters + k * FILTERS + half));
                for (int p = 0; p < PIXELS; p++) {
                    const __m256i v = _mm256_xor_si256(filter, _mm256_set1_epi64x((int64_t)windows[p * words + k]));
                    const __m256i a = _mm256_shuffle_epi8(table, _mm256_and_si256(v, low));
                    const __m256i b = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), low));
                    some[p] = _mm256_add_epi8(some[p], _mm256_add_epi8(a, b));
                }
            }
            for (int p = 0; p < PIXELS; p++)
                total[p] = _mm256_add_epi64(total[p], _mm256_sad_epu8(some[p], zero));
        }
        /* 4 pixels of 4 filters to 4 filters of 4 pixels */
        const __m256i first = _mm256_or_si256(total[0], _mm256_slli_epi64(total[1], 32));
        const __m256i second = _mm256_or_si256(total[2], _mm256_slli_epi64(total[3], 32));
        const __m256i even = _mm256_unpacklo_epi64(first, second), odd = _mm256_unpackhi_epi64(first, second);
        int32_t *to = unequal + half * CHUNK;
        _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(even));
        _mm_storeu_si128((__m128i *)(to + CHUNK), _mm256_castsi256_si128(odd));
        _mm_storeu_si128((__m128i *)(to + 2 * CHUNK), _mm256_extracti128_si256(even, 1));
        _mm_storeu_si128((__m128i *)(to + 3 * CHUNK), _mm256_extracti128_si256(odd, 1));
    }
}

__attribute__((target("avx512f,avx512bw,avx512vpopcntdq"))) static inline void
block_avx512(const uint64_t *windows, const uint64_t *filters, int64_t words, int32_t *unequal)
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i total[PIXELS] = {zero, zero, zero, zero};
    for (int64_t k = 0; k < words; k++) {
        const __m512i filter = _mm512_loadu_si512(filters + k * FILTERS);
        for (int p = 0; p < PIXELS; p++) {
            const __m512i v = _mm512_xor_si512(filter, _mm512_set1_epi64((int64_t)windows[p * words + k]));
            total[p] = _mm512_add_epi64(total[p], _mm512_popcnt_epi64(v));
        }
    }
    const __m512i first = _mm512_or_si512(total[0], _mm512_slli_epi64(total[1], 32));
    const __m512i second = _mm512_or_si512(total[2], _mm512_slli_epi64(total[3], 32));
    const __m512i even = _mm512_unpacklo_epi64(first, second), odd = _mm512_unpackhi_epi64(first, second);
    _mm_storeu_si128((__m128i *)unequal, _mm512_castsi512_si128(even));
    _mm_storeu_si128((__m128i *)(unequal + CHUNK), _mm512_castsi512_si128(odd));
    _mm_storeu_si128((__m128i *)(unequal + 2 * CHUNK), _mm512_extracti32x4_epi32(even, 1));
    _mm_storeu_si128((__m128i *)(unequal + 3 * CHUNK), _mm512_extracti32x4_epi32(odd, 1));
    _mm_storeu_si128((__m128i *)(unequal + 4 * CHUNK), _mm512_extracti32x4_epi32(even, 2));
    _mm_storeu_si128((__m128i *)(unequal + 5 * CHUNK), _mm512_extracti32x4_epi32(odd, 2));
    _mm_storeu_si128((__m128i *)(unequal + 6 * CHUNK), _mm512_extracti32x4_epi32(even, 3));
    _mm_storeu_si128((__m128i *)(unequal + 7 * CHUNK), _mm512_extracti32x4_epi32(odd, 3));
}
#endif

typedef void Block(const uint64_t *, const uint64_t *, int64_t, int32_t *);

/* Sums of the output pixels begin to end, which count through all images, for all filters.
 * filters: [groups][blocks][words][FILTERS]; border: [positions][groups * filters], what zeros outside have added too
 * much; position: of each output pixel of an image its row in it, or -1; factor: of each filter. */
static inline __attribute__((always_inline)) void sums(Block *block, const Geometry *g, const uint8_t *in,
                                                       const uint64_t *filters, const int32_t *position,
                                                       const float *border, const float *factor, float *out,
                                                       int64_t begin, int64_t end, uint64_t *windows)
{
    const int64_t plane = g->out_height * g->out_width, all = g->groups * g->filters;
    const int64_t blocks = (g->filters + FILTERS - 1) / FILTERS;
    const int64_t whole = 2048 / g->words / PIXELS * PIXELS; /* windows of 16 kB */
    const int64_t most = whole < PIXELS ? PIXELS : whole > CHUNK ? CHUNK : whole;
    int32_t unequal[FILTERS * CHUNK], cut[CHUNK];
    for (int64_t start = begin, stop; start < end; start = stop) {
        const int64_t image = start / plane, place = start % plane;
        stop = start + most < end ? start + most : end;
        stop = stop < (image + 1) * plane ? stop : (image + 1) * plane;
        const int64_t pixels = stop - start;
        int64_t cuts = 0;
        for (int64_t i = 0; i < pixels; i++)
            if (position[place + i] >= 0)
                cut[cuts++] = (int32_t)i;
        for (int64_t group = 0; group < g->groups; group++) {
            for (int64_t i = 0; i < pixels; i++)
                gather(g, in, group, image, place + i, windows + i * g->words);
            for (int64_t b = 0; b < blocks; b++) {
                for (int64_t i = 0; i < pixels; i += PIXELS)
                    block(windows + i * g->words, filters + (group * blocks + b) * g->words * FILTERS, g->words,
                          unequal + i);
                const int64_t left = g->filters - b * FILTERS;
                for (int64_t f = 0; f < (left < FILTERS ? left : FILTERS); f++) {
                    const int64_t filter = group * g->filters + b * FILTERS + f;
                    const int32_t products = (int32_t)g->products, *found = unequal + f * CHUNK;
                    float *to = out + (image * all + filter) * plane + place;
                    const float scale = factor[filter];
                    for (int64_t i = 0; i < pixels; i++)
                        to[i] = scale * (float)(products - 2 * found[i]);
                    for (int64_t i = 0; i < cuts; i++)
                        to[cut[i]] += scale * border[position[place + cut[i]] * all + filter];
                }
            }
        }
    }
}

#define PACK_ARGUMENTS const Geometry *g, const float *x, const Cases *cases, uint8_t *out, int64_t begin, int64_t end
#define SUM_ARGUMENTS                                                                                               \
    const Geometry *g, const uint8_t *in, const uint64_t *filters, const int32_t *position, const float *border,    \
        const float *factor, float *out, int64_t begin, int64_t end, uint64_t *windows
#define PACK(collect) pack_rows(collect, g, x, cases, out, begin, end)
#define SUMS(block) sums(block, g, in, filters, position, border, factor, out, begin, end, windows)

static void pack_portable(PACK_ARGUMENTS) { PACK(collect_portable); }
static void sums_portable(SUM_ARGUMENTS) { SUMS(block_portable); }

#ifdef X86
__attribute__((target("avx2"))) static void pack_avx2(PACK_ARGUMENTS) { PACK(collect_avx2); }
__attribute__((target("avx2"))) static void sums_avx2(SUM_ARGUMENTS) { SUMS(block_avx2); }
__attribute__((target("avx512f,avx512bw,avx512vpopcntdq"))) static void sums_avx512(SUM_ARGUMENTS)
{
    SUMS(block_avx512);
}
#endif

/* Rows begin to end, which count through all images, as bits; out is zero where nothing is written. */
void bits_pack(const Geometry *g, int level, const float *x, const float *threshold, const float *direction,
               const int32_t *of_image, uint8_t *out, int64_t begin, int64_t end)
{
    const Cases cases[1] = {{threshold, direction, of_image}};
#ifdef X86
    if (level) {
        pack_avx2(g, x, cases, out, begin, end);
        return;
    }
#endif
    pack_portable(g, x, cases, out, begin, end);
}

/* 0, or -1 where there is no memory */
int bits_sums(const Geometry *g, int level, const uint8_t *in, const uint64_t *filters, const int32_t *position,
              const float *border, const float *factor, float *out, int64_t begin, int64_t end)
{
    uint64_t *windows = calloc((size_t)(CHUNK * g->words), sizeof *windows);
    if (!windows)
        return -1;
#ifdef X86
    if (level > 1)
        sums_avx512(g, in, filters, position, border, factor, out, begin, end, windows);
    else if (level)
        sums_avx2(g, in, filters, position, border, factor, out, begin, end, windows);
    else
#endif
        sums_portable(g, in, filters, position, border, factor, out, begin, end, windows);
    free(windows);
    return 0;
}

/* Multiply and add for each channel, rounded once (fused) or twice; steps from row to row, 0 where all rows are alike.
 * No factor is 1, no shift 0. */
typedef struct {
    const float *factor, *shift;
    int64_t factor_step, shift_step, fused;
} Stage;

static inline __attribute__((always_inline)) void finish_plane(const float *x, const float *skip, float *out, int64_t pixels,
                                                               const float *by, int fused, int fused_too, float low,
                                                               float high)
{
    for (int64_t i = 0; i < pixels; i++) {
        float v = fused ? fmaf(x[i], by[0], by[1]) : x[i] * by[0] + by[1];
        v = fused_too ? fmaf(v, by[2], by[3]) : v * by[2] + by[3];
        v = skip ? v + skip[i] : v;
        v = v < low ? low : v;
        out[i] = v > high ? high : v;
    }
}

static inline __attribute__((always_inline)) void finish(int64_t channels, int64_t pixels, const float *x, const Stage *s,
                                                         const float *skip, float low, float high, float *out,
                                                         int64_t begin, int64_t end)
{
    for (int64_t at = begin; at < end; at++) {
        const int64_t row = at / channels, c = at % channels, first = at * pixels;
        float by[4] = {1, 0, 1, 0};
        for (int k = 0; k < 2; k++) {
            if (s[k].factor)
                by[2 * k] = s[k].factor[row * s[k].factor_step + c];
            if (s[k].shift)
                by[2 * k + 1] = s[k].shift[row * s[k].shift_step + c];
        }
        const float *more = skip ? skip + first : 0;
#define PLANE(a, b) finish_plane(x + first, more, out + first, pixels, by, a, b, low, high)
        switch (2 * s[0].fused + s[1].fused) { /* known here, so that the loops are vectors */
        case 0: PLANE(0, 0); break;
        case 1: PLANE(0, 1); break;
        case 2: PLANE(1, 0); break;
        default: PLANE(1, 1);
        }
#undef PLANE
    }
}

#define FINISH_ARGUMENTS                                                                                            \
    int64_t channels, int64_t pixels, const float *x, const Stage *s, const float *skip, float low, float high,     \
        float *out, int64_t begin, int64_t end
#define FINISH finish(channels, pixels, x, s, skip, low, high, out, begin, end)

static void finish_portable(FINISH_ARGUMENTS) { FINISH; }
#ifdef X86
__attribute__((target("avx2,fma"))) static void finish_avx2(FINISH_ARGUMENTS) { FINISH; }
#endif

/* Two stages, a skip (or none), a clip: of the planes begin to end, which count through all rows. NaN stays NaN. */
void bits_finish(int level, FINISH_ARGUMENTS)
{
#ifdef X86
    if (level) {
        finish_avx2(channels, pixels, x, s, skip, low, high, out, begin, end);
        return;
    }
#endif
    finish_portable(channels, pixels, x, s, skip, low, high, out, begin, end);
}
