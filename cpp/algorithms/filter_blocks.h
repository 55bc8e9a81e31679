// How the direct algorithm blocks and packs filters: blocks of channels x filters, each stored as [i][j][c][lane].
#pragma once

#include "algorithms/correlation.h"
#include "algorithms/phases.h"

#include <algorithm>
#include <cstdint>

namespace fastconv {

constexpr std::int64_t kSumLength = 1024;       // the longest chain of additions, which bounds the rounding error
constexpr std::int64_t kPackedBytes = 32 << 20; // the most bytes of packed filters in one pass

/// Blocks of input channels follow from the layer and the ISA only, because they decide the order of a sum.
struct FilterBlocks {
    std::int64_t vectors, k_blocks, c_blocks, width;

    /// Filter block b covers vectors [first_vector(b), first_vector(b + 1)).
    std::int64_t first_vector(std::int64_t b) const { return part_start(b, k_blocks, vectors); }
    std::int64_t vectors_of(std::int64_t b) const { return first_vector(b + 1) - first_vector(b); }
    /// The filters of a block, of `k`. The last block may be partial.
    std::int64_t filters_of(std::int64_t b, std::int64_t k) const {
        return std::min(k, first_vector(b + 1) * width) - first_vector(b) * width;
    }
    std::int64_t channel(std::int64_t b, std::int64_t c) const { return part_start(b, c_blocks, c); }
    std::int64_t channels_of(std::int64_t b, std::int64_t c) const { return channel(b + 1, c) - channel(b, c); }
    std::int64_t widest_channels(std::int64_t c) const { return ceil_div(c, c_blocks); }
    /// Where the panel of a block of channels and a block of filters starts in the packed filters of a group.
    std::int64_t panel_start(const Correlation& g, std::int64_t cb, std::int64_t kb) const {
        return g.window() * width * (first_vector(kb) * g.c + vectors_of(kb) * channel(cb, g.c));
    }
};

/// Whether windows are single runs of `length` values that are too short for the hardware prefetcher.
template <class T>
bool has_short_runs(const Correlation& g, std::int64_t length) {
    return g.window() == 1 && length * static_cast<std::int64_t>(sizeof(T)) <= 2048;
}

template <class T>
FilterBlocks choose_filter_blocks(const Correlation& g);

/// The number of values of the packed filters of one group.
std::int64_t packed_filter_size(const Correlation& g, const FilterBlocks& blocks);

/// The phase in which all blocks are packed.
Tasks packing_tasks(const Correlation& g, const FilterBlocks& blocks);
Phase packing_phase(const Correlation& g, const FilterBlocks& blocks);

/// Packs channels [first, last) of one block of channels and filters, zero-padded to whole vectors. `to` is the block.
template <class T>
void pack_filter_block(const Correlation& g, const FilterBlocks& blocks, const T* filters, std::int64_t group,
                       std::int64_t cb, std::int64_t kb, std::int64_t first, std::int64_t last, T* to);

/// Packs all blocks as [group][filter block][channel block].
template <class T>
void pack_filters(const Correlation& g, const FilterBlocks& blocks, const T* filters, T* to);

/// The cost in vectors multiplied per output pixel.
template <class T>
double direct_cost(const Correlation& g);

} // namespace fastconv
