// Depthwise convolution, forward and input gradient. Windows that cross the border get a list of their valid taps, so
// that nothing is copied.
#include "algorithms/depthwise.h"

#include "algorithms/depthwise_runs.h"
#include "algorithms/epilogue.h"
#include "core/isa.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace fastconv {
namespace {

/// Pixels at this distance in memory fall into so few sets of the L1 cache that it cannot hold a window. The kernel
/// then goes along the channels, and does not slide from row to row.
constexpr std::int64_t kFarBytes = 2048;
// The most bytes of the rows of a window, for a block of channels. They stay in L2. If images stay there as well, the
// rows and the filters stay in L1. (For images from further away, more channels at a time suit the prefetchers better.
// A kernel that slides down reads rows less often.)
constexpr std::int64_t kWindowBytesInL1 = 40 << 10, kWindowBytesInL2 = 384 << 10;
constexpr std::int64_t kFilterBytes = 16 << 10; // of repeated filters; they stay in L1
constexpr std::int64_t kRepeatedVectors = 4;    // the fewest vectors of a row for which filters are repeated
constexpr std::int64_t kImageBytes = 1 << 20;   // an image up to this size stays in L2
constexpr std::int64_t kMemoryBytes = 13 << 20; // a batch of images of this size is not in the caches

struct DepthwiseDecisions : Decisions {
    Correlation g; // g.groups channels, of one input and one output each
    RowTasks cut;
    std::vector<Run> runs; // runs of an output row
    std::int64_t channels; // channels of a block, so that the rows of a window stay in L2
    // With few channels, the values of a block of a row, or else 0. The kernel then takes the values of a row for its
    // channels, and the rows for its pixels. The filters and the bias are repeated for the pixels of a block.
    std::int64_t repeated;
    bool slides_down; // the kernel slides from row to row in 3x3 windows; see kFarBytes
    bool prefetches;  // the next rows, since images come from memory; see kMemoryBytes

    Tasks tasks() const { return {cut.count(), 2.0 * g.multiplications()}; }
    std::vector<Phase> phases() const override {
        return {phase_of("rows", tasks(), [&](std::int64_t task) {
            const std::int64_t pixels = cut.rows_of(task).count * g.windows.q;
            return TaskCost{static_cast<double>(pixels * g.window() * cut.channels_of(task)), 0};
        })};
    }
};

/// Whether the kernel can slide from pixel to pixel.
bool slides(const Windows& a) { return a.stride_w <= 2 && a.dilation_w == 1 && (a.s == 3 || a.s == 5 || a.s == 7); }

/// Writes `count` values: those of `channels`, again and again. Each step doubles what there is.
template <class T>
void repeat_channels(const T* values, std::int64_t channels, std::int64_t count, T* to) {
    std::copy_n(values, channels, to);
    for (std::int64_t i = channels; i < count; i *= 2) std::copy_n(to, std::min(i, count - i), to + i);
}

/// Filters and bias, repeated for the pixels of a block.
template <class T>
class RepeatedFilters {
  public:
    RepeatedFilters(const DepthwiseDecisions& plan, const Operands<T>& operands)
        : count_(plan.repeated), taps_(plan.g.window()), values_((taps_ + 1) * count_), biased_(operands.bias) {
        const Correlation& g = plan.g;
        const T* const from = operands.filters + g.filters_start;
        for (std::int64_t t = 0; t < taps_; ++t)
            repeat_channels(from + t / g.windows.s * g.f_i + t % g.windows.s * g.f_j, g.groups, count_,
                            values_.get() + t * count_);
        if (biased_) repeat_channels(operands.bias, g.groups, count_, values_.get() + taps_ * count_);
    }
    const T* filters() const { return values_.get(); }
    const T* bias() const { return biased_ ? values_.get() + taps_ * count_ : nullptr; }

