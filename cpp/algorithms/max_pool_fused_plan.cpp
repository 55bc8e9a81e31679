// Plans the gradients of a convolution and of the max pooling of its output. Whether a kernel pays follows from the
// sizes of one image, not from the batch.
#include "algorithms/max_pool_fused_plan.h"

#include "core/for_type.h"
#include "core/isa.h"
#include "core/numbers.h"

#include <algorithm>

namespace fastconv {
namespace {

constexpr std::int64_t kParts = 32;              // most parts of the batch; fixed, as it decides the order of the sum
constexpr std::int64_t kFewestImages = 4;        // the fewest images of a part; setting up a part takes about 2 us
constexpr std::int64_t kOutputBytes = 64 << 10;  // output gradients of the images that a task takes at a time
constexpr std::int64_t kInputBytes = 1 << 20;    // inputs of these images; they may have to be transposed from NCHW
constexpr std::int64_t kShiftBytes = 48 << 10;   // the shifted filters, which each image reads again, mostly from L1
constexpr std::int64_t kColumnBytes = 128 << 10; // columns or patches of an image, which stay in L2
constexpr std::int64_t kLongestRow = 1024; // most windows of a row; bounds the error, as they are added one by one
constexpr std::int64_t kMostFilterValues =
    4 << 10; // the most filter values, because each part keeps a sum for each of them

/// Properties of the kernels of one data type and ISA.
struct Vectors {
    std::int64_t width;
    bool spreads; // whether the kernel pooled_spreads exists

