// How the direct filter gradient is cut into tiles, splits and blocks.
//
// The tiles are divided into splits, each with its own partial sums. Filters and channels are cut into blocks. All of
// this decides the order of the sums, so none of it depends on the number of threads.
#pragma once

#include "algorithms/phases.h"
#include "algorithms/tiled_correlation.h"

#include <cstdint>

namespace fastconv {

constexpr std::int64_t kGradientTasks = 32; // enough for 16 threads; fixed, because it decides the order of the sum

/// Whether all images form one long row of pixels.
inline bool is_long_row(const ConvProblem& o) {
    return o.r == 1 && o.s == 1 && o.stride_h == 1 && o.stride_w == 1 && o.p == o.h && o.q == o.w && o.pad_top == 0 &&
           o.pad_left == 0;
}

/// One task: a block of channels and some blocks of filters of one group, summed over one split of the tiles.
struct GradientTask {
    std::int64_t group, split, c0, channels, kb0, kb1, first_tile, last_tile;
};

/// How a gradient, or a block of a gradient, is cut up.
struct GradientCut {
    ConvProblem o;
    Windows a;
    std::int64_t images, c, k; // c, k: channels and filters of one group
    std::int64_t sum_step;     // the distance of two channels in the sums: the number of filters of all groups
    bool channel_lanes;        // vectors run along the channels, not along the filters
    bool copies;               // tiles are copied with their padding
    // The filters of a group are `vectors` vectors of `width` filters, in k_blocks blocks. A filter part is one of
    // k_parts runs of these blocks. Each (group, channel block, filter part) is summed on its own.
    std::int64_t width, vectors, k_blocks, c_blocks, k_parts;
    Tiling tiling;
    std::int64_t tiles, splits; // the tiles are divided into `splits`, each with its own sums

    std::int64_t total() const { return o.r * o.s * c * sum_step; }
    Tasks tasks() const {
        return {splits * o.groups * c_blocks * k_parts,
                2.0 * static_cast<double>(images * a.p * a.q) * static_cast<double>(total())};
    }
    GradientTask task(std::int64_t at) const;
    TaskCost cost(const GradientTask& task) const;
    std::int64_t pixels_before(std::int64_t tile) const; // the pixels of all tiles before this one
    std::int64_t first_filter(std::int64_t kb) const { return part_start(kb, k_blocks, vectors) * width; }
    std::int64_t filters(const GradientTask& task) const {
        return std::min(k, first_filter(task.kb1)) - first_filter(task.kb0);
    }
};

/// The cut for few threads. With more threads, the blocks may be finer, but not the tiles and splits.
template <class T>
GradientCut gradient_cut(const ConvProblem& o);

} // namespace fastconv
