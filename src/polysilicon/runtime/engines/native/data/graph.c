// Graphs of ggml: its file with the loop over operations is compiled as part of this one, and another loop
// takes the place of its own.
//
// When one sequence is decoded, most operations are small: threads take longer to meet than one of them to
// compute. So here
// - one thread computes small operations, and threads meet before large ones only;
// - multiplications of the same numbers are made at once (see multiply_op.cpp);
// - a thread that waits fetches the weights that it will read next;
// - threads stay from one graph to the next, and who waits for long lets others on its core.
#undef GGML_USE_OPENMP  // whose barriers take longer
#define ggml_barrier polysilicon_ggml_barrier
#define ggml_graph_compute polysilicon_ggml_graph_compute
#define ggml_graph_compute_with_ctx polysilicon_ggml_graph_compute_with_ctx
#include "ggml-cpu.c"
#undef ggml_barrier
#undef ggml_graph_compute
#undef ggml_graph_compute_with_ctx

#include "graph.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    SMALL = 2048,           // numbers that an operation makes
    NEAR = 16,              // operations ahead that are looked at
    LINE = 64,              // bytes
    FETCHED = 128 * 1024,   // bytes of weights that are fetched while waiting, at most: they stay in any core's cache
    PAUSES = 2048,          // some 40 µs of waiting for other threads
    YIELDS = 32,            // after which whoever else wants the core is let on it so often before a thread sleeps
    AWAKE_NS = 500 * 1000,  // that a thread looks for the next graph before it sleeps
};

void ggml_barrier(struct ggml_threadpool * tp);
enum ggml_status ggml_graph_compute(struct ggml_cgraph * graph, struct ggml_cplan * plan);
enum ggml_status ggml_graph_compute_with_ctx(struct ggml_context * ctx, struct ggml_cgraph * graph, int threads);

// Threads that a thread which computes graphs has beside itself.
struct pool {
    struct ggml_threadpool shared;  // what ggml's operations know of it
    int threads;                    // with its own
    atomic_int asleep;              // of them, in the middle of a graph
    pthread_t * others;
    pthread_mutex_t mutex;
    pthread_cond_t more;
};

// Where a thread is in a graph, and which weights it fetches while it waits.
struct place {
    const struct ggml_cgraph * graph;
    int node, thread, threads;
    const struct ggml_tensor * next;  // multiplication whose weights these are
    const char *at, *end;
};

static int threads_of(int graph) { return graph & GGML_THREADPOOL_N_THREADS_MASK; }

static bool is_computed(const struct ggml_tensor * op) {
    return !ggml_op_is_empty(op->op) && (op->flags & GGML_TENSOR_FLAG_COMPUTE) != 0;
}

// Whether one thread computes it: ggml shares these by rows, with no meeting of threads within.
static bool is_small(const struct ggml_tensor * op) {
    switch (op->op) {
        case GGML_OP_ADD:
        case GGML_OP_MUL:
        case GGML_OP_SCALE:
        case GGML_OP_RMS_NORM:
        case GGML_OP_ROPE:
        case GGML_OP_GLU:
        case GGML_OP_GET_ROWS:
        case GGML_OP_SET_ROWS: break;
        default: return false;
    }
    const struct ggml_tensor * made = op->op == GGML_OP_SET_ROWS ? op->src[0] : op;
    return ggml_nrows(made) == 1 || ggml_nelements(made) <= SMALL;
}

static bool overlap(const struct ggml_tensor * a, const struct ggml_tensor * b) {
    const char *x = (const char *) a->data, *y = (const char *) b->data;
    return x < y + ggml_nbytes(b) && y < x + ggml_nbytes(a);
}

// Whether node `later` can be computed at node `now`: what is between neither reads nor writes where it writes.
static bool can_move(const struct ggml_cgraph * graph, int now, int later) {
    const struct ggml_tensor * moved = graph->nodes[later];
    if (overlap(moved, graph->nodes[now]) || overlap(moved, moved->src[1])) return false;
    for (int i = now + 1; i < later; i++) {
        const struct ggml_tensor * between = graph->nodes[i];
        if (!is_computed(between)) continue;
        if (overlap(moved, between)) return false;
        for (int s = 0; s < GGML_MAX_SRC; s++)
            if (between->src[s] != NULL && overlap(moved, between->src[s])) return false;
    }
    return true;
}

// Finds a multiplication, and those soon after it of the same numbers. Bit i is set in `done` for node + i.
static int gather(const struct ggml_cgraph * graph, int node, struct ggml_tensor ** ops, uint32_t * done) {
    const struct ggml_tensor * first = ops[0] = graph->nodes[node];
    int count = 1;
    for (int i = node + 1; i < graph->n_nodes && i < node + NEAR && count < POLYSILICON_AT_ONCE; i++) {
        struct ggml_tensor * op = graph->nodes[i];
        if (op->op != GGML_OP_MUL_MAT) continue;
        if (op->src[1] != first->src[1]) break;
        const bool alike = is_computed(op) && op->src[0]->type == first->src[0]->type && polysilicon_is_packed(op);
        if (!alike || !can_move(graph, node, i)) continue;
        ops[count++] = op;
        *done |= 1u << (i - node);
    }
    return count;
}

