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

enum { PIXELS = 8, FILTERS = 8, CHUNK = 64 }; /* of a tile of sums; pixels that are gathered at once */

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

/* bytes; fewer than 8 are copied as 8, which what lies behind them must bear */
static inline __attribute__((always_inline)) void copy(uint8_t *to, const uint8_t *from, int64_t bytes)
{
    int64_t k = 0;
    if (bytes >= 32) {
        for (; k + 32 <= bytes; k += 32)
            memcpy(to + k, from + k, 32);
        memcpy(to + bytes - 32, from + bytes - 32, 32);
    } else if (bytes >= 8) {
        for (; k + 8 <= bytes; k += 8)
            memcpy(to + k, from + k, 8);
        memcpy(to + bytes - 8, from + bytes - 8, 8);
    } else
        memcpy(to, from, 8);
}

/* the windows of some output pixels of an image, which lie one behind the other */
static inline __attribute__((always_inline)) void gather(const Geometry *g, const uint8_t *in, int64_t group,
                                                         int64_t image, int64_t place, int64_t pixels,
                                                         uint64_t *windows)
{
    const int64_t pixel = g->groups * g->unit, row_bytes = g->padded_width * pixel;
    const int dense = g->groups == 1 && g->dilation_width == 1; /* then the taps of a row lie side by side */
    const int64_t runs = dense ? 1 : g->kernel_width, run = dense ? g->kernel_width * g->unit : g->unit;
    const int64_t bytes = g->kernel_height * runs * run, over = 8 * g->words - bytes;
    int64_t y = place / g->out_width, x = place % g->out_width;
    for (int64_t i = 0; i < pixels; i++, windows += g->words) {
        const uint8_t *row = in + (image * g->padded_height + y * g->stride_height) * row_bytes +
                             x * g->stride_width * pixel + group * g->unit;
        uint8_t *to = (uint8_t *)windows;
        for (int64_t k = 0; k < g->kernel_height; k++, row += g->dilation_height * row_bytes)
            for (int64_t j = 0; j < runs; j++, to += run)
                copy(to, row + j * g->dilation_width * pixel, run);
        windows[g->words - 1] = windows[g->words - 1] << 8 * over >> 8 * over;
        if (++x == g->out_width) {
            x = 0;
            y++;
        }
    }
}

/* Unequal signs of PIXELS windows and FILTERS filters, whose words alternate: unequal[pixel * FILTERS + filter]. */
typedef void Tile(const uint64_t *windows, const uint64_t *filters, int64_t words, int32_t *unequal);

static inline void tile_portable(const uint64_t *windows, const uint64_t *filters, int64_t words, int32_t *unequal)
{
    for (int p = 0; p < PIXELS; p++)
        for (int f = 0; f < FILTERS; f++) {
            int64_t sum = 0;
            for (int64_t k = 0; k < words; k++)
                sum += __builtin_popcountll(windows[p * words + k] ^ filters[k * FILTERS + f]);
            unequal[p * FILTERS + f] = (int32_t)sum;
        }
}

#ifdef X86
/* of 4 pixels and 4 filters */
__attribute__((target("avx2"), always_inline)) static inline void
quarter_avx2(const uint64_t *windows, const uint64_t *filters, int64_t words, int32_t *unequal)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2,
                                           2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    const __m256i even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    __m256i total[4] = {zero, zero, zero, zero};
    for (int64_t start = 0; start < words; start += 31) { /* a byte holds 31 times 8 */
        const int64_t stop = start + 31 < words ? start + 31 : words;
        __m256i some[4] = {zero, zero, zero, zero};
        for (int64_t k = start; k < stop; k++) {
            const __m256i filter = _mm256_loadu_si256((const __m256i *)(filters + k * FILTERS));
            for (int p = 0; p < 4; p++) {
                const __m256i v = _mm256_xor_si256(filter, _mm256_set1_epi64x((int64_t)windows[p * words + k]));
                const __m256i a = _mm256_shuffle_epi8(table, _mm256_and_si256(v, low));
                const __m256i b = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), low));
                some[p] = _mm256_add_epi8(some[p], _mm256_add_epi8(a, b));
            }
        }
        for (int p = 0; p < 4; p++)
            total[p] = _mm256_add_epi64(total[p], _mm256_sad_epu8(some[p], zero));
    }
    for (int p = 0; p < 4; p++)
        _mm_storeu_si128((__m128i *)(unequal + p * FILTERS),
                         _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(total[p], even)));
}

