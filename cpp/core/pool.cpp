// Pooling: cuts the output into rows and blocks of channels, and each row into runs of windows with the same valid
// taps.
#include "core/band.h"
#include "core/isa.h"
#include "core/layout.h"
#include "core/threading.h"
#include "core/workspace.h"
#include "fastconv/fastconv.h"

#include <algorithm>
#include <vector>

namespace fastconv {
namespace {

Windows windows_of(const PoolProblem& o) {
    return {o.h, o.w, o.p, o.q, o.r, o.s, o.stride_h, o.stride_w, 1, 1, -o.pad_top, -o.pad_left};
}

/// Calls body(row) for the runs of output row `y`; row.x, row.y, ... are relative to the image, and body sets the rest.
template <class T, class Body>
void each_run(const Windows& a, std::int64_t c, std::int64_t y, std::vector<std::ptrdiff_t>& offsets, Body&& body) {
    std::int64_t first = 0, last = 0, i0 = 0, i1 = 0;
    inner_columns(a, first, last);
    const std::int64_t top = a.base_h + y * a.stride_h;
    valid_taps(top, 1, a.r, a.h, i0, i1);
    for (std::int64_t x = 0; x < a.q;) {
        const bool inner = x == first && last > first;
        const std::int64_t left = a.base_w + x * a.stride_w;
        std::int64_t j0 = 0, j1 = 0;
        valid_taps(left, 1, a.s, a.w, j0, j1);
        offsets.clear();
        for (std::int64_t i = i0; i < i1; ++i)
            for (std::int64_t j = j0; j < j1; ++j) offsets.push_back(((top + i) * a.w + left + j) * c);
        PoolRow<T> row{};
        row.x_step = a.stride_w * c;
        row.offsets = offsets.data();
        row.taps = static_cast<std::int64_t>(offsets.size());
        row.pixels = inner ? last - first : 1;
        body(row, x);
        x += row.pixels;
    }
}

/// Forward: rows of windows are independent.
template <class T, class Kernel>
void forward(const PoolProblem& o, const T* input, T* output, std::int64_t* argmax, bool include_batch, Kernel kernel) {
    const Windows a = windows_of(o);
    const std::int64_t rows = std::clamp<std::int64_t>(o.n * o.p / (8 * get_num_threads()), 1, o.p > 0 ? o.p : 1);
    const std::int64_t tiles = (o.p + rows - 1) / rows;
    parallel_for(o.n * tiles, static_cast<double>(o.n * o.p * o.q * o.r * o.s * o.c), [&](std::int64_t task) {
        const std::int64_t n = task / tiles, y0 = task % tiles * rows;
        std::vector<std::ptrdiff_t> offsets;
        for (std::int64_t y = y0; y < std::min(o.p, y0 + rows); ++y) {
            each_run<T>(a, o.c, y, offsets, [&](PoolRow<T>& row, std::int64_t x) {
                const std::int64_t at = ((n * o.p + y) * o.q + x) * o.c;
                row.x = input + n * o.h * o.w * o.c;
                row.y = output + at;
                row.y_step = row.channels = o.c;
                row.argmax = argmax ? argmax + at : nullptr;
                row.argmax_base = include_batch ? n * o.h * o.w * o.c : 0;
                kernel(row);
            });
        }
    });
}

/// Gradient: windows may overlap, so that images and blocks of channels are independent, and rows only where they
/// don't.
template <class T, class Kernel>
void gradient(const PoolProblem& o, const T* input, const T* grad, T* input_grad, Kernel kernel) {
    const Windows a = windows_of(o);
    const std::int64_t image = o.h * o.w * o.c;
    const double work = static_cast<double>(o.n * o.p * o.q * o.r * o.s * o.c);
    // Windows that neither overlap nor leave a gap write every value themselves.
    const bool rows_apart = o.stride_h >= o.r, apart = rows_apart && o.stride_w >= o.s;
    const bool covered =
        o.stride_h == o.r && o.stride_w == o.s && o.p * o.r - o.pad_top >= o.h && o.q * o.s - o.pad_left >= o.w;
    if (!covered)
        parallel_for(o.n * o.h, static_cast<double>(o.n * image),
                     [&](std::int64_t task) { std::fill_n(input_grad + task * o.w * o.c, o.w * o.c, T{}); });
    const std::int64_t wanted = 4 * get_num_threads();
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
        std::vector<std::ptrdiff_t> offsets;
        for (std::int64_t y = tile * o.p / row_tiles; y < (tile + 1) * o.p / row_tiles; ++y) {
            each_run<T>(a, o.c, y, offsets, [&](PoolRow<T>& row, std::int64_t x) {
                row.x = input ? input + n * image + c0 : nullptr;
                row.y = input_grad + n * image + c0;
                row.y_step = row.x_step;
                row.grad = grad + ((n * o.p + y) * o.q + x) * o.c + c0;
                row.grad_step = o.c;
                row.apart = apart;
                row.channels = std::min(channels, o.c - c0);
                kernel(row);
            });
        }
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
void max_pool(const PoolProblem& o, const T* input, T* output, std::int64_t* argmax, bool include_batch) {
    const auto kernel = kernels<T>().max_row;
    if (o.format == DataFormat::nhwc) return forward(o, input, output, argmax, include_batch, kernel);
    const std::int64_t in = o.h * o.w * o.c, out = o.p * o.q * o.c;
    in_parts(o, sizeof(T), [&](const PoolProblem& part, std::int64_t n) {
        const Scratch<T> x(part.n * in), y(part.n * out);
        const Scratch<std::int64_t> where(argmax ? part.n * out : 0);
        transpose_images(part.n, o.c, o.h * o.w, input + n * in, x.get());
        forward(part, x.get(), y.get(), argmax ? where.get() : nullptr, include_batch, kernel);
        transpose_images(part.n, o.p * o.q, o.c, y.get(), output + n * out);
        if (!argmax) return;
        if (include_batch)
            for (std::int64_t i = 0; i < part.n * out; ++i) where.get()[i] += n * in;
        transpose_images(part.n, o.p * o.q, o.c, where.get(), argmax + n * out);
    });
}

template <class T>
void avg_pool(const PoolProblem& o, const T* input, T* output) {
    const auto kernel = kernels<T>().avg_row;
    if (o.format == DataFormat::nhwc) return forward(o, input, output, nullptr, false, kernel);
    const std::int64_t in = o.h * o.w * o.c, out = o.p * o.q * o.c;
    in_parts(o, sizeof(T), [&](const PoolProblem& part, std::int64_t n) {
        const Scratch<T> x(part.n * in), y(part.n * out);
        transpose_images(part.n, o.c, o.h * o.w, input + n * in, x.get());
        forward(part, x.get(), y.get(), nullptr, false, kernel);
        transpose_images(part.n, o.p * o.q, o.c, y.get(), output + n * out);
    });
}

/// `input` is null for the average, whose gradient does not need it.
template <class T, class Kernel>
void gradient_any_layout(const PoolProblem& o, const T* input, const T* grad, T* input_grad, Kernel kernel) {
    if (o.format == DataFormat::nhwc) return gradient(o, input, grad, input_grad, kernel);
    const std::int64_t in = o.h * o.w * o.c, out = o.p * o.q * o.c;
    in_parts(o, sizeof(T), [&](const PoolProblem& part, std::int64_t n) {
        const Scratch<T> x(input ? part.n * in : 0), dy(part.n * out), dx(part.n * in);
        if (input) transpose_images(part.n, o.c, o.h * o.w, input + n * in, x.get());
        transpose_images(part.n, o.c, o.p * o.q, grad + n * out, dy.get());
        gradient(part, input ? x.get() : nullptr, dy.get(), dx.get(), kernel);
        transpose_images(part.n, o.h * o.w, o.c, dx.get(), input_grad + n * in);
    });
}

} // namespace

void max_pool2d(const PoolProblem& problem, const void* input, void* output, std::int64_t* argmax, bool include_batch) {
    if (problem.dtype == DataType::float32)
        max_pool(problem, static_cast<const float*>(input), static_cast<float*>(output), argmax, include_batch);
    else
        max_pool(problem, static_cast<const double*>(input), static_cast<double*>(output), argmax, include_batch);
}

void max_pool2d_grad(const PoolProblem& problem, const void* input, const void* grad, void* input_grad) {
    if (problem.dtype == DataType::float32)
        gradient_any_layout(problem, static_cast<const float*>(input), static_cast<const float*>(grad),
                            static_cast<float*>(input_grad), kernels<float>().max_grad_row);
    else
        gradient_any_layout(problem, static_cast<const double*>(input), static_cast<const double*>(grad),
                            static_cast<double*>(input_grad), kernels<double>().max_grad_row);
}

void avg_pool2d(const PoolProblem& problem, const void* input, void* output) {
    if (problem.dtype == DataType::float32)
        avg_pool(problem, static_cast<const float*>(input), static_cast<float*>(output));
    else
        avg_pool(problem, static_cast<const double*>(input), static_cast<double*>(output));
}

void avg_pool2d_grad(const PoolProblem& problem, const void* grad, void* input_grad) {
    if (problem.dtype == DataType::float32)
        gradient_any_layout<float>(problem, nullptr, static_cast<const float*>(grad), static_cast<float*>(input_grad),
                                   kernels<float>().avg_grad_row);
    else
        gradient_any_layout<double>(problem, nullptr, static_cast<const double*>(grad),
                                    static_cast<double*>(input_grad), kernels<double>().avg_grad_row);
}

} // namespace fastconv
