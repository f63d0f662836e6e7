// Attention of up to four queries to the keys of one head; see attention.c.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { POLYSILICON_ROWS = 4, POLYSILICON_KEYS = 64 };

struct polysilicon_attention {
    int32_t size;      // numbers of a query, key and value: 64, 96 or 128
    int32_t rows;      // queries, at most POLYSILICON_ROWS
    int64_t from, to;  // keys; their number is a multiple of POLYSILICON_KEYS
    float scale;       // of a query times a key
    const float * query[POLYSILICON_ROWS];
    const uint16_t * mask[POLYSILICON_ROWS];  // f16, added to each key's score; NULL for nothing
    const char * keys;                        // f16, the first key of all
    const char * values;                      // f16
    size_t key_step, value_step;              // bytes from one to the next
    // Results: sum of values weighted with e^(score - highest), sum of the weights, highest score.
    float * out[POLYSILICON_ROWS];
    float sum[POLYSILICON_ROWS];
    float highest[POLYSILICON_ROWS];
};

// Whether this build of the kernel can take keys of a size.
int polysilicon_attends(int32_t size);
void polysilicon_attend(struct polysilicon_attention * a);
