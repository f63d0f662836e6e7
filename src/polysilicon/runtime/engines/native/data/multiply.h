// Multiplication of rows of numbers by weights of 4 or 8 bits; see multiply.c.
//
// Weights lie in panels of POLYSILICON_LANES rows, packed once. Numbers are rounded to 8 bits with a
// scale for each 32 of them, and lie in groups of up to POLYSILICON_TOKENS rows.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define POLYSILICON_LANES 16
#define POLYSILICON_TOKENS 8
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define POLYSILICON_LANES 8
#define POLYSILICON_TOKENS 4
#else
#define POLYSILICON_LANES 1
#define POLYSILICON_TOKENS 1
#endif

enum { POLYSILICON_BLOCK = 32 };                                            // numbers that share a scale
enum { POLYSILICON_Q4_0 = 2, POLYSILICON_Q4_1 = 3, POLYSILICON_Q8_0 = 8 };  // ggml's numbers of them

// 32 numbers of a row: 8 bits each, and what they are multiplied by.
struct polysilicon_numbers {
    int8_t rounded[POLYSILICON_BLOCK];
    float scale;
    union {
        float sum;       // of the 32, with Q4_1
        int32_t offset;  // what the dot product begins with, as packed weights are not negative
    };
};

#ifdef __cplusplus
extern "C" {
#endif

// Whether weights of a format can be multiplied, with rows of k.
int polysilicon_multiplies(int32_t format, int64_t k);

// Rows of a panel, and of a group.
int polysilicon_lanes(void);
int polysilicon_tokens(void);

// Size of a panel; that of the last one is the same, with fewer rows.
size_t polysilicon_panel_bytes(int32_t format, int64_t k);

// Packs up to POLYSILICON_LANES rows of ggml's blocks. What is missing is 0.
void polysilicon_pack(int32_t format, int64_t k, int rows, const void * weights, size_t row_bytes, void * panel);

// Rounds the blocks from `from` to `to` of one row of a group of `count`; `first` is the row's first block in
// the group, where a block of all rows comes before the next of any.
void polysilicon_round(int32_t format, int64_t from, int64_t to, int count, const float * x,
                       struct polysilicon_numbers * first);

// Multiplies a panel by a group: out[token * out_step + row], for all rows that there are.
void polysilicon_multiply(int32_t format, int64_t k, int rows, const void * panel, int count,
                          const struct polysilicon_numbers * group, float * out, size_t out_step);

#ifdef __cplusplus
}
#endif
