// The direct algorithm for few filters (a small K). Vectors run along the values of a window and are then reduced.
#include "algorithms/direct.h"

#include "algorithms/epilogue.h"
#include "algorithms/filter_blocks.h"
#include "algorithms/tiled_correlation.h"
#include "core/isa.h"

namespace fastconv {
namespace {

/// The runs of a window, each rounded up to whole vectors.
struct Runs {
    bool whole_rows; // whether a run is a row of the window; if not, a run is one tap
    std::int64_t per_row, length, steps;

    std::int64_t of_window(const Windows& a) const { return a.r * per_row * length; }
};

struct ReduceDecisions : Decisions {
    Correlation g;
    Runs runs;
    TilePlan tiles;
    PackKey key;

    Tasks packing() const { return moving_tasks(g.groups * g.k, g.groups * g.k * g.window() * g.c); }
    std::vector<Phase> phases() const override {
        const TaskCost packed{0, static_cast<double>(runs.of_window(g.windows))};
        return {
            phase_of("pack filters", packing(), [&](std::int64_t) { return packed; }),
            phase_of("tiles", tiles.tasks(g), [&](std::int64_t at) { return tiles.cost(g, tiles.task(g, at), g.k); })};
    }
};

template <class T>
Runs choose_runs(const Correlation& g) {
    const Windows& a = g.windows;
    const std::int64_t width = kernels<T>().width;
    const bool in_place = a.dilation_w == 1 && g.pixel == g.c;
    Runs runs{};
    runs.whole_rows = in_place && (!a.crosses_columns() || a.overlapping());
    runs.per_row = runs.whole_rows ? 1 : a.s;
    const std::int64_t count = a.r * runs.per_row;
    runs.length = ceil_div(g.window() * g.c / std::max<std::int64_t>(1, count), width) * width;
    runs.steps = count * runs.length / width;
    return runs;
}

/// Packs filters as [group][filter][run], each run zero-padded to whole vectors.
template <class T>
void pack(const ReduceDecisions& plan, const T* filters, T* packed) {
    const Correlation& g = plan.g;
    const Runs& runs = plan.runs;
    const Windows& a = g.windows;
    parallel_for(plan.packing(), [&](std::int64_t task) {
        const std::int64_t taps = a.s / runs.per_row;
        T* to = packed + task * runs.of_window(a);
        const T* from = filters + g.filters_start + task / g.k * g.f_group + task % g.k * g.f_k;
        for (std::int64_t run = 0; run < a.r * runs.per_row; ++run) {
            std::fill_n(to + taps * g.c, runs.length - taps * g.c, T{});
            for (std::int64_t j = 0; j < taps; ++j) {
                const T* tap = from + run / runs.per_row * g.f_i + (run % runs.per_row + j) * g.f_j;
                for (std::int64_t c = 0; c < g.c; ++c) to[j * g.c + c] = tap[c * g.f_c];
            }
            to += runs.length;
        }
    });
}

template <class T>
void compute_tile(const ReduceDecisions& plan, const Operands<T>& operands, const T* packed, const TileTask& task,
                  T* copy, std::ptrdiff_t* segments) {
    const Correlation& g = plan.g;
    const Windows& a = g.windows;
    const Runs& runs = plan.runs;
    const Tile& tile = task.tile;
    const T* const input = operands.input + g.input_start + task.image * g.image + task.group * g.group_in;
    T* const output = operands.output + g.output_start + task.image * g.out_image + task.group * g.out_group;
    if (copy != nullptr) fill_padded_tile(a, tile, input, g.pixel, g.c, copy);
    const TileSource<T> source(a, g.pixel, input, tile, g.c, copy);
    const bool whole_rows = runs.whole_rows && source.layout.window_column == g.c;
    const std::int64_t per_row = window_segments(a, source.layout, whole_rows, segments);
    SmallKReduceRow<T> row{};
    row.x_step = source.layout.step;
    row.segment_length = whole_rows ? a.s * g.c : g.c;
    row.filter_step = a.r * per_row * runs.length;
    row.filter_count = g.k;
    row.bias = g.finish && operands.bias ? operands.bias + g.bias_start + task.group * g.k : nullptr;
    row.y_step = g.out_pixel;
    row.pixels = tile.columns;
    row.accumulate = g.accumulate;
    if (g.finish) row.bounds = operands.kernel_bounds();
    const bool rows_cross = a.crosses_rows(); // if not, skip valid_taps, whose division is slow for short rows
    for (std::int64_t y = 0; y < tile.rows; ++y) {
        // Window rows that meet only padding at the top or bottom are skipped.
        std::int64_t first = 0, last = a.r;
        if (rows_cross) valid_taps(a.base_h + (tile.y0 + y) * a.stride_h, a.dilation_h, a.r, a.h, first, last);
        row.x = source.x + y * source.layout.row;
        row.segments = segments + first * per_row;
        row.segment_count = (last - first) * per_row;
        row.filters = packed + task.group * g.k * row.filter_step + first * per_row * runs.length;
        row.y = output + (tile.y0 + y) * g.out_row + tile.x0 * g.out_pixel;
        kernels<T>().small_k_reduce_row(row);
    }
    finish_tile(g, operands, task.image, task.group, tile, 0, g.k);
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const ReduceDecisions&>(decisions);
    const Correlation& g = plan.g;
    const Packed<T> packed(operands.cache, plan.key, g.k * plan.runs.of_window(g.windows) * g.groups,
                           [&](T* to) { pack(plan, operands.filters, to); });
    for_each_tile<T>(g, plan.tiles, operands.only, [&](const TileTask& task, T* copy, std::ptrdiff_t* segments) {
        compute_tile(plan, operands, packed.get(), task, copy, segments);
    });
}

template <class T>
bool serves(const Request& request) {
    const Correlation& g = request.part;
    return request.is_correlation() && g.window() > 0 && g.k <= kernels<T>().max_reduced_filters &&
           choose_runs<T>(g).steps <= kSumLength;
}

/// A step multiplies one vector of a run with each filter. Adding the lanes of a sum takes as long as about 4 steps.
template <class T>
double cost(const Request& request) {
    const Correlation& g = request.part;
    return static_cast<double>((choose_runs<T>(g).steps + 4) * g.k);
}

template <class T>
void plan(const Request& request, ConvPlan<T>& plan) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    auto decisions = std::make_unique<ReduceDecisions>();
    const Correlation& g = decisions->g = request.single ? request.part : as_one_row(request.part);
    const Runs& runs = decisions->runs = choose_runs<T>(g);
    const std::int64_t packed = g.k * runs.of_window(g.windows) * g.groups;
    if (plan_halves(request, packed, false, plan)) return;
    decisions->key = pack_key(g, PackForm::small_k_reduce, {runs.length, runs.whole_rows, 0, 0});
    set_shortest(*decisions, request.threads, tile_plans(g, {1, g.c, 1, g.k}, request.threads, size, false),
                 [&](const TilePlan& tiles) { decisions->tiles = tiles; });
    PlanSummary& summary = decisions->summary;
    summary.kernel = "small_k_reduce_row";
    summary.tile_pixels = 1;
    summary.tile_filters = g.k;
    summary.tasks = decisions->tiles.tasks(g).count;
    summary.shared_bytes = packed * size;
    summary.thread_bytes = decisions->tiles.thread_bytes(g, size);
    summary.multiplications = g.multiplications();
    plan.add(small_k_reduce<T>(), std::move(decisions));
}

} // namespace

template <class T>
const Algorithm<T>& small_k_reduce() {
    static constexpr Algorithm<T> algorithm{"small_k_reduce", "direct", nullptr, serves<T>, cost<T>, plan<T>, run<T>};
    return algorithm;
}

template const Algorithm<float>& small_k_reduce();
template const Algorithm<double>& small_k_reduce();

} // namespace fastconv
