#include "algorithms/filter_blocks.h"

#include "core/isa.h"
#include "core/threads/parallel_for.h"

namespace fastconv {
namespace {

// One block of filters x channels. It stays in L2 together with the pixels.
constexpr std::int64_t kFilterBlockBytes = 256 << 10;

} // namespace

template <class T>
FilterBlocks choose_filter_blocks(const Correlation& g) {
    const KernelsOf<T>& kernel = kernels<T>();
    FilterBlocks blocks{};
    blocks.width = kernel.width;
    blocks.vectors = ceil_div(g.k, kernel.width);
    blocks.k_blocks = ceil_div(blocks.vectors, kernel.max_vectors);
    const std::int64_t wide = std::min(blocks.vectors, kernel.max_vectors) * kernel.width;
    const std::int64_t most = std::min(kSumLength, kFilterBlockBytes / (wide * static_cast<std::int64_t>(sizeof(T))));
    blocks.c_blocks = ceil_div(g.c, std::max<std::int64_t>(1, most / std::max<std::int64_t>(1, g.window())));
    return blocks;
}

std::int64_t packed_filter_size(const Correlation& g, const FilterBlocks& blocks) {
    return g.window() * g.c * blocks.vectors * blocks.width;
}

Tasks packing_tasks(const Correlation& g, const FilterBlocks& blocks) {
    return {g.groups * blocks.c_blocks * blocks.k_blocks,
            static_cast<double>(g.groups * packed_filter_size(g, blocks))};
}

Phase packing_phase(const Correlation& g, const FilterBlocks& blocks) {
    return phase_of("pack filters", packing_tasks(g, blocks), [&](std::int64_t task) {
        const std::int64_t cb = task % blocks.c_blocks, kb = task / blocks.c_blocks % blocks.k_blocks;
        return TaskCost{
            0, static_cast<double>(g.window() * blocks.channels_of(cb, g.c) * blocks.vectors_of(kb) * blocks.width)};
    });
}

template <class T>
void pack_filter_block(const Correlation& g, const FilterBlocks& blocks, const T* filters, std::int64_t group,
                       std::int64_t cb, std::int64_t kb, T* to) {
    const std::int64_t c0 = blocks.channel(cb, g.c), channels = blocks.channels_of(cb, g.c);
    const std::int64_t k0 = blocks.first_vector(kb) * blocks.width, lanes = blocks.vectors_of(kb) * blocks.width;
    const std::int64_t valid = std::min(g.k, k0 + lanes) - k0;
    const T* from = filters + g.filters_start + group * g.f_group + c0 * g.f_c + k0 * g.f_k;
    for (std::int64_t i = 0; i < g.windows.r; ++i) {
        for (std::int64_t j = 0; j < g.windows.s; ++j) {
            const T* tap = from + i * g.f_i + j * g.f_j;
            if (g.f_c == 1) { // the filters of an input gradient
                if (valid < lanes) std::fill_n(to, channels * lanes, T{});
                kernels<T>().transpose(tap, g.f_k, to, lanes, valid, channels);
                to += channels * lanes;
                continue;
            }
            for (std::int64_t c = 0; c < channels; ++c) {
                std::copy_n(tap + c * g.f_c, valid, to); // in a forward pass, where f_k is 1
                std::fill(to + valid, to + lanes, T{});
                to += lanes;
            }
        }
    }
}

template <class T>
void pack_filters(const Correlation& g, const FilterBlocks& blocks, const T* filters, T* to) {
    const std::int64_t group_size = packed_filter_size(g, blocks);
    parallel_for(packing_tasks(g, blocks), [&](std::int64_t task) {
        const std::int64_t cb = task % blocks.c_blocks, kb = task / blocks.c_blocks % blocks.k_blocks;
        const std::int64_t group = task / blocks.c_blocks / blocks.k_blocks;
        pack_filter_block(g, blocks, filters, group, cb, kb, to + group * group_size + blocks.panel_start(g, cb, kb));
    });
}

template <class T>
double direct_cost(const Correlation& g) {
    return static_cast<double>(g.window() * g.c * ceil_div(g.k, kernels<T>().width));
}

#define FASTCONV_FILTER_BLOCKS(T)                                                                                      \
    template FilterBlocks choose_filter_blocks<T>(const Correlation&);                                                 \
    template void pack_filter_block(const Correlation&, const FilterBlocks&, const T*, std::int64_t, std::int64_t,     \
                                    std::int64_t, T*);                                                                 \
    template void pack_filters(const Correlation&, const FilterBlocks&, const T*, T*);                                 \
    template double direct_cost<T>(const Correlation&);
FASTCONV_FILTER_BLOCKS(float)
FASTCONV_FILTER_BLOCKS(double)

} // namespace fastconv
