// Pooling with large windows: first along the rows of the input, then along its columns.
//
// Each direction takes a logarithmic number of steps. A step combines results for windows of m taps, shifted against
// each other, to results for windows of up to 2*m taps (2*m + 1 in a sum, with one more input value). Nothing is ever
// subtracted, so a value that is not finite affects its own windows only, and a mean has a smaller rounding error than
// a plain sum. The order of additions follows from the window alone. A maximum is the first one in row-major order, as
// in the other kernels.
//
// A task computes a tile of the output: all steps along the rows, a few lines at a time, then all steps along the
// columns, a few columns at a time. Pixels and channels are flattened, so few channels fill vectors as well as many do.
#include "algorithms/separable_pooling.h"

#include "algorithms/plan_kind.h"
#include "algorithms/pool_windows.h"
#include "core/isa.h"
#include "core/numbers.h"
#include "core/plan_cache.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <vector>

namespace fastconv {
namespace {

// Costs for one value, unless said otherwise. The unit is about 0.1 ns on a core with vectors of 32 bytes.
constexpr double kStep = 0.7;                   // a step
constexpr double kCopy = 1.25;                  // copying into a line
constexpr double kRun = 32;                     // more, for each copied pixel of which the tile has only some channels
constexpr double kPart = 10;                    // more, for each pixel of a strided step with less than a vector
constexpr double kLine = 80;                    // each line of a tile
constexpr double kTask = 2000;                  // starting a task
constexpr double kBeyondCache = 1;              // more, if the tile exceeds L2
constexpr double kMaxTap = 0.75, kSumTap = 0.3; // a tap of a window, in the kernels that read every tap
constexpr double kTranspose = 0.75;             // their input or output in NCHW

constexpr std::int64_t kCacheLine = 64;
constexpr std::int64_t kTileInCache = 320 << 10, kMostScratch = 2 << 20;     // bytes
constexpr std::int64_t kLinesInCache = 16 << 10, kColumnsInCache = 32 << 10; // bytes
constexpr std::int64_t kValuesOfTask = 32 << 10;                             // small images share a task
constexpr std::int64_t kLargestExtent = 1 << 20;                             // of a window, in pixels

/// Combines results at a distance of `shift` positions and, in a sum, the value at the distance `third` (unless 0). A
/// result of the step depends on `reach` more positions behind its own.
struct Step {
    std::int64_t shift, third, reach;
};

std::vector<Step> steps_of(const PoolAxis& axis, PoolKind kind) {
    const std::int64_t taps = axis.window, d = axis.dilation;
    if (taps == 1) return {{0, 0, 0}}; // a copy
    // A maximum may count a tap twice, so its sizes are rounded up: 13 taps from 7, 4, 2. A sum takes 13 from 6 and 3.
    const auto size = [&](int halvings) {
        return kind == PoolKind::max ? ((taps - 1) >> halvings) + 1 : taps >> halvings;
    };
    int halvings = 0;
    while (size(halvings) > 1) ++halvings;
    std::vector<Step> steps;
    for (std::int64_t done = 1; halvings > 0; done = size(halvings)) {
        const std::int64_t next = size(--halvings);
        const bool third = next > 2 * done;
        steps.push_back({(third ? done : next - done) * d, third ? 2 * done * d : 0, (next - 1) * d});
    }
    return steps;
}

/// The sizes of a tile of the output.
struct TileSizes {
    std::int64_t channels = 0, rows = 0, columns = 0;
};
/// A tile, and where it is in an image.
struct Area {
    std::int64_t c0, y0, x0;
    TileSizes size;
};

template <class T>
struct Buffers {
    T *lines, *line_results;     // a few lines of the input, and the results of steps on them
    T* tile;                     // the results along the rows, for all lines of the tile
    T* column_results;           // the results of steps on a few columns of the tile
    T *line_divisors, *divisors; // of means: for each line of the output, and for each column and channel
};

/// Values along an axis, `step` apart.
template <class T>
struct Positions {
    const T* values;
    std::ptrdiff_t step;
};

class SeparablePlan : public Plan {
  public:
    SeparablePlan(const PoolProblem& problem, PoolKind kind, std::int64_t threads);

    bool pays() const { return pays_; }
    template <class T>
    void run(const T* input, T* output) const;

