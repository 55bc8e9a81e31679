// The direct filter gradient: outer products of input values and output gradients, summed over tiles of pixels.
//
// Vectors run along the filters, or along the channels if filters are few and would leave lanes empty. Each sum adds
// the same products in the same order in both forms.
//
// The tiles are divided into splits, each with its own partial sums. Filters and channels are cut into blocks. All of
// this decides the order of the sums, so none of it depends on the number of threads.
#include "algorithms/direct.h"

#include "algorithms/gradient_lanes.h"
#include "algorithms/gradient_parts.h"
#include "algorithms/tiled_correlation.h"
#include "core/isa.h"
#include "core/partial_sums.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <cstddef>

namespace fastconv {
namespace {

constexpr std::int64_t kTileBytes = 192 << 10;
constexpr std::int64_t kPartialBytes = 24 << 20; // all partial sums
constexpr std::int64_t kLargeSumBytes = 4 << 20;
constexpr std::int64_t kTasks = 32;            // enough for 16 threads; fixed, because it decides the order of the sum
constexpr std::int64_t kTilePixels = 256;      // the length of the inner sums
constexpr std::int64_t kBlockBytes = 64 << 10; // the input of a tile; most of it stays in L1, while dy is read from L2
constexpr std::int64_t kLeastChannels = 24;    // of a block, so that x is read in whole cache lines
// With many threads: the least channels of a block, about a register tile, and the most tasks of a thread.
constexpr std::int64_t kFewChannels = 8, kMostTasks = 12;

/// One task: a block of channels and some blocks of filters of one group, summed over one split of the tiles.
struct GradientTask {
    std::int64_t group, split, c0, channels, kb0, kb1, first_tile, last_tile;
};

/// How a gradient, or a block of a gradient, is cut up.
struct GradientCut {
    ConvProblem o;
    Windows a;
    std::int64_t images, c, k; // c, k: channels and filters of one group
    std::int64_t sum_step;     // the distance of two channels in the sums: the number of filters of all groups
    bool channel_lanes;        // vectors run along the channels, not along the filters
    bool copies;               // tiles are copied with their padding
    // The filters of a group are `vectors` vectors of `width` filters, in k_blocks blocks. A filter part is one of
    // k_parts runs of these blocks. Each (group, channel block, filter part) is summed on its own.
    std::int64_t width, vectors, k_blocks, c_blocks, k_parts;
    Tiling tiling;
    std::int64_t tiles, splits; // the tiles are divided into `splits`, each with its own sums

    std::int64_t total() const { return o.r * o.s * c * sum_step; }
    Tasks tasks() const {
        return {splits * o.groups * c_blocks * k_parts,
                2.0 * static_cast<double>(images * a.p * a.q) * static_cast<double>(total())};
    }
    GradientTask task(std::int64_t at) const;
    TaskCost cost(const GradientTask& task) const;
    std::int64_t pixels_before(std::int64_t tile) const; // the pixels of all tiles before this one
    std::int64_t first_filter(std::int64_t kb) const { return part_start(kb, k_blocks, vectors) * width; }
    std::int64_t filters(const GradientTask& task) const {
        return std::min(k, first_filter(task.kb1)) - first_filter(task.kb0);
    }
};

GradientTask GradientCut::task(std::int64_t at) const {
    const std::int64_t k_part = at % k_parts, cb = at / k_parts % c_blocks;
    GradientTask task{};
    task.group = at / k_parts / c_blocks % o.groups;
    task.split = at / k_parts / c_blocks / o.groups;
    task.kb0 = part_start(k_part, k_parts, k_blocks);
    task.kb1 = part_start(k_part + 1, k_parts, k_blocks);
    task.c0 = part_start(cb, c_blocks, c);
    task.channels = part_start(cb + 1, c_blocks, c) - task.c0;
    task.first_tile = part_start(task.split, splits, tiles);
    task.last_tile = part_start(task.split + 1, splits, tiles);
    return task;
}

std::int64_t GradientCut::pixels_before(std::int64_t at) const {
    const std::int64_t image = at / tiling.tiles(), tile = at % tiling.tiles();
    const std::int64_t y = tile / tiling.column_tiles * tiling.rows, rows = std::min(tiling.rows, a.p - y);
    return image * a.p * a.q + y * a.q + rows * (tile % tiling.column_tiles * tiling.columns);
}

TaskCost GradientCut::cost(const GradientTask& task) const {
    const std::int64_t sums = o.r * o.s * task.channels * filters(task);
    const double pixels = static_cast<double>(pixels_before(task.last_tile) - pixels_before(task.first_tile));
    TaskCost cost{pixels * static_cast<double>(sums), static_cast<double>(sums)};
    if (copies) {
        const double copied = static_cast<double>(padded_tile_size(a, tiling.rows, tiling.columns, task.channels));
        cost.moved_values += copied * pixels / static_cast<double>(tiling.rows * tiling.columns);
    }
    return cost;
}

struct GradientDecisions : Decisions {
    GradientCut cut;

