// The filter gradient of a depthwise convolution. Usually, it reads the input in place. If channels are so many that
// pixels are far apart in memory, it first copies the input to planes, each of one vector of channels (see
// kernels/depthwise.cpp).
#include "algorithms/depthwise.h"

#include "algorithms/depthwise_runs.h"
#include "core/isa.h"
#include "core/partial_sums.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

namespace fastconv {
namespace {

constexpr std::int64_t kFarBytes = 2048;         // least distance between pixels for which planes pay
constexpr std::int64_t kPlaneBytes = 24 << 10;   // the input of a plane, which fits into L1
constexpr std::int64_t kBlockVectors = 4;        // planes of a task, so that memory is read in runs of 4 vectors
constexpr std::int64_t kBlockBytes = 16 << 10;   // the sums of a block of few channels, which stay in L1
constexpr std::int64_t kRowVectors = 4;          // the fewest vectors of a row for which blocks pay,
constexpr std::int64_t kSplitBlocks = 16;        // and the fewest blocks of a split
constexpr std::int64_t kLongest = 16;            // the most rows that one sum adds; this bounds its error
constexpr std::int64_t kParts = 32;              // tasks for 16 threads; fixed, because it decides the order of the sum
constexpr std::int64_t kPartialBytes = 16 << 20; // all partial sums

struct DepthwiseGradientDecisions : Decisions {
    ConvProblem o;
    Windows a;
    bool planes;
    // With few channels, the values of a block of a row, or else 0: whole vectors and whole pixels. The kernel then
    // takes the values of a block for its channels, and the blocks for its pixels.
    std::int64_t block;
    std::vector<Run> runs; // if the input is read in place: the runs of an output row
    RowTiles rows;         // output rows of a plane; one row if the input is read in place
    ChannelParts parts;    // of the tasks
    std::int64_t splits;   // the rows or planes are divided into splits, each with its own sums

    std::int64_t window() const { return o.r * o.s; }
    std::int64_t total() const { return window() * o.c; }
    /// The rows or planes [first_part(split), first_part(split + 1)) of a split.
    std::int64_t first_part(std::int64_t split) const { return part_start(split, splits, rows.count()); }
    Tasks tasks() const { return {splits * parts.count, 2.0 * summary.multiplications}; }
    std::vector<Phase> phases() const override {
        const auto cost = [&](std::int64_t task) {
            const std::int64_t split = task / parts.count, channels = parts.size(task % parts.count);
            TaskCost total{0, static_cast<double>(window() * channels)};
            for (std::int64_t at = first_part(split); at < first_part(split + 1); ++at) {
                const std::int64_t pixels = rows.tile(at).count * o.q;
                total.multiplications += static_cast<double>(pixels * window() * channels);
                // Planes hold the input, which has at least `stride` values for each pixel, and dy.
                if (planes)
                    total.moved_values += static_cast<double>(pixels * (o.stride_h * o.stride_w + 1) * channels);
            }
            return total;
        };
        return {phase_of("products", tasks(), cost), partials_phase(splits - 1, total())};
    }
};

/// Some input rows with their padding, as planes.
template <class T>
struct Planes {
    std::int64_t lines, columns, plane;

    Planes(const Windows& a, std::int64_t rows)
        : lines((rows - 1) * a.stride_h + (a.r - 1) * a.dilation_h + 1),
          columns((a.q - 1) * a.stride_w + (a.s - 1) * a.dilation_w + 1),
          plane((lines * columns + 1) * kernels<T>().width) {} // + 1, so that planes are not a power of two apart
    std::int64_t line() const { return columns * kernels<T>().width; }

