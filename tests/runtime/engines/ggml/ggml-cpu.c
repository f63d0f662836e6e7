// What graph.c uses of ggml's file of this name, for tests; and operations on rows of floats.
#include "ggml.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define SHOWN __attribute__((visibility("default")))
#define GGML_THREADPOOL_N_THREADS_MASK (0xffffU)
#define GGML_THREADPOOL_N_THREADS_BITS (16)

struct ggml_threadpool {
    struct ggml_cgraph * cgraph;
    struct ggml_cplan * cplan;
    atomic_int n_graph, n_barrier, n_barrier_passed, current_chunk, abort;
    atomic_bool stop;
    int n_threads;
    enum ggml_status ec;
};

static void ggml_cpu_init(void) {}
static void set_numa_thread_affinity(int thread) { (void) thread; }
static void clear_numa_thread_affinity(void) {}
static void ggml_thread_cpu_relax(void) {}
static void * ggml_aligned_malloc(size_t size) { return aligned_alloc(64, (size + 63) / 64 * 64); }
static void ggml_aligned_free(void * at, size_t size) { (void) size, free(at); }

int ggml_threadpool_chunk_add(struct ggml_threadpool * tp, int value) { return atomic_fetch_add(&tp->current_chunk, value); }

struct ggml_context;
struct ggml_cplan ggml_graph_plan(struct ggml_cgraph * graph, int threads, struct ggml_threadpool * tp);
void * ggml_new_buffer(struct ggml_context * ctx, size_t size);
struct ggml_cplan ggml_graph_plan(struct ggml_cgraph * graph, int threads, struct ggml_threadpool * tp) { abort(); }
void * ggml_new_buffer(struct ggml_context * ctx, size_t size) { abort(); }

// y = a + b or 2 * a by rows, or, of all numbers in rows that threads take one after the other, 3 * a.
static void ggml_compute_forward(struct ggml_compute_params * params, struct ggml_tensor * op) {
    const bool sum = op->op == GGML_OP_SUM;
    GGML_ASSERT(sum || op->op == GGML_OP_ADD || op->op == GGML_OP_SCALE);
    for (int64_t row = params->ith; row < ggml_nrows(op);) {
        for (int64_t i = row * op->ne[0]; i < (row + 1) * op->ne[0]; i++) {
            const float a = ((const float *) op->src[0]->data)[i];
            const float b = op->op == GGML_OP_ADD ? ((const float *) op->src[1]->data)[i] : a;
            ((float *) op->data)[i] = sum ? 3.0f * a : (a + b) * 0.5f;
        }
        row = sum ? ggml_threadpool_chunk_add(params->threadpool, 1) : row + params->nth;
    }
}

// One node does the work of two where both scale.
static int ggml_cpu_try_fuse_ops(const struct ggml_cgraph * graph, int n, struct ggml_compute_params * params,
                                 const struct ggml_cplan * plan) {
    if (n + 1 >= graph->n_nodes || plan->use_ref) return 0;
    struct ggml_tensor *a = graph->nodes[n], *b = graph->nodes[n + 1];
    if (a->op != GGML_OP_SCALE || b->op != GGML_OP_SCALE || b->src[0] != a) return 0;
    ggml_compute_forward(params, a);
    ggml_compute_forward(params, b);
    return 1;
}

static struct ggml_backend_buffer_type plain;
ggml_backend_buffer_type_t ggml_backend_cpu_buffer_type(void) { return &plain; }
ggml_backend_buffer_t ggml_backend_buft_alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t made = calloc(1, sizeof *made);
    made->buft = type;
    made->base = aligned_alloc(64, (size + 63) / 64 * 64);
    return made;
}
void * ggml_backend_buffer_get_base(ggml_backend_buffer_t buffer) { return buffer->base; }
void * ggml_backend_cpu_reg(void) { return &plain; }
ggml_backend_dev_t ggml_backend_reg_dev_get(void * registration, size_t number) { return NULL; }

ggml_backend_buffer_type_t polysilicon_buffer_type(void);

// Lets weights lie packed; false where this CPU has no instructions for it.
SHOWN bool stand_in_pack(struct ggml_tensor * weights, const void * data);
SHOWN bool stand_in_pack(struct ggml_tensor * weights, const void * data) {
    ggml_backend_buffer_type_t type = polysilicon_buffer_type();
    if (type == NULL) return false;
    weights->buffer = type->iface.alloc_buffer(type, type->iface.get_alloc_size(type, weights));
    weights->data = weights->buffer->base;
    weights->buffer->iface.set_tensor(weights->buffer, weights, data, 0, ggml_nbytes(weights));
    return true;
}
