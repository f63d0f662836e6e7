// What graph.c, which computes ggml's graphs, asks of multiply_op.cpp.
#pragma once

#include "ggml-cpu-impl.h"
#include "ggml.h"

enum { POLYSILICON_AT_ONCE = 4 };  // multiplications of the same numbers, at most

#ifdef __cplusplus
extern "C" {
#endif

// Whether an operation is a multiplication by weights that are packed here.
bool polysilicon_is_packed(const struct ggml_tensor * op);

// Multiplies the same numbers by the weights of several operations, all of one format. Threads have met before,
// and the number of the threadpool's next chunk is that of the threads.
void polysilicon_multiply_all(const struct ggml_compute_params * params, struct ggml_tensor * const * ops, int count);

// Weights that a thread reads first of these operations, where it reads its own share of them; else none.
const char * polysilicon_first_weights(struct ggml_tensor * const * ops, int count, int thread, int threads,
                                       size_t * bytes);

#ifdef __cplusplus
}
#endif
