// The input gradient of a depthwise convolution with a stride of 2 columns. Each row of dx is computed once, with all
// its columns, so that memory is written in order. Each sum adds the taps in the order in which its stride residue adds
// them in depthwise.cpp.
#include "algorithms/depthwise.h"

#include "algorithms/depthwise_runs.h"
#include "algorithms/epilogue.h"
#include "algorithms/stride_residue.h"
#include "core/isa.h"
#include "core/threads/parallel_for.h"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace fastconv {
namespace {

// The most bytes of the rows of dy that a row of dx reads, for a block of channels. They stay in L2.
constexpr std::int64_t kWindowBytes = 384 << 10;

struct StridedGradientDecisions : Decisions {
    ConvProblem o;
    Correlation dx; // the layout of dx, for the epilogue
    RowTasks cut;
    std::vector<StrideResidue> down; // the rows of dx: row h is position h/stride of residue h % stride
    std::int64_t row_products;       // the multiplications of a row of dx with a row of dy, for a channel
    std::int64_t channels;           // channels of a block; see kWindowBytes

    Tasks tasks() const { return {cut.count(), 2.0 * summary.multiplications}; }
    std::int64_t window_rows(std::int64_t h) const { return down[static_cast<std::size_t>(h % o.stride_h)].taps; }
    std::vector<Phase> phases() const override {
        return {phase_of("rows", tasks(), [&](std::int64_t task) {
            const ImageRows rows = cut.rows_of(task);
            std::int64_t products = 0;
            for (std::int64_t h = rows.first; h < rows.first + rows.count; ++h)
                products += window_rows(h) * row_products * cut.channels_of(task);
            return TaskCost{static_cast<double>(products), 0};
        })};
    }
};

/// Computes channels [c0, c0 + channels) of row h.
template <class T>
void compute_row(const StridedGradientDecisions& plan, const Operands<T>& operands, std::int64_t n, std::int64_t h,
                 std::int64_t c0, std::int64_t channels, std::vector<std::ptrdiff_t>& offsets) {
    const ConvProblem& o = plan.o;
    const StrideResidue& down = plan.down[static_cast<std::size_t>(h % o.stride_h)];
    const std::int64_t top = down.base + h / o.stride_h;
    std::int64_t i0 = 0, i1 = 0;
    valid_taps(top, down.dilation, down.taps, o.p, i0, i1);
    std::ptrdiff_t *offset = offsets.data(), *filter = offset + o.r * o.s;
    for (std::int64_t i = i0; i < i1; ++i) {
        for (std::int64_t j = 0; j < o.s; ++j) {
            *offset++ = (top + i * down.dilation) * o.q * o.c;
            *filter++ = ((down.last_tap - i * down.tap_step) * o.s + j) * o.c;
        }
    }
    DepthwiseRow<T> row{};
    row.x = operands.input + n * o.p * o.q * o.c + c0;
    row.offsets = offsets.data();
    row.filter_offsets = offsets.data() + o.r * o.s;
    row.taps = (i1 - i0) * o.s;
    row.filters = operands.filters + c0;
    row.bias = operands.bias ? operands.bias + c0 : nullptr;
    row.bounds = operands.kernel_bounds();
    row.y = operands.output + (n * o.h + h) * o.w * o.c + c0;
    row.y_step = o.c;
    row.rows = 1;
    row.pixels = o.w;
    row.channels = channels;
    row.sliding = o.s;
    row.stride = -o.stride_w;
    row.first_column = -o.pad_left;
    row.width = o.q;
    row.x_column = o.c;
    kernels<T>().depthwise_row(row);
    finish_tile(plan.dx, operands, n, 0, {h, 1, 0, o.w}, c0, channels);
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const StridedGradientDecisions&>(decisions);
    parallel_for(plan.tasks(), [&](std::int64_t task) {
        const ImageRows rows = plan.cut.rows_of(task);
        const std::int64_t last = plan.cut.part(task)[1];
        std::vector<std::ptrdiff_t> offsets(static_cast<std::size_t>(2 * plan.o.r * plan.o.s));
        for (std::int64_t c0 = *plan.cut.part(task); c0 < last; c0 += plan.channels) {
            for (std::int64_t h = rows.first; h < rows.first + rows.count; ++h)
                compute_row(plan, operands, rows.image, h, c0, std::min(plan.channels, last - c0), offsets);
        }
    });
}

template <class T>
void plan(const Request& request, ConvPlan<T>& plan) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    auto decisions = std::make_unique<StridedGradientDecisions>();
    const ConvProblem& o = decisions->o = request.layer;
    Correlation& dx = decisions->dx;
    dx.out_pixel = o.c;
    dx.out_row = o.w * o.c;
    dx.out_image = o.h * dx.out_row;
    dx.finish = true;
    std::int64_t most_rows = 0;
    for (std::int64_t first = 0; first < std::min(o.stride_h, o.h); ++first) {
        decisions->down.push_back(stride_residue(first, o.h, o.stride_h, o.dilation_h, o.r, o.pad_top));
        most_rows = std::max(most_rows, decisions->down.back().taps);
    }
    decisions->row_products = 0;
    for (std::int64_t first = 0; first < std::min(o.stride_w, o.w); ++first) {
        const StrideResidue along = stride_residue(first, o.w, o.stride_w, o.dilation_w, o.s, o.pad_left);
        decisions->row_products += along.count * along.taps;
    }
    PlanSummary& summary = decisions->summary;
    for (const Correlation& residue : input_gradient_correlations(o))
        summary.multiplications += residue.multiplications();
    choose_row_tasks(*decisions, request.threads, {o.n, o.h, o.c, kernels<T>().width});
    decisions->channels =
        std::max<std::int64_t>(64, kWindowBytes / (size * std::max<std::int64_t>(1, most_rows) * o.q) / 64 * 64);
    summary.kernel = "depthwise_row";
    summary.tile_pixels = 1;
    summary.tile_filters = kernels<T>().width;
    summary.tasks = decisions->tasks().count;
    plan.add(depthwise_strided_gradient<T>(), std::move(decisions));
}

bool serves(const Request& request) {
    const ConvProblem& o = request.layer;
    return request.direction == Direction::input_gradient && is_depthwise(o) && o.n > 0 && o.h > 0 && o.w > 0 &&
           o.p > 0 && o.q > 0 && o.stride_w == 2 && o.dilation_w == 1 && (o.s == 3 || o.s == 5 || o.s == 7);
}

} // namespace

template <class T>
const Algorithm<T>& depthwise_strided_gradient() {
    static constexpr Algorithm<T> algorithm{
        "depthwise_strided_gradient", "depthwise", kDepthwiseLimits, serves, depthwise_cost, plan<T>, run<T>};
    return algorithm;
}

template const Algorithm<float>& depthwise_strided_gradient();
template const Algorithm<double>& depthwise_strided_gradient();

} // namespace fastconv
