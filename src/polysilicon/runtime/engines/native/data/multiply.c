// Multiplication of weights of 4 or 8 bits by numbers that are rounded to 8, with AVX-512 VNNI or AVX2.
//
// A weight of a block of 32 is d * q + m (m is 0 but for Q4_1), a number is e * r, so the dot product
// of two blocks is d * e * sum(q * r) + m * e * sum(r). Weights are packed so that a vector holds four
// neighbours of each of POLYSILICON_LANES rows: then a dot product leaves each row's in a lane of its
// own, nothing is summed across lanes, and one load of weights serves all tokens of a group.
// q is kept from 0 on, as the instructions take one factor without a sign: 8 too much for Q4_0, 128
// for Q8_0, which the dot product begins without.
#include "multiply.h"

#include <math.h>
#include <string.h>

#define SHOWN __attribute__((visibility("default")))

SHOWN int polysilicon_lanes(void) { return POLYSILICON_LANES; }
SHOWN int polysilicon_tokens(void) { return POLYSILICON_TOKENS; }

#if POLYSILICON_LANES > 1
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = POLYSILICON_LANES, TOKENS = POLYSILICON_TOKENS, FOURS = POLYSILICON_BLOCK / 4 };

#if POLYSILICON_LANES == 16

typedef __m512i ints;
typedef __m512 floats;

INLINE ints load(const void * at) { return _mm512_loadu_si512(at); }
INLINE ints all_of(int32_t x) { return _mm512_set1_epi32(x); }
INLINE floats all(float x) { return _mm512_set1_ps(x); }
INLINE floats halves(const void * at) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) at)); }
INLINE floats add_product(floats sum, floats a, floats b) { return _mm512_fmadd_ps(a, b, sum); }
INLINE ints low(ints x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
INLINE ints high(ints x) { return low(_mm512_srli_epi16(x, 4)); }
INLINE ints begin(int32_t offset) { return all_of(offset); }
INLINE ints add_fours(ints sum, ints weights, ints numbers) { return _mm512_dpbusd_epi32(sum, weights, numbers); }
INLINE floats end(ints sum) { return _mm512_cvtepi32_ps(sum); }
INLINE floats load_floats(const float * at) { return _mm512_loadu_ps(at); }
INLINE floats size_of(floats x) { return _mm512_abs_ps(x); }
INLINE floats larger(floats a, floats b) { return _mm512_max_ps(a, b); }
INLINE float largest(floats x) { return _mm512_reduce_max_ps(x); }
INLINE int any_odd(floats x) { return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q) != 0; }
INLINE ints nearest(floats x) { return _mm512_cvtps_epi32(x); }
INLINE ints add(ints a, ints b) { return _mm512_add_epi32(a, b); }
INLINE int32_t total_of(ints x) { return _mm512_reduce_add_epi32(x); }
INLINE void store_bytes(int8_t * to, ints x) { _mm_storeu_si128((__m128i *) to, _mm512_cvtepi32_epi8(x)); }
INLINE int knows(int32_t format) {
    return format == POLYSILICON_Q4_0 || format == POLYSILICON_Q4_1 || format == POLYSILICON_Q8_0;
}

INLINE void store(float * to, floats x, int rows) {
    _mm512_mask_storeu_ps(to, (__mmask16) (rows < LANES ? (1u << rows) - 1 : 0xffff), x);
}

#else

typedef __m256i ints;
typedef __m256 floats;

INLINE ints load(const void * at) { return _mm256_loadu_si256((const __m256i *) at); }
INLINE ints all_of(int32_t x) { return _mm256_set1_epi32(x); }
INLINE floats all(float x) { return _mm256_set1_ps(x); }
INLINE floats halves(const void * at) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) at)); }
INLINE floats add_product(floats sum, floats a, floats b) { return _mm256_fmadd_ps(a, b, sum); }
INLINE ints low(ints x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
INLINE ints high(ints x) { return low(_mm256_srli_epi16(x, 4)); }
// Sums are of 16 bits, two a row: 8 times 2 * 15 * 127, and 16 bits hold them. Weights of 8 bits would not fit.
INLINE ints begin(int32_t offset) { return all_of(offset & 0xffff); }
INLINE ints add_fours(ints sum, ints weights, ints numbers) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights, numbers));
}
INLINE floats end(ints sum) { return _mm256_cvtepi32_ps(_mm256_madd_epi16(sum, _mm256_set1_epi16(1))); }
INLINE floats load_floats(const float * at) { return _mm256_loadu_ps(at); }
INLINE floats size_of(floats x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
INLINE floats larger(floats a, floats b) { return _mm256_max_ps(a, b); }
INLINE float largest(floats x) {
    __m128 most = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    most = _mm_max_ps(most, _mm_movehl_ps(most, most));
    return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
}
INLINE int any_odd(floats x) { return _mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)) != 0; }
INLINE ints nearest(floats x) { return _mm256_cvtps_epi32(x); }
INLINE ints add(ints a, ints b) { return _mm256_add_epi32(a, b); }
INLINE int32_t total_of(ints x) {
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}
INLINE void store_bytes(int8_t * to, ints x) {
    const __m128i two = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storel_epi64((__m128i *) to, _mm_packs_epi16(two, two));
}
INLINE int knows(int32_t format) { return format == POLYSILICON_Q4_0 || format == POLYSILICON_Q4_1; }