    void fill(const Windows& a, std::int64_t y0, const T* image, std::int64_t pixel, std::int64_t channels,
              T* to) const {
        const std::int64_t top = a.base_h + y0 * a.stride_h;
        const std::int64_t first = std::clamp<std::int64_t>(-top, 0, lines);
        const std::int64_t last = std::clamp<std::int64_t>(a.h - top, first, lines);
        const std::int64_t left = std::clamp<std::int64_t>(-a.base_w, 0, columns);
        const std::int64_t right = std::clamp<std::int64_t>(a.w - a.base_w, left, columns);
        if (first > 0 || last < lines || left > 0 || right < columns) std::fill_n(to, kBlockVectors * plane, T{});
        for (std::int64_t t = first; t < last; ++t)
            kernels<T>().split_channels(image + ((top + t) * a.w + a.base_w + left) * pixel, pixel, right - left,
                                        channels, to + t * line() + left * kernels<T>().width, plane);
    }
};

/// One task with planes: a block of channels, over one split of the planes.
template <class T>
void sum_planes(const DepthwiseGradientDecisions& plan, const Operands<T>& operands, std::int64_t split,
                std::int64_t c0, std::int64_t channels, T* to) {
    const ConvProblem& o = plan.o;
    const Windows& a = plan.a;
    const KernelsOf<T>& kernel = kernels<T>();
    const std::int64_t width = kernel.width, window = plan.window(), block = kBlockVectors * width;
    const std::int64_t dy_plane = (plan.rows.rows * o.q + 1) * width;
    const Scratch<T> x_planes(kBlockVectors * Planes<T>(a, plan.rows.rows).plane), gradient(kBlockVectors * dy_plane);
    const Scratch<T> sums(window * block);
    const Scratch<std::ptrdiff_t> offsets(2 * window);
    std::fill_n(sums.get(), window * block, T{});
    const std::int64_t end = plan.first_part(split + 1);
    for (std::int64_t at = plan.first_part(split); at < end; ++at) {
        const auto [n, y0, count] = plan.rows.tile(at);
        const Planes<T> planes(a, count);
        planes.fill(a, y0, operands.input + n * o.h * o.w * o.c + c0, o.c, channels, x_planes.get());
        kernel.split_channels(operands.out_backprop + (n * o.p + y0) * o.q * o.c + c0, o.c, count * o.q, channels,
                              gradient.get(), dy_plane);
        for (std::int64_t t = 0; t < window; ++t) {
            offsets.get()[t] = t / o.s * o.dilation_h * planes.line() + t % o.s * o.dilation_w * width;
            offsets.get()[window + t] = t * width;
        }
        DepthwiseFilterRows<T> products{};
        products.x_row = a.stride_h * planes.line();
        products.x_step = a.stride_w * width;
        products.offsets = offsets.get();
        products.out_offsets = offsets.get() + window;
        products.taps = window;
        products.dy_row = o.q * width;
        products.dy_step = width;
        products.rows = count;
        products.pixels = o.q;
        products.channels = width; // the lanes beyond the last channel are zeros
        products.sliding = a.stride_w == 1 && a.dilation_w == 1 && o.s == 3;
        for (std::int64_t v = 0; v < ceil_div(channels, width); ++v) {
            products.x = x_planes.get() + v * planes.plane;
            products.dy = gradient.get() + v * dy_plane;
            products.out = sums.get() + v * window * width;
            kernel.depthwise_filter_rows(products);
        }
    }
    for (std::int64_t t = 0; t < window; ++t)
        kernel.join_channels(sums.get() + t * width, window * width, 1, channels, to + t * o.c + c0, 0);
}

/// Adds up rows whose values the kernel takes for channels.
template <class T>
void sum_blocks(const DepthwiseFilterRows<T>& run, std::int64_t values, std::int64_t block) {
    DepthwiseFilterRows<T> products = run;
    products.x_step = products.dy_step = products.channels = block;
    products.pixels = values / block;
    if (products.pixels > 0) kernels<T>().depthwise_filter_rows(products);
    products.x += products.pixels * block;
    products.dy += products.pixels * block;
    products.channels = values % block;
    products.pixels = 1;
    if (products.channels > 0) kernels<T>().depthwise_filter_rows(products);
}

/// One task in place: a block of channels, over one split of the output rows. With plan.block, `to` has that many
/// values for each tap, and all channels are summed.
template <class T>
void sum_rows(const DepthwiseGradientDecisions& plan, const Operands<T>& operands, std::int64_t split, std::int64_t c0,
              std::int64_t channels, T* to) {
    const ConvProblem& o = plan.o;
    const Windows& a = plan.a;
    const std::int64_t tap_values = plan.block > 0 ? plan.block : o.c;
    if (channels == o.c)
        std::fill_n(to, plan.window() * tap_values, T{});
    else
        for (std::int64_t tap = 0; tap < plan.window(); ++tap) std::fill_n(to + tap * o.c + c0, channels, T{});
    std::vector<std::ptrdiff_t> offsets(static_cast<std::size_t>(2 * plan.window()));
    const std::int64_t end = plan.first_part(split + 1);
    for (std::int64_t at = plan.first_part(split), taken = 0; at < end; at += taken) {
        // Rows of one image with the same valid taps.
        const std::int64_t n = at / o.p, y = at % o.p, top = a.base_h + y * a.stride_h;
        std::int64_t i0 = 0, i1 = 0;
        valid_taps(top, a.dilation_h, a.r, a.h, i0, i1);
        taken = rows_alike(a, y, std::min({o.p, y + end - at, y + kLongest}));
        for (const Run& run : plan.runs) {
            const std::int64_t left = a.base_w + run.x0 * a.stride_w;
            std::ptrdiff_t *offset = offsets.data(), *out = offset + plan.window();
            for (std::int64_t i = i0; i < i1; ++i) {
                for (std::int64_t j = run.j0; j < run.j1; ++j) {
                    *offset++ = ((top + i * a.dilation_h) * a.w + left + j * a.dilation_w) * o.c;
                    *out++ = (i * o.s + j) * tap_values;
                }
            }
            DepthwiseFilterRows<T> products{};
            products.x = operands.input + n * o.h * o.w * o.c + c0;
            products.x_row = a.stride_h * a.w * o.c;
            products.x_step = a.stride_w * o.c;
            products.offsets = offsets.data();
            products.out_offsets = offsets.data() + plan.window();
            products.taps = (i1 - i0) * (run.j1 - run.j0);
            products.dy = operands.out_backprop + (at * o.q + run.x0) * o.c + c0;
            products.dy_row = o.q * o.c;
            products.dy_step = o.c;
            products.out = to + c0;
            products.rows = taken;
            if (plan.block > 0) {
                sum_blocks(products, run.pixels * o.c, plan.block);
                continue;
            }
            products.pixels = run.pixels;
            products.channels = channels;
            products.sliding = a.stride_w == 1 && a.dilation_w == 1 && run.j1 - run.j0 == 3;
            kernels<T>().depthwise_filter_rows(products);
        }
    }
}

/// As sum_rows for all channels, of which there are few: adds the pixels of a block at the end.
template <class T>
void sum_few_channels(const DepthwiseGradientDecisions& plan, const Operands<T>& operands, std::int64_t split,
                      std::int64_t c0, std::int64_t channels, T* to) {
    const Scratch<T> sums(plan.window() * plan.block);
    sum_rows(plan, operands, split, c0, channels, sums.get());
    for (std::int64_t tap = 0; tap < plan.window(); ++tap) {
        const T* const block = sums.get() + tap * plan.block;
        T* const sum = to + tap * channels;
        std::copy_n(block, channels, sum);
        for (std::int64_t i = channels; i < plan.block; i += channels)
            for (std::int64_t c = 0; c < channels; ++c) sum[c] += block[i + c];
    }
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const DepthwiseGradientDecisions&>(decisions);
    const std::int64_t total = plan.total();
    const Scratch<T> partial((plan.splits - 1) * total); // the first split sums into the output
    const auto sum_of = [&](std::int64_t split) {
        return split == 0 ? operands.output : partial.get() + (split - 1) * total;
    };
    parallel_for(plan.tasks(), [&](std::int64_t task) {
        const std::int64_t split = task / plan.parts.count, part = task % plan.parts.count;
        const auto sum = plan.planes ? sum_planes<T> : plan.block > 0 ? sum_few_channels<T> : sum_rows<T>;
        sum(plan, operands, split, plan.parts.first(part), plan.parts.size(part), sum_of(split));
    });
    add_partials(plan.splits - 1, total, partial.get(), operands.output);
}

/// The values of a block of a row, or 0: if at least half of a vector of channels would be empty, rows are long, and a
/// split has many blocks.
template <class T>
std::int64_t block_values(const ConvProblem& o, std::int64_t splits) {
    const std::int64_t width = kernels<T>().width, block = std::lcm(o.c, width), row = o.q * o.c;
    if (o.stride_w != 1 || 2 * o.c > width || row < kRowVectors * width) return 0;
    const bool fits = o.r * o.s * block * static_cast<std::int64_t>(sizeof(T)) <= kBlockBytes;
    return fits && o.n * o.p * row >= splits * kSplitBlocks * block ? block : 0;
}

template <class T>
void plan(const Request& request, ConvPlan<T>& into) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    auto decisions = std::make_unique<DepthwiseGradientDecisions>();
    DepthwiseGradientDecisions& plan = *decisions;
    const ConvProblem& o = plan.o = request.layer;
    const Windows& a = plan.a = windows_of(o);
    // The number of splits fixes the order of the sum, so it follows from the problem alone.
    plan.planes = o.c * size >= kFarBytes && a.r > 0 && a.s > 0 && Planes<T>(a, 1).plane * size <= kPlaneBytes;
    const std::int64_t width = kernels<T>().width;
    std::int64_t blocks = 1; // of channels
    if (plan.planes) {
        std::int64_t rows = 1;
        while (rows < std::min(a.p, kLongest) && Planes<T>(a, rows + 1).plane * size <= kPlaneBytes) ++rows;
        plan.rows = {o.n, o.p, rows};
        blocks = ceil_div(ceil_div(o.c, width), kBlockVectors);
        plan.splits = std::min(ceil_div(kParts, blocks), plan.rows.count());
    } else {
        plan.rows = {o.n, o.p, 1};
        plan.runs = runs_of(a);
        const std::int64_t fit = kPartialBytes / (plan.total() * size);
        plan.splits = std::clamp<std::int64_t>(std::min(fit, plan.rows.count()), 1, kParts);
    }
    plan.block = plan.planes ? 0 : block_values<T>(o, plan.splits);
    PlanSummary& summary = plan.summary;
    summary.multiplications = static_cast<double>(o.n * o.p * o.q) * static_cast<double>(plan.total());
    const std::int64_t most = request.threads > kFewThreads ? ceil_div(o.c, width) : blocks;
    set_shortest(plan, request.threads, finer_parts(blocks, most),
                 [&](std::int64_t parts) { plan.parts = {parts, o.c, width}; });
    summary.kernel = "depthwise_filter_rows";
    summary.tile_pixels = 1;
    summary.tile_filters = kernels<T>().width;
    summary.tasks = plan.tasks().count;
    summary.thread_bytes = plan.window() * plan.block * size;
    summary.shared_bytes = (plan.splits - 1) * plan.total() * size;
    into.add(depthwise_filter_gradient<T>(), std::move(decisions));
}

} // namespace

template <class T>
const Algorithm<T>& depthwise_filter_gradient() {
    static constexpr Algorithm<T> algorithm{
        "depthwise_filter_gradient",
        "depthwise",
        kDepthwiseLimits,
        [](const Request& request) { return !request.is_correlation() && is_depthwise(request.layer); },
        depthwise_cost,
        plan<T>,
        run<T>};
    return algorithm;
}

template const Algorithm<float>& depthwise_filter_gradient();
template const Algorithm<double>& depthwise_filter_gradient();

} // namespace fastconv