  private:
    std::int64_t count_, taps_;
    Scratch<T> values_;
    bool biased_;
};

/// Computes some output rows with repeated filters. The kernel slides from row to row, and skips rows outside the
/// image. Each sum adds a window column after the other.
template <class T>
void compute_repeated(const DepthwiseDecisions& plan, const Operands<T>& operands, const RepeatedFilters<T>& from,
                      const ImageRows& rows, std::vector<std::ptrdiff_t>& offsets) {
    const Correlation& g = plan.g;
    const Windows& a = g.windows;
    const T* const image = operands.input + g.input_start + rows.image * g.image;
    T* const output = operands.output + g.output_start + rows.image * g.out_image + rows.first * g.out_row;
    DepthwiseRow<T> row{};
    row.x_column = a.w * g.pixel;
    row.x_step = a.stride_h * row.x_column;
    row.y_step = g.out_row;
    row.rows = 1;
    row.pixels = rows.count;
    row.sliding = a.r;
    row.stride = a.stride_h;
    row.first_column = a.base_h + rows.first * a.stride_h;
    row.width = a.h;
    row.offsets = offsets.data();
    row.filter_offsets = offsets.data() + g.window();
    row.filters = from.filters();
    row.bias = from.bias();
    row.bounds = operands.kernel_bounds();
    for (const Run& run : plan.runs) {
        std::ptrdiff_t *offset = offsets.data(), *filter = offset + g.window();
        for (std::int64_t j = run.j0; j < run.j1; ++j) {
            for (std::int64_t i = 0; i < a.r; ++i) {
                *offset++ = (row.first_column + i) * row.x_column + (a.base_w + run.x0 + j * a.dilation_w) * g.pixel;
                *filter++ = (i * a.s + j) * plan.repeated;
            }
        }
        row.taps = (run.j1 - run.j0) * a.r;
        const std::int64_t values = run.pixels * g.groups;
        for (std::int64_t first = 0; first < values; first += plan.repeated) {
            row.x = image + first;
            row.y = output + run.x0 * g.out_pixel + first;
            row.channels = std::min(plan.repeated, values - first);
            kernels<T>().depthwise_row(row);
        }
    }
    finish_tile(g, operands, rows.image, 0, {rows.first, rows.count, 0, a.q}, 0, g.groups);
}

/// Computes channels [c0, c0 + channels) of `rows` output rows from y on, which have the same valid taps.
template <class T>
void compute_rows(const DepthwiseDecisions& plan, const Operands<T>& operands, std::int64_t n, std::int64_t y,
                  std::int64_t rows, std::int64_t c0, std::int64_t channels, std::vector<std::ptrdiff_t>& offsets) {
    const Correlation& g = plan.g;
    const Windows& a = g.windows;
    const T* const image = operands.input + g.input_start + n * g.image;
    T* const output = operands.output + g.output_start + n * g.out_image + y * g.out_row;
    std::int64_t i0 = 0, i1 = 0;
    const std::int64_t top = a.base_h + y * a.stride_h;
    valid_taps(top, a.dilation_h, a.r, a.h, i0, i1);
    for (const Run& run : plan.runs) {
        const std::int64_t taps = (i1 - i0) * (run.j1 - run.j0), left = a.base_w + run.x0 * a.stride_w;
        std::ptrdiff_t *offset = offsets.data(), *filter = offset + g.window();
        for (std::int64_t i = i0; i < i1; ++i) {
            for (std::int64_t j = run.j0; j < run.j1; ++j) {
                *offset++ = ((top + i * a.dilation_h) * a.w + left + j * a.dilation_w) * g.pixel;
                *filter++ = i * g.f_i + j * g.f_j;
            }
        }
        DepthwiseRow<T> row{};
        row.x = image + c0;
        row.x_row = a.stride_h * a.w * g.pixel;
        row.x_step = a.stride_w * g.pixel;
        row.offsets = offsets.data();
        row.filter_offsets = offsets.data() + g.window();
        row.taps = taps;
        row.filters = operands.filters + g.filters_start + c0;
        row.bias = operands.bias ? operands.bias + c0 : nullptr;
        row.bounds = operands.kernel_bounds();
        row.y = output + run.x0 * g.out_pixel + c0;
        row.y_row = g.out_row;
        row.y_step = g.out_pixel;
        row.rows = rows;
        row.pixels = run.pixels;
        row.channels = channels;
        row.sliding = slides(a) && run.j1 - run.j0 == a.s ? a.s : 0;
        row.stride = a.stride_w;
        row.x_column = g.pixel;
        row.first_column = left;
        row.width = a.w;
        row.rows_below = plan.prefetches ? std::min(a.stride_h, i1 - i0) : 0;
        row.sliding_rows = row.sliding == 3 && i1 - i0 == 3 && plan.slides_down;
        kernels<T>().depthwise_row(row);
    }
    finish_tile(g, operands, n, 0, {y, rows, 0, a.q}, c0, channels);
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const DepthwiseDecisions&>(decisions);
    const Correlation& g = plan.g;
    const Windows& a = g.windows;
    parallel_for(plan.tasks(), [&](std::int64_t task) {
        const ImageRows rows = plan.cut.rows_of(task);
        const std::int64_t end = rows.first + rows.count, last = plan.cut.part(task)[1];
        std::vector<std::ptrdiff_t> offsets(static_cast<std::size_t>(2 * g.window()));
        if (plan.repeated > 0)
            return compute_repeated(plan, operands, RepeatedFilters<T>(plan, operands), rows, offsets);
        for (std::int64_t c0 = *plan.cut.part(task); c0 < last; c0 += plan.channels) {
            for (std::int64_t y = rows.first, taken = 0; y < end; y += taken) {
                taken = rows_alike(a, y, end);
                compute_rows(plan, operands, rows.image, y, taken, c0, std::min(plan.channels, last - c0), offsets);
            }
        }
    });
}

/// The values of a block of a row if filters are to be repeated, or 0: if at least half of a vector of channels would
/// be empty, rows are long, and the kernel can slide from row to row.
template <class T>
std::int64_t repeated_values(const Correlation& g) {
    const Windows& a = g.windows;
    const std::int64_t channels = g.groups, width = kernels<T>().width;
    const bool dense = g.pixel == channels && g.out_pixel == channels && a.stride_w == 1;
    const bool slides_down = a.stride_h <= 2 && a.dilation_h == 1 && (a.r == 3 || a.r == 5 || a.r == 7);
    if (!dense || !slides_down || 2 * channels > width || a.q < kRepeatedVectors * width / channels) return 0;
    const std::int64_t fit = kFilterBytes / (g.window() * channels * static_cast<std::int64_t>(sizeof(T)) + 1);
    return fit < width ? 0 : std::min(fit / width * width, a.q) * channels;
}

template <class T>
void plan(const Request& request, ConvPlan<T>& plan) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    auto decisions = std::make_unique<DepthwiseDecisions>();
    const Correlation& g = decisions->g = request.part;
    const Windows& a = g.windows;
    decisions->repeated = repeated_values<T>(g);
    decisions->slides_down = slides(a) && decisions->repeated == 0 && a.s == 3 && a.r == 3 && a.stride_w == 1 &&
                             a.stride_h == 1 && a.dilation_h == 1 && g.pixel * size < kFarBytes;
    choose_row_tasks(*decisions, request.threads, {g.n, g.windows.p, g.groups, kernels<T>().width});
    const bool in_l1 =
        decisions->cut.rows.rows > 1 && !decisions->slides_down && a.h * a.w * g.pixel * size <= kImageBytes;
    const std::int64_t bytes_per_channel = size * std::max<std::int64_t>(1, a.r * (in_l1 ? a.w + a.s : a.w));
    decisions->prefetches = g.n * a.h * a.w * g.pixel * size >= kMemoryBytes;
    const std::int64_t bytes = in_l1 ? kWindowBytesInL1 : kWindowBytesInL2;
    decisions->channels = std::max<std::int64_t>(64, bytes / bytes_per_channel / 64 * 64);
    // Register tiles that slide along the row alone skip taps outside the image, so one run covers the whole row. Tiles
    // that also slide down serve only inner pixels. They have no branches and are twice as fast.
    decisions->runs = slides(a) && !decisions->slides_down && decisions->repeated == 0
                          ? std::vector<Run>{{0, a.q, 0, a.s}}
                          : runs_of(a);
    PlanSummary& summary = decisions->summary;
    summary.kernel = "depthwise_row";
    summary.tile_pixels = 1;
    summary.tile_filters = kernels<T>().width;
    summary.tasks = decisions->tasks().count;
    summary.thread_bytes = (g.window() + 1) * decisions->repeated * size;
    summary.multiplications = g.multiplications();
    plan.add(depthwise<T>(), std::move(decisions));
}

} // namespace

template <class T>
const Algorithm<T>& depthwise() {
    static constexpr Algorithm<T> algorithm{
        "depthwise",
        "depthwise",
        kDepthwiseLimits,
        [](const Request& request) { return request.is_correlation() && is_depthwise(request.layer); },
        depthwise_cost,
        plan<T>,
        run<T>};
    return algorithm;
}

template const Algorithm<float>& depthwise();
template const Algorithm<double>& depthwise();

} // namespace fastconv
