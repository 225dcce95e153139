/* Products of +-1 as XOR and popcount on packed words. Plain C, no library; one source for all processors.
 *
 * A pixel of one group of channels is a unit of bytes, a bit a channel, the lowest first; bits beyond the last channel
 * are 0. Units of fewer than 64 channels have 1, 2 or 4 bytes, so that the taps of a window lie densely; others have whole
 * words. A window is its units, row by row, filled up to whole words; so is a filter. With n products, of which d are of
 * unequal signs, the sum is n - 2 d. Borders of zeros are 0 bits, which count as -1, and a table by position corrects it.
 */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

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

/* Numbers of each channel, which the draw of a row chooses. */
typedef struct {
    const float *first, *second; /* [cases][step]; either may be missing */
    const int32_t *of_row;       /* its case; without it all rows have the first */
    int64_t step;
} Table;

static inline __attribute__((always_inline)) int64_t begin_of(const Table *table, int64_t row)
{
    return table->of_row ? table->of_row[row] * table->step : 0;
}

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
        for (int k = 0; k < blocks; k += 2) /* the next pixels: more channels than the processor foresees */
            __builtin_prefetch(x + c * plane + 8 * (blocks + k));
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

/* Zeros to some rows of a packed image, and to the border above the first and below the last. */
static inline void clear(const Geometry *g, uint8_t *image, int64_t begin, int64_t end)
{
    const int64_t row_bytes = g->padded_width * g->groups * g->unit;
    const int64_t first = begin ? g->top + begin : 0, last = end == g->height ? g->padded_height : g->top + end;
    memset(image + first * row_bytes, 0, (size_t)((last - first) * row_bytes));
}

static inline int64_t bytes_of(const Geometry *g)
{
    return g->padded_height * g->padded_width * g->groups * g->unit;
}

