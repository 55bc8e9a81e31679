// The direct filter gradient of an NCHW layer on its planes, with the kernel of NHWC.
//
// outer_products multiplies lanes of one image by broadcast values of the other. The lanes run along channels, so they
// are neighbours in NHWC only: a task transposes one panel of them at a time. The broadcast values of a pixel may be
// anywhere, so they stay in planes. A tile of these planes is copied with its padding, or read in place.
//
// The lanes are filters. In layers of 1x1 windows, they may be channels instead, so that the smaller image is
// transposed.
//
// Tiles and splits are those of NHWC. Each sum adds the same products in the same order, so the bits are the same.
#include "algorithms/planes_filter_gradient.h"

#include "algorithms/direct_gradient_cut.h"
#include "algorithms/gradient_lanes.h"
#include "algorithms/plane_copy.h"
#include "core/isa.h"
#include "core/partial_sums.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace fastconv {
namespace {

constexpr std::int64_t kCopyBytes = 512 << 10; // the copied planes of a tile, most of which stay in L2
constexpr std::int64_t kSumBytes = 1 << 20;    // the sums of a task, which each tile adds to
constexpr std::int64_t kLeastPlane = 32;       // the least pixels of a plane. Smaller ones are converted faster
constexpr std::int64_t kLeastBroadcast = 8;    // the fewest broadcast channels of a task, about a register tile
constexpr std::int64_t kMostTasks = 12;        // of a thread
constexpr std::int64_t kL1Period = 4096;       // planes at multiples of this distance compete for few lines of L1
constexpr std::int64_t kTransposed = 4;        // the cost of a transposed value, in the unit of PixelCost::total

/// One task: the broadcast channels [b0, b1) and some panels of lanes of one group, summed over one split of the tiles.
struct PlanesTask {
    std::int64_t group, split, b0, b1, panel0, panel1;
    std::int64_t broadcast() const { return b1 - b0; }
};

struct PlanesGradientDecisions : Decisions {
    GradientCut cut;
    bool long_row, in_place, channel_lanes;
    std::int64_t lanes, broadcast;       // channels of a group: those of the lanes, and those of broadcast values
    std::int64_t width, vectors, panels; // the lanes are `vectors` vectors, in panels of a few
    std::int64_t lane_parts, broadcast_parts;

    std::int64_t window() const { return cut.o.r * cut.o.s; }
    std::int64_t first_lane(std::int64_t panel) const {
        return std::min(lanes, part_start(panel, panels, vectors) * width);
    }
    std::int64_t lanes_of(const PlanesTask& task) const { return first_lane(task.panel1) - first_lane(task.panel0); }
    std::int64_t most_broadcast() const { return ceil_div(broadcast, broadcast_parts); }
    std::int64_t tile_pixels() const { return cut.tiling.rows * cut.tiling.columns; }
    /// The distance of two copied planes.
    std::int64_t copied_plane() const {
        constexpr std::int64_t line = 16; // so that neighbouring planes do not use the same lines of L1
        if (in_place) return 0;
        return line + (long_row ? tile_pixels() : PlaneCopy(cut.a, cut.tiling.rows, cut.tiling.columns).plane);
    }
    std::int64_t panel_values() const { return tile_pixels() * ceil_div(vectors, panels) * width; }
    /// The sums of a task, if lanes are channels.
    std::int64_t sum_values() const {
        return channel_lanes ? most_broadcast() * ceil_div(panels, lane_parts) * ceil_div(vectors, panels) * width : 0;
    }