  private:
    std::int64_t in_rows(std::int64_t rows) const { return (rows - 1) * o_.stride_h + vertical_.extent(); }
    std::int64_t in_columns(std::int64_t columns) const { return (columns - 1) * o_.stride_w + horizontal_.extent(); }
    /// The values of a copied line. Lines at a distance of a large power of two would share few sets of a cache.
    std::int64_t line_values(const TileSizes& tile) const {
        const std::int64_t pixels = in_columns(tile.columns), bytes = pixels * tile.channels * value_bytes_;
        return (bytes % 1024 == 0 ? pixels + 1 : pixels) * tile.channels;
    }
    /// With stride 1, a line of the tile also has the results that begin too far right to be used.
    std::int64_t tile_line_values(const TileSizes& tile) const {
        return o_.stride_w == 1 ? line_values(tile) : tile.columns * tile.channels;
    }
    std::int64_t tile_values(const TileSizes& tile) const { return in_rows(tile.rows) * tile_line_values(tile); }
    std::int64_t tiles(const TileSizes& tile) const {
        return ceil_div(o_.c, tile.channels) * ceil_div(o_.p, tile.rows) * ceil_div(o_.q, tile.columns);
    }
    /// Several images if they are small, unless some thread would have no task.
    std::int64_t images_per_task(const TileSizes& tile, std::int64_t images, std::int64_t threads) const {
        const std::int64_t most = std::max<std::int64_t>(1, images * tiles(tile) / threads);
        return std::clamp<std::int64_t>(kValuesOfTask / tile_values(tile), 1, most);
    }
    std::int64_t lines_at_once(const TileSizes& tile) const {
        const std::int64_t fitting = kLinesInCache / (line_values(tile) * value_bytes_);
        return std::clamp<std::int64_t>(fitting, 1, in_rows(tile.rows));
    }
    std::int64_t columns_at_once(const TileSizes& tile) const {
        const std::int64_t of_row = std::max(kColumnsInCache / in_rows(tile.rows), kCacheLine);
        return std::clamp<std::int64_t>(of_row / (value_bytes_ * tile.channels), 1, tile.columns);
    }
    /// The values of each buffer, in the order of Buffers.
    std::array<std::int64_t, 6> buffer_values(const TileSizes& tile) const {
        const std::int64_t lines = lines_at_once(tile) * line_values(tile);
        const std::int64_t columns = columns_at_once(tile) * tile.channels;
        return {lines, lines, tile_values(tile), in_rows(tile.rows) * columns, tile.rows, tile.columns * tile.channels};
    }
    /// The size of a task's scratch memory.
    std::int64_t scratch_values(const TileSizes& tile) const {
        std::int64_t values = 0;
        for (const std::int64_t some : buffer_values(tile)) values += in_cache_lines(some);
        return values;
    }
    std::int64_t in_cache_lines(std::int64_t values) const {
        const std::int64_t line = kCacheLine / value_bytes_;
        return ceil_div(values, line) * line;
    }
    template <class T>
    Buffers<T> buffers_in(T* scratch, const TileSizes& tile) const {
        std::array<T*, 6> at{};
        const std::array<std::int64_t, 6> values = buffer_values(tile);
        for (std::size_t i = 0; i < at.size(); scratch += in_cache_lines(values[i++])) at[i] = scratch;
        return {at[0], at[1], at[2], at[3], at[4], at[5]};
    }
    double cost(const TileSizes& tile, std::int64_t images, std::int64_t threads) const;
    TileSizes cheapest_tile(std::int64_t images, std::int64_t threads) const;

    template <class T>
    auto kernel() const {
        return kind_ == PoolKind::max ? kernels<T>().max_shifted : kernels<T>().add_shifted;
    }
    template <class T>
    Positions<T> all_steps_but_last(const std::vector<Step>& steps, const Positions<T>& x, std::int64_t positions,
                                    std::int64_t count, T* results) const;
    template <class T>
    void copy_lines(const Area& area, const T* image, std::int64_t h, std::int64_t count, T* to) const;
    template <class T>
    void along_rows(const Area& area, const T* image, const Buffers<T>& buffers) const;
    template <class T>
    void along_columns(const Area& area, const Buffers<T>& buffers, T* output) const;
    template <class T>
    void set_divisors(const Area& area, const Buffers<T>& buffers) const;
    template <class T>
    T identity() const {
        return kind_ == PoolKind::max ? -std::numeric_limits<T>::infinity() : T{};
    }