INLINE void store(float * to, floats x, int rows) {
    float kept[LANES];
    _mm256_storeu_ps(kept, x);
    memcpy(to, kept, sizeof(float) * (size_t) rows);
}

#endif

// Bytes of a row's block in ggml: scale, with Q4_1 the least weight, and the weights.
INLINE size_t scales_of(int32_t format) { return format == POLYSILICON_Q4_1 ? 4 : 2; }
INLINE size_t weights_of(int32_t format) { return format == POLYSILICON_Q8_0 ? 32 : 16; }
INLINE size_t block_of(int32_t format) { return scales_of(format) + weights_of(format); }

SHOWN int polysilicon_multiplies(int32_t format, int64_t k) {
    return knows(format) && k > 0 && k % POLYSILICON_BLOCK == 0;
}

SHOWN size_t polysilicon_panel_bytes(int32_t format, int64_t k) {
    return (size_t) (k / POLYSILICON_BLOCK) * block_of(format) * LANES;
}

// A block of a panel: weights by fours, of all rows each; scales; with Q4_1 the least weights.
SHOWN void polysilicon_pack(int32_t format, int64_t k, int rows, const void * weights, size_t row_bytes,
                            void * panel) {
    const size_t each = scales_of(format), bytes = weights_of(format), block = block_of(format);
    const uint32_t sign = format == POLYSILICON_Q8_0 ? 0x80808080u : 0;
    uint8_t * to = (uint8_t *) panel;
    if (rows < LANES) memset(to, 0, polysilicon_panel_bytes(format, k));
    for (int64_t b = 0; b < k / POLYSILICON_BLOCK; b++, to += block * LANES) {
        for (int r = 0; r < rows; r++) {
            const uint8_t * from = (const uint8_t *) weights + (size_t) r * row_bytes + (size_t) b * block;
            for (size_t s = 0; s < each / 2; s++)
                memcpy(to + bytes * LANES + 2 * (s * LANES + (size_t) r), from + 2 * s, 2);
            for (size_t i = 0; i < bytes; i += 4) {
                uint32_t four;
                memcpy(&four, from + each + i, sizeof four);
                four ^= sign;
                memcpy(to + i * LANES + 4 * (size_t) r, &four, sizeof four);
            }
        }
    }
}

INLINE void round_one(int32_t format, const float * x, struct polysilicon_numbers * to) {
    enum { PARTS = POLYSILICON_BLOCK / LANES };
    floats part[PARTS], most = all(0.0f);
    int odd = 0;
    for (int i = 0; i < PARTS; i++) {
        part[i] = load_floats(x + LANES * i);
        most = larger(size_of(part[i]), most);
        odd |= any_odd(part[i]);
    }
    const float top = largest(most), by = top > 1e-30f ? 127.0f / top : 0.0f;  // less is as good as 0
    ints sum = all_of(0);
    for (int i = 0; i < PARTS; i++) {
        const ints n = nearest(part[i] * all(by));
        store_bytes(to->rounded + LANES * i, n);
        sum = add(sum, n);
    }
    odd |= top > 3.4e38f;
    to->scale = odd ? NAN : top / 127.0f;  // the largest one passes over what is not a number
    const int32_t total = odd ? 0 : total_of(sum);
    if (format == POLYSILICON_Q4_1) to->sum = to->scale * (float) total;
    else to->offset = (format == POLYSILICON_Q8_0 ? -128 : -8) * total;
}

SHOWN void polysilicon_round(int32_t format, int64_t from, int64_t to, int count, const float * x,
                             struct polysilicon_numbers * first) {
    for (int64_t b = from; b < to; b++) round_one(format, x + b * POLYSILICON_BLOCK, first + b * count);
}

