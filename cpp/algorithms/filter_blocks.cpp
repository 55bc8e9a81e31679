#include "algorithms/filter_blocks.h"

#include "core/isa.h"
#include "core/threads/parallel_for.h"

namespace fastconv {
namespace {

// One block of filters x channels. It stays in L2 together with the pixels.
constexpr std::int64_t kFilterBlockBytes = 256 << 10;
constexpr std::int64_t kStripValues = 4096; // values of a task that packs

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

namespace {

/// The strips of channels of a block. Each is a task.
std::int64_t packing_strips(const Correlation& g, const FilterBlocks& blocks) {
    const std::int64_t channels = blocks.widest_channels(g.c);
    const std::int64_t values = g.window() * channels * ceil_div(blocks.vectors, blocks.k_blocks) * blocks.width;
    return std::clamp<std::int64_t>(values / kStripValues, 1, channels);
}

/// A strip of a block.
struct PackingTask {
    std::int64_t group, kb, cb, first, last; // channels [first, last) of the block

    PackingTask(const Correlation& g, const FilterBlocks& blocks, std::int64_t at) {
        const std::int64_t strips = packing_strips(g, blocks), strip = at % strips, block = at / strips;
        cb = block % blocks.c_blocks;
        kb = block / blocks.c_blocks % blocks.k_blocks;
        group = block / blocks.c_blocks / blocks.k_blocks;
        first = part_start(strip, strips, blocks.channels_of(cb, g.c));
        last = part_start(strip + 1, strips, blocks.channels_of(cb, g.c));
    }
};

} // namespace

Tasks packing_tasks(const Correlation& g, const FilterBlocks& blocks) {
    return moving_tasks(g.groups * blocks.c_blocks * blocks.k_blocks * packing_strips(g, blocks),
                        g.groups * packed_filter_size(g, blocks));
}

Phase packing_phase(const Correlation& g, const FilterBlocks& blocks) {
    return phase_of("pack filters", packing_tasks(g, blocks), [&](std::int64_t task) {
        const PackingTask strip(g, blocks, task);
        const std::int64_t lanes = blocks.vectors_of(strip.kb) * blocks.width;
        return TaskCost{0, static_cast<double>(g.window() * (strip.last - strip.first) * lanes)};
    });
}

template <class T>
void pack_filter_block(const Correlation& g, const FilterBlocks& blocks, const T* filters, std::int64_t group,
                       std::int64_t cb, std::int64_t kb, std::int64_t first, std::int64_t last, T* to) {
    const std::int64_t c0 = blocks.channel(cb, g.c) + first, channels = last - first;
    const std::int64_t k0 = blocks.first_vector(kb) * blocks.width, lanes = blocks.vectors_of(kb) * blocks.width;
    const std::int64_t valid = std::min(g.k, k0 + lanes) - k0;
    const std::int64_t rest = (blocks.channels_of(cb, g.c) - channels) * lanes; // of a tap
    const T* from = filters + g.filters_start + group * g.f_group + c0 * g.f_c + k0 * g.f_k;
    to += first * lanes;
    for (std::int64_t i = 0; i < g.windows.r; ++i) {
        for (std::int64_t j = 0; j < g.windows.s; ++j) {
            const T* tap = from + i * g.f_i + j * g.f_j;
            if (g.f_c == 1) { // the filters of an input gradient
                if (valid < lanes) std::fill_n(to, channels * lanes, T{});
                kernels<T>().transpose(tap, g.f_k, to, lanes, valid, channels);
                to += channels * lanes + rest;
                continue;
            }
            for (std::int64_t c = 0; c < channels; ++c) {
                std::copy_n(tap + c * g.f_c, valid, to); // in a forward pass, where f_k is 1
                std::fill(to + valid, to + lanes, T{});
                to += lanes;
            }
            to += rest;
        }
    }
}

template <class T>
void pack_filters(const Correlation& g, const FilterBlocks& blocks, const T* filters, T* to) {
    const std::int64_t group_size = packed_filter_size(g, blocks);
    parallel_for(packing_tasks(g, blocks), [&](std::int64_t task) {
        const PackingTask strip(g, blocks, task);
        pack_filter_block(g, blocks, filters, strip.group, strip.cb, strip.kb, strip.first, strip.last,
                          to + strip.group * group_size + blocks.panel_start(g, strip.cb, strip.kb));
    });
}

template <class T>
double direct_cost(const Correlation& g) {
    return static_cast<double>(g.window() * g.c * ceil_div(g.k, kernels<T>().width));
}

#define FASTCONV_FILTER_BLOCKS(T)                                                                                      \
    template FilterBlocks choose_filter_blocks<T>(const Correlation&);                                                 \
    template void pack_filter_block(const Correlation&, const FilterBlocks&, const T*, std::int64_t, std::int64_t,     \
                                    std::int64_t, std::int64_t, std::int64_t, T*);                                     \
    template void pack_filters(const Correlation&, const FilterBlocks&, const T*, T*);                                 \
    template double direct_cost<T>(const Correlation&);
FASTCONV_FILTER_BLOCKS(float)
FASTCONV_FILTER_BLOCKS(double)

} // namespace fastconv