    PoolProblem o_; // NHWC, with the channels of NCHW as images of their own
    PoolKind kind_;
    std::int64_t value_bytes_;
    PoolAxis vertical_, horizontal_;
    bool pays_ = false;
    std::vector<Step> across_, down_; // the steps along rows and along columns
    TileSizes tile_;
    std::int64_t images_ = 0; // per task
};

PoolProblem with_planes_as_images(PoolProblem o) {
    if (o.format == DataFormat::nhwc) return o;
    o.format = DataFormat::nhwc;
    o.n *= o.c;
    o.c = 1;
    return o;
}

double number(std::int64_t value) { return static_cast<double>(value); }

std::int64_t width_of(DataType type) {
    return for_type(type, [](auto t) { return kernels<typename decltype(t)::type>().width; });
}

/// The cost of one image with the kernels that read every tap.
double cost_of_all_taps(const PoolProblem& o, PoolKind kind) {
    const double taps = number(std::min(o.r, o.h)) * number(std::min(o.s, o.w));
    const std::int64_t width = width_of(o.dtype);
    // Several windows of 2 x 2 share a vector (max_pool_2x2.h).
    const bool pairs = kind == PoolKind::max && o.r == 2 && o.s == 2 && o.stride_w == 2 && o.dilation_w == 1;
    const double lanes = number(pairs ? o.c : ceil_div(o.c, width) * width);
    const double outputs = number(o.p) * number(o.q);
    const double transposed = o.format == DataFormat::nchw ? number(o.h) * number(o.w) + outputs : 0;
    return outputs * lanes * taps * (kind == PoolKind::max ? kMaxTap : kSumTap) + transposed * number(o.c) * kTranspose;
}

/// Whether the separable form could pay: a quick answer, so that common small windows need no plan.
bool may_pay(const PoolProblem& o, PoolKind kind) {
    if (o.n == 0 || o.adaptive || rows_of(o).extent() > kLargestExtent || columns_of(o).extent() > kLargestExtent)
        return false;
    const double values = number(o.p) * number(o.q) * number(o.c);
    return values > 0 && cost_of_all_taps(o, kind) > (kCopy + 2) * values;
}

// ---- The plan ----------------------------------------------------------------------------------------------------

SeparablePlan::SeparablePlan(const PoolProblem& problem, PoolKind kind, std::int64_t threads)
    : o_(with_planes_as_images(problem)), kind_(kind), value_bytes_(size_of(problem.dtype)), vertical_(rows_of(o_)),
      horizontal_(columns_of(o_)), across_(steps_of(horizontal_, kind)), down_(steps_of(vertical_, kind)) {
    // The choice between the two forms does not depend on the number of images or threads.
    tile_ = cheapest_tile(1, 1);
    const double planes = number(problem.format == DataFormat::nchw ? problem.c : 1);
    pays_ = tile_.channels > 0 && planes * cost(tile_, 1, 1) < cost_of_all_taps(problem, kind);
    if (!pays_) return;
    tile_ = cheapest_tile(o_.n, threads);
    images_ = images_per_task(tile_, o_.n, threads);
}

/// The cost of `images` images, if all threads have to wait for the last one.
double SeparablePlan::cost(const TileSizes& tile, std::int64_t images, std::int64_t threads) const {
    const double lines = number(in_rows(tile.rows)), line = number(in_columns(tile.columns));
    const double channels = number(tile.channels);
    const bool in_cache = tile_values(tile) * value_bytes_ <= kTileInCache;
    const double copy = kCopy + (tile.channels < o_.c ? kRun / channels : 0) + (in_cache ? 0 : kBeyondCache);
    const double partial = o_.stride_w > 1 && tile.channels < width_of(o_.dtype) ? kPart / channels : 0;
    const double values = lines * line * (copy + kStep * static_cast<double>(across_.size())) +
                          lines * number(tile.columns) * (partial + kStep * static_cast<double>(down_.size()));
    const std::int64_t together = images_per_task(tile, images, threads);
    const std::int64_t tasks = tiles(tile) * ceil_div(images, together);
    return ((values * channels + lines * kLine) * number(together) + kTask) *
           number(ceil_div(tasks, threads) * threads);
}

/// The numbers of parts that cheapest_tile tries: 1 to 6, then each half as large again as the one before.
std::int64_t more_parts(std::int64_t parts) { return parts < 6 ? parts + 1 : parts + parts / 2; }

/// A tile of no channels if no tile fits into the scratch memory.
TileSizes SeparablePlan::cheapest_tile(std::int64_t images, std::int64_t threads) const {
    const std::int64_t line = kCacheLine / value_bytes_;
    TileSizes best;
    double lowest = std::numeric_limits<double>::infinity();
    for (std::int64_t channels = o_.c; channels > 0;) {
        for (std::int64_t i = 1; i <= o_.p; i = more_parts(i))
            for (std::int64_t j = 1; j <= o_.q; j = more_parts(j)) {
                const TileSizes tile{channels, ceil_div(o_.p, i), ceil_div(o_.q, j)};
                // The first condition keeps the products of the second one in 64 bits.
                if (in_rows(tile.rows) > kMostScratch || line_values(tile) > kMostScratch) continue;
                if (scratch_values(tile) * value_bytes_ > kMostScratch) continue;
                const double cost_of_tile = cost(tile, images, threads);
                if (cost_of_tile >= lowest) continue;
                lowest = cost_of_tile;
                best = tile;
            }
        channels = channels > 2 * line ? ceil_div(channels / 2, line) * line : channels / 2;
    }
    return best;
}

// ---- A tile ------------------------------------------------------------------------------------------------------

/// Sets what a step reads: the results of the step before it, and the input.
template <class T>
void set_sources(ShiftedLines<T>& a, const Step& step, const Positions<T>& results, const Positions<T>& input) {
    a.x = results.values;
    a.shift = step.shift * results.step;
    a.third = step.third == 0 ? nullptr : input.values + step.third * input.step;
}

/// Returns where the last step finds the results of the others. Each position has `count` values.
template <class T>
Positions<T> SeparablePlan::all_steps_but_last(const std::vector<Step>& steps, const Positions<T>& input,
                                               std::int64_t positions, std::int64_t count, T* results) const {
    Positions<T> from = input;
    for (std::size_t i = 0; i + 1 < steps.size(); ++i) {
        ShiftedLines<T> a{};
        set_sources(a, steps[i], from, input);
        a.x_row = from.step;
        a.third_row = input.step;
        a.y = results;
        a.y_row = count;
        a.lines = 1;
        a.rows = positions - steps[i].reach;
        a.count = count;
        kernel<T>()(a);
        from = {results, count};
    }
    return from;
}

/// Copies the pixels of input lines [h, h + count) that the tile's windows read. Pixels in the padding change no
/// result.
template <class T>
void SeparablePlan::copy_lines(const Area& area, const T* image, std::int64_t h, std::int64_t count, T* to) const {
    const std::int64_t channels = area.size.channels, line = line_values(area.size), pixels = line / channels;
    const std::int64_t x0 = area.x0 * o_.stride_w - o_.pad_left;
    const std::int64_t first = std::clamp<std::int64_t>(-x0, 0, pixels);
    const std::int64_t last = std::clamp<std::int64_t>(o_.w - x0, first, pixels);
    for (std::int64_t i = 0; i < count; ++i) {
        std::fill_n(to + i * line, first * channels, identity<T>());
        std::fill_n(to + i * line + last * channels, (pixels - last) * channels, identity<T>());
    }
    if (first == last) return;
    ShiftedLines<T> a{};
    a.x = image + (h * o_.w + x0 + first) * o_.c + area.c0;
    a.x_line = o_.w * o_.c;
    a.x_row = o_.c;
    a.y = to + first * channels;
    a.y_line = line;
    a.y_row = a.count = channels;
    a.lines = count;
    a.rows = last - first;
    kernel<T>()(a);
}

template <class T>
void SeparablePlan::along_rows(const Area& area, const T* image, const Buffers<T>& buffers) const {
    const std::int64_t channels = area.size.channels, line = line_values(area.size);
    const std::int64_t tile_line = tile_line_values(area.size), lines = in_rows(area.size.rows);
    const std::int64_t at_once = lines_at_once(area.size);
    const std::int64_t h0 = area.y0 * o_.stride_h - o_.pad_top;
    const std::int64_t first = std::clamp<std::int64_t>(-h0, 0, lines);
    const std::int64_t last = std::clamp<std::int64_t>(o_.h - h0, first, lines);
    std::fill_n(buffers.tile, first * tile_line, identity<T>());
    std::fill_n(buffers.tile + last * tile_line, (lines - last) * tile_line, identity<T>());
    const Positions<T> input{buffers.lines, channels};
    for (std::int64_t h = first; h < last; h += at_once) {
        ShiftedLines<T> a{};
        a.lines = std::min(at_once, last - h);
        copy_lines(area, image, h0 + h, a.lines, buffers.lines);
        const std::int64_t positions = a.lines * line / channels; // windows across the ends of lines are not used
        const Positions<T> results = all_steps_but_last(across_, input, positions, channels, buffers.line_results);
        set_sources(a, across_.back(), results, input);
        a.x_line = a.third_line = line;
        a.x_row = a.third_row = o_.stride_w * channels;
        a.y = buffers.tile + h * tile_line;
        a.y_line = tile_line;
        a.y_row = a.count = channels;
        a.rows = area.size.columns;
        if (o_.stride_w == 1) { // all lines as one
            a.lines = 1;
            a.rows = positions - across_.back().reach;
        }
        kernel<T>()(a);
    }
}

template <class T>
void SeparablePlan::along_columns(const Area& area, const Buffers<T>& buffers, T* output) const {
    const std::int64_t channels = area.size.channels, tile_line = tile_line_values(area.size);
    const std::int64_t at_once = columns_at_once(area.size);
    for (std::int64_t x = 0; x < area.size.columns; x += at_once) {
        ShiftedLines<T> a{};
        a.lines = area.size.rows;
        a.rows = std::min(at_once, area.size.columns - x);
        const Positions<T> input{buffers.tile + x * channels, tile_line};
        const Positions<T> results =
            all_steps_but_last(down_, input, in_rows(area.size.rows), a.rows * channels, buffers.column_results);
        set_sources(a, down_.back(), results, input);
        a.x_line = o_.stride_h * results.step;
        a.third_line = o_.stride_h * input.step;
        a.x_row = a.third_row = a.count = channels;
        a.y = output + (area.y0 * o_.q + area.x0 + x) * o_.c + area.c0;
        a.y_line = o_.q * o_.c;
        a.y_row = o_.c;
        if (kind_ == PoolKind::average) {
            a.line_divisors = buffers.line_divisors;
            a.divisors = buffers.divisors + x * channels;
        }
        kernel<T>()(a);
    }
}

template <class T>
void SeparablePlan::set_divisors(const Area& area, const Buffers<T>& buffers) const {
    for (std::int64_t y = 0; y < area.size.rows; ++y)
        buffers.line_divisors[y] = static_cast<T>(vertical_.taps(area.y0 + y).counted);
    for (std::int64_t x = 0; x < area.size.columns; ++x)
        std::fill_n(buffers.divisors + x * area.size.channels, area.size.channels,
                    static_cast<T>(horizontal_.taps(area.x0 + x).counted));
}

template <class T>
void SeparablePlan::run(const T* input, T* output) const {
    const std::int64_t columns = ceil_div(o_.q, tile_.columns), rows = ceil_div(o_.p, tile_.rows);
    const std::int64_t of_image = tiles(tile_);
    const double steps = number(o_.n) * cost(tile_, 1, 1);
    parallel_for(of_image * ceil_div(o_.n, images_), steps, [&](std::int64_t task) {
        const std::int64_t tile = task % of_image, n0 = task / of_image * images_;
        Area area{};
        area.x0 = tile % columns * tile_.columns;
        area.y0 = tile / columns % rows * tile_.rows;
        area.c0 = tile / columns / rows * tile_.channels;
        area.size = {std::min(tile_.channels, o_.c - area.c0), std::min(tile_.rows, o_.p - area.y0),
                     std::min(tile_.columns, o_.q - area.x0)};
        const Scratch<T> scratch(scratch_values(area.size));
        const Buffers<T> buffers = buffers_in(scratch.get(), area.size);
        if (kind_ == PoolKind::average) set_divisors(area, buffers);
        for (std::int64_t n = n0; n < std::min(o_.n, n0 + images_); ++n) {
            along_rows(area, input + n * o_.h * o_.w * o_.c, buffers);
            along_columns(area, buffers, output + n * o_.p * o_.q * o_.c);
        }
    });
}

PlanKey plan_key(const PoolProblem& o, PoolKind kind, std::int64_t threads) {
    PlanKey key;
    add_setting(key, kind == PoolKind::max ? PlanKind::separable_max_pool : PlanKind::separable_avg_pool);
    key.add(threads, o.dtype, o.format, o.n, o.h, o.w, o.c, o.r, o.s, o.p, o.q);
    key.add(o.stride_h, o.stride_w, o.dilation_h, o.dilation_w, o.pad_top, o.pad_bottom, o.pad_left, o.pad_right);
    key.add(o.count_include_pad);
    return key;
}

} // namespace

template <class T>
bool separable_pool(const PoolProblem& problem, PoolKind kind, const T* input, T* output) {
    if (!may_pay(problem, kind)) return false;
    const std::int64_t threads = threads_for_tasks();
    const auto make = [&] { return std::make_shared<const SeparablePlan>(problem, kind, threads); };
    const auto plan =
        std::static_pointer_cast<const SeparablePlan>(cached_plan(plan_key(problem, kind, threads), make));
    if (plan->pays()) plan->run(input, output);
    return plan->pays();
}

template bool separable_pool(const PoolProblem&, PoolKind, const float*, float*);
template bool separable_pool(const PoolProblem&, PoolKind, const double*, double*);

} // namespace fastconv
