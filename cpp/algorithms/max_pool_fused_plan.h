// The plan for the gradients of a convolution and of the max pooling of its output.
#pragma once

#include "algorithms/windows.h"
#include "fastconv/pooling.h"

#include <cstdint>

namespace fastconv {

inline std::int64_t filter_values(const ConvProblem& o) { return o.r * o.s * (o.c / o.groups) * o.k; }

// Limits of the kernels in kernels/max_pool_fused_backward.cpp.
constexpr std::int64_t kSpreadRows = 4, kSpreadRowValues = 4; // pooled_spreads: rows of a patch, most values of each
constexpr std::int64_t kMostRuns = 3, kMostRunValues = 4;     // pooled_runs: most runs of a window, most values of each
constexpr std::int64_t kFewestRunValues = 3, kMostShortRuns = 6; // window_columns: most runs of fewer than 3 values

/// The kernel that computes a filter gradient from the pooled gradient.
enum class PooledFilterKernel : std::uint8_t { none, products, runs, spreads };

/// Sizes of the input that the kernels read: a patch for a pooling window, a column for a pixel of the convolution's
/// output. All sizes are numbers of values.
struct PooledGeometry {
    bool padded;                               // whether the convolution pads its input
    Tile covered;                              // the pixels of the convolution's output inside a pooling window
    std::int64_t lines;                        // how many input rows these pixels read, with padding
    std::int64_t line;                         // size of such a row
    std::int64_t patch_rows, patch_row, patch; // rows of a patch; size of such a row; size of a patch in whole vectors
    std::int64_t column;                       // size of a column in whole vectors
    std::int64_t shifts_size;                  // size of the table of all filters, shifted by all taps
    std::int64_t columns_size;                 // size of all columns of one image
};

/// Every decision about one call. It follows from the two problems and the ISA alone.
struct MaxPoolFusedPlan {
    /// Whether a task takes a few images through all operations. If not, each operation computes the whole batch.
    bool fused = false;
    std::int64_t parts = 0;  // parts of the batch; each is a task with its own sums of the filter gradient
    std::int64_t images = 0; // images that a task takes at a time
    /// Whether the input gradient is computed from the pooled gradient. If not, it is computed from the gradient of the
    /// convolution's output, in scratch memory. The same holds for the filter gradient if `filter_kernel` is none, and
    /// for both gradients if values are not finite.
    bool pooled_input_gradient = false;
    PooledFilterKernel filter_kernel = PooledFilterKernel::none;
    PooledGeometry geometry{}; // zeros unless the kernels for the pooled gradient serve the layer
};

MaxPoolFusedPlan plan_max_pool_fused(const ConvProblem& problem, const PoolProblem& pool);

} // namespace fastconv