INLINE void unpack(int32_t format, const uint8_t * at, ints weights[FOURS]) {
    for (int i = 0; i < FOURS; i++) {
        if (format == POLYSILICON_Q8_0) {
            weights[i] = load(at + 4 * LANES * i);
            continue;
        }
        const ints both = load(at + 4 * LANES * (i % (FOURS / 2)));
        weights[i] = i < FOURS / 2 ? low(both) : high(both);
    }
}

INLINE void multiply(const int32_t format, const int count, int64_t blocks, int rows, const uint8_t * at,
                     const struct polysilicon_numbers * group, float * out, size_t out_step) {
    floats sum[TOKENS];
    for (int t = 0; t < count; t++) sum[t] = all(0.0f);
    for (int64_t b = 0; b < blocks; b++) {
        const uint8_t * scales = at + weights_of(format) * LANES;
        const floats scale = halves(scales);
        const floats least = format == POLYSILICON_Q4_1 ? halves(scales + 2 * LANES) : all(0.0f);
        ints weights[FOURS];
        unpack(format, at, weights);
        for (int t = 0; t < count; t++) {
            const struct polysilicon_numbers * x = group + t;
            ints dot = begin(format == POLYSILICON_Q4_1 ? 0 : x->offset);
            for (int i = 0; i < FOURS; i++) {
                int32_t four;
                memcpy(&four, x->rounded + 4 * i, sizeof four);
                dot = add_fours(dot, weights[i], all_of(four));
            }
            sum[t] = add_product(sum[t], end(dot), scale * all(x->scale));
            if (format == POLYSILICON_Q4_1) sum[t] = add_product(sum[t], least, all(x->sum));
        }
        at += block_of(format) * LANES;
        group += count;
    }
    for (int t = 0; t < count; t++) store(out + (size_t) t * out_step, sum[t], rows);
}

// A copy for each format and number of tokens, so that the sums stay in registers.
#define CASE(format, count)                                                                       \
    case count: multiply(format, count, k / POLYSILICON_BLOCK, rows, panel, group, out, out_step); \
        break
#define OF_FORMAT(name, format)                                                                       \
    static void name(int64_t k, int rows, const uint8_t * panel, int count,                           \
                     const struct polysilicon_numbers * group, float * out, size_t out_step) {        \
        switch (count) {                                                                              \
            CASE(format, 1); CASE(format, 2); CASE(format, 3); CASE(format, 4);                       \
            COUNTS_ABOVE_4(format)                                                                    \
        }                                                                                             \
    }
#if POLYSILICON_TOKENS == 8
#define COUNTS_ABOVE_4(format) CASE(format, 5); CASE(format, 6); CASE(format, 7); CASE(format, 8);
#else
#define COUNTS_ABOVE_4(format)
#endif
OF_FORMAT(multiply_q4_0, POLYSILICON_Q4_0)
OF_FORMAT(multiply_q4_1, POLYSILICON_Q4_1)
#if POLYSILICON_LANES == 16
OF_FORMAT(multiply_q8_0, POLYSILICON_Q8_0)
#endif

SHOWN void polysilicon_multiply(int32_t format, int64_t k, int rows, const void * panel, int count,
                                const struct polysilicon_numbers * group, float * out, size_t out_step) {
    const uint8_t * at = (const uint8_t *) panel;
    if (format == POLYSILICON_Q4_0) multiply_q4_0(k, rows, at, count, group, out, out_step);
    if (format == POLYSILICON_Q4_1) multiply_q4_1(k, rows, at, count, group, out, out_step);
#if POLYSILICON_LANES == 16
    if (format == POLYSILICON_Q8_0) multiply_q8_0(k, rows, at, count, group, out, out_step);
#endif
}

#else  // Not these instructions: ggml's own kernels serve.

SHOWN int polysilicon_multiplies(int32_t format, int64_t k) { return format < 0 && k < 0; }

// Nobody calls what follows, as nothing is packed.
size_t polysilicon_panel_bytes(int32_t format, int64_t k) { return format < 0 && k < 0; }
void polysilicon_pack(int32_t format, int64_t k, int rows, const void * weights, size_t row_bytes, void * panel) {}
void polysilicon_round(int32_t format, int64_t from, int64_t to, int count, const float * x,
                       struct polysilicon_numbers * first) {}
void polysilicon_multiply(int32_t format, int64_t k, int rows, const void * panel, int count,
                          const struct polysilicon_numbers * group, float * out, size_t out_step) {}

#endif
