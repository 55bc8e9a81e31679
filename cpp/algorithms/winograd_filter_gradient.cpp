// Winograd's filter gradient. It transforms tiles of x and of dy, sums their products at each of the 36 points, and
// transforms the sums to filter taps.
//
// The 36*C*K sums cause most of the memory traffic. If channels are few, all sums stay in the L2 cache of one thread,
// and each tile is added to all of them. The tiles are then cut into parts, each with its own taps. If channels are
// many, the points of a chunk of tiles are written to memory. A task then computes the taps of a block of channels x
// filters at all points, and its sums stay in L2. In both cases, the order of a sum follows from the problem, not from
// the threads.
#include "algorithms/algorithms.h"
#include "algorithms/nhwc_gradient.h"
#include "algorithms/winograd.h"
#include "algorithms/winograd_tiles.h"
#include "core/partial_sums.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <vector>

namespace fastconv {
namespace {

constexpr std::int64_t kSumBytes = 640 << 10;   // the sums of a task: most of an L2 cache
constexpr std::int64_t kTileBytes = 320 << 10;  // if channels are few: points of the tiles that a task takes at once
constexpr std::int64_t kChunkBytes = 8 << 20;   // if channels are many: points of a chunk of tiles
constexpr std::int64_t kDirectBytes = 36 << 20; // taps that the direct algorithm computes again at a time
constexpr std::int64_t kTransformTiles = 4;     // if channels are many: most tiles of a task that transforms
constexpr std::int64_t kPlaneTiles = 16;        // the same in NCHW, where short runs of planes are slow to read
constexpr std::int64_t kLeastChannels = 8;      // of a block: about a register tile
constexpr std::int64_t kParts = 32;             // enough for 16 threads; fixed, because it decides the order of the sum
// The fewest tiles of a part. Clearing the sums of a part and transforming them takes as long as about 9 tiles.
constexpr std::int64_t kLeastTilesOfPart = 24;

/// The blocks of one axis (channels or filters), and where the points of a block are stored. The order is
/// [block][point][tile][channel], so that a product reads each factor from one run of memory.
struct PointBlocks : ChannelParts {
    std::int64_t chunk, padding;

    std::int64_t plane(std::int64_t b) const { return chunk * size(b) + padding; }
    std::int64_t offset(std::int64_t b) const { return kPoints * (chunk * first(b) + padding * b); }
    std::int64_t total() const { return kPoints * (chunk * channels + padding * count); }
};

struct WinogradGradientDecisions : Decisions {
    explicit WinogradGradientDecisions(const Request& request)
        : o(request.layer), planes(request.planes), threads(request.threads), form(o.r), grid(form, o.p, o.q),
          tiles(o.n * grid.tiles_per_image()) {}

    /// The request for the taps that are not finite, which the direct algorithm computes again.
    Request again() const {
        Request request{o, Direction::filter_gradient, {}, threads, false};
        request.only_direct = request.single = true;
        return request;
    }

    ConvProblem o;
    bool planes; // whether the images are NCHW
    std::int64_t threads;
    WinogradForm form;
    TileGrid grid;
    std::int64_t tiles, width = 0, vectors = 0;
    std::int64_t padding = 0; // between planes of points
    bool resident = false;    // whether channels are so few that all sums of a task stay in L2
    std::int64_t parts = 1;   // if resident, how many parts the tiles are cut into
    std::int64_t chunk = 0;   // tiles that are transformed at once, by a task or by all
    // Tasks compute blocks of channels x filters: of each part, or of all tiles.
    std::int64_t c_blocks = 1, k_blocks = 1;
    std::int64_t transform_tiles = kTransformTiles; // if not resident: tiles of a task that transforms

