#include "algorithms/small_k_spread.h"

#include "core/isa.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace fastconv {
namespace {

constexpr std::int64_t kPlanarBytes = 128 << 10; // a band: stays in L2 with its output
constexpr std::int64_t kLongest = 1024;          // chain of additions: bounds the rounding error
constexpr std::int64_t kRegisterRows = 8;        // output rows of a register tile
constexpr std::int64_t kBandWork = 64 << 10;     // multiplications, some 2 us, below which an image stays whole
constexpr std::int64_t kParts = 32;              // of a filter gradient; fixed, since it decides the order of the sum

/// A band of whole input rows in planar form, for some output rows.
struct Planar {
    std::int64_t lines, line, plane; // rows, values of a row with its padding, values of a channel

    Planar(const Windows& a, std::int64_t rows) : lines(rows + a.r - 1), line(a.q + a.s - 1), plane(lines * line) {}
    /// A vector beyond the end may be read.
    template <class T>
    std::int64_t size(std::int64_t channels) const {
        return channels * plane + kernels<T>().width;
    }
};

template <class T>
void fill_planar(const Windows& a, std::int64_t y0, std::int64_t rows, const T* input, std::int64_t pixel,
                 std::int64_t channels, T* to) {
    const Planar planar(a, rows);
    const std::int64_t top = a.base_h + y0;
    const std::int64_t first = std::clamp<std::int64_t>(-top, 0, planar.lines);
    const std::int64_t last = std::clamp<std::int64_t>(a.h - top, first, planar.lines);
    const std::int64_t left = std::clamp<std::int64_t>(-a.base_w, 0, planar.line);
    const std::int64_t right = std::clamp<std::int64_t>(a.w - a.base_w, left, planar.line);
    const bool padded = first > 0 || last < planar.lines || left > 0 || right < planar.line;
    if (padded) std::fill_n(to, channels * planar.plane, T{}); // at once: the pieces are a few values each
    const auto turn = [&](std::int64_t t, std::int64_t count) {
        const T* from = input + ((top + t) * a.w + a.base_w + left) * pixel;
        T* line = to + t * planar.line + left;
        if (channels == 1 && pixel == 1)
            std::copy_n(from, count, line);
        else
            kernels<T>().transpose(from, pixel, line, planar.plane, count, channels);
    };
    if (left == 0 && right == a.w && planar.line == a.w) {
        turn(first, (last - first) * planar.line);
    } else if (right > left) {
        for (std::int64_t t = first; t < last; ++t) turn(t, right - left);
    }
}

/// How many vectors start at different filters.
template <class T>
std::int64_t phases_of(std::int64_t filters) {
    return filters / std::gcd(filters, kernels<T>().width);
}

template <class T>
bool serves(const Windows& a, std::int64_t channels, std::int64_t filters) {
    const KernelsOf<T>& kernel = kernels<T>();
    return (a.r == 3 || a.r == 5) && a.stride_h == 1 && a.stride_w == 1 && a.dilation_h == 1 && a.dilation_w == 1 &&
           (filters == 1 || (filters <= kernel.width && kernel.spreads)) && a.r * a.s * channels <= kLongest &&
           Planar(a, kRegisterRows).size<T>(channels) * static_cast<std::int64_t>(sizeof(T)) <= kPlanarBytes;
}

/// Output rows of a band: whole register tiles, as many as fit, and enough bands for all threads.
template <class T>
std::int64_t choose_rows(const Windows& a, std::int64_t channels, std::int64_t filters, std::int64_t images,
                         std::int64_t bands) {
    const std::int64_t row_work = a.q * filters * a.r * a.s * channels;
    std::int64_t rows = std::min(a.p, kRegisterRows);
    while (rows < a.p &&
           Planar(a, rows + kRegisterRows).size<T>(channels) * static_cast<std::int64_t>(sizeof(T)) <= kPlanarBytes &&
           (images * ceil_div(a.p, rows + kRegisterRows) >= bands || rows * row_work < kBandWork))
        rows += kRegisterRows;
    return ceil_div(a.p, ceil_div(a.p, rows));
}

} // namespace

template <class T>
bool flat_pays(const Gather<T>& g, std::int64_t steps) {
    const Windows& a = g.windows;
    if (g.groups != 1 || g.accumulate || g.out_pixel != g.k || !serves<T>(a, g.c, g.k)) return false;
    // A quarter of the steps goes to permutations and row ends, and each input value is turned for half a step.
    return a.r * a.s * g.c * g.k * 5 / (4 * kernels<T>().width) + g.c / 2 < steps;
}

