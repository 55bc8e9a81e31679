// The filter gradient for few filters (a small K). Vectors run along the flattened (pixel, filter) axis of dy.
#include "algorithms/direct.h"

#include "algorithms/gradient_parts.h"
#include "algorithms/small_k_planar.h"
#include "core/isa.h"
#include "core/partial_sums.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

namespace fastconv {
namespace {

constexpr std::int64_t kParts = 32; // fixed, because it decides the order of the sum

struct SpreadGradientDecisions : Decisions {
    ConvProblem o;
    Windows a;
    RowTiles rows;                // of the planar copies
    std::int64_t parts;           // parts of all copies, each with its own sums
    std::int64_t patterns, lanes; // lanes: values of the sums of a part

    Tasks tasks() const { return {parts, 2.0 * summary.multiplications}; }
    /// The copies [first_copy(part), first_copy(part + 1)) of a part.
    std::int64_t first_copy(std::int64_t part) const { return part_start(part, parts, rows.count()); }
    std::vector<Phase> phases() const override {
        const auto cost = [&](std::int64_t part) {
            TaskCost total{0, static_cast<double>(lanes)};
            for (std::int64_t at = first_copy(part); at < first_copy(part + 1); ++at) {
                total.multiplications += static_cast<double>(rows.tile(at).count * o.q * o.r * o.s * o.c * o.k);
                total.moved_values += static_cast<double>(o.c * Planar(a, rows.tile(at).count).plane);
            }
            return total;
        };
        return {phase_of("products", tasks(), cost), partials_phase(parts - 1, lanes),
                serial_phase("add lanes", {0, static_cast<double>(lanes)})};
    }
};

/// Adds up the lanes of each filter. This turns sums of the form [pattern][c][column][row][lane] into the filter
/// gradient.
template <class T>
void add_lanes_of_filters(const SpreadGradientDecisions& plan, const T* sum, T* dw) {
    const ConvProblem& o = plan.o;
    const std::int64_t width = kernels<T>().width;
    std::fill_n(dw, o.r * o.s * o.c * o.k, T{});
    for (std::int64_t pattern = 0; pattern < plan.patterns; ++pattern) {
        for (std::int64_t c = 0; c < o.c; ++c) {
            for (std::int64_t j = 0; j < o.s; ++j) {
                for (std::int64_t i = 0; i < o.r; ++i) {
                    T* const filters = dw + ((i * o.s + j) * o.c + c) * o.k;
                    std::int64_t k = pattern * width % o.k;
                    for (std::int64_t lane = 0; lane < width; ++lane) {
                        filters[k] += *sum++;
                        if (++k == o.k) k = 0;
                    }
                }
            }
        }
    }
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const SpreadGradientDecisions&>(decisions);
    const ConvProblem& o = plan.o;
    const Windows& a = plan.a;
    const Scratch<T> partial(plan.parts * plan.lanes);
    parallel_for(plan.tasks(), [&](std::int64_t part) {
        const Scratch<T> copy(Planar(a, plan.rows.rows).size<T>(o.c));
        T* const sums = partial.get() + part * plan.lanes;
        std::fill_n(sums, plan.lanes, T{});
        const std::int64_t end = plan.first_copy(part + 1);
        for (std::int64_t at = plan.first_copy(part); at < end; ++at) {
            const auto [n, y0, count] = plan.rows.tile(at);
            const Planar planar(a, count);
            fill_planar(a, y0, count, operands.input + n * o.h * o.w * o.c, o.c, o.c, copy.get());
            SmallKSpreadFilterRows<T> rows{};
            rows.x = copy.get();
            rows.x_plane = planar.plane;
            rows.x_row = planar.line;
            rows.channels = o.c;
            rows.window_rows = o.r;
            rows.columns = o.s;
            rows.dy = operands.out_backprop + (n * o.p + y0) * o.q * o.k;
            rows.dy_row = o.q * o.k;
            rows.sums = sums;
            rows.rows = count;
            rows.pixels = o.q;
            rows.filter_count = o.k;
            kernels<T>().small_k_spread_filter_rows(rows);
        }
    });
    add_partials(plan.parts - 1, plan.lanes, partial.get() + plan.lanes, partial.get());
    add_lanes_of_filters(plan, partial.get(), operands.output);
}

template <class T>
bool serves(const Request& request) {
    const ConvProblem& o = request.layer;
    return !request.is_correlation() && !request.single && o.groups == 1 && spread_serves<T>(windows_of(o), o.c, o.k);
}

template <class T>
double cost(const Request& request) {
    return spread_cost<T>(windows_of(request.layer), request.layer.c, request.layer.k);
}

template <class T>
void plan(const Request& request, ConvPlan<T>& plan) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const ConvProblem& o = request.layer;
    auto decisions = std::make_unique<SpreadGradientDecisions>();
    SpreadGradientDecisions& cut = *decisions;
    const std::int64_t taps = o.r * o.s * o.c;
    cut.o = o;
    cut.a = windows_of(o);
    cut.rows = {o.n, o.p, choose_spread_rows<T>(cut.a, o.c, o.k, o.n, kParts)};
    cut.parts = std::min({kParts, cut.rows.count(), gradient_parts_that_pay(o.n * o.p * o.q, taps * o.k)});
    cut.patterns = lane_patterns<T>(o.k);
    cut.lanes = cut.patterns * taps * kernels<T>().width;
    PlanSummary& summary = decisions->summary;
    summary.kernel = "small_k_spread_filter_rows";
    summary.tile_pixels = o.r;
    summary.tile_filters = o.k;
    summary.tasks = cut.parts;
    summary.shared_bytes = cut.parts * cut.lanes * size;
    summary.thread_bytes = Planar(cut.a, cut.rows.rows).size<T>(o.c) * size;
    summary.multiplications = static_cast<double>(o.n * o.p * o.q) * static_cast<double>(taps * o.k);
    plan.add(small_k_spread_filter_gradient<T>(), std::move(decisions));
}

} // namespace

template <class T>
const Algorithm<T>& small_k_spread_filter_gradient() {
    static constexpr Algorithm<T> algorithm{
        "small_k_spread_filter_gradient", "direct", nullptr, serves<T>, cost<T>, plan<T>, run<T>};
    return algorithm;
}

template const Algorithm<float>& small_k_spread_filter_gradient();
template const Algorithm<double>& small_k_spread_filter_gradient();

} // namespace fastconv
