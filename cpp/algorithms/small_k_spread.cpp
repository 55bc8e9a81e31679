// The direct algorithm for few filters (a small K). Vectors run along the flattened (pixel, filter) axis of a row.
#include "algorithms/direct.h"

#include "algorithms/epilogue.h"
#include "algorithms/small_k_planar.h"
#include "core/isa.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <cstddef>

namespace fastconv {
namespace {

struct SpreadDecisions : Decisions {
    Correlation g;
    std::int64_t width, patterns, steps;
    RowTiles rows; // of the tasks
    PackKey key;

    Tasks tasks() const { return {rows.count(), 2.0 * g.multiplications()}; }
    std::vector<Phase> phases() const override {
        return {serial_phase("pack filters", {0, static_cast<double>(patterns * steps * width)}),
                phase_of("rows", tasks(), [&](std::int64_t task) {
                    const std::int64_t count = rows.tile(task).count;
                    return TaskCost{static_cast<double>(count * g.windows.q * steps * g.k),
                                    static_cast<double>(g.c * Planar(g.windows, count).plane)};
                })};
    }
};

/// Packs filters as [pattern][c][column][row][lane]. Each lane gets the tap of its own filter.
template <class T>
void pack(const Correlation& g, std::int64_t patterns, const T* filters, T* to) {
    const Windows& a = g.windows;
    const std::int64_t width = kernels<T>().width;
    for (std::int64_t pattern = 0; pattern < patterns; ++pattern) {
        std::ptrdiff_t lanes[64]; // 64: at least a vector; a division for each value would take longer than the sum
        for (std::int64_t lane = 0; lane < width; ++lane) lanes[lane] = (pattern * width + lane) % g.k * g.f_k;
        for (std::int64_t c = 0; c < g.c; ++c)
            for (std::int64_t j = 0; j < a.s; ++j)
                for (std::int64_t i = 0; i < a.r; ++i) {
                    const T* const from = filters + g.filters_start + i * g.f_i + j * g.f_j + c * g.f_c;
                    for (std::int64_t lane = 0; lane < width; ++lane) *to++ = from[lanes[lane]];
                }
    }
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const SpreadDecisions&>(decisions);
    const Correlation& g = plan.g;
    const Windows& a = g.windows;
    const std::int64_t width = kernels<T>().width, values = plan.patterns * width;
    const Packed<T> filters(operands.cache, plan.key, values * plan.steps,
                            [&](T* to) { pack(g, plan.patterns, operands.filters, to); });
    const T* const from_bias = g.finish && operands.bias ? operands.bias + g.bias_start : nullptr;
    const Scratch<T> bias(from_bias ? values : 0);
    for (std::int64_t i = 0; from_bias && i < values; ++i) bias.get()[i] = from_bias[i % g.k];
    parallel_for(plan.tasks(), [&](std::int64_t task) {
        const auto [n, y0, count] = plan.rows.tile(task);
        const Planar planar(a, count);
        const Scratch<T> copy(planar.size<T>(g.c));
        fill_planar(a, y0, count, operands.input + g.input_start + n * g.image, g.pixel, g.c, copy.get());
        SmallKSpreadRows<T> rows{};
        rows.x = copy.get();
        rows.x_plane = planar.plane;
        rows.x_row = planar.line;
        rows.channels = g.c;
        rows.window_rows = a.r;
        rows.columns = a.s;
        rows.filters = filters.get();
        rows.bias = from_bias ? bias.get() : nullptr;
        rows.y = operands.output + g.output_start + n * g.out_image + y0 * g.out_row;
        rows.y_row = g.out_row;
        rows.rows = count;
        rows.pixels = a.q;
        rows.filter_count = g.k;
        if (g.finish) rows.bounds = operands.kernel_bounds();
        kernels<T>().small_k_spread_rows(rows);
        finish_tile(g, operands, n, 0, {y0, count, 0, a.q}, 0, g.k);
    });
}

template <class T>
bool serves(const Request& request) {
    const Correlation& g = request.part;
    return request.is_correlation() && !request.single && g.groups == 1 && !g.accumulate && g.out_pixel == g.k &&
           spread_serves<T>(g.windows, g.c, g.k);
}

template <class T>
double cost(const Request& request) {
    return spread_cost<T>(request.part.windows, request.part.c, request.part.k);
}

template <class T>
void plan(const Request& request, ConvPlan<T>& plan) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    auto decisions = std::make_unique<SpreadDecisions>();
    const Correlation& g = decisions->g = request.part;
    const Windows& a = g.windows;
    const std::int64_t width = kernels<T>().width;
    decisions->width = width;
    decisions->patterns = lane_patterns<T>(g.k);
    decisions->steps = g.window() * g.c;
    decisions->rows = {g.n, a.p, choose_spread_rows<T>(a, g.c, g.k, g.n, 4 * request.threads)};
    decisions->key = pack_key(g, PackForm::small_k_spread, {width, 0, 0, 0});
    PlanSummary& summary = decisions->summary;
    summary.kernel = "small_k_spread_rows";
    summary.tile_pixels = std::min(decisions->rows.rows, kRegisterRows) * ceil_div(width, g.k);
    summary.tile_filters = g.k;
    summary.tasks = decisions->tasks().count;
    summary.shared_bytes = decisions->patterns * (decisions->steps + 1) * width * size;
    summary.thread_bytes = Planar(a, decisions->rows.rows).size<T>(g.c) * size;
    summary.multiplications = g.multiplications();
    plan.add(small_k_spread<T>(), std::move(decisions));
}

} // namespace

template <class T>
const Algorithm<T>& small_k_spread() {
    static constexpr Algorithm<T> algorithm{"small_k_spread", "direct", nullptr, serves<T>, cost<T>, plan<T>, run<T>};
    return algorithm;
}

template const Algorithm<float>& small_k_spread();
template const Algorithm<double>& small_k_spread();

} // namespace fastconv