    std::vector<Phase> phases() const override {
        const std::int64_t parts = cut.splits - 1, total = cut.total();
        return {phase_of("products", cut.tasks(), [&](std::int64_t at) { return cut.cost(cut.task(at)); }),
                partials_phase(parts, total)};
    }
};

Tiling choose_tiling(const Windows& a, std::int64_t channels, std::int64_t size) {
    Tiling tiling{};
    const auto bytes = [&](std::int64_t rows, std::int64_t columns) {
        return padded_tile_size(a, rows, columns, channels) * size;
    };
    tiling.columns = a.q;
    while (tiling.columns > 1 && (tiling.columns > kTilePixels || bytes(1, tiling.columns) > 2 * kTileBytes))
        tiling.columns = ceil_div(tiling.columns, 2);
    tiling.column_tiles = ceil_div(a.q, tiling.columns);
    tiling.rows = 1;
    while (tiling.rows < a.p && (tiling.rows + 1) * tiling.columns <= kTilePixels &&
           bytes(tiling.rows + 1, tiling.columns) <= kTileBytes)
        ++tiling.rows;
    tiling.row_tiles = ceil_div(a.p, tiling.rows);
    tiling.rows = ceil_div(a.p, tiling.row_tiles);
    tiling.row_tiles = ceil_div(a.p, tiling.rows);
    return tiling;
}

/// Sets the blocks and parts. The windows, vectors and blocks of filters must be set.
void choose_blocks(GradientCut& d, std::int64_t size) {
    const Windows& a = d.a;
    const std::int64_t total = d.total(), groups = d.o.groups;
    // With many channels, neighbouring pixels are far apart in memory: each is on its own page, and all fall into the
    // same sets of L1. Blocks of channels are then copied. This pays if there are at least two blocks of filters.
    const std::int64_t columns = std::min(a.q, kTilePixels);
    const std::int64_t rows = std::min(a.p, ceil_div(kTilePixels, columns));
    const std::int64_t fit = std::max(kLeastChannels, kBlockBytes / (padded_tile_size(a, rows, columns, 1) * size));
    d.c_blocks = d.k_blocks > 1 ? ceil_div(d.c, fit) : 1;
    while (d.c_blocks < d.c &&
           padded_tile_size(a, 1, std::min<std::int64_t>(a.q, 16), ceil_div(d.c, d.c_blocks)) * size > kTileBytes)
        ++d.c_blocks;
    d.copies = d.c_blocks > 1 || a.crosses_columns() || a.crosses_rows();
    // To get enough tasks, pixels are split first, as long as the partial sums fit. Then filters and channels are cut.
    // If the sums are too large for L2, filters are cut first, although each of their parts reads all of x.
    d.k_parts = 1;
    if (total * size > kLargeSumBytes) d.k_parts = std::min(d.k_blocks, ceil_div(kTasks, groups * d.c_blocks));
    const std::int64_t splits_that_fit = std::clamp<std::int64_t>(kPartialBytes / (total * size), 1, kTasks);
    const auto tasks_now = [&] { return splits_that_fit * groups * d.c_blocks * d.k_parts; };
    if (tasks_now() < kTasks) d.k_parts = std::min(d.k_blocks, d.k_parts * ceil_div(kTasks, tasks_now()));
    if (tasks_now() < kTasks) d.c_blocks = std::min(d.c, d.c_blocks * ceil_div(kTasks, tasks_now()));
    d.tiling = choose_tiling(a, ceil_div(d.c, d.c_blocks), size);
    d.tiles = d.images * d.tiling.tiles();
    const std::int64_t wanted = ceil_div(kTasks, groups * d.c_blocks * d.k_parts);
    const std::int64_t pays = gradient_parts_that_pay(d.images * a.p * a.q, total);
    d.splits = std::clamp<std::int64_t>(std::min(d.tiles, pays), 1, std::min(splits_that_fit, wanted));
}

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
    d.c_blocks = std::clamp(ceil_div(kTasks, d.splits * d.k_parts), fewest, d.c);
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
    GradientCut& d = decisions->cut;
    const ConvProblem& o = d.o = request.layer;
    d.a = windows_of(o);
    d.images = o.n;
    d.c = o.c / o.groups;
    d.k = o.k / o.groups;
    d.sum_step = o.k;
    if (o.r == 1 && o.s == 1 && o.stride_h == 1 && o.stride_w == 1 && o.p == o.h && o.q == o.w && o.pad_top == 0 &&
        o.pad_left == 0) { // one long row of pixels
        d.a.w = d.a.q = o.n * o.p * o.q;
        d.a.h = d.a.p = 1;
        d.images = std::min<std::int64_t>(o.n, 1);
    }
    d.width = kernel.width;
    d.vectors = ceil_div(d.k, kernel.width);
    d.k_blocks = ceil_div(d.vectors, kernel.max_vectors);
    d.channel_lanes = channel_lanes_pay<T>(group_gradient(o));
    choose_blocks(d, size);
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
