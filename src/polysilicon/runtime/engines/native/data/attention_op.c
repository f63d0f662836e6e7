// ggml's attention with the kernel of attention.c, where that can take it; ggml's own elsewhere,
// which is compiled under the name ggml_plain_flash_attn_ext.
#include "attention.h"
#include "ggml-cpu-impl.h"
#include "ggml-impl.h"

#include <math.h>
#include <string.h>

enum { MOST_SIZE = 128, ITEMS_A_THREAD = 4 };

void ggml_plain_flash_attn_ext(const struct ggml_compute_params * params, struct ggml_tensor * dst);
void ggml_compute_forward_flash_attn_ext(const struct ggml_compute_params * params, struct ggml_tensor * dst);

struct job {
    const struct ggml_tensor *q, *k, *v, *mask, *dst;
    float scale;
    int64_t heads;  // that share keys and values
    int64_t rows;   // queries that share them: heads times tokens
    int64_t blocks; // of up to POLYSILICON_ROWS of these
    int64_t parts;  // of the keys, each for itself
    float * shared; // [query of all][part]: highest score, sum of weights, sum of values
};

static struct job job_of(const struct ggml_compute_params * params, const struct ggml_tensor * dst) {
    struct job j = {dst->src[0], dst->src[1], dst->src[2], dst->src[3], dst, 0, 0, 0, 0, 1, NULL};
    memcpy(&j.scale, dst->op_params, sizeof j.scale);
    j.heads = j.q->ne[2] / j.k->ne[2];
    j.rows = j.heads * j.q->ne[1];
    j.blocks = (j.rows + POLYSILICON_ROWS - 1) / POLYSILICON_ROWS;
    const int64_t items = j.blocks * j.k->ne[2] * j.q->ne[3];
    if (items < ITEMS_A_THREAD * params->nth) j.parts = params->nth;
    j.shared = (float *) params->wdata;
    return j;
}

static size_t shared_bytes(const struct job * j) {
    return sizeof(float) * (size_t) (j->q->ne[1] * j->q->ne[2] * j->q->ne[3] * j->parts * (2 + j->v->ne[0]));
}

// Whether the kernel can take it: f16, sizes it knows, no bias by distance, no cap.
static int can(const struct ggml_compute_params * params, const struct job * j) {
    float others[2];
    memcpy(others, j->dst->op_params + 1, sizeof others);
    const int plain = others[0] == 0.0f && others[1] == 0.0f && j->dst->src[4] == NULL && !params->use_ref;
    const int halves = j->k->type == GGML_TYPE_F16 && j->v->type == GGML_TYPE_F16 && j->q->type == GGML_TYPE_F32;
    const int64_t size = j->k->ne[0];
    const int sized = size == j->v->ne[0] && size <= MOST_SIZE && polysilicon_attends((int32_t) size);
    const int shaped = j->k->ne[1] % POLYSILICON_KEYS == 0 && j->q->ne[2] % j->k->ne[2] == 0
        && j->k->ne[2] == j->v->ne[2] && j->q->ne[3] == j->k->ne[3] && j->q->ne[3] == j->v->ne[3];
    const int masked = j->mask == NULL
        || (j->mask->type == GGML_TYPE_F16 && j->mask->ne[2] == 1 && j->mask->ne[0] >= j->k->ne[1]);
    return plain && halves && sized && shaped && masked
        && (j->parts == 1 || shared_bytes(j) <= params->wsize);
}

// Row of the queries of all: token, head, sequence.
static int64_t row_of(const struct job * j, int64_t token, int64_t head, int64_t sequence) {
    return (sequence * j->q->ne[1] + token) * j->q->ne[2] + head;
}

static void divide(float * to, const float * sum, float weight, int64_t size) {
    for (int64_t i = 0; i < size; i++) to[i] = weight == 0.0f ? 0.0f : sum[i] / weight;
}

