// The gradients of max and average pooling.
//
// Windows may overlap, so a task computes a whole image or a block of its channels. If no two rows of windows overlap,
// a task may also compute a few of these rows.
#include "algorithms/max_pool_taps.h"
#include "algorithms/pool_windows.h"
#include "core/for_type.h"
#include "core/isa.h"
#include "core/layout.h"
#include "core/numbers.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"
#include "fastconv/pooling.h"

#include <algorithm>

namespace fastconv {
namespace {

/// How an image's gradient is divided into tasks.
struct Division {
    std::int64_t row_tiles = 1, channel_blocks = 1;
    std::int64_t channels = 0; // channels of a block; the last blocks may have fewer, or none
};

Division divide(const PoolProblem& o) {
    constexpr std::int64_t fewest_channels = 16;
    const bool rows_overlap = !rows_of(o).disjoint();
    const std::int64_t wanted = 4 * threads_for_tasks();
    Division result;
    if (o.n < wanted && o.n > 0) {
        if (rows_overlap)
            result.channel_blocks = std::clamp<std::int64_t>(wanted / o.n, 1, ceil_div(o.c, fewest_channels));
        else
            result.row_tiles = std::clamp<std::int64_t>(wanted / o.n, 1, std::max<std::int64_t>(1, o.p));
    }
    result.channels = ceil_div(ceil_div(o.c, result.channel_blocks), fewest_channels) * fewest_channels;
    return result;
}

/// Writes zeros to `channels` channels of input rows [h0, h1) of an image. Skips the values that the windows of output
/// rows [0, y1) overwrite.
template <class T>
void clear(const PoolProblem& o, std::int64_t h0, std::int64_t h1, std::int64_t y1, std::int64_t channels, T* to) {
    // Windows without gaps or overlaps overwrite every value up to the end of the last window. Other windows skip
    // values or add to them, so everything is cleared for them.
    const bool gapless = rows_of(o).gapless() && columns_of(o).gapless();
    const std::int64_t covered = gapless ? std::clamp<std::int64_t>(y1 * o.r - o.pad_top, h0, h1) : h0;
    // Windows with gaps or overlaps may be so large that q*s overflows.
    const std::int64_t covered_columns = gapless ? std::clamp<std::int64_t>(o.q * o.s - o.pad_left, 0, o.w) : 0;
    const std::int64_t line = o.w * o.c;
    for (std::int64_t h = h0; covered_columns < o.w && h < covered; ++h)
        std::fill(to + h * line + covered_columns * o.c, to + (h + 1) * line, T{});
    if (channels == o.c)
        std::fill(to + covered * line, to + h1 * line, T{});
    else
        for (std::int64_t pixel = covered * o.w; pixel < h1 * o.w; ++pixel)
            std::fill_n(to + pixel * o.c, channels, T{});
}

/// The tap of each maximum is found in `input` or given in `taps`. Average pooling needs neither.
template <class T>
void gradient_nhwc(const PoolProblem& o, const T* input, const std::uint8_t* taps, const T* grad, T* input_grad,
                   PoolKernel<T> kernel) {
    const std::int64_t image = o.h * o.w * o.c;
    if (image == 0) return; // otherwise empty images would become tasks
    const double window = static_cast<double>(o.r) * static_cast<double>(o.s); // may be huge
    const double work = static_cast<double>(o.n * o.p * o.q * o.c) * window + static_cast<double>(o.n * image);
    const bool disjoint = rows_of(o).disjoint() && columns_of(o).disjoint();
    const Division tasks = divide(o);
    parallel_for(o.n * tasks.row_tiles * tasks.channel_blocks, work, [&](std::int64_t task) {
        const std::int64_t n = task / (tasks.row_tiles * tasks.channel_blocks);
        const std::int64_t tile = task / tasks.channel_blocks % tasks.row_tiles;
        const std::int64_t c0 = task % tasks.channel_blocks * tasks.channels;
        if (c0 >= o.c) return;
        const std::int64_t channels = std::min(tasks.channels, o.c - c0);
        const std::int64_t y0 = part_start(tile, tasks.row_tiles, o.p), y1 = part_start(tile + 1, tasks.row_tiles, o.p);
        T* const to = input_grad + n * image + c0;
        const auto input_row = [&](std::int64_t y) {
            return std::clamp<std::int64_t>(y * o.stride_h - o.pad_top, 0, o.h);
        };
        clear(o, tile == 0 ? 0 : input_row(y0), tile + 1 == tasks.row_tiles ? o.h : input_row(y1), y1, channels, to);
        each_rectangle<T>(o, y0, y1, [&](PoolRow<T>& row, std::int64_t y, std::int64_t x) {
            const std::int64_t at = ((n * o.p + y) * o.q + x) * o.c + c0;
            row.x = input ? input + n * image + c0 : nullptr;
            row.y = to;
            row.y_row = row.x_row;
            row.y_step = row.x_step;
            row.grad = grad + at;
            row.grad_row = o.q * o.c;
            row.grad_step = o.c;
            row.chosen_tap = taps ? taps + at : nullptr;
            row.disjoint = disjoint;
            row.channels = channels;
            kernel(row);
        });
    });
}

/// `taps` is always in NHWC.
template <class T>
void gradient(const PoolProblem& o, const void* from, const std::uint8_t* taps, const void* from_grad, void* to,
              PoolKernel<T> kernel) {
    const T* input = static_cast<const T*>(from);
    const T* grad = static_cast<const T*>(from_grad);
    T* input_grad = static_cast<T*>(to);
    if (o.format == DataFormat::nhwc) return gradient_nhwc(o, input, taps, grad, input_grad, kernel);
    const std::int64_t in = o.h * o.w * o.c, out = o.p * o.q * o.c;
    each_nhwc_part(o, (in + out) * size_of(o.dtype), nhwc_part_bytes(), [&](const PoolProblem& part, std::int64_t n) {
        const Scratch<T> x(input ? part.n * in : 0), dy(part.n * out), dx(part.n * in);
        if (input) transpose_images(part.n, o.c, o.h * o.w, input + n * in, x.get());
        transpose_images(part.n, o.c, o.p * o.q, grad + n * out, dy.get());
        gradient_nhwc<T>(part, input ? x.get() : nullptr, taps ? taps + n * out : nullptr, dy.get(), dx.get(), kernel);
        transpose_images(part.n, o.h * o.w, o.c, dx.get(), input_grad + n * in, o.n);
    });
}

void max_pool_gradient(const PoolProblem& problem, const void* input, const std::uint8_t* taps, const void* grad,
                       void* input_grad) {
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        gradient<T>(problem, input, taps, grad, input_grad, kernels<T>().max_grad_row);
    });
}

} // namespace

void max_pool2d_grad(const PoolProblem& problem, const void* input, const void* grad, void* input_grad) {
    max_pool_gradient(problem, input, nullptr, grad, input_grad);
}

void max_pool2d_scatter(const PoolProblem& problem, const std::uint8_t* taps, const void* grad, void* input_grad) {
    check_taps(problem);
    max_pool_gradient(problem, nullptr, taps, grad, input_grad);
}

void avg_pool2d_grad(const PoolProblem& problem, const void* grad, void* input_grad) {
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        gradient<T>(problem, nullptr, nullptr, grad, input_grad, kernels<T>().avg_grad_row);
    });
}

} // namespace fastconv
