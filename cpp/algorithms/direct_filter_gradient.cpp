// The direct filter gradient: outer products of input values and output gradients, summed over tiles of pixels.
//
// Vectors run along the filters, or along the channels if filters are few and would leave lanes empty. Each sum adds
// the same products in the same order in both forms.
//
// direct_gradient_cut.h has the tiles, splits and blocks, which decide the order of the sums.
#include "algorithms/direct.h"

#include "algorithms/direct_gradient_cut.h"
#include "algorithms/gradient_lanes.h"
#include "core/isa.h"
#include "core/partial_sums.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <cstddef>

namespace fastconv {
namespace {

// With many threads: the least channels of a block, about a register tile, and the most tasks of a thread.
constexpr std::int64_t kFewChannels = 8, kMostTasks = 12;

struct GradientDecisions : Decisions {
    GradientCut cut;

    std::vector<Phase> phases() const override {
        const std::int64_t parts = cut.splits - 1, total = cut.total();
        return {phase_of("products", cut.tasks(), [&](std::int64_t at) { return cut.cost(cut.task(at)); }),
                partials_phase(parts, total)};
    }
};

/// If threads are many: cuts the blocks of channels and filters further. The tiles and splits do not change, because
/// they decide the order of the sums.
void choose_finer_blocks(GradientDecisions& decisions, std::int64_t threads) {
    if (threads <= kFewThreads) return;
    struct Cut {
        std::int64_t c_blocks, k_blocks, k_parts;
    };
    GradientCut& d = decisions.cut;
    std::vector<Cut> cuts{{d.c_blocks, d.k_blocks, d.k_parts}};
    const std::int64_t before = d.c_blocks * d.k_parts, most = kMostTasks * threads / (d.splits * d.o.groups);
    for (const std::int64_t k_parts : finer_parts(d.k_parts, d.vectors)) {
        const std::int64_t k_blocks = std::max(d.k_blocks, k_parts);
        for (const std::int64_t c_blocks : finer_parts(d.c_blocks, std::max(d.c_blocks, ceil_div(d.c, kFewChannels))))
            if (c_blocks * k_parts > before && c_blocks * k_parts <= most)
                cuts.push_back({c_blocks, k_blocks, k_parts});
    }
    std::stable_sort(cuts.begin() + 1, cuts.end(), [](const Cut& one, const Cut& other) {
        return one.c_blocks * one.k_parts < other.c_blocks * other.k_parts;
    });
    set_shortest(decisions, threads, cuts, [&](const Cut& cut) {
        d.c_blocks = cut.c_blocks;
        d.k_blocks = cut.k_blocks;
        d.k_parts = cut.k_parts;
    });
}

/// How a block of one group is cut up. The tiles and splits do not change, because they decide the order of the sums.
template <class T>
GradientCut cut_of_block(const GradientCut& whole, const GradientBlock& block) {
    GradientCut d = whole;
    d.c = block.channels;
    d.k = d.sum_step = block.filters;
    d.vectors = ceil_div(d.k, d.width);
    d.k_blocks = d.k_parts = ceil_div(d.vectors, kernels<T>().max_vectors);
    d.channel_lanes = channel_lanes_pay<T>({d.a, d.c, d.k, d.copies && d.a.overlapping()});
    const std::int64_t fewest = ceil_div(d.c, ceil_div(whole.c, whole.c_blocks)); // with fewer, copies would not fit
    d.c_blocks = std::clamp(ceil_div(kGradientTasks, d.splits * d.k_parts), fewest, d.c);
    return d;
}

/// A task with its memory.
template <class T>
struct GradientSum : GradientTask {
    T* sum;   // the sums of all filters
    T* lanes; // if vectors run along channels: the sums of the task, [run][filter][element of the run]
    std::ptrdiff_t *offsets, *out_offsets; // the places of the broadcast values and of their sums
};

/// The runs of a window's elements that are neighbours in memory: rows of the window, or single taps.
struct WindowRuns {
    std::int64_t per_row, count, length; // per_row: runs of a window row

