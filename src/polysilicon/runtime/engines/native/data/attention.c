// Attention of a few queries at once: online softmax (Milakov and Gimelshein 2018,
// "Online normalizer calculation for softmax", algorithm 3) over blocks of 64 keys, in f32.
//
// ggml computes one query and one key at a time, sums the values in f16 and calls expf for each.
// Here a key and a value are read and converted once for all queries of a block (those of the heads
// that share it), and what is done for one number is done for 16.
#include "attention.h"

#include <math.h>
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>

typedef __m512 floats;

enum { LANES = 16, PARTS = POLYSILICON_KEYS / LANES };

#define INLINE static inline __attribute__((always_inline))

// The 16 numbers of f16 at a place.
INLINE floats halves(const void * at) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) at));
}

INLINE floats pairs(floats a, floats b) {
    return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}

INLINE floats fours(floats a, floats b) {
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
}

// Number i of the result is the sum of the numbers of x[i].
INLINE floats sums(const floats x[LANES]) {
    floats a[4];
    for (int i = 0; i < 4; i++)
        a[i] = fours(pairs(x[4 * i], x[4 * i + 1]), pairs(x[4 * i + 2], x[4 * i + 3]));
    floats b[2];
    for (int i = 0; i < 2; i++)
        b[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0x44),
                             _mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(b[0], b[1], 0x88),
                         _mm512_shuffle_f32x4(b[0], b[1], 0xdd));
}

// e^x for x <= 0, within 3e-7 of it: 2^n e^r with |r| <= ln 2 / 2 and Taylor's polynomial of e^r.
// What is not a number stays so: where one is none, the instruction returns its second operand.
INLINE floats exps(floats x) {
    x = _mm512_max_ps(_mm512_set1_ps(-110.0f), x);  // of which e^x is 0 in f32
    const floats n = _mm512_roundscale_ps(x * 1.44269504f, 0);
    const floats r = x - n * 0.693145752f - n * 1.42860677e-6f;
    floats p = r * 1.3888889e-3f + 8.3333333e-3f;
    p = p * r + 4.1666667e-2f;
    p = p * r + 1.6666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return _mm512_scalef_ps(p, n);
}

// Whether any of 16 keys is seen.
INLINE int seen(const uint16_t * mask) {
    if (mask == NULL) return 1;
    const __m256i hidden = _mm256_set1_epi16((short) 0xfc00);  // minus infinity
    const __m256i x = _mm256_loadu_si256((const __m256i *) mask);
    return _mm256_movemask_epi8(_mm256_cmpeq_epi16(x, hidden)) != -1;
}

// Scores of 16 keys from `key` on. That of a hidden one is minus infinity whatever the key holds.
INLINE void scores(const struct polysilicon_attention * a, const int rows, const int parts,
                   int64_t key, floats found[]) {
    floats dots[POLYSILICON_ROWS][LANES];
    for (int i = 0; i < LANES; i++) {
        const char * at = a->keys + (size_t) (key + i) * a->key_step;
        floats k[8];
        for (int c = 0; c < parts; c++) k[c] = halves(at + 32 * c);
        for (int r = 0; r < rows; r++) {
            floats dot = _mm512_setzero_ps();
            for (int c = 0; c < parts; c++) dot += _mm512_loadu_ps(a->query[r] + LANES * c) * k[c];
            dots[r][i] = dot;
        }
    }
    for (int r = 0; r < rows; r++) {
        found[r] = sums(dots[r]) * a->scale;
        if (a->mask[r] == NULL) continue;
        const floats mask = halves(a->mask[r] + key), hidden = _mm512_set1_ps(-INFINITY);
        const __mmask16 shown = _mm512_cmp_ps_mask(mask, hidden, _CMP_NEQ_UQ);
        found[r] = _mm512_mask_add_ps(hidden, shown, found[r], mask);
    }
}

// Which of 16 keys weigh something, of one query.
INLINE unsigned weighing(const float * weights) {
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(weights), _mm512_setzero_ps(), _CMP_NEQ_UQ);
}

// Adds n * 16 numbers of the values of 16 keys, each of which weighs something for every query.
INLINE void add_all(const char * at, const size_t step, const int rows, const int n,
                    const float weights[][POLYSILICON_KEYS], const int first, floats kept[][4]) {
    for (int i = first; i < first + LANES; i++, at += step) {
        for (int c = 0; c < n; c++) {
            const floats v = halves(at + 32 * c);
            for (int r = 0; r < rows; r++) kept[r][c] += v * weights[r][i];
        }
    }
}

// The same where some weigh nothing: those are left out, for 0 times infinity is not a number.
INLINE void add_some(const char * at, const size_t step, const int rows, const int n,
                     const float weights[][POLYSILICON_KEYS], const int first, floats kept[][4]) {
    unsigned any = 0;
    for (int r = 0; r < rows; r++) any |= weighing(weights[r] + first);
    for (; any != 0; any &= any - 1) {
        const int i = __builtin_ctz(any);
        floats v[4];
        for (int c = 0; c < n; c++) v[c] = halves(at + step * (size_t) i + 32 * c);
        for (int r = 0; r < rows; r++) {
            const float weight = weights[r][first + i];
            const __mmask16 takes = weight != 0.0f ? 0xffff : 0;
            for (int c = 0; c < n; c++)
                kept[r][c] = _mm512_mask3_fmadd_ps(v[c], _mm512_set1_ps(weight), kept[r][c], takes);
        }
    }
}