static void look_ahead(struct place * place) {
    struct ggml_tensor * ops[POLYSILICON_AT_ONCE];
    uint32_t done = 0;
    for (int i = place->node; i < place->graph->n_nodes && i < place->node + NEAR; i++) {
        const struct ggml_tensor * op = place->graph->nodes[i];
        if (op == place->next) return;
        if (op->op != GGML_OP_MUL_MAT || !is_computed(op) || !polysilicon_is_packed(op)) continue;
        const int count = gather(place->graph, i, ops, &done);
        size_t bytes = 0;
        place->next = op;
        place->at = polysilicon_first_weights(ops, count, place->thread, place->threads, &bytes);
        place->end = place->at + (bytes < FETCHED ? bytes : FETCHED);
        return;
    }
}

// Lets a core wait for some tens of cycles. The hint that ggml gives on Arm does nothing on server cores, where
// PAUSES of it would soon be over, and threads asleep.
static void rest(void) {
#ifdef __aarch64__
    __asm__ volatile("isb" ::: "memory");
#else
    ggml_thread_cpu_relax();
#endif
}

static void sleep_while(struct pool * pool, int passed) {
    atomic_fetch_add_explicit(&pool->asleep, 1, memory_order_seq_cst);
    syscall(SYS_futex, &pool->shared.n_barrier_passed, FUTEX_WAIT_PRIVATE, passed, NULL, NULL, 0);
    atomic_fetch_sub_explicit(&pool->asleep, 1, memory_order_seq_cst);
}

static void wake(struct pool * pool) {
    if (atomic_load_explicit(&pool->asleep, memory_order_seq_cst) == 0) return;
    syscall(SYS_futex, &pool->shared.n_barrier_passed, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void meet(struct ggml_threadpool * tp, struct place * place) {
    const int threads = threads_of(atomic_load_explicit(&tp->n_graph, memory_order_relaxed));
    const int passed = atomic_load_explicit(&tp->n_barrier_passed, memory_order_relaxed);
    const bool is_last = threads == 1
        || atomic_fetch_add_explicit(&tp->n_barrier, 1, memory_order_seq_cst) == threads - 1;
    if (is_last) {
        atomic_store_explicit(&tp->n_barrier, 0, memory_order_relaxed);
        if (place != NULL) atomic_store_explicit(&tp->current_chunk, threads, memory_order_relaxed);
        atomic_fetch_add_explicit(&tp->n_barrier_passed, 1, memory_order_seq_cst);
        wake((struct pool *) tp);
        return;
    }
    if (place != NULL) look_ahead(place);
    for (int i = 0; atomic_load_explicit(&tp->n_barrier_passed, memory_order_relaxed) == passed;) {
        if (place != NULL && place->at < place->end) {
            __builtin_prefetch(place->at, 0, 2);
            place->at += LINE;
        } else if (i < PAUSES) {
            rest();
            i++;
        } else if (i < PAUSES + YIELDS) {
            sched_yield();
            i++;
        } else {
            sleep_while((struct pool *) tp, passed);
        }
    }
    atomic_thread_fence(memory_order_seq_cst);
}

void ggml_barrier(struct ggml_threadpool * tp) { meet(tp, NULL); }

// Computes a thread's part of a graph.
static void walk(struct ggml_threadpool * tp, int thread) {
    const struct ggml_cgraph * graph = tp->cgraph;
    const struct ggml_cplan * plan = tp->cplan;
    const int threads = threads_of(atomic_load_explicit(&tp->n_graph, memory_order_relaxed));
    struct ggml_compute_params shared = {thread, threads, plan->work_size, plan->work_data, tp, plan->use_ref};
    struct ggml_compute_params alone = {0, 1, plan->work_size, plan->work_data, tp, plan->use_ref};
    struct place place = {graph, 0, thread, threads, NULL, NULL, NULL};
    enum { NONE, FEW, ALL } before = NONE;  // who computed what threads have not met after
    uint32_t done = 0;                      // nodes from this one on that came first
    set_numa_thread_affinity(thread);
    for (int n = 0; n < graph->n_nodes; n++, done >>= 1) {
        struct ggml_tensor * op = graph->nodes[n];
        if ((done & 1) != 0 || !is_computed(op)) continue;
        const bool small = is_small(op);
        if (before == ALL || (before == FEW && !small)) {
            place.node = n;
            meet(tp, &place);
            const int end = atomic_load_explicit(&tp->abort, memory_order_relaxed);
            if (end >= 0 && end <= n) break;
        }
        before = small ? FEW : ALL;
        if (small && thread != 0) continue;
        struct ggml_compute_params * params = small ? &alone : &shared;
        if (op->op == GGML_OP_MUL_MAT && polysilicon_is_packed(op)) {
            struct ggml_tensor * ops[POLYSILICON_AT_ONCE];
            const int count = gather(graph, n, ops, &done);
            polysilicon_multiply_all(params, ops, count);
        } else {
            const int fused = ggml_cpu_try_fuse_ops(graph, n, params, plan);
            if (fused == 0) ggml_compute_forward(params, op);
            n += fused;
            done >>= fused;
        }
        if (thread == 0 && plan->abort_callback != NULL && plan->abort_callback(plan->abort_callback_data)) {
            atomic_store_explicit(&tp->abort, n + 1, memory_order_relaxed);
            tp->ec = GGML_STATUS_ABORTED;
        }
    }
    meet(tp, NULL);
}

struct seat {
    struct pool * pool;
    int thread;
};

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static bool is_new(const struct ggml_threadpool * tp, int seen) {
    return tp->stop || atomic_load_explicit(&tp->n_graph, memory_order_acquire) != seen;
}

static void * serve(void * data) {
    const struct seat seat = *(struct seat *) data;
    struct pool * pool = seat.pool;
    struct ggml_threadpool * tp = &pool->shared;
    free(data);
    for (int seen = 0;;) {
        for (const int64_t until = now_ns() + AWAKE_NS; !is_new(tp, seen) && now_ns() < until;) sched_yield();
        if (!is_new(tp, seen)) {
            pthread_mutex_lock(&pool->mutex);
            while (!is_new(tp, seen)) pthread_cond_wait(&pool->more, &pool->mutex);
            pthread_mutex_unlock(&pool->mutex);
        }
        if (tp->stop) return NULL;
        seen = atomic_load_explicit(&tp->n_graph, memory_order_seq_cst);
        if (seat.thread < threads_of(seen)) walk(tp, seat.thread);
    }
}

static void end_pool(void * data) {
    struct pool * pool = data;
    pthread_mutex_lock(&pool->mutex);
    pool->shared.stop = true;
    pthread_cond_broadcast(&pool->more);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 1; i < pool->threads; i++) pthread_join(pool->others[i], NULL);
    pthread_cond_destroy(&pool->more);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->others);
    ggml_aligned_free(pool, sizeof *pool);
}

