// Where weights lie that multiply.c multiplies: a buffer type of ggml, which packs them as they are loaded,
// and computes with them. It takes the place of one for a CPU that ggml's list of them asks for by name.
#include "ggml-backend-impl.h"
#include "ggml-backend.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"
#include "graph.h"
#include "multiply.h"
#include "traits.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

extern "C" ggml_backend_buffer_type_t polysilicon_buffer_type(void);

namespace {

constexpr int64_t CHUNKS_A_THREAD = 8, CHUNK_BYTES = 256 * 1024, SLAB_GROUPS = 16, LINE = 64;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool is_taken(const ggml_tensor * weights) {
    return ggml_n_dims(weights) == 2 && weights->view_src == nullptr &&
           polysilicon_multiplies(weights->type, weights->ne[0]);
}

int64_t panels_of(const ggml_tensor * weights) { return divide_up(weights->ne[1], POLYSILICON_LANES); }

// Bytes of the rounded numbers of one token that a thread keeps for itself.
size_t own_bytes(int64_t k) {
    return static_cast<size_t>(divide_up(k / POLYSILICON_BLOCK * int64_t(sizeof(polysilicon_numbers)), LINE) * LINE);
}

// Multiplications of the same rows of numbers: panels of one after those of the other. Numbers are in groups of
// nearly the same size.
struct plan {
    ggml_tensor * const * ops;
    const ggml_tensor *weights, *x;           // of the first, as of all
    int64_t ends[POLYSILICON_AT_ONCE], panels;  // after the panels of each
    int64_t tokens, groups, blocks;
    size_t panel_bytes;

    plan(ggml_tensor * const * all, int count)
        : ops(all), weights(all[0]->src[0]), x(all[0]->src[1]), panels(0), tokens(ggml_nrows(x)),
          groups(divide_up(tokens, POLYSILICON_TOKENS)), blocks(weights->ne[0] / POLYSILICON_BLOCK),
          panel_bytes(polysilicon_panel_bytes(weights->type, weights->ne[0])) {
        for (int i = 0; i < count; i++) ends[i] = panels += panels_of(ops[i]->src[0]);
    }

    int64_t first_of(int64_t group) const { return group * tokens / groups; }
    int count_of(int64_t group) const { return static_cast<int>(first_of(group + 1) - first_of(group)); }

    // How many panels are taken at a time, of so many: few enough for a core's cache, and for equal shares.
    int64_t chunk_of(int64_t number, int64_t slabs, int threads) const {
        const int64_t most = CHUNK_BYTES / static_cast<int64_t>(panel_bytes);
        return std::max<int64_t>(1, std::min(number * slabs / (CHUNKS_A_THREAD * threads), most));
    }

    const float * row(int64_t token) const {
        const int64_t i3 = token / (x->ne[1] * x->ne[2]), i2 = token / x->ne[1] % x->ne[2], i1 = token % x->ne[1];
        const char * data = static_cast<const char *>(x->data);
        return reinterpret_cast<const float *>(data + i1 * x->nb[1] + i2 * x->nb[2] + i3 * x->nb[3]);
    }

    int op_of(int64_t panel) const {
        int i = 0;
        while (panel >= ends[i]) i++;
        return i;
    }

    int64_t within(int i, int64_t panel) const { return i > 0 ? panel - ends[i - 1] : panel; }

    const char * at(int i, int64_t panel) const {
        return static_cast<const char *>(ops[i]->src[0]->data) + within(i, panel) * static_cast<int64_t>(panel_bytes);
    }

    // Rounds a thread's share of all blocks.
    void round(int64_t part, int64_t parts, polysilicon_numbers * numbers) const {
        const int64_t all = groups * blocks, end = (part + 1) * all / parts;
        for (int64_t at = part * all / parts; at < end;) {
            const int64_t group = at / blocks, from = at % blocks, to = std::min(blocks, from + end - at);
            const int64_t first = first_of(group);
            const int count = count_of(group);
            for (int t = 0; t < count; t++)
                polysilicon_round(weights->type, from, to, count, row(first + t), numbers + first * blocks + t);
            at += to - from;
        }
    }