    PlanesTask task(std::int64_t at) const {
        const std::int64_t lane_part = at % lane_parts, part = at / lane_parts % broadcast_parts;
        const std::int64_t unit = at / lane_parts / broadcast_parts;
        return {unit % cut.o.groups,
                unit / cut.o.groups,
                part_start(part, broadcast_parts, broadcast),
                part_start(part + 1, broadcast_parts, broadcast),
                part_start(lane_part, lane_parts, panels),
                part_start(lane_part + 1, lane_parts, panels)};
    }
    std::int64_t first_tile(std::int64_t split) const { return part_start(split, cut.splits, cut.tiles); }
    Tasks tasks() const {
        return {cut.splits * cut.o.groups * broadcast_parts * lane_parts, 2.0 * summary.multiplications};
    }
    TaskCost cost(const PlanesTask& task) const {
        const std::int64_t first = first_tile(task.split), last = first_tile(task.split + 1);
        const auto pixels = static_cast<double>(cut.pixels_before(last) - cut.pixels_before(first));
        const std::int64_t sums = window() * task.broadcast() * lanes_of(task);
        const std::int64_t copied = (last - first) * copied_plane() * task.broadcast();
        return {pixels * static_cast<double>(sums),
                pixels * static_cast<double>(lanes_of(task)) + static_cast<double>(sums + copied)};
    }
    std::vector<Phase> phases() const override {
        return {phase_of("products", tasks(), [&](std::int64_t at) { return cost(task(at)); }),
                partials_phase(cut.splits - 1, cut.total())};
    }
};

/// Pixels of a tile that are neighbours in the planes of an image.
struct PixelRun {
    std::int64_t image, first, count; // first: in the plane
    std::int64_t at;                  // in the tile
};

/// Calls body(run) for the output pixels of a tile, or the pixels of a long row.
template <class Body>
void each_run(const PlanesGradientDecisions& d, std::int64_t image, const Tile& tile, Body&& body) {
    const std::int64_t q = d.cut.o.q, plane = d.cut.o.p * q;
    if (d.long_row) {
        for (std::int64_t at = 0; at < tile.columns;) {
            const std::int64_t pixel = tile.x0 + at, first = pixel % plane;
            const std::int64_t count = std::min(plane - first, tile.columns - at);
            body(PixelRun{pixel / plane, first, count, at});
            at += count;
        }
        return;
    }
    const std::int64_t rows = tile.columns == q ? tile.rows : 1; // of a run
    for (std::int64_t row = 0; row < tile.rows; row += rows)
        body(PixelRun{image, (tile.y0 + row) * q + tile.x0, rows * tile.columns, row * tile.columns});
}

/// A task with its memory.
template <class T>
struct PlanesSum : PlanesTask {
    T* sum;                 // the sums of all filters
    T *copy, *panel, *sums; // sums: if lanes are channels, [broadcast channel][lane]
    std::ptrdiff_t *offsets, *out_offsets;
};

/// Clears the sums and sets their offsets.
template <class T>
void clear(const PlanesGradientDecisions& d, const PlanesSum<T>& task) {
    const std::int64_t first = d.first_lane(task.panel0), lanes = d.lanes_of(task), count = task.broadcast();
    if (d.channel_lanes) {
        std::fill_n(task.sums, count * lanes, T{});
        for (std::int64_t b = 0; b < count; ++b) task.out_offsets[b] = b * lanes - first;
        return;
    }
    for (std::int64_t tap = 0; tap < d.window(); ++tap)
        for (std::int64_t b = 0; b < count; ++b) {
            const std::int64_t at = (tap * d.cut.c + task.b0 + b) * d.cut.sum_step + task.group * d.cut.k;
            std::fill_n(task.sum + at + first, lanes, T{});
            task.out_offsets[tap * count + b] = at;
        }
}

/// Sets the places of the broadcast values of a tile, and copies them if they are not read in place.
template <class T>
void set_broadcast(const PlanesGradientDecisions& d, const Operands<T>& operands, const PlanesSum<T>& task,
                   std::int64_t image, const Tile& tile, OuterProducts<T>& products) {
    const ConvProblem& o = d.cut.o;
    const Windows& a = d.cut.a;
    const T* const from = d.channel_lanes ? operands.out_backprop : operands.input;
    const std::int64_t channels = d.channel_lanes ? o.k : o.c, plane = o.h * o.w, count = task.broadcast();
    const std::int64_t distance = d.in_place ? plane : d.copied_plane();
    const auto plane_of = [&](std::int64_t n, std::int64_t b) {
        return from + (n * channels + task.group * d.broadcast + task.b0 + b) * plane;
    };
    products.x = task.copy;
    products.x_step = 1;
    products.rows = tile.rows;
    products.pixels = tile.columns;
    if (d.long_row) {
        for (std::int64_t b = 0; b < count; ++b) task.offsets[b] = b * distance;
        each_run(d, image, tile, [&](const PixelRun& run) {
            if (d.in_place) {
                products.x = plane_of(run.image, 0) + run.first;
                return;
            }
            for (std::int64_t b = 0; b < count; ++b)
                copy_run(plane_of(run.image, b) + run.first, run.count, task.copy + b * distance + run.at);
        });
        return;
    }
    const PlaneCopy copy(a, tile.rows, tile.columns);
    products.x_row = a.stride_h * copy.line;
    for (std::int64_t b = 0; b < count; ++b) {
        copy_plane(a, tile, copy, plane_of(image, b), task.copy + b * distance);
        for (std::int64_t tap = 0; tap < d.window(); ++tap)
            task.offsets[tap * count + b] = copy.offset(a, tap / a.s, tap % a.s) + b * distance;
    }
}

/// Prefetches the broadcast values of the next call, from planes [first, last).
template <class T>
void prefetch_planes(const OuterProducts<T>& products, const std::ptrdiff_t* offsets, std::int64_t first,
                     std::int64_t last) {
    for (std::int64_t b = first; b < last; ++b) prefetch_run(products.x + offsets[b], products.pixels);
}

/// Adds the products of one tile.
template <class T>
void add_tile(const PlanesGradientDecisions& d, const Operands<T>& operands, const PlanesSum<T>& task,
              std::int64_t image, const Tile& tile) {
    const ConvProblem& o = d.cut.o;
    const std::int64_t plane = o.p * o.q, window = d.window() * task.broadcast();
    const T* const from = d.channel_lanes ? operands.input : operands.out_backprop;
    const std::int64_t channels = d.channel_lanes ? o.c : o.k;
    OuterProducts<T> products{};
    set_broadcast(d, operands, task, image, tile, products);
    products.dy = task.panel;
    for (std::int64_t at = task.panel0; at < task.panel1; ++at) {
        const std::int64_t first = d.first_lane(at), lanes = d.first_lane(at + 1) - first;
        const std::int64_t vectors = ceil_div(lanes, d.width), step = vectors * d.width;
        each_run(d, image, tile, [&](const PixelRun& run) {
            kernels<T>().transpose(from + (run.image * channels + task.group * d.lanes + first) * plane + run.first,
                                   plane, task.panel + run.at * step, step, lanes, run.count);
        });
        products.dy_step = step;
        products.dy_row = tile.columns * step;
        products.channels = lanes;
        products.out = (d.channel_lanes ? task.sums : task.sum) + first;
        const std::int64_t calls = ceil_div(window, kernels<T>().outer_products_count[vectors - 1]);
        for (std::int64_t call = 0; call < calls; ++call) {
            const std::int64_t m = part_start(call, calls, window);
            products.count = part_start(call + 1, calls, window) - m;
            products.offsets = task.offsets + m;
            products.out_offsets = task.out_offsets + m;
            if (d.in_place && at == task.panel0)
                prefetch_planes(products, task.offsets, m + products.count, std::min(window, m + 2 * products.count));
            kernels<T>().outer_products[vectors - 1](products);
        }
    }
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& d = static_cast<const PlanesGradientDecisions&>(decisions);
    const Tiling& tiling = d.cut.tiling;
    const std::int64_t total = d.cut.total(), elements = d.window() * d.most_broadcast();
    const Scratch<T> partial((d.cut.splits - 1) * total); // the first split sums into dw
    parallel_for(d.tasks(), [&](std::int64_t at) {
        const Scratch<T> copy(d.copied_plane() * d.most_broadcast()), panel(d.panel_values()), sums(d.sum_values());
        const Scratch<std::ptrdiff_t> offsets(elements), out_offsets(elements);
        PlanesSum<T> task{d.task(at), operands.output, copy.get(),       panel.get(),
                          sums.get(), offsets.get(),   out_offsets.get()};
        if (task.split > 0) task.sum = partial.get() + (task.split - 1) * total;
        clear(d, task);
        for (std::int64_t tile = d.first_tile(task.split); tile < d.first_tile(task.split + 1); ++tile)
            add_tile(d, operands, task, tile / tiling.tiles(), tiling.tile(tile % tiling.tiles(), d.cut.a));
        if (!d.channel_lanes) return;
        const std::int64_t lanes = d.lanes_of(task), c = d.first_lane(task.panel0);
        kernels<T>().transpose(task.sums, lanes, task.sum + c * d.cut.sum_step + task.group * d.cut.k + task.b0,
                               d.cut.sum_step, task.broadcast(), lanes);
    });
    add_partials(d.cut.splits - 1, total, partial.get(), operands.output);
}

template <class T>
const Algorithm<T>& planes_filter_gradient() { // plan_direct_gradient_on_planes plans it
    static constexpr Algorithm<T> algorithm{
        "planes_filter_gradient", "direct", nullptr, nullptr, nullptr, nullptr, run<T>};
    return algorithm;
}

/// Cuts the lanes and the broadcast channels, so that all threads have work and the sums of a task stay in L2. The
/// tiles and splits do not change.
void choose_parts(PlanesGradientDecisions& d, std::int64_t fewest, std::int64_t size, std::int64_t threads) {
    struct Cut {
        std::int64_t lane_parts, broadcast_parts;
        std::int64_t parts() const { return lane_parts * broadcast_parts; }
    };
    const std::int64_t sum_bytes = d.cut.total() / d.cut.o.groups * size;
    const std::int64_t least = ceil_div(sum_bytes, kSumBytes);
    const std::int64_t most = std::max(2 * least, kMostTasks * threads / (d.cut.splits * d.cut.o.groups));
    const std::int64_t most_broadcast_parts = std::max(fewest, d.broadcast / kLeastBroadcast);
    std::vector<Cut> cuts;
    for (const std::int64_t lane_parts : finer_parts(1, d.panels))
        for (const std::int64_t parts : finer_parts(fewest, most_broadcast_parts))
            if (const Cut cut{lane_parts, parts}; cut.parts() >= least && cut.parts() <= most) cuts.push_back(cut);
    if (cuts.empty()) cuts.push_back({d.panels, least > d.panels ? most_broadcast_parts : fewest});
    std::stable_sort(cuts.begin(), cuts.end(),
                     [](const Cut& one, const Cut& other) { return one.parts() < other.parts(); });
    set_shortest(d, threads, cuts, [&](const Cut& cut) {
        d.lane_parts = cut.lane_parts;
        d.broadcast_parts = cut.broadcast_parts;
    });
}

template <class T>
void summarize(PlanesGradientDecisions& d) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const std::int64_t vectors = ceil_div(d.vectors, d.panels), elements = d.window() * d.most_broadcast();
    PlanSummary& summary = d.summary;
    summary.kernel = "outer_products";
    summary.tile_pixels = std::min(d.window() * d.broadcast, kernels<T>().outer_products_count[vectors - 1]);
    summary.tile_filters = vectors * d.width;
    if (d.channel_lanes) std::swap(summary.tile_pixels, summary.tile_filters);
    summary.tasks = d.tasks().count;
    summary.shared_bytes = (d.cut.splits - 1) * d.cut.total() * size;
    summary.thread_bytes = (d.copied_plane() * d.most_broadcast() + d.panel_values() + d.sum_values()) * size +
                           2 * elements * std::int64_t{sizeof(std::ptrdiff_t)};
}

} // namespace

