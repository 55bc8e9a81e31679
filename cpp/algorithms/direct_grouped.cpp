// The direct algorithm for groups with few channels. A vector takes the output channels of several groups.
#include "algorithms/depthwise_runs.h"
#include "algorithms/direct.h"
#include "algorithms/epilogue.h"
#include "algorithms/filter_blocks.h"
#include "algorithms/grouped.h"
#include "core/isa.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace fastconv {
namespace {

constexpr std::int64_t kTileBytes = 256 << 10; // the input of a task, which stays in L2 while its vectors pass by

struct GroupedDecisions : Decisions {
    Correlation g;
    GroupVectors vectors;
    std::int64_t width;
    std::int64_t taps;        // of a run, see GroupedRows
    std::vector<Run> columns; // runs of pixels of an output row
    RowTiles rows;            // of the tasks
    std::int64_t parts;       // of the vectors; a task computes one
    PackKey key;

    std::int64_t runs_of_row() const { return g.windows.s / taps; } // of a row of the window
    std::int64_t filter_vector() const { return g.window() * g.c * width; }
    std::int64_t packed() const { return vectors.vectors() * filter_vector(); }
    Tasks packing() const { return moving_tasks(vectors.vectors(), packed()); }
    Tasks tasks() const { return {rows.count() * parts, 2.0 * g.multiplications()}; }
    std::vector<Phase> phases() const override {
        const TaskCost packed_vector{0, static_cast<double>(filter_vector())};
        const auto cost = [&](std::int64_t task) {
            const std::int64_t part = task % parts, pixels = rows.tile(task / parts).count * g.windows.q;
            const std::int64_t groups = vectors.first_group(part + 1, parts) - vectors.first_group(part, parts);
            return TaskCost{static_cast<double>(pixels * g.window() * g.c) * static_cast<double>(g.k * groups), 0};
        };
        return {phase_of("pack filters", packing(), [&](std::int64_t) { return packed_vector; }),
                phase_of("rows", tasks(), cost)};
    }
};

/// Whether the kernel has runs of the whole window rows. If not, a run is one tap.
bool has_runs(const Windows& a) {
    return a.dilation_w == 1 && (((a.s == 2 || a.s == 5) && a.stride_w == 1) || (a.s == 3 && a.stride_w <= 2));
}

/// Packs the filters of each vector as GroupedRows says.
template <class T>
void pack(const GroupedDecisions& plan, const T* filters, T* packed) {
    const Correlation& g = plan.g;
    parallel_for(plan.packing(), [&](std::int64_t vector) {
        T* to = packed + vector * plan.filter_vector();
        std::fill_n(to, plan.filter_vector(), T{});
        const std::int64_t first = vector * plan.vectors.of_vector;
        const std::int64_t groups = std::min(plan.vectors.of_vector, g.groups - first);
        for (std::int64_t i = 0; i < g.windows.r; ++i)
            for (std::int64_t run = 0; run < plan.runs_of_row(); ++run)
                for (std::int64_t c = 0; c < g.c; ++c)
                    for (std::int64_t tap = 0; tap < plan.taps; ++tap, to += plan.width) {
                        const T* const from = filters + g.filters_start + first * g.f_group + i * g.f_i +
                                              (run * plan.taps + tap) * g.f_j + c * g.f_c;
                        for (std::int64_t group = 0; group < groups; ++group)
                            for (std::int64_t k = 0; k < g.k; ++k)
                                to[group * g.k + k] = from[group * g.f_group + k * g.f_k];
                    }
    });
}

/// Computes groups [group, group + groups) of `rows` output rows from y on, which have the same valid taps.
template <class T>
void compute_rows(const GroupedDecisions& plan, const Operands<T>& operands, const T* filters, const ImageRows& rows,
                  std::int64_t group, std::int64_t groups, std::vector<std::ptrdiff_t>& offsets) {
    const Correlation& g = plan.g;
    const Windows& a = g.windows;
    std::int64_t i0 = 0, i1 = 0;
    const std::int64_t top = a.base_h + rows.first * a.stride_h;
    valid_taps(top, a.dilation_h, a.r, a.h, i0, i1);
    GroupedRows<T> row{};
    row.x = operands.input + g.input_start + rows.image * g.image + group * g.group_in;
    row.x_row = rows.count > 1 ? a.stride_h * a.w * g.pixel : 0; // not used for one row, and could overflow
    row.taps = plan.taps;
    row.offsets = offsets.data();
    row.filter_offsets = offsets.data() + g.window();
    row.filters = filters + group / plan.vectors.of_vector * plan.filter_vector();
    row.filter_vector = plan.filter_vector();
    row.bias = operands.bias ? operands.bias + g.bias_start + group * g.k : nullptr;
    row.bounds = operands.kernel_bounds();
    row.y_row = g.out_row;
    row.y_step = g.out_pixel;
    row.rows = rows.count;
    row.groups = groups;
    row.vector_groups = plan.vectors.of_vector;
    row.inputs = g.c;
    row.outputs = g.k;
    T* const y =
        operands.output + g.output_start + rows.image * g.out_image + rows.first * g.out_row + group * g.out_group;
    for (const Run& columns : plan.columns) {
        const std::int64_t left = a.base_w + columns.x0 * a.stride_w;
        const std::int64_t first = plan.taps > 1 ? 0 : columns.j0, last = plan.taps > 1 ? 1 : columns.j1;
        row.runs = 0;
        for (std::int64_t i = i0; i < i1; ++i) {
            for (std::int64_t j = first; j < last; ++j, ++row.runs) {
                const auto at = static_cast<std::size_t>(row.runs);
                offsets[at] = ((top + i * a.dilation_h) * a.w + left + j * a.dilation_w) * g.pixel;
                offsets[static_cast<std::size_t>(g.window()) + at] =
                    (i * plan.runs_of_row() + j) * g.c * plan.taps * plan.width;
            }
        }
        if (plan.taps > 1) {
            row.x_column = g.pixel;
            row.stride = a.stride_w;
            row.first_column = left;
            row.width = a.w;
        } else { // the taps of these pixels are all in the image
            row.x_column = columns.pixels > 1 ? a.stride_w * g.pixel : 0;
            row.stride = 1;
            row.width = columns.pixels;
        }
        row.pixels = columns.pixels;
        row.y = y + columns.x0 * g.out_pixel;
        kernels<T>().grouped_rows(row);
    }
    finish_tile(g, operands, rows.image, group, {rows.first, rows.count, 0, a.q}, 0, groups * g.k);
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const GroupedDecisions&>(decisions);
    const Correlation& g = plan.g;
    const Packed<T> filters(operands.cache, plan.key, plan.packed(), [&](T* to) { pack(plan, operands.filters, to); });
    parallel_for(plan.tasks(), [&](std::int64_t task) {
        const ImageRows rows = plan.rows.tile(task / plan.parts);
        const std::int64_t part = task % plan.parts, group = plan.vectors.first_group(part, plan.parts);
        const std::int64_t groups = plan.vectors.first_group(part + 1, plan.parts) - group;
        const std::int64_t end = rows.first + rows.count;
        std::vector<std::ptrdiff_t> offsets(static_cast<std::size_t>(2 * g.window()));
        for (std::int64_t y = rows.first, taken = 0; y < end; y += taken) {
            taken = rows_alike(g.windows, y, end);
            compute_rows(plan, operands, filters.get(), {rows.image, y, taken}, group, groups, offsets);
        }
    });
}

template <class T>
bool serves(const Request& request) {
    if (!request.is_correlation() || request.single) return false;
    const Correlation& g = request.part;
    const std::int64_t packed = g.groups * g.window() * g.c * kernels<T>().width; // at most one vector for each group
    return takes_several_groups<T>(group_vectors<T>(g.groups, g.c, g.k)) && g.window() > 0 && !g.accumulate &&
           g.finish && g.window() * g.c <= kSumLength && packed <= kPackedBytes / static_cast<std::int64_t>(sizeof(T));
}

/// The cost of one group, like that of other algorithms. They take longer for a vector, because they start a task for
/// each group and tile, and copy the padding of each group.
template <class T>
double cost(const Request& request) {
    const Correlation& g = request.part;
    return 0.4 * steps_of_group(group_vectors<T>(g.groups, g.c, g.k), g.window() * g.c);
}

template <class T>
void plan(const Request& request, ConvPlan<T>& plan) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    auto decisions = std::make_unique<GroupedDecisions>();
    GroupedDecisions& d = *decisions;
    const Correlation& g = d.g = request.part;
    const Windows& a = g.windows;
    d.vectors = group_vectors<T>(g.groups, g.c, g.k);
    d.width = kernels<T>().width;
    d.taps = has_runs(a) ? a.s : 1;
    d.columns = d.taps > 1 ? std::vector<Run>{{0, a.q, 0, a.s}} : runs_of(a);
    d.key = pack_key(g, PackForm::grouped, {d.vectors.of_vector, d.taps, d.width, 0});
    const std::int64_t fit = kTileBytes / std::max<std::int64_t>(1, a.w * g.pixel * size) - a.r;
    const std::int64_t rows =
        std::min(rows_of_task(g.n, a.p, request.threads), std::max<std::int64_t>(1, fit / a.stride_h));
    choose_row_cut(d, request.threads, rows, ceil_div(d.vectors.vectors(), 2),
                   [&](std::int64_t rows_of_tile, std::int64_t parts) {
                       d.rows = {g.n, a.p, rows_of_tile};
                       d.parts = parts;
                   });
    PlanSummary& summary = d.summary;
    summary.kernel = "grouped_rows";
    summary.tile_pixels = std::min<std::int64_t>(a.q, d.taps == 3 && a.stride_w == 2 ? 6 : 8);
    summary.tile_filters = d.vectors.of_vector * g.k;
    summary.tasks = d.tasks().count;
    summary.shared_bytes = d.packed() * size;
    summary.multiplications = g.multiplications();
    plan.add(direct_grouped<T>(), std::move(decisions));
}

} // namespace

template <class T>
const Algorithm<T>& direct_grouped() {
    static constexpr Algorithm<T> algorithm{"direct_grouped", "direct", nullptr, serves<T>, cost<T>, plan<T>, run<T>};
    return algorithm;
}

template const Algorithm<float>& direct_grouped();
template const Algorithm<double>& direct_grouped();

} // namespace fastconv