    // Multiplies some panels by a group.
    void multiply(int64_t group, int64_t begin, int64_t end, const polysilicon_numbers * numbers) const {
        const int64_t first = first_of(group);
        for (int64_t panel = begin; panel < end; panel++) {
            const int i = op_of(panel);
            ggml_tensor * out = ops[i];
            const int64_t row = within(i, panel) * POLYSILICON_LANES;
            const int rows = static_cast<int>(std::min<int64_t>(POLYSILICON_LANES, out->ne[0] - row));
            polysilicon_multiply(weights->type, weights->ne[0], rows, at(i, panel), count_of(group),
                                 numbers + first * blocks, static_cast<float *>(out->data) + first * out->ne[0] + row,
                                 static_cast<size_t>(out->ne[0]));
        }
    }
};

// Panels of which a thread has its own share, which it reads from one end to the other; the others are taken one
// after the other, so that none waits for long.
int64_t shared_out(const plan & p) { return p.panels * 3 / 4; }

// One token: each thread rounds it for itself, as fast as threads could meet.
void multiply_one(const plan & p, const ggml_compute_params * params) {
    char * own = static_cast<char *>(params->wdata) + own_bytes(p.weights->ne[0]) * static_cast<size_t>(params->ith);
    const auto numbers = reinterpret_cast<polysilicon_numbers *>(own);
    p.round(0, 1, numbers);
    const int64_t shared = shared_out(p), left = p.panels - shared, chunk = p.chunk_of(left, 1, params->nth);
    p.multiply(0, params->ith * shared / params->nth, (params->ith + 1) * shared / params->nth, numbers);
    for (;;) {
        const int64_t i = ggml_threadpool_chunk_add(params->threadpool, 1) - params->nth;
        const int64_t begin = shared + i * chunk;
        if (begin >= p.panels) return;
        p.multiply(0, begin, std::min(p.panels, begin + chunk), numbers);
    }
}

// Threads take some panels (which the cache of a core holds) by a slab of groups, one after the other.
void multiply_many(const plan & p, const ggml_compute_params * params) {
    const auto numbers = static_cast<polysilicon_numbers *>(params->wdata);
    const int64_t slabs = divide_up(p.groups, SLAB_GROUPS), chunk = p.chunk_of(p.panels, slabs, params->nth);
    const int64_t chunks = divide_up(p.panels, chunk);
    p.round(params->ith, params->nth, numbers);
    ggml_barrier(params->threadpool);
    for (int64_t i = params->ith; i < chunks * slabs; i = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t slab = i / chunks, begin = i % chunks * chunk, last = std::min(p.groups, (slab + 1) * SLAB_GROUPS);
        for (int64_t group = slab * SLAB_GROUPS; group < last; group++)
            p.multiply(group, begin, std::min(p.panels, begin + chunk), numbers);
    }
}

class weights_traits : public ggml::cpu::tensor_traits {
    bool work_size(int threads, const ggml_tensor * op, size_t & size) override {
        if (op->op != GGML_OP_MUL_MAT) return false;
        size = sizeof(polysilicon_numbers) * static_cast<size_t>(ggml_nelements(op->src[1]) / POLYSILICON_BLOCK);
        if (ggml_nrows(op->src[1]) == 1) size = own_bytes(op->src[1]->ne[0]) * static_cast<size_t>(threads);
        return true;
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        if (op->op != GGML_OP_MUL_MAT) return false;
        polysilicon_multiply_all(params, &op, 1);
        return true;
    }
};

class weights_buffer_type : public ggml::cpu::extra_buffer_type {
    bool supports_op(ggml_backend_dev_t, const ggml_tensor * op) override {
        if (op->op != GGML_OP_MUL_MAT || get_tensor_traits(op) == nullptr || !is_taken(op->src[0])) return false;
        const ggml_tensor * x = op->src[1];
        const bool near = x->buffer == nullptr || ggml_backend_buft_is_host(x->buffer->buft);
        return near && x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float) && ggml_is_contiguous(op);
    }

