// Where weights lie that multiply.c multiplies: a buffer type of ggml, which packs them as they are loaded,
// and computes with them. It takes the place of one for a CPU that ggml's list of them asks for by name.
#include "ggml-backend-impl.h"
#include "ggml-backend.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"
#include "multiply.h"
#include "traits.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

extern "C" ggml_backend_buffer_type_t polysilicon_buffer_type(void);

namespace {

constexpr int64_t CHUNKS_A_THREAD = 8, CHUNK_BYTES = 256 * 1024, SLAB_GROUPS = 16;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool is_taken(const ggml_tensor * weights) {
    return ggml_n_dims(weights) == 2 && weights->view_src == nullptr &&
           polysilicon_multiplies(weights->type, weights->ne[0]);
}

int64_t panels_of(const ggml_tensor * weights) { return divide_up(weights->ne[1], POLYSILICON_LANES); }

// Rows of numbers in groups of nearly the same size, and what threads take one after the other: some panels
// (which the cache of a core holds) by a slab of groups.
struct plan {
    const ggml_tensor *weights, *x;
    ggml_tensor * out;
    int64_t tokens, groups, blocks, panels, chunk, chunks, slabs;
    size_t panel_bytes;
    polysilicon_numbers * numbers;

    plan(const ggml_compute_params * params, ggml_tensor * op)
        : weights(op->src[0]), x(op->src[1]), out(op), tokens(ggml_nrows(x)),
          groups(divide_up(tokens, POLYSILICON_TOKENS)), blocks(weights->ne[0] / POLYSILICON_BLOCK),
          panels(panels_of(weights)), slabs(divide_up(groups, SLAB_GROUPS)),
          panel_bytes(polysilicon_panel_bytes(weights->type, weights->ne[0])),
          numbers(static_cast<polysilicon_numbers *>(params->wdata)) {
        const int64_t fair = panels * slabs / (CHUNKS_A_THREAD * params->nth);
        const int64_t most = CHUNK_BYTES / static_cast<int64_t>(panel_bytes);
        chunk = std::max<int64_t>(1, std::min(fair, most));
        chunks = divide_up(panels, chunk);
    }

    int64_t first_of(int64_t group) const { return group * tokens / groups; }
    int count_of(int64_t group) const { return static_cast<int>(first_of(group + 1) - first_of(group)); }

    const float * row(int64_t token) const {
        const int64_t i3 = token / (x->ne[1] * x->ne[2]), i2 = token / x->ne[1] % x->ne[2], i1 = token % x->ne[1];
        const char * data = static_cast<const char *>(x->data);
        return reinterpret_cast<const float *>(data + i1 * x->nb[1] + i2 * x->nb[2] + i3 * x->nb[3]);
    }

    // Rounds a thread's share of all blocks.
    void round(int64_t part, int64_t parts) const {
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

    void item(int64_t number) const {
        const int64_t slab = number / chunks, begin = number % chunks * chunk, end = std::min(panels, begin + chunk);
        const int64_t last = std::min(groups, (slab + 1) * SLAB_GROUPS);
        for (int64_t group = slab * SLAB_GROUPS; group < last; group++) {
            const int64_t first = first_of(group);
            for (int64_t panel = begin; panel < end; panel++) {
                const int64_t at = panel * POLYSILICON_LANES;
                const int rows = static_cast<int>(std::min<int64_t>(POLYSILICON_LANES, weights->ne[1] - at));
                polysilicon_multiply(weights->type, weights->ne[0], rows,
                                     static_cast<const char *>(weights->data) + panel * panel_bytes, count_of(group),
                                     numbers + first * blocks,
                                     static_cast<float *>(out->data) + first * out->ne[0] + at, out->ne[0]);
            }
        }
    }
};

class weights_traits : public ggml::cpu::tensor_traits {
    bool work_size(int, const ggml_tensor * op, size_t & size) override {
        if (op->op != GGML_OP_MUL_MAT) return false;
        size = sizeof(polysilicon_numbers) * static_cast<size_t>(ggml_nelements(op->src[1]) / POLYSILICON_BLOCK);
        return true;
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        if (op->op != GGML_OP_MUL_MAT) return false;
        const plan p(params, op);
        p.round(params->ith, params->nth);
        if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
        ggml_barrier(params->threadpool);
        for (int64_t i = params->ith; i < p.chunks * p.slabs; i = ggml_threadpool_chunk_add(params->threadpool, 1))
            p.item(i);
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
        const ggml_tensor * weights = op->op == GGML_OP_MUL_MAT ? op->src[0] : nullptr;
        const bool here = weights && weights->buffer && weights->buffer->buft == polysilicon_buffer_type();
        return here ? &traits : nullptr;
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
