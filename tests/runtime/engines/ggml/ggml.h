// What graph.c and multiply_op.cpp use of ggml, as small as it can be: for tests of these two alone.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { GGML_MAX_SRC = 2, GGML_TENSOR_FLAG_COMPUTE = 16, GGML_TYPE_F32 = 0 };
enum ggml_op {
    GGML_OP_NONE, GGML_OP_VIEW, GGML_OP_ADD, GGML_OP_MUL, GGML_OP_SCALE, GGML_OP_RMS_NORM, GGML_OP_ROPE, GGML_OP_GLU,
    GGML_OP_GET_ROWS, GGML_OP_SET_ROWS, GGML_OP_MUL_MAT, GGML_OP_SUM,
};
enum ggml_status { GGML_STATUS_SUCCESS, GGML_STATUS_ABORTED };

struct ggml_tensor {
    int32_t type, op, flags;
    struct ggml_backend_buffer * buffer;
    struct ggml_tensor *src[GGML_MAX_SRC], *view_src;
    int64_t ne[4];
    size_t nb[4];
    void * data;
};

struct ggml_cgraph {
    int n_nodes;
    struct ggml_tensor ** nodes;
};

struct ggml_cplan {
    size_t work_size;
    uint8_t * work_data;
    int n_threads;
    bool (*abort_callback)(void *);
    void * abort_callback_data;
    bool use_ref;
};

struct ggml_compute_params {
    int ith, nth;
    size_t wsize;
    void * wdata;
    struct ggml_threadpool * threadpool;
    bool use_ref;
};

typedef struct ggml_backend_buffer_type * ggml_backend_buffer_type_t;
typedef struct ggml_backend_buffer * ggml_backend_buffer_t;
typedef struct ggml_backend_device * ggml_backend_dev_t;
struct ggml_backend_buffer_type {
    struct {
        const char * (*get_name)(ggml_backend_buffer_type_t);
        ggml_backend_buffer_t (*alloc_buffer)(ggml_backend_buffer_type_t, size_t);
        size_t (*get_alignment)(ggml_backend_buffer_type_t);
        size_t (*get_alloc_size)(ggml_backend_buffer_type_t, const struct ggml_tensor *);
    } iface;
    ggml_backend_dev_t device;
    void * context;
};
struct ggml_backend_buffer {
    struct {
        void (*set_tensor)(ggml_backend_buffer_t, struct ggml_tensor *, const void *, size_t, size_t);
        void (*get_tensor)(ggml_backend_buffer_t, const struct ggml_tensor *, void *, size_t, size_t);
        bool (*cpy_tensor)(ggml_backend_buffer_t, const struct ggml_tensor *, struct ggml_tensor *);
    } iface;
    ggml_backend_buffer_type_t buft;
    void * base;
};

#define GGML_ASSERT(x) do { if (!(x)) abort(); } while (0)

static inline int64_t ggml_nelements(const struct ggml_tensor * t) { return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]; }
static inline int64_t ggml_nrows(const struct ggml_tensor * t) { return t->ne[1] * t->ne[2] * t->ne[3]; }
static inline int ggml_n_dims(const struct ggml_tensor * t) { return t->ne[1] > 1 ? 2 : 1; }
static inline size_t ggml_row_size(int type, int64_t k) {
    const size_t blocks = (size_t) k / 32;
    return type == 2 ? blocks * 18 : type == 3 ? blocks * 20 : type == 8 ? blocks * 34 : (size_t) k * 4;
}
static inline size_t ggml_nbytes(const struct ggml_tensor * t) {
    return ggml_row_size(t->type, t->ne[0]) * (size_t) ggml_nrows(t);
}
static inline bool ggml_is_contiguous(const struct ggml_tensor * t) { return t->nb[1] == ggml_row_size(t->type, t->ne[0]); }
static inline bool ggml_backend_buft_is_host(ggml_backend_buffer_type_t type) { return type != NULL; }
static inline bool ggml_op_is_empty(int op) { return op == GGML_OP_NONE || op == GGML_OP_VIEW; }

ggml_backend_buffer_type_t ggml_backend_cpu_buffer_type(void);
ggml_backend_buffer_t ggml_backend_buft_alloc_buffer(ggml_backend_buffer_type_t type, size_t size);
void * ggml_backend_buffer_get_base(ggml_backend_buffer_t buffer);
void * ggml_backend_cpu_reg(void);
ggml_backend_dev_t ggml_backend_reg_dev_get(void * registration, size_t number);
void ggml_barrier(struct ggml_threadpool * tp);
int ggml_threadpool_chunk_add(struct ggml_threadpool * tp, int value);

#ifdef __cplusplus
}
namespace ggml::cpu {
struct tensor_traits {
    virtual bool work_size(int threads, const ggml_tensor * op, size_t & size) = 0;
    virtual bool compute_forward(ggml_compute_params * params, ggml_tensor * op) = 0;
};
struct extra_buffer_type {
    virtual bool supports_op(ggml_backend_dev_t, const ggml_tensor * op) = 0;
    virtual tensor_traits * get_tensor_traits(const ggml_tensor * op) = 0;
};
}  // namespace ggml::cpu
#endif