    ggml::cpu::tensor_traits * get_tensor_traits(const ggml_tensor * op) override {
        static weights_traits traits;
        return polysilicon_is_packed(op) ? &traits : nullptr;
    }
};

void set_tensor(ggml_backend_buffer_t, ggml_tensor * weights, const void * data, size_t offset, size_t size) {
    GGML_ASSERT(offset == 0 && size == ggml_nbytes(weights) && is_taken(weights));
    const size_t row = ggml_row_size(weights->type, weights->ne[0]);
    const size_t panel = polysilicon_panel_bytes(weights->type, weights->ne[0]);
    for (int64_t i = 0; i < panels_of(weights); i++) {
        const int64_t at = i * POLYSILICON_LANES;
        polysilicon_pack(weights->type, weights->ne[0],
                         static_cast<int>(std::min<int64_t>(POLYSILICON_LANES, weights->ne[1] - at)),
                         static_cast<const char *>(data) + at * row, row, static_cast<char *>(weights->data) + i * panel);
    }
}

const char * get_name(ggml_backend_buffer_type_t) { return "POLYSILICON"; }
size_t get_alignment(ggml_backend_buffer_type_t) { return 64; }

size_t get_alloc_size(ggml_backend_buffer_type_t, const ggml_tensor * weights) {
    if (!is_taken(weights)) return ggml_nbytes(weights);
    return polysilicon_panel_bytes(weights->type, weights->ne[0]) * static_cast<size_t>(panels_of(weights));
}

// Large pages where the system gives some: fewer misses of the table of pages while all weights are read.
void ask_for_large_pages(void * begin, size_t size) {
    const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)), at = reinterpret_cast<uintptr_t>(begin);
    const uintptr_t first = (at + page - 1) / page * page, last = (at + size) / page * page;
    if (first < last) madvise(reinterpret_cast<void *>(first), last - first, MADV_HUGEPAGE);
}

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
    if (buffer == nullptr) return nullptr;
    ask_for_large_pages(ggml_backend_buffer_get_base(buffer), size);
    buffer->buft = type;
    buffer->iface.set_tensor = set_tensor;
    buffer->iface.get_tensor = nullptr;
    buffer->iface.cpy_tensor = nullptr;
    return buffer;
}

}  // namespace

bool polysilicon_is_packed(const ggml_tensor * op) {
    const ggml_tensor * weights = op->op == GGML_OP_MUL_MAT ? op->src[0] : nullptr;
    return weights && weights->buffer && weights->buffer->buft && weights->buffer->buft == polysilicon_buffer_type();
}

void polysilicon_multiply_all(const ggml_compute_params * params, ggml_tensor * const * ops, int count) {
    const plan p(ops, count);
    if (p.tokens == 1) multiply_one(p, params);
    else multiply_many(p, params);
}

const char * polysilicon_first_weights(ggml_tensor * const * ops, int count, int thread, int threads, size_t * bytes) {
    const plan p(ops, count);
    const int64_t shared = shared_out(p), begin = thread * shared / threads;
    const int i = p.op_of(begin);
    const int64_t end = std::min(p.ends[i], (thread + 1) * shared / threads);
    *bytes = p.tokens == 1 && end > begin ? static_cast<size_t>(end - begin) * p.panel_bytes : 0;
    return p.at(i, begin);
}

ggml_backend_buffer_type_t polysilicon_buffer_type(void) {
    if (POLYSILICON_LANES == 1) return nullptr;
    static ggml_backend_buffer_type type = [] {
        ggml_backend_buffer_type made = {};
        made.iface.get_name = get_name;
        made.iface.alloc_buffer = alloc_buffer;
        made.iface.get_alignment = get_alignment;
        made.iface.get_alloc_size = get_alloc_size;
        made.device = ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0);
        made.context = new weights_buffer_type();
        return made;
    }();
    return &type;
}