template <class T>
void run_flat(const Gather<T>& g) {
    const Windows& a = g.windows;
    const KernelsOf<T>& kernel = kernels<T>();
    const std::int64_t phases = phases_of<T>(g.k), width = kernel.width, steps = g.c * a.s * a.r;
    const Packed<T> filters(g.cache, pack_key(g, Algorithm::direct, {-1, width}), phases * steps * width, [&](T* to) {
        for (std::int64_t phase = 0; phase < phases; ++phase) {
            std::ptrdiff_t lanes[64]; // wider than any vector: a division for each value would take longer than the sum
            for (std::int64_t lane = 0; lane < width; ++lane) lanes[lane] = (phase * width + lane) % g.k * g.f_k;
            for (std::int64_t c = 0; c < g.c; ++c)
                for (std::int64_t j = 0; j < a.s; ++j)
                    for (std::int64_t i = 0; i < a.r; ++i) {
                        const T* const from = g.filters + i * g.f_i + j * g.f_j + c * g.f_c;
                        for (std::int64_t lane = 0; lane < width; ++lane) *to++ = from[lanes[lane]];
                    }
        }
    });
    const Scratch<T> bias(g.bias ? phases * width : 0);
    if (g.bias)
        for (std::int64_t i = 0; i < phases * width; ++i) bias.get()[i] = g.bias[i % g.k];
    const std::int64_t rows = choose_rows<T>(a, g.c, g.k, g.n, 4 * threads_for_tasks()), tiles = ceil_div(a.p, rows);
    const double work = 2.0 * static_cast<double>(g.n * a.p * a.q * g.k) * static_cast<double>(steps);
    parallel_for(g.n * tiles, work, [&](std::int64_t task) {
        const std::int64_t n = task / tiles, y0 = task % tiles * rows, count = std::min(rows, a.p - y0);
        const Planar planar(a, count);
        const Scratch<T> band(planar.size<T>(g.c));
        fill_planar(a, y0, count, g.input + n * g.image, g.pixel, g.c, band.get());
        FlatRows<T> flat{};
        flat.x = band.get();
        flat.x_plane = planar.plane;
        flat.x_row = planar.line;
        flat.channels = g.c;
        flat.window_rows = a.r;
        flat.columns = a.s;
        flat.filters = filters.get();
        flat.bias = g.bias ? bias.get() : nullptr;
        flat.y = g.output + n * g.out_image + y0 * g.out_row;
        flat.y_row = g.out_row;
        flat.rows = count;
        flat.pixels = a.q;
        flat.filter_count = g.k;
        flat.relu = g.relu;
        kernel.flat_rows(flat);
    });
}

template <class T>
bool flat_filter_gradient_pays(const ConvProblem& o) {
    const Windows a = windows_of(o);
    const std::int64_t window = a.r * a.s * o.c;
    return o.groups == 1 && serves<T>(a, o.c, o.k) && window * o.k * 5 / (4 * kernels<T>().width) + o.c / 2 < window;
}

namespace {

struct GradientParts {
    std::int64_t rows, tiles, parts; // rows of a band, bands of an image; parts of all bands, each with its own sums
};

template <class T>
GradientParts gradient_parts(const ConvProblem& o) {
    GradientParts result{};
    result.rows = choose_rows<T>(windows_of(o), o.c, o.k, o.n, kParts);
    result.tiles = ceil_div(o.p, result.rows);
    const std::int64_t pays = gradient_parts_that_pay(o.n * o.p * o.q, o.r * o.s * o.c * o.k);
    result.parts = std::min({kParts, o.n * result.tiles, pays});
    return result;
}

} // namespace

