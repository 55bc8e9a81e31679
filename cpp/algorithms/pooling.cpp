// Pooling: cuts the output into rows and blocks of channels, and these into rectangles of windows with the same valid
// taps.
#include "fastconv/pooling.h"
#include "algorithms/max_pool_taps.h"
#include "algorithms/padded_tile.h"
#include "core/isa.h"
#include "core/layout.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>
#include <string>
#include <vector>

namespace fastconv {
namespace {

Windows windows_of(const PoolProblem& o) {
    return {o.h, o.w, o.p, o.q, o.r, o.s, o.stride_h, o.stride_w, 1, 1, -o.pad_top, -o.pad_left};
}

/// Calls body(row, y, x) for the rectangles of output rows [y0, y1), the upper ones first; (y, x) is a rectangle's
/// first window. row.x and row.y are to point at the image, and body sets what else it knows.
template <class T, class Body>
void each_rectangle(const Windows& a, std::int64_t c, std::int64_t y0, std::int64_t y1, Body&& body) {
    std::int64_t first = 0, last = 0; // of the columns with all taps
    inner_columns(a, first, last);
    std::vector<std::ptrdiff_t> offsets;
    offsets.reserve(static_cast<std::size_t>(std::min(a.r, a.h) * std::min(a.s, a.w))); // of the taps inside
    for (std::int64_t y = y0, rows = 1; y < y1; y += rows) {
        std::int64_t i0 = 0, i1 = 0;
        const std::int64_t top = a.base_h + y * a.stride_h;
        valid_taps(top, 1, a.r, a.h, i0, i1);
        const bool whole = i0 == 0 && i1 == a.r;
        rows = whole ? std::clamp<std::int64_t>((a.h - a.r - top) / a.stride_h + 1, 1, y1 - y) : 1;
        for (std::int64_t x = 0; x < a.q;) {
            const bool inner = x == first && last > first;
            const std::int64_t left = a.base_w + x * a.stride_w;
            std::int64_t j0 = 0, j1 = 0;
            valid_taps(left, 1, a.s, a.w, j0, j1);
            offsets.clear();
            for (std::int64_t i = i0; i < i1; ++i)
                for (std::int64_t j = j0; j < j1; ++j) offsets.push_back(((top + i) * a.w + left + j) * c);
            PoolRow<T> row{};
            row.x_row = a.stride_h * a.w * c;
            row.x_step = a.stride_w * c;
            row.offsets = offsets.data();
            row.taps = static_cast<std::int64_t>(offsets.size());
            row.rows = rows;
            row.pixels = inner ? last - first : 1;
            body(row, y, x);
            x += row.pixels;
        }
    }
}

/// What a max pool may tell besides the maxima; each may be null.
struct Where {
    std::int64_t* argmax = nullptr;
    bool include_batch = false;
    std::uint8_t* tap = nullptr; // its number among those of the window's taps that lie inside the input
};

/// Forward: rows of windows are independent.
template <class T, class Kernel>
void forward(const PoolProblem& o, const T* input, T* output, const Where& where, Kernel kernel) {
    const Windows a = windows_of(o);
    const std::int64_t rows = std::clamp<std::int64_t>(o.n * o.p / (8 * threads_for_tasks()), 1, o.p > 0 ? o.p : 1);
    const std::int64_t tiles = (o.p + rows - 1) / rows;
    const double taps = static_cast<double>(o.r) * static_cast<double>(o.s); // a window may be huge
    parallel_for(o.n * tiles, static_cast<double>(o.n * o.p * o.q * o.c) * taps, [&](std::int64_t task) {
        const std::int64_t n = task / tiles, y0 = task % tiles * rows;
        each_rectangle<T>(a, o.c, y0, std::min(o.p, y0 + rows), [&](PoolRow<T>& row, std::int64_t y, std::int64_t x) {
            const std::int64_t at = ((n * o.p + y) * o.q + x) * o.c;
            row.x = input + n * o.h * o.w * o.c;
            row.y = output + at;
            row.y_row = o.q * o.c;
            row.y_step = row.channels = o.c;
            row.argmax = where.argmax ? where.argmax + at : nullptr;
            row.argmax_base = where.include_batch ? n * o.h * o.w * o.c : 0;
            row.tap = where.tap ? where.tap + at : nullptr;
            kernel(row);
        });
    });
}

/// Gradient: windows may overlap, so that images and blocks of channels are independent, and rows only where they
/// don't. The maximum's taps are found in `input`, or given in `chosen_tap`; the average needs neither.
template <class T, class Kernel>
void gradient(const PoolProblem& o, const T* input, const std::uint8_t* chosen_tap, const T* grad, T* input_grad,
              Kernel kernel) {
    const Windows a = windows_of(o);
    const std::int64_t image = o.h * o.w * o.c, line = o.w * o.c;
    if (image == 0) return; // of any number of images
    const double work = static_cast<double>(o.n * (o.p * o.q * o.r * o.s + o.h * o.w) * o.c);
    // Windows that neither overlap nor leave a gap write every value themselves, up to the last window's end.
    const bool rows_apart = o.stride_h >= o.r, apart = rows_apart && o.stride_w >= o.s;
    const bool gapless = o.stride_h == o.r && o.stride_w == o.s;
    const std::int64_t covered_columns = std::clamp<std::int64_t>(o.q * o.s - o.pad_left, 0, o.w);
    const std::int64_t wanted = 4 * threads_for_tasks();
    std::int64_t row_tiles = 1, c_blocks = 1;
    if (o.n < wanted && o.n > 0) {
        if (rows_apart)
            row_tiles = std::clamp<std::int64_t>(wanted / o.n, 1, std::max<std::int64_t>(1, o.p));
        else
            c_blocks = std::clamp<std::int64_t>(wanted / o.n, 1, (o.c + 15) / 16);
    }
    const std::int64_t channels = ((o.c + c_blocks - 1) / c_blocks + 15) / 16 * 16;
    parallel_for(o.n * row_tiles * c_blocks, work, [&](std::int64_t task) {
        const std::int64_t n = task / (row_tiles * c_blocks), tile = task / c_blocks % row_tiles;
        const std::int64_t c0 = task % c_blocks * channels;
        if (c0 >= o.c) return;
        const std::int64_t y0 = tile * o.p / row_tiles, y1 = (tile + 1) * o.p / row_tiles;
        T* const to = input_grad + n * image + c0;
        const std::int64_t count = std::min(channels, o.c - c0);
        // The input rows of this task, of which it writes zeros where no window writes.
        const auto input_row = [&](std::int64_t y) {
            return std::clamp<std::int64_t>(a.base_h + y * a.stride_h, 0, o.h);
        };
        const std::int64_t h0 = tile == 0 ? 0 : input_row(y0), h1 = tile + 1 == row_tiles ? o.h : input_row(y1);
        const std::int64_t covered = gapless ? std::clamp<std::int64_t>(a.base_h + y1 * o.r, h0, h1) : h0;
        for (std::int64_t h = h0; covered_columns < o.w && h < covered; ++h)
            std::fill(to + h * line + covered_columns * o.c, to + (h + 1) * line, T{});
        if (c_blocks == 1)
            std::fill(to + covered * line, to + h1 * line, T{});
        else
            for (std::int64_t pixel = covered * o.w; pixel < h1 * o.w; ++pixel)
                std::fill_n(to + pixel * o.c, count, T{});
        each_rectangle<T>(a, o.c, y0, y1, [&](PoolRow<T>& row, std::int64_t y, std::int64_t x) {
            const std::int64_t at = ((n * o.p + y) * o.q + x) * o.c + c0;
            row.x = input ? input + n * image + c0 : nullptr;
            row.y = to;
            row.y_row = row.x_row;
            row.y_step = row.x_step;
            row.grad = grad + at;
            row.grad_row = o.q * o.c;
            row.grad_step = o.c;
            row.chosen_tap = chosen_tap ? chosen_tap + at : nullptr;
            row.apart = apart;
            row.channels = count;
            kernel(row);
        });
    });
}

/// Calls body(part, n): part's images start at image n, and their NHWC copies stay small.
template <class Body>
void in_parts(const PoolProblem& o, std::int64_t size, Body&& body) {
    constexpr std::int64_t bytes = 16 << 20;
    const std::int64_t image = (o.h * o.w + o.p * o.q) * o.c * size;
    const std::int64_t most = std::max<std::int64_t>(1, bytes / std::max<std::int64_t>(1, image));
    for (std::int64_t n = 0; n < o.n; n += most) {
        PoolProblem part = o;
        part.format = DataFormat::nhwc;
        part.n = std::min(most, o.n - n);
        body(part, n);
    }
}

template <class T>
void max_pool(const PoolProblem& o, const void* from, void* to, const Where& where) {
    const T* input = static_cast<const T*>(from);
    T* output = static_cast<T*>(to);
    const auto kernel = kernels<T>().max_row;
    if (o.format == DataFormat::nhwc) return forward(o, input, output, where, kernel);
    const std::int64_t in = o.h * o.w * o.c, out = o.p * o.q * o.c;
    in_parts(o, sizeof(T), [&](const PoolProblem& part, std::int64_t n) {
        const Scratch<T> x(part.n * in), y(part.n * out);
        const Scratch<std::int64_t> argmax(where.argmax ? part.n * out : 0);
        transpose_images(part.n, o.c, o.h * o.w, input + n * in, x.get());
        const Where nhwc{where.argmax ? argmax.get() : nullptr, where.include_batch,
                         where.tap ? where.tap + n * out : nullptr};
        forward(part, x.get(), y.get(), nhwc, kernel);
        transpose_images(part.n, o.p * o.q, o.c, y.get(), output + n * out);
        if (!where.argmax) return;
        if (where.include_batch)
            for (std::int64_t i = 0; i < part.n * out; ++i) argmax.get()[i] += n * in;
        transpose_images(part.n, o.p * o.q, o.c, argmax.get(), where.argmax + n * out);
    });
}

template <class T>
void avg_pool(const PoolProblem& o, const T* input, T* output) {
    const auto kernel = kernels<T>().avg_row;
    if (o.format == DataFormat::nhwc) return forward(o, input, output, {}, kernel);
    const std::int64_t in = o.h * o.w * o.c, out = o.p * o.q * o.c;
    in_parts(o, sizeof(T), [&](const PoolProblem& part, std::int64_t n) {
        const Scratch<T> x(part.n * in), y(part.n * out);
        transpose_images(part.n, o.c, o.h * o.w, input + n * in, x.get());
        forward(part, x.get(), y.get(), {}, kernel);
        transpose_images(part.n, o.p * o.q, o.c, y.get(), output + n * out);
    });
}

/// `input` and `chosen_tap` as in gradient(); `chosen_tap` is NHWC always.
template <class T, class Kernel>
void gradient_any_layout(const PoolProblem& o, const void* from, const std::uint8_t* chosen_tap, const void* from_grad,
                         void* to, Kernel kernel) {
    const T* input = static_cast<const T*>(from);
    const T* grad = static_cast<const T*>(from_grad);
    T* input_grad = static_cast<T*>(to);
    if (o.format == DataFormat::nhwc) return gradient(o, input, chosen_tap, grad, input_grad, kernel);
    const std::int64_t in = o.h * o.w * o.c, out = o.p * o.q * o.c;
    in_parts(o, sizeof(T), [&](const PoolProblem& part, std::int64_t n) {
        const Scratch<T> x(input ? part.n * in : 0), dy(part.n * out), dx(part.n * in);
        if (input) transpose_images(part.n, o.c, o.h * o.w, input + n * in, x.get());
        transpose_images(part.n, o.c, o.p * o.q, grad + n * out, dy.get());
        gradient(part, input ? x.get() : nullptr, chosen_tap ? chosen_tap + n * out : nullptr, dy.get(), dx.get(),
                 kernel);
        transpose_images(part.n, o.h * o.w, o.c, dx.get(), input_grad + n * in);
    });
}

/// output[i] = the input's value at the tap of window i; 0 where `tap` names none.
template <class T>
void gather(const PoolProblem& o, const std::uint8_t* tap, const void* from, void* to) {
    const Windows a = windows_of(o);
    const bool nhwc = o.format == DataFormat::nhwc;
    const std::int64_t in = o.h * o.w * o.c, out = o.p * o.q * o.c;
    parallel_for(o.n * o.p, static_cast<double>(o.n * out), [&](std::int64_t task) {
        const std::int64_t n = task / o.p, y0 = task % o.p;
        const T* input = static_cast<const T*>(from) + n * in;
        T* output = static_cast<T*>(to) + n * out;
        each_rectangle<T>(a, o.c, y0, y0 + 1, [&](const PoolRow<T>& row, std::int64_t y, std::int64_t x) {
            for (std::int64_t i = 0; i < row.pixels; ++i) {
                const std::int64_t pixel = y * o.q + x + i;
                for (std::int64_t c = 0; c < o.c; ++c) {
                    const std::int64_t t = tap[n * out + pixel * o.c + c];
                    const std::int64_t at = t < row.taps ? i * row.x_step + row.offsets[t] + c : 0;
                    output[nhwc ? pixel * o.c + c : c * o.p * o.q + pixel] =
                        t >= row.taps ? T{} : input[nhwc ? at : c * o.h * o.w + at / o.c];
                }
            }
        });
    });
}

} // namespace

void check_taps(const PoolProblem& o) {
    if (o.r > max_pool_taps / o.s)
        throw InvalidArgument("ksize must have at most " + std::to_string(max_pool_taps) + " pixels, got " +
                              std::to_string(o.r) + " x " + std::to_string(o.s) +
                              "; which one was the maximum is told in a byte");
}

void check_behind(const ConvProblem& problem, const PoolProblem& pool) {
    check_taps(pool);
    if (pool.format != problem.format)
        throw InvalidArgument("convolution and max-pooling must have the same data format");
    check_dims("the input of the max-pooling", pool.input_dims(), problem.output_dims(),
               "the output of the convolution");
}

void check_tap_numbers(const char* name, const PoolProblem& problem, const std::uint8_t* taps) {
    check_taps(problem);
    if (problem.p == 0 || problem.q == 0) return; // of any number of images
    for (std::int64_t n = 0; n < problem.n; ++n)
        each_rectangle<float>(
            windows_of(problem), problem.c, 0, problem.p,
            [&](const PoolRow<float>& row, std::int64_t y, std::int64_t x) {
                for (std::int64_t i = 0; i < row.rows; ++i) {
                    const std::uint8_t* const first = taps + (((n * problem.p + y + i) * problem.q) + x) * problem.c;
                    const std::uint8_t* const end = first + row.pixels * problem.c;
                    std::uint8_t most = 0;
                    for (const std::uint8_t* at = first; at < end; ++at) most = std::max(most, *at);
                    if (first < end && most >= row.taps)
                        throw InvalidArgument(std::string(name) + " must number the pixels of each pooling window, " +
                                              "from 0 on, got " + std::to_string(most) + " for one of " +
                                              std::to_string(row.taps) +
                                              " pixels; use what conv2d_max_pool2d returned");
                }
            });
}

void max_pool2d(const PoolProblem& problem, const void* input, void* output, std::int64_t* argmax, bool include_batch) {
    const Where where{argmax, include_batch, nullptr};
    if (problem.dtype == DataType::float32)
        max_pool<float>(problem, input, output, where);
    else
        max_pool<double>(problem, input, output, where);
}

void max_pool2d_with_taps(const PoolProblem& problem, const void* input, void* output, std::uint8_t* taps) {
    check_taps(problem);
    const Where where{nullptr, false, taps};
    if (problem.dtype == DataType::float32)
        max_pool<float>(problem, input, output, where);
    else
        max_pool<double>(problem, input, output, where);
}

void max_pool2d_grad(const PoolProblem& problem, const void* input, const void* grad, void* input_grad) {
    if (problem.dtype == DataType::float32)
        gradient_any_layout<float>(problem, input, nullptr, grad, input_grad, kernels<float>().max_grad_row);
    else
        gradient_any_layout<double>(problem, input, nullptr, grad, input_grad, kernels<double>().max_grad_row);
}

void max_pool2d_scatter(const PoolProblem& problem, const std::uint8_t* taps, const void* grad, void* input_grad) {
    check_taps(problem);
    if (problem.dtype == DataType::float32)
        gradient_any_layout<float>(problem, nullptr, taps, grad, input_grad, kernels<float>().max_grad_row);
    else
        gradient_any_layout<double>(problem, nullptr, taps, grad, input_grad, kernels<double>().max_grad_row);
}

void max_pool2d_gather(const PoolProblem& problem, const std::uint8_t* taps, const void* values, void* output) {
    check_taps(problem);
    if (problem.dtype == DataType::float32)
        gather<float>(problem, taps, values, output);
    else
        gather<double>(problem, taps, values, output);
}

void avg_pool2d(const PoolProblem& problem, const void* input, void* output) {
    if (problem.dtype == DataType::float32)
        avg_pool(problem, static_cast<const float*>(input), static_cast<float*>(output));
    else
        avg_pool(problem, static_cast<const double*>(input), static_cast<double*>(output));
}

void avg_pool2d_grad(const PoolProblem& problem, const void* grad, void* input_grad) {
    if (problem.dtype == DataType::float32)
        gradient_any_layout<float>(problem, nullptr, nullptr, grad, input_grad, kernels<float>().avg_grad_row);
    else
        gradient_any_layout<double>(problem, nullptr, nullptr, grad, input_grad, kernels<double>().avg_grad_row);
}

} // namespace fastconv