    WindowRuns(const GradientCut& d, const GradientTask& task) {
        const bool whole_rows = d.copies ? d.a.overlapping() : d.a.dilation_w == 1 && task.channels == d.o.c;
        per_row = whole_rows ? 1 : d.o.s;
        count = d.o.r * per_row;
        length = (whole_rows ? d.o.s : 1) * task.channels;
    }
};

/// Clears the sums and sets their offsets.
template <class T>
void clear(const GradientCut& d, const GradientSum<T>& task) {
    const std::int64_t first = d.first_filter(task.kb0), last = std::min(d.k, d.first_filter(task.kb1));
    for (std::int64_t tap = 0; tap < d.o.r * d.o.s; ++tap) {
        for (std::int64_t i = task.c0; i < task.c0 + task.channels; ++i) {
            T* const filters = task.sum + (tap * d.c + i) * d.sum_step + task.group * d.k;
            std::fill(filters + first, filters + last, T{});
        }
    }
    for (std::int64_t m = 0; m < d.o.r * d.o.s * task.channels; ++m)
        task.out_offsets[m] = (m / task.channels * d.c + task.c0 + m % task.channels) * d.sum_step + task.group * d.k;
}

/// As clear(), if vectors run along channels. Also sets the places of the filters in dy.
template <class T>
void clear_channel_lanes(const GradientCut& d, const GradientSum<T>& task) {
    const std::int64_t filters = d.filters(task), length = WindowRuns(d, task).length;
    std::fill_n(task.lanes, d.o.r * d.o.s * task.channels * filters, T{});
    for (std::int64_t k = 0; k < filters; ++k) {
        task.offsets[k] = k;
        task.out_offsets[k] = k * length;
    }
}

/// As add_tile, if vectors run along channels. x and dy change places: the kernel broadcasts values of dy.
template <class T>
void add_channel_lanes(const GradientCut& d, const GradientSum<T>& task, const TileSource<T>& source, const Tile& tile,
                       const T* gradient) {
    const std::int64_t k0 = d.first_filter(task.kb0), filters = d.filters(task);
    const WindowRuns runs(d, task);
    const std::int64_t vectors = ceil_div(runs.length, d.width);
    const std::int64_t calls = ceil_div(vectors, most_channel_vectors<T>(filters));
    OuterProducts<T> products{};
    products.offsets = task.offsets;
    products.x_row = d.a.q * d.o.k;
    products.x_step = d.o.k;
    products.dy_row = source.layout.row;
    products.dy_step = source.layout.step;
    products.rows = tile.rows;
    products.pixels = tile.columns;
    for (std::int64_t call = 0; call < calls; ++call) {
        const std::int64_t first = part_start(call, calls, vectors),
                           count = part_start(call + 1, calls, vectors) - first;
        const std::int64_t parts = ceil_div(filters, kernels<T>().outer_products_count[count - 1]);
        products.channels = std::min(runs.length - first * d.width, count * d.width);
        // The rows of a window read almost the same values, so they follow each other.
        for (std::int64_t run = 0; run < runs.count; ++run) {
            products.dy = source.x + run / runs.per_row * source.layout.window_row +
                          run % runs.per_row * source.layout.window_column + first * d.width;
            products.out = task.lanes + run * filters * runs.length + first * d.width;
            for (std::int64_t part = 0; part < parts; ++part) {
                const std::int64_t k = part_start(part, parts, filters);
                products.x = gradient + k0 + k;
                products.count = part_start(part + 1, parts, filters) - k;
                products.out_offsets = task.out_offsets + k;
                kernels<T>().outer_products[count - 1](products);
            }
        }
    }
}

/// Copies the sums in `lanes` to `sum`, where filters are innermost.
template <class T>
void store_channel_lanes(const GradientCut& d, const GradientSum<T>& task) {
    const std::int64_t k0 = d.first_filter(task.kb0), filters = d.filters(task);
    const WindowRuns runs(d, task);
    const std::int64_t taps = runs.length / task.channels;
    for (std::int64_t tap = 0; tap < d.o.r * d.o.s; ++tap)
        kernels<T>().transpose(task.lanes + tap / taps * filters * runs.length + tap % taps * task.channels,
                               runs.length, task.sum + (tap * d.c + task.c0) * d.sum_step + task.group * d.k + k0,
                               d.sum_step, filters, task.channels);
}

/// Adds the products of one tile.
template <class T>
void add_tile(const GradientCut& d, const Operands<T>& operands, const GradientSum<T>& task, std::int64_t n,
              const Tile& tile, T* copy) {
    const ConvProblem& o = d.o;
    const Windows& a = d.a;
    const T* const input = operands.input + n * o.h * o.w * o.c + task.group * d.c + task.c0;
    if (copy != nullptr) fill_padded_tile(a, tile, input, o.c, task.channels, copy);
    const TileSource<T> source(a, o.c, input, tile, task.channels, copy);
    const T* gradient =
        operands.out_backprop + n * o.p * o.q * o.k + (tile.y0 * a.q + tile.x0) * o.k + task.group * d.k;
    if (d.channel_lanes) return add_channel_lanes(d, task, source, tile, gradient);
    std::ptrdiff_t* offset = task.offsets;
    for (std::int64_t i = 0; i < o.r; ++i)
        for (std::int64_t j = 0; j < o.s; ++j)
            for (std::int64_t channel = 0; channel < task.channels; ++channel)
                *offset++ = i * source.layout.window_row + j * source.layout.window_column + channel;
    OuterProducts<T> products{};
    products.x = source.x;
    products.x_row = source.layout.row;
    products.x_step = source.layout.step;
    products.dy_row = a.q * o.k;
    products.dy_step = o.k;
    products.rows = tile.rows;
    products.pixels = tile.columns;
    const std::int64_t window = o.r * o.s * task.channels;
    for (std::int64_t kb = task.kb0; kb < task.kb1; ++kb) {
        const std::int64_t k0 = d.first_filter(kb), vectors = (d.first_filter(kb + 1) - k0) / d.width;
        const std::int64_t most = kernels<T>().outer_products_count[vectors - 1];
        products.dy = gradient + k0;
        products.channels = std::min(d.k - k0, vectors * d.width);
        products.out = task.sum + k0;
        // With one vector of filters, the kernel reads elements that are neighbours in memory through one pointer. The
        // calls are then cut at the rows of the window.
        const bool runs = vectors == 1 && source.layout.window_column == task.channels && window / o.r >= most / 2;
        const std::int64_t parts = runs ? o.r : 1, calls = parts * ceil_div(window / parts, most);
        for (std::int64_t call = 0; call < calls; ++call) {
            const std::int64_t m = part_start(call, calls, window);
            products.count = part_start(call + 1, calls, window) - m;
            products.offsets = task.offsets + m;
            products.out_offsets = task.out_offsets + m;
            kernels<T>().outer_products[vectors - 1](products);
        }
    }
}

template <class T>
void sum(const GradientCut& d, const Operands<T>& operands) {
    const ConvProblem& o = d.o;
    const Tiling& tiling = d.tiling;
    const std::int64_t total = d.total();
    T* const dw = operands.output;
    const Scratch<T> partial((d.splits - 1) * total); // the first split sums into dw
    parallel_for(d.tasks(), [&](std::int64_t at) {
        GradientSum<T> task{d.task(at), nullptr, nullptr, nullptr, nullptr};
        task.sum = task.split == 0 ? dw : partial.get() + (task.split - 1) * total;
        const std::int64_t window = o.r * o.s * task.channels;
        const std::int64_t broadcasts = d.channel_lanes ? d.filters(task) : window;
        const Scratch<T> copy(d.copies ? padded_tile_size(d.a, tiling.rows, tiling.columns, task.channels) : 0);
        const Scratch<T> lanes(d.channel_lanes ? window * d.filters(task) : 0);
        const Scratch<std::ptrdiff_t> offsets(broadcasts), out_offsets(broadcasts);
        task.lanes = lanes.get();
        task.offsets = offsets.get();
        task.out_offsets = out_offsets.get();
        if (d.channel_lanes)
            clear_channel_lanes(d, task);
        else
            clear(d, task);
        for (std::int64_t tile = task.first_tile; tile < task.last_tile; ++tile)
            add_tile(d, operands, task, tile / tiling.tiles(), tiling.tile(tile % tiling.tiles(), d.a),
                     d.copies ? copy.get() : nullptr);
        if (d.channel_lanes) store_channel_lanes(d, task);
    });
    add_partials(d.splits - 1, total, partial.get(), dw);
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const GradientCut& whole = static_cast<const GradientDecisions&>(decisions).cut;
    if (operands.block == nullptr) return sum(whole, operands);
    Operands<T> of_block = operands;
    of_block.input += operands.block->c0;
    of_block.out_backprop += operands.block->k0;
    sum(cut_of_block<T>(whole, *operands.block), of_block);
}

template <class T>
void plan(const Request& request, ConvPlan<T>& plan) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const KernelsOf<T>& kernel = kernels<T>();
    auto decisions = std::make_unique<GradientDecisions>();
    const ConvProblem& o = request.layer;
    GradientCut& d = decisions->cut = gradient_cut<T>(o);
    choose_finer_blocks(*decisions, request.threads);
    const std::int64_t channels = ceil_div(d.c, d.c_blocks), vectors = ceil_div(d.vectors, d.k_blocks);
    PlanSummary& summary = decisions->summary;
    summary.kernel = "outer_products";
    summary.tile_pixels = std::min(o.r * o.s * d.c, kernel.outer_products_count[vectors - 1]);
    summary.tile_filters = vectors * kernel.width;
    if (d.channel_lanes) {
        const std::int64_t of_channels = most_channel_vectors<T>(d.k);
        summary.tile_pixels = of_channels * kernel.width;
        summary.tile_filters = std::min(d.k, kernel.outer_products_count[of_channels - 1]);
    }
    summary.tasks = d.tasks().count;
    summary.shared_bytes = (d.splits - 1) * d.total() * size;
    const std::int64_t filters = std::min(d.k, ceil_div(d.k_blocks, d.k_parts) * vectors * kernel.width);
    const std::int64_t window = o.r * o.s * channels;
    summary.thread_bytes = 2 * (d.channel_lanes ? filters : window) * std::int64_t{sizeof(std::ptrdiff_t)};
    if (d.channel_lanes) summary.thread_bytes += window * filters * size;
    if (d.copies) summary.thread_bytes += padded_tile_size(d.a, d.tiling.rows, d.tiling.columns, channels) * size;
    summary.multiplications = static_cast<double>(o.n * o.p * o.q) * static_cast<double>(d.total());
    plan.add(direct_filter_gradient<T>(), std::move(decisions));
}

template <class T>
double cost(const Request& request) {
    const GroupGradient gradient = group_gradient(request.layer);
    const bool channel_lanes = channel_lanes_pay<T>(gradient);
    return static_cast<double>((channel_lanes ? channel_cost<T>(gradient) : filter_cost<T>(gradient)).products);
}

} // namespace

template <class T>
const Algorithm<T>& direct_filter_gradient() {
    static constexpr Algorithm<T> algorithm{"direct_filter_gradient",
                                            "direct",
                                            nullptr,
                                            [](const Request& request) { return !request.is_correlation(); },
                                            cost<T>,
                                            plan<T>,
                                            run<T>};
    return algorithm;
}

template const Algorithm<float>& direct_filter_gradient();
template const Algorithm<double>& direct_filter_gradient();

} // namespace fastconv