template <class T>
void flat_filter_gradient(const ConvProblem& o, const T* input, const T* dy, T* dw) {
    const Windows a = windows_of(o);
    const KernelsOf<T>& kernel = kernels<T>();
    const std::int64_t width = kernel.width, taps = o.c * o.s * o.r, total = taps * o.k;
    const std::int64_t lanes = phases_of<T>(o.k) * taps * width;
    const GradientParts cut = gradient_parts<T>(o);
    const Scratch<T> partial(cut.parts * lanes);
    const double work = 2.0 * static_cast<double>(o.n * o.p * o.q) * static_cast<double>(total);
    parallel_for(cut.parts, work, [&](std::int64_t part) {
        const Scratch<T> band(Planar(a, cut.rows).size<T>(o.c));
        T* const sums = partial.get() + part * lanes;
        std::fill_n(sums, lanes, T{});
        const std::int64_t bands = o.n * cut.tiles, end = part_start(part + 1, cut.parts, bands);
        for (std::int64_t at = part_start(part, cut.parts, bands); at < end; ++at) {
            const std::int64_t n = at / cut.tiles, y0 = at % cut.tiles * cut.rows;
            const std::int64_t count = std::min(cut.rows, o.p - y0);
            const Planar planar(a, count);
            fill_planar(a, y0, count, input + n * o.h * o.w * o.c, o.c, o.c, band.get());
            FlatFilterRows<T> flat{};
            flat.x = band.get();
            flat.x_plane = planar.plane;
            flat.x_row = planar.line;
            flat.channels = o.c;
            flat.window_rows = o.r;
            flat.columns = o.s;
            flat.dy = dy + (n * o.p + y0) * o.q * o.k;
            flat.dy_row = o.q * o.k;
            flat.sums = sums;
            flat.rows = count;
            flat.pixels = o.q;
            flat.filter_count = o.k;
            kernel.flat_filter_rows(flat);
        }
    });
    T* const sums = partial.get();
    for (std::int64_t part = 1; part < cut.parts; ++part)
        for (std::int64_t i = 0; i < lanes; ++i) sums[i] += sums[part * lanes + i];
    std::fill_n(dw, total, T{});
    const T* sum = sums;
    for (std::int64_t phase = 0; phase < phases_of<T>(o.k); ++phase) {
        for (std::int64_t c = 0; c < o.c; ++c) {
            for (std::int64_t j = 0; j < o.s; ++j) {
                for (std::int64_t i = 0; i < o.r; ++i) {
                    T* const filters = dw + ((i * o.s + j) * o.c + c) * o.k;
                    std::int64_t k = phase * width % o.k;
                    for (std::int64_t lane = 0; lane < width; ++lane) {
                        filters[k] += *sum++;
                        if (++k == o.k) k = 0;
                    }
                }
            }
        }
    }
}

template <class T>
Sketch sketch_flat(const Gather<T>& g) {
    const Windows& a = g.windows;
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const std::int64_t rows = choose_rows<T>(a, g.c, g.k, g.n, 4 * threads_for_tasks()), steps = a.r * a.s * g.c;
    Sketch sketch;
    sketch.kernel = "flat_rows";
    sketch.tile_pixels = std::min(rows, kRegisterRows) * ceil_div(kernels<T>().width, g.k);
    sketch.tile_filters = g.k;
    sketch.tasks = g.n * ceil_div(a.p, rows);
    sketch.shared_bytes = phases_of<T>(g.k) * (steps + 1) * kernels<T>().width * size;
    sketch.thread_bytes = Planar(a, rows).size<T>(g.c) * size;
    sketch.multiplications = static_cast<double>(g.n * a.p * a.q) * static_cast<double>(steps * g.k);
    return sketch;
}

template <class T>
Sketch sketch_flat_filter_gradient(const ConvProblem& o) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const GradientParts cut = gradient_parts<T>(o);
    const std::int64_t taps = o.r * o.s * o.c;
    Sketch sketch;
    sketch.kernel = "flat_filter_rows";
    sketch.tile_pixels = o.r;
    sketch.tile_filters = o.k;
    sketch.tasks = cut.parts;
    sketch.shared_bytes = cut.parts * phases_of<T>(o.k) * taps * kernels<T>().width * size;
    sketch.thread_bytes = Planar(windows_of(o), cut.rows).size<T>(o.c) * size;
    sketch.multiplications = static_cast<double>(o.n * o.p * o.q) * static_cast<double>(taps * o.k);
    return sketch;
}

#define FASTCONV_FLAT(T)                                                                                               \
    template bool flat_pays(const Gather<T>&, std::int64_t);                                                           \
    template void run_flat(const Gather<T>&);                                                                          \
    template bool flat_filter_gradient_pays<T>(const ConvProblem&);                                                    \
    template void flat_filter_gradient(const ConvProblem&, const T*, const T*, T*);                                    \
    template Sketch sketch_flat(const Gather<T>&);                                                                     \
    template Sketch sketch_flat_filter_gradient<T>(const ConvProblem&);
FASTCONV_FLAT(float)
FASTCONV_FLAT(double)

} // namespace fastconv