template <class T>
void plan_direct_gradient_on_planes(const Request& request, ConvPlan<T>& plan) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const ConvProblem& o = request.layer;
    auto decisions = std::make_unique<PlanesGradientDecisions>();
    PlanesGradientDecisions& d = *decisions;
    const GradientCut& cut = d.cut = gradient_cut<T>(o);
    const std::int64_t plane = o.p * o.q;
    d.long_row = is_long_row(o);
    if (plane < kLeastPlane || (!d.long_row && !can_copy_planes(cut.a))) return;
    const GroupGradient group = group_gradient(o);
    d.channel_lanes = d.long_row && channel_cost<T>(group).total() + kTransposed * cut.c <
                                        filter_cost<T>(group).total() + kTransposed * cut.k;
    d.lanes = d.channel_lanes ? cut.c : cut.k;
    d.broadcast = d.channel_lanes ? cut.k : cut.c;
    d.in_place = d.long_row && plane % cut.tiling.columns == 0 && plane * size % kL1Period != 0;
    d.width = kernels<T>().width;
    d.vectors = ceil_div(d.lanes, d.width);
    d.panels = ceil_div(d.vectors, kernels<T>().max_vectors);
    d.lane_parts = d.broadcast_parts = 1;
    if (d.copied_plane() * size > kCopyBytes) return;
    const std::int64_t fewest = ceil_div(d.broadcast * d.copied_plane() * size, kCopyBytes);
    d.summary.multiplications = static_cast<double>(o.n * o.p * o.q) * static_cast<double>(cut.total());
    choose_parts(d, std::clamp<std::int64_t>(fewest, 1, d.broadcast), size, request.threads);
    summarize<T>(d);
    plan.add(planes_filter_gradient<T>(), std::move(decisions));
}

template void plan_direct_gradient_on_planes(const Request&, ConvPlan<float>&);
template void plan_direct_gradient_on_planes(const Request&, ConvPlan<double>&);

} // namespace fastconv