    /// If resident: the tasks of the parts.
    Tasks part_tasks() const { return {parts * c_blocks * k_blocks, 2.0 * summary.multiplications}; }
    /// If not resident: the tasks that transform `count` tiles, and those that multiply them.
    Tasks transform_tasks(std::int64_t count) const {
        return moving_tasks(ceil_div(count, transform_tiles), count * kPoints * (o.c + o.k));
    }
    Tasks block_tasks(std::int64_t count) const {
        return {c_blocks * k_blocks, 2.0 * static_cast<double>(kPoints * o.c * o.k) * static_cast<double>(count)};
    }
    PointBlocks channels() const { return {{c_blocks, o.c, 1}, chunk, padding}; }
    PointBlocks filters() const { return {{k_blocks, o.k, width}, chunk, padding}; }
    /// The tiles [first_tile(part), first_tile(part + 1)) of a part.
    std::int64_t first_tile(std::int64_t part) const { return part_start(part, parts, tiles); }
    std::vector<Phase> phases() const override;
};

std::vector<Phase> WinogradGradientDecisions::phases() const {
    const auto cost = [&](std::int64_t count, std::int64_t c, std::int64_t k, std::int64_t transformed) {
        return TaskCost{static_cast<double>(kPoints * count * c * k), static_cast<double>(kPoints * transformed)};
    };
    const PointBlocks of_c = channels(), of_k = filters();
    if (resident) {
        const auto part_cost = [&](std::int64_t task) {
            const std::int64_t part = task / k_blocks / c_blocks, count = first_tile(part + 1) - first_tile(part);
            const std::int64_t c = of_c.size(task % c_blocks), k = of_k.size(task / c_blocks % k_blocks);
            return cost(count, c, k, count * (c + k) + 2 * c * k);
        };
        return {phase_of("parts", part_tasks(), part_cost), partials_phase(parts - 1, o.r * o.s * o.c * o.k)};
    }
    std::vector<Phase> all;
    for (std::int64_t start = 0; start < tiles; start += chunk) {
        const std::int64_t count = std::min(chunk, tiles - start);
        all.push_back(phase_of("transform tiles", transform_tasks(count), [&](std::int64_t task) {
            return cost(0, 0, 0, std::min(transform_tiles, count - task * transform_tiles) * (o.c + o.k));
        }));
        all.push_back(phase_of("blocks", block_tasks(count), [&](std::int64_t task) {
            const std::int64_t c = of_c.size(task % c_blocks), k = of_k.size(task / c_blocks);
            return cost(count, c, k, 2 * c * k);
        }));
    }
    return all;
}

/// The images of x and dy.
template <class T>
TileImages<const T> input_images(const WinogradGradientDecisions& plan, const T* input) {
    const ConvProblem& o = plan.o;
    if (plan.planes) return {input, o.h * o.w * o.c, o.w, 1, o.h * o.w, true};
    return {input, o.h * o.w * o.c, o.w * o.c, o.c, 1, false};
}
template <class T>
TileImages<const T> gradient_images(const WinogradGradientDecisions& plan, const T* dy) {
    const ConvProblem& o = plan.o;
    if (plan.planes) return {dy, o.p * o.q * o.k, o.q, 1, o.p * o.q, true};
    return {dy, o.p * o.q * o.k, o.q * o.k, o.k, 1, false};
}

/// The squares of dy.
template <class T>
TileSquares<T> gradient_squares(const WinogradGradientDecisions& plan) {
    return {plan.form.tile, 0, 0, plan.o.p, plan.o.q, kernels<T>().winograd_gradient[plan.form.index]};
}

/// Adds the products of `count` tiles at one point, for `channels` channels x `wide` vectors of filters.
template <class T>
void add_products(const T* x, std::int64_t x_step, std::int64_t channels, const T* dy, std::int64_t dy_step,
                  std::int64_t count, std::int64_t wide, std::int64_t filters, T* sums, std::int64_t sums_step) {
    const KernelsOf<T>& kernel = kernels<T>();
    constexpr std::ptrdiff_t neighbours[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};
    std::ptrdiff_t out_offsets[std::size(neighbours)];
    for (std::size_t i = 0; i < std::size(neighbours); ++i) out_offsets[i] = neighbours[i] * sums_step;
    const std::int64_t most = kernel.outer_products_count[wide - 1], calls = ceil_div(channels, most);
    OuterProducts<T> products{};
    products.x_step = x_step;
    products.offsets = neighbours;
    products.dy = dy;
    products.dy_step = dy_step;
    products.rows = 1;
    products.pixels = count;
    products.channels = filters;
    products.out_offsets = out_offsets;
    for (std::int64_t call = 0; call < calls; ++call) {
        const std::int64_t c = part_start(call, calls, channels);
        products.count = part_start(call + 1, calls, channels) - c;
        products.x = x + c;
        products.out = sums + c * sums_step;
        kernel.outer_products[wide - 1](products);
    }
}

/// Transforms the sums of channels [c0, c1) x filters [k0, k0 + filters) to taps, and writes them to `to` or adds them.
/// Returns whether all taps are finite.
template <class T>
bool finish_taps(const WinogradGradientDecisions& plan, const T* sums, std::int64_t plane, std::int64_t step,
                 std::int64_t c0, std::int64_t c1, std::int64_t k0, std::int64_t filters, bool accumulate, T* to) {
    const ConvProblem& o = plan.o;
    WinogradOutput<T> taps{};
    taps.plane = plane;
    taps.row = plan.form.window * o.c * o.k;
    taps.pixel = o.c * o.k;
    taps.channels = filters;
    taps.accumulate = accumulate;
    bool finite = true;
    for (std::int64_t c = c0; c < c1; ++c) {
        taps.points = sums + (c - c0) * step;
        taps.y = to + c * o.k + k0;
        finite &= kernels<T>().winograd_taps[plan.form.index](taps);
    }
    return finite;
}

template <class T>
bool sum_resident(const WinogradGradientDecisions& plan, const T* input, const T* dy, T* dw) {
    const ConvProblem& o = plan.o;
    std::atomic<bool> finite{true};
    const KernelsOf<T>& kernel = kernels<T>();
    const TileSquares<T> x_squares = input_squares<T>(windows_of(o)), dy_squares = gradient_squares<T>(plan);
    const TileImages<const T> x_images = input_images(plan, input), dy_images = gradient_images(plan, dy);
    const std::int64_t total = o.r * o.s * o.c * o.k;
    const PointBlocks c_blocks = plan.channels(), k_blocks = plan.filters();
    const Scratch<T> partial((plan.parts - 1) * total); // the first part sums into dw
    parallel_for(plan.part_tasks(), [&](std::int64_t task) {
        const std::int64_t cb = task % c_blocks.count, kb = task / c_blocks.count % k_blocks.count;
        const std::int64_t part = task / c_blocks.count / k_blocks.count, end = plan.first_tile(part + 1);
        const std::int64_t c0 = c_blocks.first(cb), channels = c_blocks.size(cb), x_plane = c_blocks.plane(cb);
        const std::int64_t k0 = k_blocks.first(kb), filters = k_blocks.size(kb), dy_plane = k_blocks.plane(kb);
        const std::int64_t sum_plane = channels * filters + plane_padding<T>, vectors = ceil_div(filters, kernel.width);
        const std::int64_t calls = ceil_div(vectors, kernel.max_vectors);
        const Scratch<T> x_points(kPoints * x_plane), dy_points(kPoints * dy_plane), sums(kPoints * sum_plane);
        std::fill_n(sums.get(), kPoints * sum_plane, T{});
        for (std::int64_t t = plan.first_tile(part); t < end; t += plan.chunk) {
            const std::int64_t last = std::min(end, t + plan.chunk);
            transform_tiles(x_squares, plan.grid, x_images.from_channel(c0), channels, t, last, x_points.get(),
                            x_plane);
            transform_tiles(dy_squares, plan.grid, dy_images.from_channel(k0), filters, t, last, dy_points.get(),
                            dy_plane);
            for (std::int64_t point = 0; point < kPoints; ++point) {
                for (std::int64_t call = 0; call < calls; ++call) {
                    const std::int64_t vector = part_start(call, calls, vectors), k = vector * kernel.width;
                    const std::int64_t wide = part_start(call + 1, calls, vectors) - vector;
                    add_products(x_points.get() + point * x_plane, channels, channels,
                                 dy_points.get() + point * dy_plane + k, filters, last - t, wide,
                                 std::min(filters - k, wide * kernel.width), sums.get() + point * sum_plane + k,
                                 filters);
                }
            }
        }
        T* const to = part == 0 ? dw : partial.get() + (part - 1) * total;
        if (!finish_taps(plan, sums.get(), sum_plane, filters, c0, c0 + channels, k0, filters, false, to))
            finite = false;
    });
    add_partials(plan.parts - 1, total, partial.get(), dw);
    return finite;
}

template <class T>
bool sum_blocks(const WinogradGradientDecisions& plan, const T* input, const T* dy, T* dw) {
    const ConvProblem& o = plan.o;
    std::atomic<bool> finite{true};
    const KernelsOf<T>& kernel = kernels<T>();
    const TileSquares<T> x_squares = input_squares<T>(windows_of(o)), dy_squares = gradient_squares<T>(plan);
    const TileImages<const T> x_images = input_images(plan, input), dy_images = gradient_images(plan, dy);
    const PointBlocks c_blocks = plan.channels(), k_blocks = plan.filters();
    const Scratch<T> x_points(c_blocks.total()), dy_points(k_blocks.total());
    for (std::int64_t start = 0; start < plan.tiles; start += plan.chunk) {
        const std::int64_t count = std::min(plan.chunk, plan.tiles - start);
        parallel_for(plan.transform_tasks(count), [&](std::int64_t task) {
            const std::int64_t first = task * plan.transform_tiles,
                               last = std::min(count, first + plan.transform_tiles);
            for (std::int64_t b = 0; b < c_blocks.count; ++b)
                transform_tiles(x_squares, plan.grid, x_images.from_channel(c_blocks.first(b)), c_blocks.size(b),
                                start + first, start + last,
                                x_points.get() + c_blocks.offset(b) + first * c_blocks.size(b), c_blocks.plane(b));
            for (std::int64_t b = 0; b < k_blocks.count; ++b)
                transform_tiles(dy_squares, plan.grid, dy_images.from_channel(k_blocks.first(b)), k_blocks.size(b),
                                start + first, start + last,
                                dy_points.get() + k_blocks.offset(b) + first * k_blocks.size(b), k_blocks.plane(b));
        });
        parallel_for(plan.block_tasks(count), [&](std::int64_t task) {
            const std::int64_t kb = task / c_blocks.count, cb = task % c_blocks.count;
            const std::int64_t c0 = c_blocks.first(cb), channels = c_blocks.size(cb);
            const std::int64_t filters = k_blocks.size(kb), wide = ceil_div(filters, kernel.width);
            const std::int64_t step = wide * kernel.width, plane = channels * step + plane_padding<T>;
            const Scratch<T> sums(kPoints * plane);
            std::fill_n(sums.get(), kPoints * plane, T{});
            for (std::int64_t point = 0; point < kPoints; ++point)
                add_products(x_points.get() + c_blocks.offset(cb) + point * c_blocks.plane(cb), channels, channels,
                             dy_points.get() + k_blocks.offset(kb) + point * k_blocks.plane(kb), filters, count, wide,
                             filters, sums.get() + point * plane, step);
            if (!finish_taps(plan, sums.get(), plane, step, c0, c0 + channels, k_blocks.first(kb), filters, start > 0,
                             dw))
                finite = false;
        });
    }
    return finite;
}

using Marks = std::vector<unsigned char>; // 1: marked

/// The pairs (c, k) that have a tap which is not finite. Element c*K + k marks pair (c, k).
template <class T>
Marks pairs_not_finite(const ConvProblem& o, const T* dw) {
    const std::int64_t pairs = o.c * o.k;
    Marks wrong(static_cast<std::size_t>(pairs), 0);
    for (std::int64_t tap = 0; tap < o.r * o.s; ++tap)
        for (std::int64_t pair = 0; pair < pairs; ++pair)
            if (!std::isfinite(dw[tap * pairs + pair])) wrong[static_cast<std::size_t>(pair)] = 1;
    return wrong;
}

/// Calls body(first, count) for each run of marked elements. Joins runs with at most `gap` elements between them.
template <class Body>
void each_run(const Marks& marks, std::int64_t gap, Body&& body) {
    std::int64_t first = 0, last = -1; // the ends of the run so far
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(marks.size()); ++i) {
        if (!marks[static_cast<std::size_t>(i)]) continue;
        if (last < 0 || i - last > gap + 1) {
            if (last >= 0) body(first, last - first + 1);
            first = i;
        }
        last = i;
    }
    if (last >= 0) body(first, last - first + 1);
}

/// Blocks that cover the marked pairs. A NaN in the input marks all filters of its channel. A NaN in the output's
/// gradient marks all channels of its filter. The first blocks are the channels with all filters marked. The other
/// blocks are the filters that are marked in the remaining channels.
std::vector<GradientBlock> blocks_of(const ConvProblem& o, const Marks& pairs, std::int64_t width) {
    Marks channels(static_cast<std::size_t>(o.c), 0), filters(static_cast<std::size_t>(o.k), 0);
    for (std::size_t c = 0; c < channels.size(); ++c) {
        const auto first = pairs.begin() + static_cast<std::ptrdiff_t>(c) * o.k, end = first + o.k;
        channels[c] = std::find(first, end, 0) == end;
        if (!channels[c]) std::transform(first, end, filters.begin(), filters.begin(), std::bit_or<>());
    }
    std::vector<GradientBlock> blocks;
    each_run(channels, 0, [&](std::int64_t c0, std::int64_t count) { blocks.push_back({c0, count, 0, o.k}); });
    // Filters within the width of a vector are computed together anyway.
    each_run(filters, width, [&](std::int64_t k0, std::int64_t count) { blocks.push_back({0, o.c, k0, count}); });
    return blocks;
}

/// A NaN or infinity spreads over all taps of its (c, k). Computes these taps directly and does not change the others.
template <class T>
void compute_again(const WinogradGradientDecisions& plan, Operands<T> operands) {
    const ConvProblem& o = plan.o;
    T* const dw = operands.output;
    const std::int64_t taps = o.r * o.s;
    const Marks wrong = pairs_not_finite(o, dw);
    ConvPlan<T> directly;
    plan_cheapest(plan.again(), directly);
    const auto compute = [&](const GradientBlock& block) {
        const Scratch<T> direct(taps * block.channels * block.filters);
        operands.output = direct.get();
        operands.block = &block;
        directly.run(operands);
        const T* from = direct.get();
        for (std::int64_t tap = 0; tap < taps; ++tap)
            for (std::int64_t c = block.c0; c < block.c0 + block.channels; ++c)
                for (std::int64_t k = block.k0; k < block.k0 + block.filters; ++k, ++from)
                    if (wrong[static_cast<std::size_t>(c * o.k + k)]) dw[(tap * o.c + c) * o.k + k] = *from;
    };
    for (const GradientBlock& block : blocks_of(o, wrong, plan.width)) {
        const std::int64_t channel_bytes = taps * block.filters * static_cast<std::int64_t>(sizeof(T));
        const std::int64_t most = std::max<std::int64_t>(1, kDirectBytes / channel_bytes);
        const std::int64_t end = block.c0 + block.channels;
        for (std::int64_t c0 = block.c0; c0 < end; c0 += most)
            compute({c0, std::min(most, end - c0), block.k0, block.filters});
    }
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const WinogradGradientDecisions&>(decisions);
    const auto sum = plan.resident ? sum_resident<T> : sum_blocks<T>;
    if (sum(plan, operands.input, operands.out_backprop, operands.output)) return;
    if (!plan.planes) return compute_again(plan, operands);
    compute_again(plan, NhwcGradientOperands<T>(plan.o, operands).get());
}

/// If threads are many: cuts the blocks of channels and filters further. This changes no sum.
void choose_blocks(WinogradGradientDecisions& plan) {
    if (plan.threads <= kFewThreads) return;
    struct Cut {
        std::int64_t c_blocks, k_blocks;
    };
    std::vector<Cut> cuts;
    const std::int64_t most = std::max(plan.c_blocks, ceil_div(plan.o.c, kLeastChannels));
    for (const std::int64_t k_blocks : finer_parts(plan.k_blocks, plan.vectors))
        for (const std::int64_t c_blocks : finer_parts(plan.c_blocks, most)) cuts.push_back({c_blocks, k_blocks});
    std::stable_sort(cuts.begin(), cuts.end(), [](const Cut& one, const Cut& other) {
        return one.c_blocks * one.k_blocks < other.c_blocks * other.k_blocks;
    });
    plan.transform_tiles = std::clamp<std::int64_t>(plan.chunk / (4 * plan.threads), 1, plan.transform_tiles);
    set_shortest(plan, plan.threads, cuts, [&](const Cut& cut) {
        plan.c_blocks = cut.c_blocks;
        plan.k_blocks = cut.k_blocks;
    });
}

template <class T>
void plan(const Request& request, ConvPlan<T>& into) {
    const KernelsOf<T>& kernel = kernels<T>();
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    auto decisions = std::make_unique<WinogradGradientDecisions>(request);
    WinogradGradientDecisions& plan = *decisions;
    const ConvProblem& o = plan.o;
    plan.width = kernel.width;
    plan.padding = plane_padding<T>;
    plan.vectors = ceil_div(o.k, kernel.width);
    plan.resident = kPoints * o.c * o.k * size <= kSumBytes;
    const std::int64_t widest = ceil_div(plan.vectors, ceil_div(plan.vectors, kernel.max_vectors)) * kernel.width;
    const std::int64_t tile_bytes = kPoints * (o.c + o.k) * size;
    if (plan.resident) {
        // A power of two, so that 2 or 4 threads get equal shares.
        while (2 * plan.parts <= std::min(kParts, plan.tiles / kLeastTilesOfPart)) plan.parts *= 2;
        plan.chunk = std::clamp<std::int64_t>(kTileBytes / tile_bytes, 1, ceil_div(plan.tiles, plan.parts));
    } else {
        plan.chunk = std::clamp<std::int64_t>(kChunkBytes / tile_bytes, 1, std::max<std::int64_t>(1, plan.tiles));
        const std::int64_t most = std::max<std::int64_t>(1, kSumBytes / (kPoints * widest * size));
        plan.c_blocks = ceil_div(o.c, std::min<std::int64_t>(most, 48));
        plan.k_blocks = ceil_div(plan.vectors, kernel.max_vectors);
    }
    if (plan.planes) plan.transform_tiles = block_of_rows(kPlaneTiles, plan.grid.columns);
    PlanSummary& summary = plan.summary;
    summary.multiplications = static_cast<double>(kPoints * plan.tiles) * static_cast<double>(o.c * o.k);
    choose_blocks(plan);
    const PointBlocks c_blocks = plan.channels(), k_blocks = plan.filters();
    const std::int64_t channels = ceil_div(o.c, plan.c_blocks),
                       filters = ceil_div(plan.vectors, plan.k_blocks) * plan.width;
    const std::int64_t sums = kPoints * (channels * filters + plan.padding) * size;
    summary.kernel = o.r == 3 ? "outer_products on 36 points of 4x4 tiles" : "outer_products on 36 points of 2x2 tiles";
    summary.tile_filters = std::min(widest, filters);
    summary.tile_pixels = std::min(channels, kernel.outer_products_count[summary.tile_filters / kernel.width - 1]);
    summary.tasks = plan.resident ? plan.part_tasks().count : plan.block_tasks(plan.chunk).count;
    const std::int64_t points = (c_blocks.total() + k_blocks.total()) * size;
    summary.shared_bytes = plan.resident ? (plan.parts - 1) * o.r * o.s * o.c * o.k * size : points;
    summary.thread_bytes = plan.resident ? points + sums : sums;
    if (plan.planes) summary.thread_bytes += kStripPixels * strip_channels<T> * size;
    into.add(winograd_filter_gradient<T>(), std::move(decisions));
}

} // namespace

template <class T>
const Algorithm<T>& winograd_filter_gradient() {
    static constexpr Algorithm<T> algorithm{
        "winograd_filter_gradient",
        "winograd",
        kWinogradLimits,
        [](const Request& request) { return !request.is_correlation() && winograd_serves<T>(request.layer); },
        [](const Request& request) {
            const ConvProblem& o = request.layer;
            constexpr std::int64_t wide = 32, fewest = 16;
            const std::int64_t width = kernels<T>().width;
            // With few channels, the algorithm gains only if no lane is empty.
            const bool pays = (o.c >= wide && o.k >= wide) || (o.c >= fewest && o.k >= fewest && o.k % width == 0);
            if (!pays) return std::numeric_limits<double>::infinity();
            // As in the forward pass, each product counts twice.
            return 2 * winograd_products(o) * static_cast<double>(o.c * ceil_div(o.k, width));
        },
        plan<T>,
        run<T>};
    return algorithm;
}

template const Algorithm<float>& winograd_filter_gradient();
template const Algorithm<double>& winograd_filter_gradient();

} // namespace fastconv