    std::int64_t round_up(std::int64_t count) const { return ceil_div(count, width) * width; }
};

Vectors vectors_of(DataType type) {
    return for_type(type, [](auto t) {
        const auto& kernel = kernels<typename decltype(t)::type>();
        return Vectors{kernel.width, kernel.pooled_spreads != nullptr};
    });
}

/// The number of images, of `values` values each, that fit into `bytes` bytes. At least 1.
std::int64_t images_that_fit(std::int64_t bytes, std::int64_t values, DataType type) {
    return std::max<std::int64_t>(1, bytes / std::max<std::int64_t>(1, values * size_of(type)));
}

bool kernels_serve(const ConvProblem& o, const PoolProblem& pool) {
    if (o.format != DataFormat::nhwc || o.groups != 1 || o.algorithm != kAutoAlgorithm) return false;
    if (o.stride_h != 1 || o.stride_w != 1 || o.dilation_h != 1 || o.dilation_w != 1) return false;
    if (pool.pad_top != 0 || pool.pad_bottom != 0 || pool.pad_left != 0 || pool.pad_right != 0) return false;
    return o.n * pool.p * pool.q * filter_values(o) != 0;
}

PooledGeometry geometry_of(const ConvProblem& o, const PoolProblem& pool, const Vectors& vectors) {
    PooledGeometry g{};
    g.padded = o.pad_top != 0 || o.pad_left != 0 || o.pad_bottom != 0 || o.pad_right != 0;
    g.covered = {0, (pool.p - 1) * pool.stride_h + pool.r, 0, (pool.q - 1) * pool.stride_w + pool.s};
    g.lines = g.covered.rows + o.r - 1;
    g.line = (g.covered.columns + o.s - 1) * o.c;
    g.patch_rows = pool.r + o.r - 1;
    g.patch_row = (pool.s + o.s - 1) * o.c;
    g.patch = vectors.round_up(g.patch_rows * g.patch_row);
    g.column = vectors.round_up(o.r * o.s * o.c);
    g.shifts_size = pool.r * pool.s * o.k * g.patch;
    g.columns_size = g.covered.rows * g.covered.columns * g.column;
    return g;
}

// Costs of one image. The unit is the load of a vector, which takes as long as an FMA. A store takes as long as two
// loads. A step handles one value of the pooled gradient. Besides its products, it loads a tap, an address and the
// value.
constexpr std::int64_t kStepLoads = 3;

/// The cost of a pixel if the gradient is computed from the gradient of the convolution's output. The kernels that do
/// this reach 70 % of the FMA peak.
double dense_pixel_cost(const ConvProblem& o, const Vectors& vectors) {
    return static_cast<double>(filter_values(o)) / (0.7 * static_cast<double>(vectors.width));
}

bool input_gradient_pays(const ConvProblem& o, const PoolProblem& pool, const PooledGeometry& g,
                         const Vectors& vectors) {
    const std::int64_t windows = pool.p * pool.q, size = size_of(o.dtype);
    if (g.shifts_size * size > kShiftBytes || windows * g.patch * size > kColumnBytes) return false;
    const std::int64_t adding = windows * g.patch_rows * vectors.round_up(g.patch_row) / vectors.width * 4;
    const std::int64_t cost = windows * o.k * (g.patch / vectors.width + kStepLoads) + adding;
    return static_cast<double>(cost) < static_cast<double>(o.h * o.w) * dense_pixel_cost(o, vectors);
}

PooledFilterKernel choose_filter_kernel(const ConvProblem& o, const PoolProblem& pool, const PooledGeometry& g,
                                        const Vectors& vectors) {
    const std::int64_t run = o.s * o.c, steps = pool.p * pool.q * o.k;
    const double dense = static_cast<double>(o.p * o.q) * dense_pixel_cost(o, vectors);
    if (pool.q > kLongestRow) return PooledFilterKernel::none;
    if (vectors.spreads && g.patch_rows == kSpreadRows && g.patch_row <= kSpreadRowValues)
        return PooledFilterKernel::spreads; // always pays
    if (o.r <= kMostRuns && run <= kMostRunValues) {
        const double scattering = static_cast<double>(o.p * o.q * o.k) / static_cast<double>(vectors.width) * 4;
        const std::int64_t cost = steps * (o.r * ceil_div(kMostRunValues, vectors.width) + kStepLoads);
        if (static_cast<double>(cost) < dense + scattering) return PooledFilterKernel::runs;
    }
    if (g.columns_size * size_of(o.dtype) <= kColumnBytes && (run >= kFewestRunValues || o.r <= kMostShortRuns)) {
        const std::int64_t copying =
            g.covered.rows * g.covered.columns * o.r * vectors.round_up(run) / vectors.width * 3;
        const std::int64_t cost = steps * (g.column / vectors.width + kStepLoads) + copying;
        if (static_cast<double>(cost) < dense) return PooledFilterKernel::products;
    }
    return PooledFilterKernel::none;
}

} // namespace

bool conv2d_max_pool2d_backprop_serves(const ConvProblem& o) {
    const std::int64_t size = size_of(o.dtype);
    return o.p * o.q * o.k <= kOutputBytes / size && o.h * o.w * o.c <= kInputBytes / size &&
           filter_values(o) <= kMostFilterValues;
}

MaxPoolFusedPlan plan_max_pool_fused(const ConvProblem& o, const PoolProblem& pool) {
    MaxPoolFusedPlan plan;
    plan.fused = conv2d_max_pool2d_backprop_serves(o);
    if (!plan.fused) return plan;
    plan.parts = std::min(kParts, ceil_div(o.n, kFewestImages));
    plan.images = std::min(images_that_fit(kOutputBytes, o.p * o.q * o.k, o.dtype),
                           images_that_fit(kInputBytes, o.h * o.w * o.c, o.dtype));
    if (!kernels_serve(o, pool)) return plan;
    const Vectors vectors = vectors_of(o.dtype);
    plan.geometry = geometry_of(o, pool, vectors);
    plan.pooled_input_gradient = input_gradient_pays(o, pool, plan.geometry, vectors);
    plan.filter_kernel = choose_filter_kernel(o, pool, plan.geometry, vectors);
    return plan;
}

} // namespace fastconv