static struct pool * new_pool(int threads) {
    struct pool * pool = ggml_aligned_malloc(sizeof *pool);
    GGML_ASSERT(pool != NULL);
    memset(pool, 0, sizeof *pool);
    pool->threads = pool->shared.n_threads = threads;
    pool->others = calloc((size_t) threads, sizeof *pool->others);
    GGML_ASSERT(pool->others != NULL);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->more, NULL);
    for (int i = 1; i < threads; i++) {
        struct seat * seat = malloc(sizeof *seat);
        GGML_ASSERT(seat != NULL);
        *seat = (struct seat) {pool, i};
        GGML_ASSERT(pthread_create(&pool->others[i], NULL, serve, seat) == 0);
    }
    return pool;
}

static pthread_key_t pools;
static pthread_once_t begun = PTHREAD_ONCE_INIT;
static void begin(void) { GGML_ASSERT(pthread_key_create(&pools, end_pool) == 0); }

// The calling thread's pool, which ends with the thread.
static struct pool * own_pool(int threads) {
    pthread_once(&begun, begin);
    struct pool * pool = pthread_getspecific(pools);
    if (pool != NULL && pool->threads >= threads) return pool;
    if (pool != NULL) end_pool(pool);
    pool = new_pool(threads);
    pthread_setspecific(pools, pool);
    return pool;
}

enum ggml_status ggml_graph_compute(struct ggml_cgraph * graph, struct ggml_cplan * plan) {
    ggml_cpu_init();
    GGML_ASSERT(plan != NULL && plan->n_threads > 0);
    GGML_ASSERT(plan->work_size == 0 || plan->work_data != NULL);
    struct pool * pool = own_pool(plan->n_threads);
    struct ggml_threadpool * tp = &pool->shared;
    tp->cgraph = graph;
    tp->cplan = plan;
    tp->ec = GGML_STATUS_SUCCESS;
    atomic_store_explicit(&tp->current_chunk, plan->n_threads, memory_order_relaxed);
    atomic_store_explicit(&tp->abort, -1, memory_order_relaxed);
    pthread_mutex_lock(&pool->mutex);
    const int count = atomic_load_explicit(&tp->n_graph, memory_order_relaxed) >> GGML_THREADPOOL_N_THREADS_BITS;
    const int next = (int) ((unsigned) (count + 1) << GGML_THREADPOOL_N_THREADS_BITS) | plan->n_threads;
    atomic_store_explicit(&tp->n_graph, next, memory_order_seq_cst);
    if (plan->n_threads > 1) pthread_cond_broadcast(&pool->more);  // who is asleep stays so for a graph of one thread
    pthread_mutex_unlock(&pool->mutex);
    walk(tp, 0);
    clear_numa_thread_affinity();
    return tp->ec;
}

enum ggml_status ggml_graph_compute_with_ctx(struct ggml_context * ctx, struct ggml_cgraph * graph, int threads) {
    struct ggml_cplan plan = ggml_graph_plan(graph, threads, NULL);
    plan.work_data = (uint8_t *) ggml_new_buffer(ctx, plan.work_size);
    return ggml_graph_compute(graph, &plan);
}