static void item(const struct job * j, int64_t number) {
    const int64_t part = number % j->parts, block = number / j->parts % j->blocks;
    const int64_t of = number / j->parts / j->blocks, shared = of % j->k->ne[2], sequence = of / j->k->ne[2];
    const int64_t size = j->k->ne[0], first = block * POLYSILICON_ROWS, keys = j->k->ne[1] / POLYSILICON_KEYS;
    float room[POLYSILICON_ROWS][MOST_SIZE];
    int64_t rows[POLYSILICON_ROWS];
    struct polysilicon_attention a = {0};
    a.size = (int32_t) size;
    a.rows = (int32_t) (j->rows - first < POLYSILICON_ROWS ? j->rows - first : POLYSILICON_ROWS);
    a.from = keys * part / j->parts * POLYSILICON_KEYS;
    a.to = keys * (part + 1) / j->parts * POLYSILICON_KEYS;
    a.scale = j->scale;
    a.keys = (const char *) j->k->data + (size_t) shared * j->k->nb[2] + (size_t) sequence * j->k->nb[3];
    a.values = (const char *) j->v->data + (size_t) shared * j->v->nb[2] + (size_t) sequence * j->v->nb[3];
    a.key_step = j->k->nb[1];
    a.value_step = j->v->nb[1];
    for (int r = 0; r < a.rows; r++) {
        const int64_t token = (first + r) / j->heads, head = shared * j->heads + (first + r) % j->heads;
        rows[r] = row_of(j, token, head, sequence);
        a.query[r] = (const float *) ((const char *) j->q->data + (size_t) token * j->q->nb[1]
            + (size_t) head * j->q->nb[2] + (size_t) sequence * j->q->nb[3]);
        if (j->mask != NULL)
            a.mask[r] = (const uint16_t *) ((const char *) j->mask->data + (size_t) token * j->mask->nb[1]
                + (size_t) (sequence % j->mask->ne[3]) * j->mask->nb[3]);
        a.out[r] = room[r];
    }
    polysilicon_attend(&a);
    for (int r = 0; r < a.rows; r++) {
        if (j->parts == 1) {
            divide((float *) j->dst->data + rows[r] * size, room[r], a.sum[r], size);
            continue;
        }
        float * to = j->shared + (rows[r] * j->parts + part) * (2 + size);
        to[0] = a.highest[r];
        to[1] = a.sum[r];
        memcpy(to + 2, room[r], sizeof(float) * (size_t) size);
    }
}

// Joins the parts of one query.
static void join(const struct job * j, int64_t row) {
    const int64_t size = j->k->ne[0];
    const float * from = j->shared + row * j->parts * (2 + size);
    float highest = -INFINITY, weight = 0.0f, sum[MOST_SIZE] = {0};
    for (int64_t p = 0; p < j->parts; p++) highest = fmaxf(highest, from[p * (2 + size)]);
    for (int64_t p = 0; p < j->parts; p++) {
        const float * of = from + p * (2 + size);
        const float share = of[0] == highest ? 1.0f : expf(of[0] - highest);  // both may be infinite
        weight += share * of[1];
        for (int64_t i = 0; i < size; i++) sum[i] += share * of[2 + i];
    }
    divide((float *) j->dst->data + row * size, sum, weight, size);
}

void ggml_compute_forward_flash_attn_ext(const struct ggml_compute_params * params, struct ggml_tensor * dst) {
    const struct job j = job_of(params, dst);
    if (!can(params, &j)) {
        ggml_plain_flash_attn_ext(params, dst);
        return;
    }
    // Threads have met before, and the number of the next chunk is that of the threads (see graph.c).
    const int64_t items = j.parts * j.blocks * j.k->ne[2] * j.q->ne[3];
    for (int64_t i = params->ith; i < items; i = ggml_threadpool_chunk_add(params->threadpool, 1)) item(&j, i);
    if (j.parts == 1) return;
    ggml_barrier(params->threadpool);
    const int64_t rows = j.q->ne[1] * j.q->ne[2] * j.q->ne[3];
    for (int64_t row = params->ith; row < rows; row += params->nth) join(&j, row);
}