__attribute__((target("avx2"))) static inline void tile_avx2(const uint64_t *windows, const uint64_t *filters,
                                                             int64_t words, int32_t *unequal)
{
    for (int p = 0; p < PIXELS; p += 4)
        for (int f = 0; f < FILTERS; f += 4)
            quarter_avx2(windows + p * words, filters + f, words, unequal + p * FILTERS + f);
}

__attribute__((target("avx512f,avx512bw,avx512vpopcntdq"))) static inline void
tile_avx512(const uint64_t *windows, const uint64_t *filters, int64_t words, int32_t *unequal)
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i total[PIXELS] = {zero, zero, zero, zero, zero, zero, zero, zero};
    for (int64_t k = 0; k < words; k++) {
        const __m512i filter = _mm512_loadu_si512(filters + k * FILTERS);
        for (int p = 0; p < PIXELS; p++) {
            const __m512i v = _mm512_xor_si512(filter, _mm512_set1_epi64((int64_t)windows[p * words + k]));
            total[p] = _mm512_add_epi64(total[p], _mm512_popcnt_epi64(v));
        }
    }
    for (int p = 0; p < PIXELS; p++)
        _mm256_storeu_si256((__m256i *)(unequal + p * FILTERS), _mm512_cvtepi64_epi32(total[p]));
}
#endif

/* What is multiplied. Filters: [groups][blocks][words][FILTERS]. Lanes are [groups][blocks][FILTERS], so that those of
 * no filter are there, too; border: [positions][lanes], what zeros outside have added too much, in row 0 nothing;
 * position: of each output pixel of an image its row in it; factor: of each lane. */
typedef struct {
    const uint8_t *in;
    const uint64_t *filters;
    const int32_t *position;
    const float *border, *factor;
    int64_t lanes;
} Operands;

/* Some pixels of an image, as numbers or as bits of one block of filters. */
typedef struct {
    const Operands *of;
    int64_t place, pixels, lane, filters; /* the first of each; how many pixels, and filters of this block */
    float products;
} Part;

/* numbers: [filters][plane] */
typedef void Numbers(const int32_t *unequal, const Part *part, float *out, int64_t plane);
/* one byte a pixel, which lie a unit apart: a bit for each filter, 1 where direction * sum >= threshold */
typedef void Bits(const int32_t *unequal, const Part *part, const float *threshold, const float *direction, uint8_t *out,
                  int64_t unit);

static inline __attribute__((always_inline)) float number(const int32_t *unequal, const Part *part, int64_t p, int64_t f)
{
    const float *border = part->of->border + part->of->position[part->place + p] * part->of->lanes + part->lane;
    return part->of->factor[part->lane + f] * (part->products - 2 * (float)unequal[p * FILTERS + f] + border[f]);
}

static inline void numbers_portable(const int32_t *unequal, const Part *part, float *out, int64_t plane)
{
    for (int64_t f = 0; f < part->filters; f++)
        for (int64_t p = 0; p < part->pixels; p++)
            out[f * plane + p] = number(unequal, part, p, f);
}

static inline void bits_portable(const int32_t *unequal, const Part *part, const float *threshold,
                                 const float *direction, uint8_t *out, int64_t unit)
{
    for (int64_t p = 0; p < part->pixels; p++) {
        int byte = 0;
        for (int f = 0; f < FILTERS; f++)
            byte |= (direction[f] * number(unequal, part, p, f) >= threshold[f]) << f;
        out[p * unit] = (uint8_t)byte;
    }
}

#ifdef X86
__attribute__((target("avx2"), always_inline)) static inline __m256 numbers_of_pixel(const int32_t *unequal,
                                                                                      const Part *part, int64_t p)
{
    const __m256 some = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(unequal + p * FILTERS)));
    const float *border = part->of->border + part->of->position[part->place + p] * part->of->lanes + part->lane;
    const __m256 sum = _mm256_sub_ps(_mm256_set1_ps(part->products), _mm256_add_ps(some, some));
    return _mm256_mul_ps(_mm256_add_ps(sum, _mm256_loadu_ps(border)), _mm256_loadu_ps(part->of->factor + part->lane));
}