// Adds the values of 64 keys, 64 numbers of each at a time or what there is.
INLINE void add_values(const struct polysilicon_attention * a, const int rows, const int parts,
                       int64_t key, const int live[], const float weights[][POLYSILICON_KEYS],
                       floats sum[][8]) {
    int all[PARTS];  // of a part's keys weigh something for every query
    for (int part = 0; part < PARTS; part++) {
        unsigned common = 0xffff;
        for (int r = 0; r < rows; r++) common &= weighing(weights[r] + part * LANES);
        all[part] = common == 0xffff;
    }
    for (int begin = 0; begin < parts; begin += 4) {
        const int n = parts - begin < 4 ? parts - begin : 4;  // rows * n sums stay in registers
        floats kept[POLYSILICON_ROWS][4];
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < n; c++) kept[r][c] = sum[r][begin + c];
        for (int part = 0; part < PARTS; part++) {
            if (!live[part]) continue;
            const int first = part * LANES;
            const char * at = a->values + (size_t) (key + first) * a->value_step + 32 * begin;
            if (all[part]) add_all(at, a->value_step, rows, n, weights, first, kept);
            else add_some(at, a->value_step, rows, n, weights, first, kept);
        }
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < n; c++) sum[r][begin + c] = kept[r][c];
    }
}

// The weights of 16 scores. What equals the highest weighs 1, even where both are infinite.
INLINE floats weigh(floats found, float most) {
    const floats top = _mm512_set1_ps(most);
    const __mmask16 below = _mm512_cmp_ps_mask(found, top, _CMP_NEQ_UQ);
    return exps(_mm512_maskz_sub_ps(below, found, top));
}

INLINE void attend(struct polysilicon_attention * a, const int rows, const int parts) {
    floats sum[POLYSILICON_ROWS][8] = {{{0}}};
    for (int r = 0; r < rows; r++) a->sum[r] = 0, a->highest[r] = -INFINITY;
    for (int64_t key = a->from; key < a->to; key += POLYSILICON_KEYS) {
        floats found[PARTS][POLYSILICON_ROWS];
        int live[PARTS], any = 0;
        for (int part = 0; part < PARTS; part++) {
            live[part] = 0;
            for (int r = 0; r < rows; r++)
                live[part] |= seen(a->mask[r] != NULL ? a->mask[r] + key + LANES * part : NULL);
            any |= live[part];
            if (live[part]) scores(a, rows, parts, key + LANES * part, found[part]);
        }
        if (!any) continue;
        float weights[POLYSILICON_ROWS][POLYSILICON_KEYS];
        for (int r = 0; r < rows; r++) {
            floats top = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
            for (int part = 0; part < PARTS; part++)
                if (live[part]) top = _mm512_max_ps(found[part][r], top);  // of those that are numbers
            const float here = _mm512_reduce_max_ps(top);
            const float most = here > a->highest[r] ? here : a->highest[r];
            const float base = most == -INFINITY ? 0.0f : most;  // nothing is seen yet: all weigh 0
            if (most > a->highest[r]) {
                const float less = expf(a->highest[r] - most);
                a->sum[r] *= less;
                for (int c = 0; c < parts; c++) sum[r][c] *= less;
                a->highest[r] = most;
            }
            for (int part = 0; part < PARTS; part++) {
                const floats w = live[part] ? weigh(found[part][r], base) : _mm512_setzero_ps();
                total += w;
                memcpy(weights[r] + LANES * part, &w, sizeof w);
            }
            a->sum[r] += _mm512_reduce_add_ps(total);
        }
        add_values(a, rows, parts, key, live, weights, sum);
    }
    for (int r = 0; r < rows; r++) memcpy(a->out[r], sum[r], sizeof(float) * LANES * parts);
}

// A copy for each number of queries, so that what they sum stays in registers.
#define OF_SIZE(name, parts)                                                       \
    static void name(struct polysilicon_attention * a) {                           \
        switch (a->rows) {                                                         \
            case 1: attend(a, 1, parts); break;                                    \
            case 2: attend(a, 2, parts); break;                                    \
            case 3: attend(a, 3, parts); break;                                    \
            default: attend(a, 4, parts);                                          \
        }                                                                          \
    }
OF_SIZE(attend_64, 4)
OF_SIZE(attend_96, 6)
OF_SIZE(attend_128, 8)

__attribute__((visibility("default"))) int polysilicon_attends(int32_t size) {
    return size == 64 || size == 96 || size == 128;
}

__attribute__((visibility("default"))) void polysilicon_attend(struct polysilicon_attention * a) {
    if (a->size == 64) attend_64(a);
    else if (a->size == 96) attend_96(a);
    else attend_128(a);
}

#else  // Not these instructions: ggml's own kernel serves.

__attribute__((visibility("default"))) int polysilicon_attends(int32_t size) { return size < 0; }
__attribute__((visibility("default"))) void polysilicon_attend(struct polysilicon_attention * a) { a->rows = 0; }

#endif
