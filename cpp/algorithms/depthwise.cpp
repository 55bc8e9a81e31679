// Plans depthwise convolution with multiplier 1. Windows that cross the border get the list of their valid taps, so
// that nothing is copied.
#include "algorithms/depthwise.h"

#include "algorithms/correlation.h"
#include "algorithms/padded_tile.h"
#include "algorithms/stride_residue.h"
#include "core/isa.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>
#include <vector>

namespace fastconv {
namespace {

/// Pixels this far apart share so few sets of L1 that it holds no window: what is loaded is better used in order.
constexpr std::int64_t kFarBytes = 2048;

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
void run_rows(const Taps<T>& g, const std::vector<Run>& runs, const T* image, std::int64_t y, std::int64_t rows,
              std::int64_t c0, std::int64_t channels, T* output, std::vector<std::ptrdiff_t>& offsets) {
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
        row.x_row = a.stride_h * a.w * g.c;
        row.x_step = a.stride_w * g.c;
        row.offsets = offsets.data();
        row.filter_offsets = offsets.data() + a.r * a.s;
        row.taps = taps;
        row.filters = g.filters + c0;
        row.bias = g.bias ? g.bias + c0 : nullptr;
        row.relu = g.relu;
        row.y = output + run.x0 * g.out_pixel + c0;
        row.y_row = g.out_row;
        row.y_step = g.out_pixel;
        row.rows = rows;
        row.pixels = run.pixels;
        row.channels = channels;
        row.sliding = a.stride_w == 1 && a.dilation_w == 1 && run.j1 - run.j0 == 3;
        row.sliding_rows = row.sliding && a.stride_h == 1 && a.dilation_h == 1 && i1 - i0 == 3 &&
                           g.c * static_cast<std::int64_t>(sizeof(T)) < kFarBytes;
        kernels<T>().depthwise_row(row);
    }
}

std::int64_t rows_per_task(const Windows& a, std::int64_t n) {
    return std::clamp<std::int64_t>(n * a.p / (8 * threads_for_tasks()), 1, 18); // 4 tiles of 4, and the borders
}

/// How many output rows from y on, up to `end`, have the same valid taps.
std::int64_t rows_alike(const Windows& a, std::int64_t y, std::int64_t end) {
    std::int64_t i0 = 0, i1 = 0, next0 = 0, next1 = 0, rows = 1;
    valid_taps(a.base_h + y * a.stride_h, a.dilation_h, a.r, a.h, i0, i1);
    for (; y + rows < end; ++rows) {
        valid_taps(a.base_h + (y + rows) * a.stride_h, a.dilation_h, a.r, a.h, next0, next1);
        if (next0 != i0 || next1 != i1) break;
    }
    return rows;
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
        const std::int64_t end = std::min(a.p, y0 + rows);
        for (std::int64_t c0 = 0; c0 < g.c; c0 += channels) {
            for (std::int64_t y = y0, taken = 0; y < end; y += taken) {
                taken = rows_alike(a, y, end);
                run_rows(g, runs, g.input + n * g.image, y, taken, c0, std::min(channels, g.c - c0),
                         g.output + n * g.out_image + y * g.out_row, offsets);
            }
        }
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

namespace {

// Filter gradients of many channels: planes of one vector of channels each (see kernels/depthwise.cpp).
constexpr std::int64_t kPlaneBytes = 24 << 10; // x of a band: fits L1
constexpr std::int64_t kBlockVectors = 4;      // planes of a task: memory is read in runs of as many vectors

/// A band of input rows with its padding, as planes.
template <class T>
struct Planes {
    std::int64_t lines, columns, plane;

    Planes(const Windows& a, std::int64_t rows)
        : lines((rows - 1) * a.stride_h + (a.r - 1) * a.dilation_h + 1),
          columns((a.q - 1) * a.stride_w + (a.s - 1) * a.dilation_w + 1),
          plane((lines * columns + 1) * kernels<T>().width) {} // one more: no power of two apart
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

template <class T>
bool far_apart(const Windows& a, std::int64_t channels) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    return channels * size >= kFarBytes && a.r > 0 && a.s > 0 && Planes<T>(a, 1).plane * size <= kPlaneBytes;
}

template <class T>
void filter_gradient_of_planes(const ConvProblem& o, const T* input, const T* dy, T* dw) {
    const Windows a = windows_of(o);
    const KernelsOf<T>& kernel = kernels<T>();
    constexpr std::int64_t longest = 16, parts = 32; // rows of one sum; tasks for 16 threads
    std::int64_t rows = 1;
    while (rows < std::min(a.p, longest) &&
           Planes<T>(a, rows + 1).plane * static_cast<std::int64_t>(sizeof(T)) <= kPlaneBytes)
        ++rows;
    const std::int64_t width = kernel.width, block = kBlockVectors * width, blocks = ceil_div(o.c, block);
    const std::int64_t window = o.r * o.s, total = window * o.c, tiles = ceil_div(a.p, rows), bands = o.n * tiles;
    // The order of the sum is fixed by the problem: `splits` parts of the bands, each summed on its own.
    const std::int64_t splits = std::min(ceil_div(parts, blocks), bands);
    const Scratch<T> partial((splits - 1) * total); // the first split sums into dw itself
    const double work = 2.0 * static_cast<double>(o.n * a.p * a.q) * static_cast<double>(total);
    parallel_for(splits * blocks, work, [&](std::int64_t task) {
        const std::int64_t c0 = task % blocks * block, split = task / blocks, channels = std::min(block, o.c - c0);
        const std::int64_t dy_plane = (rows * o.q + 1) * width;
        const Scratch<T> band(kBlockVectors * Planes<T>(a, rows).plane), gradient(kBlockVectors * dy_plane);
        const Scratch<T> sums(window * block);
        const Scratch<std::ptrdiff_t> offsets(2 * window);
        std::fill_n(sums.get(), window * block, T{});
        for (std::int64_t at = part_start(split, splits, bands); at < part_start(split + 1, splits, bands); ++at) {
            const std::int64_t n = at / tiles, y0 = at % tiles * rows, count = std::min(rows, o.p - y0);
            const Planes<T> planes(a, count);
            planes.fill(a, y0, input + n * o.h * o.w * o.c + c0, o.c, channels, band.get());
            kernel.split_channels(dy + (n * o.p + y0) * o.q * o.c + c0, o.c, count * o.q, channels, gradient.get(),
                                  dy_plane);
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
                products.x = band.get() + v * planes.plane;
                products.dy = gradient.get() + v * dy_plane;
                products.out = sums.get() + v * window * width;
                kernel.depthwise_filter_rows(products);
            }
        }
        T* const to = split == 0 ? dw : partial.get() + (split - 1) * total;
        for (std::int64_t t = 0; t < window; ++t)
            kernel.join_channels(sums.get() + t * width, window * width, 1, channels, to + t * o.c + c0, 0);
    });
    for (std::int64_t split = 1; split < splits; ++split) {
        const T* from = partial.get() + (split - 1) * total;
        for (std::int64_t i = 0; i < total; ++i) dw[i] += from[i];
    }
}

} // namespace

template <class T>
void depthwise_filter_gradient(const ConvProblem& o, const T* input, const T* dy, T* dw) {
    const Windows a = windows_of(o);
    if (far_apart<T>(a, o.c)) return filter_gradient_of_planes(o, input, dy, dw);
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
            std::int64_t i0 = 0, i1 = 0;
            valid_taps(top, a.dilation_h, a.r, a.h, i0, i1);
            taken = rows_alike(a, y, std::min({o.p, y + end - at, y + 16}));
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