__attribute__((target("avx2"))) static inline void numbers_avx2(const int32_t *unequal, const Part *part, float *out,
                                                                int64_t plane)
{
    if (part->pixels < PIXELS) {
        numbers_portable(unequal, part, out, plane);
        return;
    }
    __m256 v[PIXELS], w[PIXELS];
    for (int p = 0; p < PIXELS; p++)
        v[p] = numbers_of_pixel(unequal, part, p);
    for (int p = 0; p < PIXELS; p += 4) { /* filters to rows: pairs of pixels, then fours, then eights */
        const __m256 a = _mm256_unpacklo_ps(v[p], v[p + 1]), b = _mm256_unpackhi_ps(v[p], v[p + 1]);
        const __m256 c = _mm256_unpacklo_ps(v[p + 2], v[p + 3]), d = _mm256_unpackhi_ps(v[p + 2], v[p + 3]);
        w[p] = _mm256_shuffle_ps(a, c, 0x44);
        w[p + 1] = _mm256_shuffle_ps(a, c, 0xee);
        w[p + 2] = _mm256_shuffle_ps(b, d, 0x44);
        w[p + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    for (int64_t f = 0; f < part->filters; f++)
        _mm256_storeu_ps(out + f * plane, f < 4 ? _mm256_permute2f128_ps(w[f], w[f + 4], 0x20)
                                                : _mm256_permute2f128_ps(w[f - 4], w[f], 0x31));
}

__attribute__((target("avx2"))) static inline void bits_avx2(const int32_t *unequal, const Part *part,
                                                             const float *threshold, const float *direction,
                                                             uint8_t *out, int64_t unit)
{
    const __m256 least = _mm256_loadu_ps(threshold), sign = _mm256_loadu_ps(direction);
    for (int64_t p = 0; p < part->pixels; p++) {
        const __m256 v = _mm256_mul_ps(sign, numbers_of_pixel(unequal, part, p));
        out[p * unit] = (uint8_t)_mm256_movemask_ps(_mm256_cmp_ps(v, least, _CMP_GE_OQ));
    }
}
#endif

/* Bits of the next convolution's input, of one group, from the sums of this one or from their maxima over squares. */
typedef struct {
    const Geometry *geometry;           /* of the next one */
    int64_t pool;                       /* side of the squares */
    const float *threshold, *direction; /* [cases][lanes] */
    const uint8_t *falling;             /* [cases][unit]: 1 where a square has the sign that all its numbers have */
    const int32_t *first, *row, *of_row; /* image i makes the rows row[first[i]] to row[first[i + 1] - 1], of these cases */
    uint8_t *out;
} Next;

typedef struct {
    Tile *tile;
    Numbers *numbers;
    Bits *bits;
} Level;

/* Sums of some output pixels of one image, for all filters: numbers to out, or bits of these pixels to marks, row after
 * row of those that the image makes. */
static inline __attribute__((always_inline)) void sums(Level level, const Geometry *g, const Operands *of, int64_t image,
                                                       int64_t place, int64_t count, float *out, const Next *next,
                                                       uint8_t *marks, uint64_t *windows)
{
    const int64_t blocks = (g->filters + FILTERS - 1) / FILTERS, plane = g->out_height * g->out_width;
    const int64_t all = g->groups * g->filters;
    const int64_t whole = 2048 / g->words / PIXELS * PIXELS; /* windows of 16 kB */
    const int64_t most = whole < PIXELS ? PIXELS : whole > CHUNK ? CHUNK : whole;
    int32_t unequal[PIXELS * FILTERS];
    for (int64_t start = 0; start < count; start += most) {
        const int64_t pixels = start + most < count ? most : count - start;
        for (int64_t group = 0; group < g->groups; group++) {
            gather(g, of->in, group, image, place + start, pixels, windows);
            for (int64_t b = 0; b < blocks; b++)
                for (int64_t i = 0; i < pixels; i += PIXELS) {
                    const int64_t left = g->filters - b * FILTERS;
                    const Part part = {of,
                                       place + start + i,
                                       pixels - i < PIXELS ? pixels - i : PIXELS,
                                       (group * blocks + b) * FILTERS,
                                       left < FILTERS ? left : FILTERS,
                                       (float)g->products};
                    level.tile(windows + i * g->words, of->filters + part.lane * g->words, g->words, unequal);
                    if (out)
                        level.numbers(unequal, &part,
                                      out + (image * all + group * g->filters + b * FILTERS) * plane + part.place, plane);
                    else
                        for (int64_t r = next->first[image]; r < next->first[image + 1]; r++) {
                            const int64_t of_case = next->of_row[r] * of->lanes + part.lane;
                            const int64_t pixel = (r - next->first[image]) * count + start + i;
                            level.bits(unequal, &part, next->threshold + of_case, next->direction + of_case,
                                       marks + pixel * next->geometry->unit + b, next->geometry->unit);
                        }
                }
        }
    }
}

/* pixels begin to end, which count through all images */
static inline __attribute__((always_inline)) void to_numbers(Level level, const Geometry *g, const Operands *of,
                                                             float *out, int64_t begin, int64_t end, uint64_t *windows)
{
    const int64_t plane = g->out_height * g->out_width;
    for (int64_t start = begin, stop; start < end; start = stop) {
        stop = (start / plane + 1) * plane < end ? (start / plane + 1) * plane : end;
        sums(level, g, of, start / plane, start % plane, stop - start, out, 0, 0, windows);
    }
}

/* Bits of marked pixels to the next input: those of the largest number of each square. */
static inline void settle(const Geometry *g, const Next *next, int64_t image, int64_t top, int64_t rows, int64_t marked,
                          const uint8_t *marks)
{
    const Geometry *to = next->geometry;
    const int64_t pool = next->pool, unit = to->unit, wide = g->out_width / pool;
    for (int64_t r = next->first[image]; r < next->first[image + 1]; r++) {
        const uint8_t *falling = next->falling + next->of_row[r] * unit;
        for (int64_t y = 0; y < rows; y++) {
            const uint8_t *from = marks + ((r - next->first[image]) * marked + y * pool * g->out_width) * unit;
            uint8_t *out = next->out + ((next->row[r] * to->padded_height + to->top + top + y) * to->padded_width +
                                        to->left) * unit;
            if (pool == 1) {
                memcpy(out, from, (size_t)(wide * unit));
                continue;
            }
            for (int64_t x = 0; x < wide; x++)
                for (int64_t k = 0; k < unit; k++) {
                    uint8_t any = 0, every = 255;
                    for (int64_t i = 0; i < pool * pool; i++) {
                        const uint8_t one = from[(i / pool * g->out_width + x * pool + i % pool) * unit + k];
                        any |= one;
                        every &= one;
                    }
                    out[x * unit + k] = (uint8_t)((any & ~falling[k]) | (every & falling[k]));
                }
        }
    }
}

/* rows of the next input, which count through all images of this one */
static inline __attribute__((always_inline)) void to_bits(Level level, const Geometry *g, const Operands *of,
                                                          const Next *next, int64_t begin, int64_t end, uint8_t *marks,
                                                          uint64_t *windows)
{
    const int64_t high = g->out_height / next->pool, of_row = next->pool * g->out_width;
    const int64_t most = CHUNK / of_row > 1 ? CHUNK / of_row : 1; /* rows at once, so that narrow ones fill tiles */
    for (int64_t start = begin, stop; start < end; start = stop) {
        const int64_t image = start / high, top = start % high;
        stop = start + most < end ? start + most : end;
        stop = stop < (image + 1) * high ? stop : (image + 1) * high;
        const int64_t count = (stop - start) * of_row;
        sums(level, g, of, image, top * of_row, count, 0, next, marks, windows);
        settle(g, next, image, top, stop - start, count, marks);
    }
}

#define PACK_ARGUMENTS const Geometry *g, const float *x, const Cases *cases, uint8_t *out, int64_t begin, int64_t end
#define PACK(collect) pack_rows(collect, g, x, cases, out, begin, end)
static void pack_portable(PACK_ARGUMENTS) { PACK(collect_portable); }
#ifdef X86
__attribute__((target("avx2"))) static void pack_avx2(PACK_ARGUMENTS) { PACK(collect_avx2); }
#endif

#define SUM_ARGUMENTS                                                                                               \
    const Geometry *g, const Operands *of, float *out, const Next *next, int64_t begin, int64_t end, uint8_t *marks, \
        uint64_t *windows
#define SUMS(tile, numbers, bits)                                                                                   \
    const Level level = {tile, numbers, bits};                                                                      \
    if (out)                                                                                                        \
        to_numbers(level, g, of, out, begin, end, windows);                                                         \
    else                                                                                                            \
        to_bits(level, g, of, next, begin, end, marks, windows)
static void sums_portable(SUM_ARGUMENTS) { SUMS(tile_portable, numbers_portable, bits_portable); }
#ifdef X86
__attribute__((target("avx2"))) static void sums_avx2(SUM_ARGUMENTS) { SUMS(tile_avx2, numbers_avx2, bits_avx2); }
__attribute__((target("avx512f,avx512bw,avx512vpopcntdq"))) static void sums_avx512(SUM_ARGUMENTS)
{
    SUMS(tile_avx512, numbers_avx2, bits_avx2);
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

/* Sums as numbers of the pixels begin to end, to out; or where out is none, as bits of the rows begin to end of the next
 * input. Behind an input 8 bytes more are read. 0, or -1 where there is no memory. */
int bits_sums(const Geometry *g, int level, const Operands *of, float *out, const Next *next, int64_t begin, int64_t end)
{
    int64_t marks = 0;
    if (!out) {
        const int64_t images = end / (g->out_height / next->pool) + (end % (g->out_height / next->pool) > 0);
        for (int64_t i = 0; i < images; i++)
            marks = next->first[i + 1] - next->first[i] > marks ? next->first[i + 1] - next->first[i] : marks;
        marks *= (next->pool * g->out_width > CHUNK ? next->pool * g->out_width : CHUNK) * next->geometry->unit;
    }
    const int64_t words = CHUNK * g->words + 1; /* and what is copied too much */
    uint64_t *windows = calloc((size_t)(words + marks / 8 + 1), sizeof *windows);
    if (!windows)
        return -1;
    uint8_t *some = (uint8_t *)(windows + words);
#ifdef X86
    if (level > 1)
        sums_avx512(g, of, out, next, begin, end, some, windows);
    else if (level)
        sums_avx2(g, of, out, next, begin, end, some, windows);
    else
#endif
        sums_portable(g, of, out, next, begin, end, some, windows);
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

/* rows of maps, of which row from[i] is meant for row i; without it row i */
typedef struct {
    const float *numbers;
    const int32_t *from;
} Rows;

static inline __attribute__((always_inline)) const float *plane_of(const Rows *x, int64_t row, int64_t channels,
                                                                   int64_t channel, int64_t pixels)
{
    return x->numbers + ((x->from ? x->from[row] : row) * channels + channel) * pixels;
}

static inline __attribute__((always_inline)) void finish(int64_t channels, int64_t pixels, const Rows *x, const Stage *s,
                                                         const Rows *skip, float low, float high, float *out,
                                                         int64_t begin, int64_t end)
{
    for (int64_t at = begin; at < end; at++) {
        const int64_t row = at / channels, c = at % channels;
        float by[4] = {1, 0, 1, 0};
        for (int k = 0; k < 2; k++) {
            if (s[k].factor)
                by[2 * k] = s[k].factor[row * s[k].factor_step + c];
            if (s[k].shift)
                by[2 * k + 1] = s[k].shift[row * s[k].shift_step + c];
        }
        const float *from = plane_of(x, row, channels, c, pixels);
        const float *more = skip ? plane_of(skip, row, channels, c, pixels) : 0;
#define PLANE(a, b) finish_plane(from, more, out + at * pixels, pixels, by, a, b, low, high)
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
    int64_t channels, int64_t pixels, const Rows *x, const Stage *s, const Rows *skip, float low, float high,       \
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

/* Sums of squares side by side, row by row as they are written here; what is left over at the ends is left out. */
static inline __attribute__((always_inline)) void add_squares(int64_t size, int64_t height, int64_t width, const float *x,
                                                              float *out, int64_t begin, int64_t end)
{
    const int64_t high = height / size, wide = width / size;
    for (int64_t at = begin * high; at < end * high; at++) {
        const float *square = x + at / high * height * width + at % high * size * width;
        for (int64_t i = 0; i < wide; i++) {
            float sum = square[i * size];
            for (int64_t k = 1; k < size * size; k++)
                sum += square[k / size * width + i * size + k % size];
            out[at * wide + i] = sum;
        }
    }
}

#define SQUARE_ARGUMENTS                                                                                            \
    int64_t size, int64_t height, int64_t width, const float *x, float *out, int64_t begin, int64_t end
static void squares_portable(SQUARE_ARGUMENTS) { add_squares(size, height, width, x, out, begin, end); }
#ifdef X86
__attribute__((target("avx2"))) static void squares_avx2(SQUARE_ARGUMENTS)
{
    if (size == 2) /* known here, so that the loop is vectors */
        add_squares(2, height, width, x, out, begin, end);
    else
        add_squares(size, height, width, x, out, begin, end);
}
#endif

/* of the planes begin to end */
void bits_squares(int level, SQUARE_ARGUMENTS)
{
#ifdef X86
    if (level) {
        squares_avx2(size, height, width, x, out, begin, end);
        return;
    }
#endif
    squares_portable(size, height, width, x, out, begin, end);
}