/* Rows of pixels begin to end, which count through all rows of maps, as bits: 1 where second * x >= first. */
static inline __attribute__((always_inline)) void pack_rows(Collect *collect, const Geometry *g, const float *x,
                                                            const int32_t *from, const Table *table, uint8_t *out,
                                                            int64_t begin, int64_t end)
{
    const int64_t plane = g->height * g->width, all = g->groups * g->channels;
    const int64_t pixel = g->groups * g->unit, border = (g->padded_width - g->width) * pixel;
    uint32_t line[CHUNK];
    for (int64_t at = begin, stop; at < end; at = stop) { /* rows of one image, which lie one behind the other */
        const int64_t image = at / g->height, row = at % g->height;
        stop = end < (image + 1) * g->height ? end : (image + 1) * g->height;
        const int64_t last = (row + stop - at) * g->width, of_case = begin_of(table, image);
        const float *maps = x + (from ? from[image] : image) * all * plane;
        clear(g, out + image * bytes_of(g), row, row + stop - at);
        for (int64_t group = 0; group < g->groups; group++)
            for (int64_t first = 0; first < g->channels; first += 32)
                for (int64_t start = row * g->width; start < last; start += CHUNK) {
                    const int64_t left = g->channels - first, channel = group * g->channels + first;
                    const int64_t pixels = last - start < CHUNK ? last - start : CHUNK;
                    collect(maps + channel * plane + start, plane, left < 32 ? left : 32, pixels,
                            table->first + of_case + channel, table->second + of_case + channel, line);
                    const int64_t y = start / g->width;
                    int64_t column = start % g->width;
                    uint8_t *to = out + image * bytes_of(g) + group * g->unit + first / 8 +
                                  ((g->top + y) * g->padded_width + g->left + column) * pixel;
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

/* 16 bytes or more */
static inline __attribute__((always_inline)) void copy(uint8_t *to, const uint8_t *from, int64_t bytes)
{
    int64_t k = 0;
    if (bytes >= 32) {
        for (; k + 32 <= bytes; k += 32)
            memcpy(to + k, from + k, 32);
        memcpy(to + bytes - 32, from + bytes - 32, 32);
    } else {
        memcpy(to, from, 16);
        memcpy(to + bytes - 16, from + bytes - 16, 16);
    }
}

/* A window that is put together in a register, word by word. */
typedef struct {
    uint64_t word, *to;
    int64_t bits; /* of the word that are there */
} Window;

/* few bytes; 7 more are read */
static inline __attribute__((always_inline)) void append(Window *window, const uint8_t *from, int64_t bytes)
{
    for (int64_t k = 0; k < bytes; k += 8) {
        const int64_t bits = 8 * (bytes - k < 8 ? bytes - k : 8);
        uint64_t some;
        memcpy(&some, from + k, sizeof some);
        some = some << (64 - bits) >> (64 - bits);
        window->word |= some << window->bits;
        window->bits += bits;
        if (window->bits >= 64) {
            *window->to++ = window->word;
            window->bits -= 64;
            window->word = window->bits ? some >> (bits - window->bits) : 0;
        }
    }
}

/* the windows of some output pixels of an image, which lie one behind the other; rows of them are so many runs of bytes */
static inline __attribute__((always_inline)) void gather_runs(const Geometry *g, const uint8_t *in, int64_t group,
                                                              int64_t image, int64_t place, int64_t pixels,
                                                              int64_t height, int64_t runs, int64_t run,
                                                              uint64_t *windows)
{
    const int64_t pixel = g->groups * g->unit, row_bytes = g->padded_width * pixel;
    int64_t y = place / g->out_width, x = place % g->out_width;
    for (int64_t i = 0; i < pixels; i++, windows += g->words) {
        const uint8_t *row = in + (image * g->padded_height + y * g->stride_height) * row_bytes +
                             x * g->stride_width * pixel + group * g->unit;
        uint8_t *to = (uint8_t *)windows;
        Window window = {0, windows, 0};
        if (run >= 16)
            windows[g->words - 1] = 0;
        for (int64_t k = 0; k < height; k++, row += g->dilation_height * row_bytes)
            for (int64_t j = 0; j < runs; j++, to += run) {
                const uint8_t *from = row + j * g->dilation_width * pixel;
                if (run < 16)
                    append(&window, from, run);
                else
                    copy(to, from, run);
            }
        if (window.bits)
            *window.to = window.word;
        if (++x == g->out_width) {
            x = 0;
            y++;
        }
    }
}

/* the same of three rows of 3, 6 or 12 bytes: of a known size windows are a few instructions */
static void gather_few(const Geometry *g, const uint8_t *in, int64_t image, int64_t place, int64_t pixels, int64_t run,
                       uint64_t *windows)
{
    switch (run) {
    case 3: gather_runs(g, in, 0, image, place, pixels, 3, 1, 3, windows); break;
    case 6: gather_runs(g, in, 0, image, place, pixels, 3, 1, 6, windows); break;
    default: gather_runs(g, in, 0, image, place, pixels, 3, 1, 12, windows);
    }
}

static inline __attribute__((always_inline)) void gather(const Geometry *g, const uint8_t *in, int64_t group,
                                                         int64_t image, int64_t place, int64_t pixels,
                                                         uint64_t *windows)
{
    const int dense = g->groups == 1 && g->dilation_width == 1; /* then the taps of a row lie side by side */
    const int64_t runs = dense ? 1 : g->kernel_width, run = dense ? g->kernel_width * g->unit : g->unit;
    if (dense && g->kernel_height == 3 && (run == 3 || run == 6 || run == 12))
        gather_few(g, in, image, place, pixels, run, windows);
    else
        gather_runs(g, in, group, image, place, pixels, g->kernel_height, runs, run, windows);
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

__attribute__((target("avx512f,avx512bw,avx512vpopcntdq"), always_inline)) static inline void
tile_of(const uint64_t *windows, const uint64_t *filters, int64_t words, int32_t *unequal)
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

__attribute__((target("avx512f,avx512bw,avx512vpopcntdq"))) static inline void
tile_avx512(const uint64_t *windows, const uint64_t *filters, int64_t words, int32_t *unequal)
{
    switch (words) {
    case 3: tile_of(windows, filters, 3, unequal); break;
    case 5: tile_of(windows, filters, 5, unequal); break;
    default: tile_of(windows, filters, words, unequal);
    }
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
    const float *const *borders; /* of each pixel, that of all lanes */
    int64_t pixels, lane, filters; /* how many pixels; the first lane; filters of this block */
    float products;
} Part;

/* numbers: [filters][plane] */
typedef void Numbers(const int32_t *unequal, const Part *part, float *out, int64_t plane);
/* one byte a pixel, which lie a unit apart: a bit for each filter, 0 where what is lost, 2 * unequal signs without those
 * of the border, is above a limit, both with all bits turned where turn has them all */
typedef void Bits(const int32_t *unequal, const Part *part, const int32_t *limit, const int32_t *turn, uint8_t *out,
                  int64_t unit);

static inline const float *border_of(const Part *part, int64_t p)
{
    return part->borders[p] + part->lane;
}

static inline __attribute__((always_inline)) float number(const int32_t *unequal, const Part *part, int64_t p, int64_t f)
{
    const float sum = part->products - 2 * (float)unequal[p * FILTERS + f] + border_of(part, p)[f];
    return part->of->factor[part->lane + f] * sum;
}

static inline void numbers_portable(const int32_t *unequal, const Part *part, float *out, int64_t plane)
{
    for (int64_t f = 0; f < part->filters; f++)
        for (int64_t p = 0; p < part->pixels; p++)
            out[f * plane + p] = number(unequal, part, p, f);
}

static inline void bits_portable(const int32_t *unequal, const Part *part, const int32_t *limit, const int32_t *turn,
                                 uint8_t *out, int64_t unit)
{
    for (int64_t p = 0; p < part->pixels; p++) {
        const float *border = border_of(part, p);
        int byte = 0;
        for (int f = 0; f < FILTERS; f++)
            byte |= (((2 * unequal[p * FILTERS + f] - (int32_t)border[f]) ^ turn[f]) <= limit[f]) << f;
        out[p * unit] = (uint8_t)byte;
    }
}

#ifdef X86
__attribute__((target("avx2"), always_inline)) static inline __m256 numbers_of_pixel(const int32_t *unequal,
                                                                                      const Part *part, int64_t p)
{
    const __m256 some = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(unequal + p * FILTERS)));
    const __m256 sum = _mm256_sub_ps(_mm256_set1_ps(part->products), _mm256_add_ps(some, some));
    const __m256 whole = _mm256_add_ps(sum, _mm256_loadu_ps(border_of(part, p)));
    return _mm256_mul_ps(whole, _mm256_loadu_ps(part->of->factor + part->lane));
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
                                                             const int32_t *limit, const int32_t *turn, uint8_t *out,
                                                             int64_t unit)
{
    const __m256i most = _mm256_loadu_si256((const __m256i *)limit), by = _mm256_loadu_si256((const __m256i *)turn);
    for (int64_t p = 0; p < part->pixels; p++) {
        const __m256i some = _mm256_loadu_si256((const __m256i *)(unequal + p * FILTERS));
        const __m256i border = _mm256_cvtps_epi32(_mm256_loadu_ps(border_of(part, p)));
        const __m256i lost = _mm256_sub_epi32(_mm256_add_epi32(some, some), border);
        const __m256i over = _mm256_cmpgt_epi32(_mm256_xor_si256(lost, by), most);
        out[p * unit] = (uint8_t)~_mm256_movemask_ps(_mm256_castsi256_ps(over));
    }
}
#endif

/* Bits of the next convolution's input, of one group, from the sums of this one or from their maxima over squares. */
typedef struct {
    const Geometry *geometry; /* of the next one */
    int64_t pool;             /* side of the squares */
    Table table;              /* of lanes, int32: limits and turns */
    const uint8_t *falling;   /* [cases][unit]: 1 where a square has the sign that all its numbers have */
    const int32_t *first, *row; /* image i makes the rows row[first[i]] to row[first[i + 1] - 1]; else row i alone */
    uint8_t *out;
} Next;

/* the rows that an image makes, as places in the list of them */
static inline int64_t first_of(const Next *next, int64_t image)
{
    return next->first ? next->first[image] : image;
}

static inline int64_t row_at(const Next *next, int64_t place)
{
    return next->first ? next->row[place] : place;
}

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
    const float *borders[CHUNK];
    for (int64_t start = 0; start < count; start += most) {
        const int64_t pixels = start + most < count ? most : count - start;
        for (int64_t i = 0; i < pixels; i++)
            borders[i] = of->border + of->position[place + start + i] * of->lanes;
        for (int64_t group = 0; group < g->groups; group++) {
            gather(g, of->in, group, image, place + start, pixels, windows);
            for (int64_t b = 0; b < blocks; b++)
                for (int64_t i = 0; i < pixels; i += PIXELS) {
                    const int64_t left = g->filters - b * FILTERS;
                    const Part part = {of,
                                       borders + i,
                                       pixels - i < PIXELS ? pixels - i : PIXELS,
                                       (group * blocks + b) * FILTERS,
                                       left < FILTERS ? left : FILTERS,
                                       (float)g->products};
                    level.tile(windows + i * g->words, of->filters + part.lane * g->words, g->words, unequal);
                    if (out)
                        level.numbers(unequal, &part,
                                      out + (image * all + group * g->filters + b * FILTERS) * plane + place + start + i,
                                      plane);
                    else
                        for (int64_t r = first_of(next, image); r < first_of(next, image + 1); r++) {
                            const int64_t of_case = begin_of(&next->table, row_at(next, r)) + part.lane;
                            const int64_t pixel = (r - first_of(next, image)) * count + start + i;
                            level.bits(unequal, &part, (const int32_t *)next->table.first + of_case,
                                       (const int32_t *)next->table.second + of_case,
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
    for (int64_t r = first_of(next, image); r < first_of(next, image + 1); r++) {
        const int64_t row = row_at(next, r);
        const uint8_t *falling = next->falling + (next->table.of_row ? next->table.of_row[row] : 0) * unit;
        uint8_t *map = next->out + row * bytes_of(to);
        clear(to, map, top, top + rows);
        for (int64_t y = 0; y < rows; y++) {
            const uint8_t *from = marks + ((r - first_of(next, image)) * marked + y * pool * g->out_width) * unit;
            uint8_t *out = map + ((to->top + top + y) * to->padded_width + to->left) * unit;
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
        const int64_t count = (stop - start) * of_row, unit = next->geometry->unit;
        if ((g->filters + FILTERS - 1) / FILTERS < unit) /* bytes that no filter has */
            memset(marks, 0, (size_t)((first_of(next, image + 1) - first_of(next, image)) * count * unit));
        sums(level, g, of, image, top * of_row, count, 0, next, marks, windows);
        settle(g, next, image, top, stop - start, count, marks);
    }
}

/* Multiply and add for each channel, rounded once (fused) or twice. */
typedef struct {
    Table table; /* factor, shift */
    int64_t fused;
} Stage;

/* two stages, a skip, a clip; NaN stays NaN */
typedef struct {
    int64_t channels, pixels;
    Stage stages[2];
    float low, high;
} Finish;

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

/* planes begin to end, which count through all rows; the first row may be made of another one, and of another skip */
static inline __attribute__((always_inline)) void finish(const Finish *how, const float *x, const int32_t *from,
                                                         const float *skip, const int32_t *from_skip, float *out,
                                                         int64_t begin, int64_t end)
{
    const int64_t pixels = how->pixels;
    for (int64_t at = begin; at < end; at++) {
        const int64_t row = at / how->channels, c = at % how->channels;
        float by[4] = {1, 0, 1, 0};
        for (int k = 0; k < 2; k++) {
            const Table *table = &how->stages[k].table;
            if (table->first)
                by[2 * k] = table->first[begin_of(table, row) + c];
            if (table->second)
                by[2 * k + 1] = table->second[begin_of(table, row) + c];
        }
        const float *numbers = x + ((from ? from[row] : row) * how->channels + c) * pixels;
        const float *more = skip ? skip + ((from_skip ? from_skip[row] : row) * how->channels + c) * pixels : 0;
#define PLANE(a, b) finish_plane(numbers, more, out + at * pixels, pixels, by, a, b, how->low, how->high)
        switch (2 * how->stages[0].fused + how->stages[1].fused) { /* known here, so that the loops are vectors */
        case 0: PLANE(0, 0); break;
        case 1: PLANE(0, 1); break;
        case 2: PLANE(1, 0); break;
        default: PLANE(1, 1);
        }
#undef PLANE
    }
}

/* Squares side by side, their means or largest numbers (NaN, if there is one); what is left over is left out. */
typedef struct {
    int64_t channels, size, height, width, largest;
} Squares;

static inline __attribute__((always_inline)) float larger(float a, float b)
{
    return (b > a) | (b != b) ? b : a; /* no branch */
}

#ifdef X86
static inline __m128 larger_of_four(__m128 a, __m128 b)
{
    return _mm_or_ps(_mm_max_ps(a, b), _mm_cmpunord_ps(a, a)); /* max gives b where one is no number */
}

/* of squares of 2 x 2, four at a time; how many */
static inline int64_t pool_fours(const float *square, int64_t width, int64_t wide, float *to)
{
    int64_t i = 0;
    for (; i + 4 <= wide; i += 4, square += 8) {
        const __m128 a = larger_of_four(_mm_loadu_ps(square), _mm_loadu_ps(square + width));
        const __m128 b = larger_of_four(_mm_loadu_ps(square + 4), _mm_loadu_ps(square + width + 4));
        _mm_storeu_ps(to + i, larger_of_four(_mm_shuffle_ps(a, b, 0x88), _mm_shuffle_ps(a, b, 0xdd)));
    }
    return i;
}
#endif

static inline __attribute__((always_inline)) void pool(const Squares *how, int64_t size, int largest, const float *x,
                                                       float *out, int64_t begin, int64_t end)
{
    const int64_t width = how->width, high = how->height / size, wide = width / size;
    const float squares = (float)(size * size);
    for (int64_t plane = begin; plane < end; plane++)
        for (int64_t y = 0; y < high; y++) {
            const float *restrict square = x + (plane * how->height + y * size) * width;
            float *restrict to = out + (plane * high + y) * wide;
            int64_t i = 0;
#ifdef X86
            if (size == 2 && largest)
                i = pool_fours(square, width, wide, to);
#endif
            for (; i < wide; i++) {
                float found = square[i * size];
                for (int64_t k = 1; k < size * size; k++) { /* row by row, as they are written here */
                    const float v = square[k / size * width + i * size + k % size];
                    found = largest ? larger(found, v) : found + v;
                }
                to[i] = largest ? found : found / squares;
            }
        }
}

/* Every second pixel, or another stride, and channels of zeros in front and behind. */
typedef struct {
    int64_t channels, stride, height, width, front, all;
} Subsample;

static inline void subsample(const Subsample *how, const float *x, float *out, int64_t begin, int64_t end)
{
    const int64_t high = (how->height + how->stride - 1) / how->stride, wide = (how->width + how->stride - 1) / how->stride;
    out += begin * high * wide;
    for (int64_t at = begin; at < end; at++, out += high * wide) {
        const int64_t row = at / how->all, c = at % how->all - how->front;
        if (c < 0 || c >= how->channels) {
            memset(out, 0, (size_t)(high * wide) * sizeof *out);
            continue;
        }
        const float *plane = x + (row * how->channels + c) * how->height * how->width;
        for (int64_t y = 0; y < high; y++)
            for (int64_t i = 0; i < wide; i++)
                out[y * wide + i] = plane[y * how->stride * how->width + i * how->stride];
    }
}

/* A routine is a list of operations on values. A value has rows, all of one size; the rows of some images at a time lie
 * in a workspace, for each group of passes that are alike so far those of all these images. Values that come from
 * outside or are wanted there lie where they are told to, rows of all images. */
enum { PACK, SUMS, BITS, FINISH, POOL, SUBSAMPLE, FETCH, DELIVER };

typedef struct {
    int64_t bytes;  /* of a row */
    int64_t offset; /* in the workspace */
    uint8_t *at;    /* outside, if it is there */
} Value;

typedef struct {
    int64_t kind, in, skip, out, rows, groups;
    const int32_t *from, *from_skip; /* of each row the one that it is made of; else the same */
    int64_t cases[2];                /* where in the list of cases those of each table begin; -1: all rows are alike */
    const Geometry *geometry;        /* of the convolution; of the next one where numbers are packed */
    Operands operands;
    Table table;
    Next next;
    Finish finish;
    Squares squares;
    Subsample subsample;
} Operation;

typedef struct {
    const Value *values;
    uint8_t *workspace;
    const int32_t *cases;
    int64_t start, end, images, batch; /* the first image, that behind the last; how many at a time; of all */
    int64_t cases_step;           /* 1 where every image has a case of its own, else 0 */
} Call;

static inline uint8_t *of_value(const Call *call, int64_t number)
{
    const Value *value = call->values + number;
    return value->at ? value->at + call->start * value->bytes : call->workspace + value->offset;
}

static inline void choose(const Call *call, const Operation *of, int k, Table *table)
{
    table->of_row = of->cases[k] < 0 ? 0 : call->cases + of->cases[k] + call->start * call->cases_step;
}

/* rows of an outer value, whose groups are further apart, from it or to it */
static inline void carry(const Call *call, const Operation *of, int deliver)
{
    const Value *outer = call->values + (deliver ? of->out : of->in);
    const int64_t bytes = call->images * outer->bytes;
    uint8_t *here = of_value(call, deliver ? of->in : of->out);
    for (int64_t group = 0; group < of->groups; group++, here += bytes) {
        uint8_t *there = outer->at + (group * call->batch + call->start) * outer->bytes;
        memcpy(deliver ? there : here, deliver ? here : there, (size_t)bytes);
    }
}

/* how many parts an operation can be cut into */
static inline int64_t extent(const Operation *of)
{
    switch (of->kind) {
    case PACK: return of->rows * of->geometry->height;
    case SUMS: return of->rows * of->geometry->out_height * of->geometry->out_width;
    case BITS: return of->rows * (of->geometry->out_height / of->next.pool);
    case FINISH: return of->rows * of->finish.channels;
    case POOL: return of->rows * of->squares.channels;
    case SUBSAMPLE: return of->rows * of->subsample.all;
    default: return 1;
    }
}

static inline __attribute__((always_inline)) void run_one(Level level, Collect *collect, const Call *call,
                                                          const Operation *of, int64_t begin, int64_t end,
                                                          uint64_t *windows, uint8_t *marks)
{
    const float *x = (const float *)of_value(call, of->in);
    float *out = (float *)of_value(call, of->out);
    switch (of->kind) {
    case PACK: {
        Table table = of->table;
        choose(call, of, 0, &table);
        pack_rows(collect, of->geometry, x, of->from, &table, (uint8_t *)out, begin, end);
        break;
    }
    case SUMS:
    case BITS: {
        Operands operands = of->operands;
        operands.in = (const uint8_t *)x;
        if (of->kind == SUMS) {
            to_numbers(level, of->geometry, &operands, out, begin, end, windows);
            break;
        }
        Next next = of->next;
        next.out = (uint8_t *)out;
        choose(call, of, 0, &next.table);
        to_bits(level, of->geometry, &operands, &next, begin, end, marks, windows);
        break;
    }
    case FINISH: {
        Finish how = of->finish;
        for (int k = 0; k < 2; k++)
            choose(call, of, k, &how.stages[k].table);
        finish(&how, x, of->from, of->skip < 0 ? 0 : (const float *)of_value(call, of->skip), of->from_skip, out, begin,
               end);
        break;
    }
    case POOL:
        if (of->squares.size == 2 && of->squares.largest) /* known here, so that the loops are vectors */
            pool(&of->squares, 2, 1, x, out, begin, end);
        else if (of->squares.size == 2)
            pool(&of->squares, 2, 0, x, out, begin, end);
        else
            pool(&of->squares, of->squares.size, of->squares.largest != 0, x, out, begin, end);
        break;
    case SUBSAMPLE: subsample(&of->subsample, x, out, begin, end); break;
    default:
        if (begin < end)
            carry(call, of, of->kind == DELIVER);
    }
}

/* Who runs operations: the threads of OpenMP that PyTorch has, by the functions of its library, since others would have
 * to share the cores with those while they wait; without it our own. */
typedef struct {
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned); /* GOMP_parallel */
    int (*number)(void), (*size)(void);                             /* omp_get_thread_num, omp_get_num_threads */
    void (*barrier)(void);                                          /* GOMP_barrier */
} Team;

typedef struct {
    int64_t level, threads;      /* how many are asked for; OpenMP may give fewer */
    int64_t together;            /* whether all threads run each operation, or each thread all for some of the images */
    const Team *team;
    const Call *call;
    const Operation *operations;
    int64_t count;
    uint8_t *memory;             /* workspaces and scratch of all threads: CHUNK windows and a word more, then marks */
    int64_t each, windows, marks; /* bytes of one of them; where windows and marks begin */
    int64_t *spent;              /* nanoseconds that the first thread took for each operation, where somebody asks */
} Job;

static inline int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1000000000 * (int64_t)now.tv_sec + now.tv_nsec;
}

#define RUN_ARGUMENTS const Job *job, Call *call, int64_t thread, int64_t parts, uint64_t *windows, uint8_t *marks
#define RUN(tile, numbers, bits, collect)                                                                            \
    const Level level = {tile, numbers, bits};                                                                       \
    for (; call->start < call->end; call->start += call->images)                                                     \
        for (const Operation *of = job->operations; of < job->operations + job->count; of++) {                       \
            const int64_t most = extent(of), part = parts > 1 ? thread : 0;                                          \
            const int64_t begin = job->spent && !thread ? nanoseconds() : 0;                                         \
            run_one(level, collect, call, of, most * part / parts, most * (part + 1) / parts, windows, marks);       \
            if (parts > 1)                                                                                           \
                job->team->barrier();                                                                                \
            if (begin)                                                                                               \
                job->spent[of - job->operations] += nanoseconds() - begin;                                           \
        }
static void run_portable(RUN_ARGUMENTS) { RUN(tile_portable, numbers_portable, bits_portable, collect_portable) }
#ifdef X86
__attribute__((target("avx2,fma"))) static void run_avx2(RUN_ARGUMENTS)
{
    RUN(tile_avx2, numbers_avx2, bits_avx2, collect_avx2)
}
__attribute__((target("avx512f,avx512bw,avx512vpopcntdq,avx2,fma"))) static void run_avx512(RUN_ARGUMENTS)
{
    RUN(tile_avx512, numbers_avx2, bits_avx2, collect_avx2)
}
#endif

/* what one of so many threads does */
static void work(const Job *job, int64_t thread, int64_t threads)
{
    const int64_t parts = job->together ? threads : 1;
    Call call = *job->call;
    uint8_t *mine = job->memory + thread * job->each;
    if (job->together)
        call.workspace = job->memory;
    else { /* images a few at a time, so many times */
        const int64_t times = (call.end - call.start) / call.images, begin = call.start;
        call.workspace = mine;
        call.start = begin + times * thread / threads * call.images;
        call.end = begin + times * (thread + 1) / threads * call.images;
    }
    uint64_t *windows = (uint64_t *)(mine + job->windows);
    uint8_t *marks = mine + job->marks;
#ifdef X86
    if (job->level > 1) {
        run_avx512(job, &call, thread, parts, windows, marks);
        return;
    }
    if (job->level) {
        run_avx2(job, &call, thread, parts, windows, marks);
        return;
    }
#endif
    run_portable(job, &call, thread, parts, windows, marks);
}

static void work_in_team(void *job)
{
    const Job *of = job;
    work(of, of->team->number(), of->team->size());
}

typedef struct {
    const Job *job;
    int64_t thread;
    pthread_t handle;
} Seat;

static void *work_at_seat(void *seat)
{
    const Seat *of = seat;
    work(of->job, of->thread, of->job->threads);
    return 0;
}

/* Operations one after the other. Behind packed images 8 bytes more are read. */
void bits_run(const Job *job)
{
    enum { MOST = 256 };
    Seat seats[MOST];
    if (job->threads == 1)
        work(job, 0, 1);
    else if (job->team->parallel)
        job->team->parallel(work_in_team, (void *)job, (unsigned)job->threads, 0);
    else {
        int64_t more = 0; /* threads; what cannot be had is worked here */
        for (int64_t k = 1; k < job->threads; k++) {
            if (more < MOST) {
                seats[more] = (Seat){.job = job, .thread = k};
                if (!pthread_create(&seats[more].handle, 0, work_at_seat, &seats[more])) {
                    more++;
                    continue;
                }
            }
            work(job, k, job->threads);
        }
        work(job, 0, job->threads);
        while (more)
            pthread_join(seats[--more].handle, 0);
    }
}

/* What memory holds, as one number: each word changes a lane in a way that no other word is likely to undo. */
enum { LANES = 32 };
typedef void Stir(uint64_t *lanes, const uint8_t *at, int64_t blocks); /* a word into each lane, block after block */
#define MIX(lane, word) lane += word, lane ^= lane << 13, lane ^= lane >> 7

static inline __attribute__((always_inline)) void stir(uint64_t *lanes, const uint8_t *at, int64_t blocks)
{
    uint64_t kept[LANES], words[LANES]; /* in registers */
    memcpy(kept, lanes, sizeof kept);
    for (int64_t i = 0; i < blocks; i++) {
        memcpy(words, at + i * (int64_t)sizeof words, sizeof words);
        for (int j = 0; j < LANES; j++)
            MIX(kept[j], words[j]);
    }
    memcpy(lanes, kept, sizeof kept);
}

static void stir_portable(uint64_t *lanes, const uint8_t *at, int64_t blocks)
{
    stir(lanes, at, blocks);
}

#ifdef X86
__attribute__((target("avx2"))) static void stir_avx2(uint64_t *lanes, const uint8_t *at, int64_t blocks)
{
    stir(lanes, at, blocks);
}

__attribute__((target("avx512f"))) static void stir_avx512(uint64_t *lanes, const uint8_t *at, int64_t blocks)
{
    enum { VECTORS = LANES / 8 };
    __m512i v[VECTORS];
    for (int j = 0; j < VECTORS; j++)
        v[j] = _mm512_loadu_si512(lanes + 8 * j);
    for (int64_t i = 0; i < blocks; i++)
        for (int j = 0; j < VECTORS; j++) {
            v[j] = _mm512_add_epi64(v[j], _mm512_loadu_si512(at + 64 * (i * VECTORS + j)));
            v[j] = _mm512_xor_si512(v[j], _mm512_slli_epi64(v[j], 13));
            v[j] = _mm512_xor_si512(v[j], _mm512_srli_epi64(v[j], 7));
        }
    for (int j = 0; j < VECTORS; j++)
        _mm512_storeu_si512(lanes + 8 * j, v[j]);
}
#endif

uint64_t bits_digest(int level, const uint8_t *const *at, const int64_t *bytes, int64_t count)
{
    uint64_t lanes[LANES];
    Stir *stirred = stir_portable;
#ifdef X86
    stirred = level > 1 ? stir_avx512 : level ? stir_avx2 : stir_portable;
#endif
    for (int j = 0; j < LANES; j++)
        lanes[j] = 0x9e3779b97f4a7c15u * (uint64_t)(j + 1);
    for (int64_t k = 0; k < count; k++) {
        const int64_t blocks = bytes[k] / (8 * LANES);
        stirred(lanes, at[k], blocks);
        int64_t i = blocks * 8 * LANES;
        for (uint64_t word; i + 8 <= bytes[k]; i += 8) {
            memcpy(&word, at[k] + i, sizeof word);
            MIX(lanes[i / 8 % LANES], word);
        }
        for (; i < bytes[k]; i++)
            MIX(lanes[i % LANES], at[k][i]);
        MIX(lanes[0], (uint64_t)bytes[k]);
    }
    for (int round = 0; round < 2; round++) /* so that every lane reaches every bit */
        for (int j = 0; j < LANES; j++) {
            lanes[(j + 1) % LANES] += lanes[j] * 0x9e3779b97f4a7c15u;
            lanes[(j + 1) % LANES] ^= lanes[(j + 1) % LANES] >> 29;
        }
    return lanes[0];
}

/* Of which source these are, where whoever compiled them said so. */
#ifndef SOURCE_DIGEST
#define SOURCE_DIGEST ""
#endif
const char *bits_source(void)
{
    return SOURCE_DIGEST;
}
