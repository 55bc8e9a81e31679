// Plans depthwise convolution with multiplier 1. Windows that cross the border get the list of their valid taps, so
// that nothing is copied.
#include "core/depthwise.h"

#include "core/band.h"
#include "core/isa.h"
#include "core/phases.h"
#include "core/threading.h"
#include "core/workspace.h"

#include <algorithm>
#include <vector>

namespace fastconv {
namespace {

/// The windows of one output row, as runs of pixels with the same valid taps: inner pixels are one run, each pixel at
/// the border is its own.
struct Run {
    std::int64_t x0, pixels, j0, j1; // taps [j0, j1) of a window row
};

std::vector<Run> runs_of(const Windows& a) {
    std::vector<Run> runs;
    std::int64_t first = 0, last = 0;
    inner_columns(a, first, last);
    for (std::int64_t x = 0; x < a.q;) {
        if (x == first && last > first) {
            runs.push_back({x, last - first, 0, a.s});
            x = last;
            continue;
        }
        Run run{x, 1, 0, 0};
        valid_taps(a.base_w + x * a.stride_w, a.dilation_w, a.s, a.w, run.j0, run.j1);
        runs.push_back(run);
        ++x;
    }
    return runs;
}

/// out[n, y, x, c] = sum over taps of in[n, window(y, x, i, j), c] * filters(i, j, c).
template <class T>
struct Taps {
    Windows windows;
    std::int64_t n, c, image; // channels = elements between pixels of input and filters
    const T *input, *filters;
    std::int64_t f_i, f_j;
    T* output;
    std::int64_t out_image, out_row, out_pixel;
    const T* bias;
    bool relu;
};

template <class T>
void run_row(const Taps<T>& g, const std::vector<Run>& runs, const T* image, std::int64_t y, std::int64_t c0,
             std::int64_t channels, T* output, std::vector<std::ptrdiff_t>& offsets) {
    const Windows& a = g.windows;
    std::int64_t i0 = 0, i1 = 0;
    const std::int64_t top = a.base_h + y * a.stride_h;
    valid_taps(top, a.dilation_h, a.r, a.h, i0, i1);
    for (const Run& run : runs) {
        const std::int64_t taps = (i1 - i0) * (run.j1 - run.j0), left = a.base_w + run.x0 * a.stride_w;
        std::ptrdiff_t *offset = offsets.data(), *filter = offset + a.r * a.s;
        for (std::int64_t i = i0; i < i1; ++i) {
            for (std::int64_t j = run.j0; j < run.j1; ++j) {
                *offset++ = ((top + i * a.dilation_h) * a.w + left + j * a.dilation_w) * g.c;
                *filter++ = i * g.f_i + j * g.f_j;
            }
        }
        DepthwiseRow<T> row{};
        row.x = image + c0;
        row.x_step = a.stride_w * g.c;
        row.offsets = offsets.data();
        row.filter_offsets = offsets.data() + a.r * a.s;
        row.taps = taps;
        row.filters = g.filters + c0;
        row.bias = g.bias ? g.bias + c0 : nullptr;
        row.relu = g.relu;
        row.y = output + run.x0 * g.out_pixel + c0;
        row.y_step = g.out_pixel;
        row.pixels = run.pixels;
        row.channels = channels;
        row.sliding = a.stride_w == 1 && a.dilation_w == 1 && run.j1 - run.j0 == 3;
        kernels<T>().depthwise_row(row);
    }
}

std::int64_t rows_per_task(const Windows& a, std::int64_t n) {
    return std::clamp<std::int64_t>(n * a.p / (8 * get_num_threads()), 1, 16);
}

template <class T>
void run_taps(const Taps<T>& g) {
    const Windows& a = g.windows;
    const std::vector<Run> runs = runs_of(a);
    const std::int64_t rows = rows_per_task(a, g.n), tiles = (a.p + rows - 1) / rows;
    // Channels in blocks, so that the rows of a window stay in L2.
    const std::int64_t bytes_per_channel = static_cast<std::int64_t>(sizeof(T)) * std::max<std::int64_t>(1, a.r * a.w);
    const std::int64_t channels = std::max<std::int64_t>(64, (384 << 10) / bytes_per_channel / 64 * 64);
    parallel_for(g.n * tiles, 2.0 * static_cast<double>(g.n * a.p * a.q * a.r * a.s * g.c), [&](std::int64_t task) {
        const std::int64_t n = task / tiles, y0 = task % tiles * rows;
        std::vector<std::ptrdiff_t> offsets(static_cast<std::size_t>(2 * a.r * a.s));
        for (std::int64_t c0 = 0; c0 < g.c; c0 += channels)
            for (std::int64_t y = y0; y < std::min(a.p, y0 + rows); ++y)
                run_row(g, runs, g.input + n * g.image, y, c0, std::min(channels, g.c - c0),
                        g.output + n * g.out_image + y * g.out_row, offsets);
    });
}

} // namespace

template <class T>
void depthwise_forward(const ConvProblem& o, const T* input, const T* filters, const T* bias, bool relu, T* output) {
    Taps<T> g{};
    g.windows = windows_of(o);
    g.n = o.n;
    g.c = o.c;
    g.image = o.h * o.w * o.c;
    g.input = input;
    g.filters = filters;
    g.f_j = o.c;
    g.f_i = o.s * o.c;
    g.output = output;
    g.out_pixel = o.c;
    g.out_row = o.q * o.c;
    g.out_image = o.p * o.q * o.c;
    g.bias = bias;
    g.relu = relu;
    run_taps(g);
}

template <class T>
void depthwise_input_gradient(const ConvProblem& o, const T* filters, const T* dy, T* dx) {
    for (std::int64_t first_h = 0; first_h < std::min(o.stride_h, o.h); ++first_h) {
        const Phase down = make_phase(first_h, o.h, o.stride_h, o.dilation_h, o.r, o.pad_top);
        for (std::int64_t first_w = 0; first_w < std::min(o.stride_w, o.w); ++first_w) {
            const Phase along = make_phase(first_w, o.w, o.stride_w, o.dilation_w, o.s, o.pad_left);
            Taps<T> g{};
            g.windows = {o.p, o.q, down.count,    along.count,    down.taps, along.taps,
                         1,   1,   down.dilation, along.dilation, down.base, along.base};
            g.n = o.n;
            g.c = o.c;
            g.image = o.p * o.q * o.c;
            g.input = dy;
            g.filters = filters + (down.last_tap * o.s + along.last_tap) * o.c;
            g.f_j = -along.tap_step * o.c;
            g.f_i = -down.tap_step * o.s * o.c;
            g.output = dx + (first_h * o.w + first_w) * o.c;
            g.out_pixel = o.stride_w * o.c;
            g.out_row = o.stride_h * o.w * o.c;
            g.out_image = o.h * o.w * o.c;
            run_taps(g); // pixels that no tap reaches become zero
        }
    }
}

template <class T>
void depthwise_filter_gradient(const ConvProblem& o, const T* input, const T* dy, T* dw) {
    const Windows a = windows_of(o);
    const std::vector<Run> runs = runs_of(a);
    // The order of the sum is fixed by the problem: `splits` parts of the output rows, each summed on its own.
    constexpr std::int64_t most = 32, partial_bytes = 16 << 20;
    const std::int64_t total = o.r * o.s * o.c, rows = o.n * o.p;
    const std::int64_t fit = partial_bytes / (total * static_cast<std::int64_t>(sizeof(T)));
    const std::int64_t splits = std::clamp<std::int64_t>(std::min(fit, rows), 1, most);
    const Scratch<T> partial((splits - 1) * total); // the first split sums into dw itself
    const double work = 2.0 * static_cast<double>(rows * o.q) * static_cast<double>(total);
    parallel_for(splits, work, [&](std::int64_t split) {
        T* const sum = split == 0 ? dw : partial.get() + (split - 1) * total;
        std::fill_n(sum, total, T{});
        std::vector<std::ptrdiff_t> offsets(static_cast<std::size_t>(2 * o.r * o.s));
        const std::int64_t end = (split + 1) * rows / splits;
        for (std::int64_t at = split * rows / splits, taken = 0; at < end; at += taken) {
            // Rows of one image with the same valid taps, at most 16: a bound on the length of a sum.
            const std::int64_t n = at / o.p, y = at % o.p, top = a.base_h + y * a.stride_h;
            std::int64_t i0 = 0, i1 = 0, next0 = 0, next1 = 0;
            valid_taps(top, a.dilation_h, a.r, a.h, i0, i1);
            for (taken = 1; taken < 16 && y + taken < o.p && at + taken < end; ++taken) {
                valid_taps(top + taken * a.stride_h, a.dilation_h, a.r, a.h, next0, next1);
                if (next0 != i0 || next1 != i1) break;
            }
            for (const Run& run : runs) {
                const std::int64_t left = a.base_w + run.x0 * a.stride_w;
                std::ptrdiff_t *offset = offsets.data(), *out = offset + o.r * o.s;
                for (std::int64_t i = i0; i < i1; ++i) {
                    for (std::int64_t j = run.j0; j < run.j1; ++j) {
                        *offset++ = ((top + i * a.dilation_h) * a.w + left + j * a.dilation_w) * o.c;
                        *out++ = (i * o.s + j) * o.c;
                    }
                }
                DepthwiseFilterRows<T> products{};
                products.x = input + n * o.h * o.w * o.c;
                products.x_row = a.stride_h * a.w * o.c;
                products.x_step = a.stride_w * o.c;
                products.offsets = offsets.data();
                products.out_offsets = offsets.data() + o.r * o.s;
                products.taps = (i1 - i0) * (run.j1 - run.j0);
                products.dy = dy + (at * o.q + run.x0) * o.c;
                products.dy_row = o.q * o.c;
                products.dy_step = o.c;
                products.out = sum;
                products.rows = taken;
                products.pixels = run.pixels;
                products.channels = o.c;
                products.sliding = a.stride_w == 1 && a.dilation_w == 1 && run.j1 - run.j0 == 3;
                kernels<T>().depthwise_filter_rows(products);
            }
        }
    });
    for (std::int64_t split = 1; split < splits; ++split) {
        const T* from = partial.get() + (split - 1) * total;
        for (std::int64_t i = 0; i < total; ++i) dw[i] += from[i];
    }
}

template void depthwise_forward(const ConvProblem&, const float*, const float*, const float*, bool, float*);
template void depthwise_forward(const ConvProblem&, const double*, const double*, const double*, bool, double*);
template void depthwise_input_gradient(const ConvProblem&, const float*, const float*, float*);
template void depthwise_input_gradient(const ConvProblem&, const double*, const double*, double*);
template void depthwise_filter_gradient(const ConvProblem&, const float*, const float*, float*);
template void depthwise_filter_gradient(const ConvProblem&, const double*, const double*, double*);

} // namespace fastconv
