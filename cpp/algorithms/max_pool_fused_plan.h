// What the gradients of a convolution and of the max pooling of its output decide before they compute anything.
#pragma once

#include "algorithms/windows.h"
#include "fastconv/pooling.h"

#include <cstdint>

namespace fastconv {

inline std::int64_t filter_values(const ConvProblem& o) { return o.r * o.s * (o.c / o.groups) * o.k; }

// What the kernels of kernels/max_pool_fused_backward.cpp can read.
constexpr std::int64_t kSpreadRows = 4, kSpreadRowValues = 4;    // pooled_spreads: of a patch
constexpr std::int64_t kMostRuns = 3, kMostRunValues = 4;        // pooled_runs: of a window
constexpr std::int64_t kFewestRunValues = 3, kMostShortRuns = 6; // window_columns: runs with fewer values, at most 6

/// The kernel that computes a filter gradient from the pooled gradient.
enum class PooledFilterKernel : std::uint8_t { none, products, runs, spreads };

/// The input values that kernels read for a pooling window (a patch) and for a pixel of the convolution's output (a
/// column). All sizes are numbers of values.
struct PooledGeometry {
    bool padded;                               // the convolution's input
    Tile covered;                              // the pixels of the convolution's output that have a pooling window
    std::int64_t lines, line;                  // input rows that these read, with padding, and the size of such a row
    std::int64_t patch_rows, patch_row, patch; // rows, size of a row, and size of all in whole vectors
    std::int64_t column;                       // size in whole vectors
    std::int64_t shifts_size;                  // of the table for the input gradient: all filters, shifted to all taps
    std::int64_t columns_size;                 // of the columns of one image
};

/// Every decision about one call. It follows from the two problems and the ISA alone.
struct MaxPoolFusedPlan {
    /// A few images at a time; if not, each operation computes the whole batch.
    bool fused = false;
    std::int64_t parts = 0;  // of the batch: each is a task, and has its own sums of the filter gradient
    std::int64_t images = 0; // that a task takes at a time
    /// Each gradient has two ways: from the pooled gradient, or from the convolution's output gradient in scratch
    /// memory. Values that are not finite force the second.
    bool pooled_input_gradient = false;
    PooledFilterKernel filter_kernel = PooledFilterKernel::none;
    PooledGeometry geometry{}; // zeros unless the pooled gradient serves
};

MaxPoolFusedPlan plan_max_pool_fused(const ConvProblem& problem, const PoolProblem& pool);

} // namespace fastconv
