// The filter gradient of a depthwise NCHW layer on its planes: a tap is the dot product of two planes. Both are read in
// place.
//
// The sums add in another order than those of NHWC. The choice of this algorithm and the order follow from the layer
// and the ISA alone.
#include "algorithms/planes_filter_gradient.h"

#include "algorithms/depthwise_runs.h"
#include "core/isa.h"
#include "core/partial_sums.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"
#include "kernels/plane_filter_rows.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

namespace fastconv {
namespace {

constexpr std::int64_t kMostRows = 64;           // that one sum adds
constexpr std::int64_t kMostPixels = 8192;       // that one sum adds; this bounds its error
constexpr std::int64_t kMostWindow = 4096;       // the most taps, whose sums take a vector each
constexpr std::int64_t kParts = 32;              // tasks for 16 threads; fixed, because it decides the order of the sum
constexpr std::int64_t kPartialBytes = 16 << 20; // all partial sums

struct PlanesDepthwiseDecisions : Decisions {
    ConvProblem o;
    Windows a;
    RowTiles rows;
    ChannelParts parts;  // of the tasks
    std::int64_t splits; // the tiles of a channel are divided into splits, each with its own sums

    std::int64_t window() const { return o.r * o.s; }
    std::int64_t total() const { return window() * o.c; }
    /// The tiles [first_tile(split), first_tile(split + 1)) of a split.
    std::int64_t first_tile(std::int64_t split) const { return part_start(split, splits, rows.count()); }
    Tasks tasks() const { return {splits * parts.count, 2.0 * summary.multiplications}; }
    std::vector<Phase> phases() const override {
        const auto cost = [&](std::int64_t task) {
            const std::int64_t split = task / parts.count, channels = parts.size(task % parts.count);
            TaskCost sum{0, static_cast<double>(window() * channels)};
            for (std::int64_t at = first_tile(split); at < first_tile(split + 1); ++at)
                sum.multiplications += static_cast<double>(rows.tile(at).count * o.q * window() * channels);
            return sum;
        };
        return {phase_of("products", tasks(), cost), partials_phase(splits - 1, total())};
    }
};

/// Adds the products of some output rows of a plane to `lanes`.
template <class T>
void add_rows(const PlanesDepthwiseDecisions& plan, const T* x, const T* dy, const ImageRows& rows,
              std::ptrdiff_t* offsets, T* lanes) {
    const Windows& a = plan.a;
    PlaneFilterRows<T> products{};
    products.x = x;
    products.x_row = a.stride_h * a.w;
    products.offsets = offsets;
    products.taps = a.s;
    products.stride = a.stride_w;
    products.dilation = a.dilation_w;
    products.first_column = a.base_w;
    products.columns = a.w;
    products.dy_row = a.q;
    products.pixels = a.q;
    const std::int64_t end = rows.first + rows.count;
    for (std::int64_t y = rows.first; y < end; y += products.rows) {
        const std::int64_t top = a.base_h + y * a.stride_h;
        std::int64_t i0 = 0, i1 = 0;
        valid_taps(top, a.dilation_h, a.r, a.h, i0, i1);
        products.rows = rows_alike(a, y, end);
        products.window_rows = i1 - i0;
        for (std::int64_t i = i0; i < i1; ++i) offsets[i - i0] = (top + i * a.dilation_h) * a.w;
        products.dy = dy + y * a.q;
        products.sums = lanes + i0 * a.s * kernels<T>().width;
        kernels<T>().plane_filter_rows(products);
    }
}

/// Sums a channel over one split, to `to` for the first tap. `lanes` has a vector for each tap.
template <class T>
void sum_channel(const PlanesDepthwiseDecisions& plan, const Operands<T>& operands, std::int64_t split,
                 std::int64_t channel, std::ptrdiff_t* offsets, T* all_lanes, T* to) {
    const ConvProblem& o = plan.o;
    const std::int64_t width = kernels<T>().width, window = plan.window();
    std::fill_n(all_lanes, window * width, T{});
    for (std::int64_t at = plan.first_tile(split); at < plan.first_tile(split + 1); ++at) {
        const ImageRows rows = plan.rows.tile(at);
        const std::int64_t plane = rows.image * o.c + channel;
        add_rows(plan, operands.input + plane * o.h * o.w, operands.out_backprop + plane * o.p * o.q, rows, offsets,
                 all_lanes);
    }
    for (std::int64_t tap = 0; tap < window; ++tap) {
        const T* const lanes = all_lanes + tap * width;
        T sum = lanes[0];
        for (std::int64_t lane = 1; lane < width; ++lane) sum += lanes[lane];
        to[tap * o.c] = sum;
    }
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const PlanesDepthwiseDecisions&>(decisions);
    const std::int64_t total = plan.total();
    const Scratch<T> partial((plan.splits - 1) * total); // the first split sums into the output
    parallel_for(plan.tasks(), [&](std::int64_t task) {
        const std::int64_t split = task / plan.parts.count, part = task % plan.parts.count;
        const Scratch<T> lanes(plan.window() * kernels<T>().width);
        const Scratch<std::ptrdiff_t> offsets(plan.o.r);
        T* const sums = split == 0 ? operands.output : partial.get() + (split - 1) * total;
        for (std::int64_t c = plan.parts.first(part); c < plan.parts.first(part + 1); ++c)
            sum_channel(plan, operands, split, c, offsets.get(), lanes.get(), sums + c);
    });
    add_partials(plan.splits - 1, total, partial.get(), operands.output);
}

template <class T>
const Algorithm<T>& planes_depthwise_filter_gradient() { // plan_depthwise_gradient_on_planes plans it
    static constexpr Algorithm<T> algorithm{
        "planes_depthwise_filter_gradient", "depthwise", nullptr, nullptr, nullptr, nullptr, run<T>};
    return algorithm;
}

} // namespace

template <class T>
void plan_depthwise_gradient_on_planes(const Request& request, ConvPlan<T>& into) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    auto decisions = std::make_unique<PlanesDepthwiseDecisions>();
    PlanesDepthwiseDecisions& plan = *decisions;
    const ConvProblem& o = plan.o = request.layer;
    const Windows& a = plan.a = windows_of(o);
    const std::int64_t width = kernels<T>().width;
    if (a.r == 0 || a.s == 0 || a.w == 0 || a.stride_w > 2 || plan.window() > kMostWindow || 2 * a.q < width ||
        a.q > kMostPixels)
        return;
    plan.rows = {o.n, o.p, std::min({o.p, kMostRows, kMostPixels / std::max<std::int64_t>(1, a.q)})};
    const std::int64_t fit = std::max<std::int64_t>(1, kPartialBytes / (plan.total() * size));
    plan.splits = std::min({ceil_div(kParts, o.c), plan.rows.count(), fit});
    PlanSummary& summary = plan.summary;
    summary.multiplications = static_cast<double>(o.n * o.p * o.q) * static_cast<double>(plan.total());
    const std::int64_t parts = std::min(o.c, kParts);
    set_shortest(plan, request.threads, finer_parts(parts, request.threads > kFewThreads ? o.c : parts),
                 [&](std::int64_t count) { plan.parts = {count, o.c, 1}; });
    summary.kernel = "plane_filter_rows";
    summary.tile_pixels = width;
    summary.tile_filters = 1;
    summary.tasks = plan.tasks().count;
    summary.thread_bytes = plan.window() * width * size + o.r * std::int64_t{sizeof(std::ptrdiff_t)};
    summary.shared_bytes = (plan.splits - 1) * plan.total() * size;
    into.add(planes_depthwise_filter_gradient<T>(), std::move(decisions));
}

template void plan_depthwise_gradient_on_planes(const Request&, ConvPlan<float>&);
template void plan_depthwise_gradient_on_planes(const Request&, ConvPlan<double>&);

} // namespace fastconv
