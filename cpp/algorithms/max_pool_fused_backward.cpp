// The gradients of a convolution whose output went into a max-pooling and nowhere else, a few images at a time.
//
// Where layers are small, the convolution's output gradient, which the pooling's gradient writes and the convolution's
// two read, costs more time than the sums: it is four times as large as the pooled one behind 2x2 windows, mostly
// zeros, and leaves the caches before it is read. Here both gradients of the convolution share one parallel_for,
// instead of two operations that a framework starts on two threads, of which one ends first. A task takes a few images
// at a time, and for each of the two gradients one of two ways:
//
// - Sparse, from the pooled gradient itself: sums over one value for each filter and pooling window.
// - Dense: it scatters the gradient into scratch memory and calls the convolution's gradient.
#include "algorithms/correlation.h"
#include "algorithms/max_pool_taps.h"
#include "core/isa.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"
#include "fastconv/elementwise.h"
#include "fastconv/pooling.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace fastconv {
namespace {

constexpr std::int64_t kParts = 32;                 // of the filter gradient; fixed, since it decides the sum's order
constexpr std::int64_t kLeastImages = 4;            // of a part, which takes some 2 us to set up
constexpr std::int64_t kImageBytes = 64 << 10;      // of an image's output gradient; and of a few together
constexpr std::int64_t kInputBytes = 1 << 20;       // of an image, of which a task may turn a few from NCHW
constexpr std::int64_t kShiftBytes = 48 << 10;      // of shifted filters, read again for each image: of L1 or nearly
constexpr std::int64_t kColumnBytes = 128 << 10;    // of an image's windows, or its patches, likewise of L2
constexpr std::int64_t kLongest = 64;               // chain of windows, where a row has no more: bounds the
constexpr std::int64_t kLongestRow = 1024;          // rounding error
constexpr std::int64_t kSpread = 4;                 // rows, and values of each, of patches that pooled_spreads serves
constexpr std::int64_t kRuns = 3, kRun = 4;         // rows, and values of each, of windows that pooled_runs serves
constexpr std::int64_t kMostFilterValues = 4 << 10; // each part has sums of its own for all of them

std::int64_t filter_values(const ConvProblem& o) { return o.r * o.s * (o.c / o.groups) * o.k; }

template <class T>
void add(std::int64_t count, const T* from, T* to) {
    for (std::int64_t i = 0; i < count; ++i) to[i] += from[i];
}

/// The sparse ways, with the kernels of kernels/behind_max_pool.cpp, and whether they pay. All sizes are those of one
/// image, so that the choice does not depend on the batch.
template <class T>
class Sparse {
  public:
    Sparse(const ConvProblem& problem, const PoolProblem& windows)
        : o(problem), pool(windows), kernel(kernels<T>()), width(kernel.width), taps_count(pool.r * pool.s),
          padded(o.pad_top != 0 || o.pad_left != 0 || o.pad_bottom != 0 || o.pad_right != 0) {
        if (o.format != DataFormat::nhwc || o.groups != 1 || o.algorithm != Algorithm::auto_choice) return;
        if (o.stride_h != 1 || o.stride_w != 1 || o.dilation_h != 1 || o.dilation_w != 1) return;
        if (pool.pad_top != 0 || pool.pad_bottom != 0 || pool.pad_left != 0 || pool.pad_right != 0) return;
        if (o.n * pool.p * pool.q * filter_values(o) == 0) return;
        covered = {0, (pool.p - 1) * pool.stride_h + pool.r, 0, (pool.q - 1) * pool.stride_w + pool.s};
        lines = covered.rows + o.r - 1;
        line = (covered.columns + o.s - 1) * o.c;
        patch_rows = pool.r + o.r - 1;
        patch_row = (pool.s + o.s - 1) * o.c;
        patch = whole_vectors(patch_rows * patch_row);
        column = whole_vectors(o.r * o.s * o.c);
        // In vectors loaded, of which two take as long as two FMAs. A step, one pooled gradient, loads its tap, an
        // address and itself, too; a store takes as long as two loads; a kernel for the whole gradient reaches some
        // 70 % of the FMA peak.
        const std::int64_t window_count = pool.p * pool.q, pixels = covered.rows * covered.columns;
        const std::int64_t steps = window_count * o.k;
        const std::int64_t adding = window_count * patch_rows * whole_vectors(patch_row) / width * 4;
        const std::int64_t copying = pixels * o.r * whole_vectors(o.s * o.c) / width * 3;
        const double dense = static_cast<double>(filter_values(o)) / (0.7 * static_cast<double>(width));
        const std::int64_t products = steps * (column / width + 3) + copying;
        spreads = kernel.pooled_spreads && patch_rows == kSpread && patch_row <= kSpread; // which always pays
        input_pays = shifts_size() * size <= kShiftBytes && window_count * patch * size <= kColumnBytes &&
                     static_cast<double>(steps * (patch / width + 3) + adding) < static_cast<double>(o.h * o.w) * dense;
        const bool products_pay = columns_size() * size <= kColumnBytes && (o.s * o.c >= 3 || o.r <= 6) &&
                                  static_cast<double>(products) < static_cast<double>(o.p * o.q) * dense;
        const double scattering = static_cast<double>(o.p * o.q * o.k) / static_cast<double>(width) * 4;
        runs = !spreads && o.r <= kRuns && o.s * o.c <= kRun &&
               static_cast<double>(steps * (o.r * ceil_div(kRun, width) + 3)) <
                   static_cast<double>(o.p * o.q) * dense + scattering;
        filters_pay = pool.q <= kLongestRow && (spreads || runs || products_pay);
    }

    bool input_pays = false, filters_pay = false;

    /// Of the table that input_gradient needs, made once for all images: each filter in a patch of zeros at each tap.
    std::int64_t shifts_size() const { return taps_count * o.k * patch; }
    void fill_shifts(const T* filters, T* shifts) const {
        const std::int64_t window = o.r * o.s * o.c, run = o.s * o.c;
        const Scratch<T> by_filter(o.k * window);
        kernel.transpose(filters, o.k, by_filter.get(), window, window, o.k);
        std::fill_n(shifts, shifts_size(), T{});
        for (std::int64_t tap = 0; tap < taps_count; ++tap)
            for (std::int64_t k = 0; k < o.k; ++k)
                for (std::int64_t i = 0; i < o.r; ++i)
                    std::copy_n(by_filter.get() + k * window + i * run, run,
                                shifts + (tap * o.k + k) * patch + (tap / pool.s + i) * patch_row + tap % pool.s * o.c);
    }

    void input_gradient(const T* shifts, const std::uint8_t* taps, const T* grad, T* dx) const {
        const Scratch<T> band(padded ? lines * line : 0), patches(pool.p * pool.q * patch);
        T* const sums = padded ? band.get() : dx;
        const std::int64_t sums_row = padded ? line : o.w * o.c;
        std::fill_n(sums, padded ? lines * line : o.h * sums_row, T{});
        PooledPatches<T> all{};
        all.taps = taps;
        all.grad = grad;
        all.windows = pool.p * pool.q;
        all.filters = o.k;
        all.taps_count = taps_count;
        all.shifts = shifts;
        all.tap_step = o.k * patch;
        all.patches = patches.get();
        all.patch = patch;
        kernel.pooled_patches(all);
        kernel.add_patches({patches.get(), patch, patch_rows, patch_row, pool.p, pool.q, sums, sums_row,
                            pool.stride_h * sums_row, pool.stride_w * o.c});
        if (padded) copy_back(band.get(), dx);
    }

    /// Of the table that filter_gradient may need: the elements of a patch that a tap's window has, the rest any.
    std::int64_t elements_size() const { return spreads ? taps_count * width : 0; }
    void fill_elements(std::int32_t* elements) const {
        for (std::int64_t i = 0; i < elements_size(); ++i) {
            const std::int64_t tap = i / width, row = i % width / (o.s * o.c), value = i % width % (o.s * o.c);
            const std::int64_t element = (tap / pool.s + row) * kSpread + tap % pool.s * o.c + value;
            elements[i] = static_cast<std::int32_t>(std::min(element, width - 1));
        }
    }

    /// sums: [filter][column], to which it adds the image's. `following` values lie behind the image.
    std::int64_t sums_size() const { return o.k * column; }
    void filter_gradient(const std::int32_t* elements, const T* input, std::int64_t following, const std::uint8_t* taps,
                         const T* grad, T* sums) const {
        const std::int64_t behind = std::max(width, kRun); // values that may be read
        const bool in_place = !padded && following >= behind;
        const Scratch<T> band(in_place ? 0 : lines * line + behind);
        if (!in_place) {
            fill_band(windows_of(o), covered, input, o.c, o.c, band.get());
            std::fill_n(band.get() + lines * line, behind, T{});
        }
        const T* const x = in_place ? input : band.get();
        const std::int64_t x_row = in_place ? o.w * o.c : line;
        const bool in_columns = !spreads && !runs;
        const Scratch<T> columns(in_columns ? columns_size() : 0);
        if (in_columns)
            kernel.window_columns(
                {x, x_row, o.c, covered.rows, covered.columns, o.r, o.s * o.c, columns.get(), column});
        const std::int64_t down = in_columns ? covered.columns * column : x_row, along = in_columns ? column : o.c;
        std::array<std::ptrdiff_t, max_pool_taps> offsets{};
        for (std::int64_t tap = 0; tap < taps_count; ++tap)
            offsets[static_cast<std::size_t>(tap)] = tap / pool.s * down + tap % pool.s * along;
        PooledProducts<T> some{};
        some.windows = pool.q;
        some.filters = o.k;
        some.taps_count = taps_count;
        some.row = pool.stride_h * down;
        some.step = pool.stride_w * along;
        some.x_row = x_row;
        some.offsets = offsets.data();
        some.elements = elements;
        some.runs = o.r;
        some.run = o.s * o.c;
        some.sums = sums;
        some.column = column;
        const auto products = spreads ? kernel.pooled_spreads : runs ? kernel.pooled_runs : kernel.pooled_products;
        const std::int64_t few_rows = std::max<std::int64_t>(1, kLongest / pool.q), row_values = pool.q * o.k;
        for (std::int64_t row = 0; row < pool.p; row += few_rows) {
            some.rows = std::min(few_rows, pool.p - row);
            some.taps = taps + row * row_values;
            some.grad = grad + row * row_values;
            some.x = (in_columns ? columns.get() : x) + row * some.row;
            products(some);
        }
    }

  private:
    static constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    std::int64_t whole_vectors(std::int64_t count) const { return ceil_div(count, width) * width; }
    std::int64_t columns_size() const { return covered.rows * covered.columns * column; }

    void copy_back(const T* band, T* dx) const {
        std::fill_n(dx, o.h * o.w * o.c, T{});
        const std::int64_t rows = std::min(o.h, lines - o.pad_top), columns = std::min(o.w, line / o.c - o.pad_left);
        for (std::int64_t y = 0; y < rows; ++y)
            if (columns > 0)
                std::copy_n(band + (y + o.pad_top) * line + o.pad_left * o.c, columns * o.c, dx + y * o.w * o.c);
    }

    const ConvProblem& o;
    const PoolProblem& pool;
    const KernelsOf<T>& kernel;
    std::int64_t width, taps_count;
    bool padded;
    Tile covered{};                   // pixels of the convolution's output that have a pooling window
    std::int64_t lines = 0, line = 0; // of the input that these read, with its padding
    std::int64_t patch_rows = 0, patch_row = 0, patch = 0; // what a pooling window's pixels read
    std::int64_t column = 0;                               // what one pixel reads
    bool spreads = false, runs = false;                    // without copies of the windows
};

template <class T>
void backprop(const ConvProblem& o, const PoolProblem& pool, const T* input, const T* filters, const std::uint8_t* taps,
              const T* grad, T* input_backprop, T* filter_backprop, T* bias_backprop) {
    const std::int64_t image = o.h * o.w * o.c, output = o.p * o.q * o.k, pooled = pool.p * pool.q * pool.c;
    const std::int64_t values = filter_values(o), parts = std::min(kParts, ceil_div(o.n, kLeastImages));
    const auto that_fit = [&](std::int64_t bytes, std::int64_t image_values) {
        return std::max<std::int64_t>(1, bytes / std::max<std::int64_t>(1, image_values * size_of(o.dtype)));
    };
    const KernelsOf<T>& kernel = kernels<T>();
    const PackedFilters packed(o.dtype, o.filter_dims(), filters); // once for all parts
    const Sparse<T> sparse(o, pool);
    const bool sparse_input = input_backprop && sparse.input_pays && kernel.all_finite(filters, values);
    const bool sparse_filters = sparse.filters_pay;
    const std::int64_t few = std::min(that_fit(kImageBytes, output), that_fit(kInputBytes, image));
    const Scratch<T> shifts(sparse_input ? sparse.shifts_size() : 0), sums(parts * values), bias(parts * o.k);
    const Scratch<std::int32_t> elements(sparse_filters ? sparse.elements_size() : 0);
    if (sparse_input) sparse.fill_shifts(filters, shifts.get());
    if (sparse_filters) sparse.fill_elements(elements.get());
    const double work =
        (input_backprop ? 4.0 : 2.0) * static_cast<double>(o.n * o.p * o.q) * static_cast<double>(values);
    parallel_for(parts, work, [&](std::int64_t part) {
        const std::int64_t first = part_start(part, parts, o.n), end = part_start(part + 1, parts, o.n);
        T* const sum = sums.get() + part * values;
        std::fill_n(sum, values, T{});
        const Scratch<T> by_filter(sparse_filters ? sparse.sums_size() : 0),
            of_few(std::max(values, sparse.sums_size()));
        for (std::int64_t n = first; n < end; n += few) {
            ConvProblem some = o;
            PoolProblem windows = pool;
            some.n = windows.n = std::min(few, end - n);
            // Where zeros would meet infinity, all products are computed, as by the three operations one by one.
            const bool finite =
                (sparse_input || sparse_filters) && kernel.all_finite(grad + n * pooled, some.n * pooled);
            const bool input_sparsely = sparse_input && finite;
            const bool filters_sparsely =
                sparse_filters && finite && kernel.all_finite(input + n * image, some.n * image);
            // One after the other: what each reads again for every image fills L1.
            if (filters_sparsely) {
                std::fill_n(by_filter.get(), sparse.sums_size(), T{});
                for (std::int64_t i = n; i < n + some.n; ++i)
                    sparse.filter_gradient(elements.get(), input + i * image, (o.n - 1 - i) * image, taps + i * pooled,
                                           grad + i * pooled, by_filter.get());
                kernel.transpose(by_filter.get(), sparse.sums_size() / o.k, of_few.get(), o.k, o.k, values / o.k);
            }
            for (std::int64_t i = n; input_sparsely && i < n + some.n; ++i)
                sparse.input_gradient(shifts.get(), taps + i * pooled, grad + i * pooled, input_backprop + i * image);
            if (!filters_sparsely || (input_backprop && !input_sparsely)) {
                const Scratch<T> dy(some.n * output);
                max_pool2d_scatter(windows, taps + n * pooled, grad + n * pooled, dy.get());
                if (!filters_sparsely) conv2d_backprop_filter(some, input + n * image, dy.get(), of_few.get());
                if (input_backprop && !input_sparsely)
                    conv2d_backprop_input(some, packed, dy.get(), input_backprop + n * image);
            }
            add(values, of_few.get(), sum);
        }
        Dims dims = pool.output_dims(); // to which of a window's pixels a gradient goes does not matter to the bias
        dims[0] = end - first;
        bias_gradient(o.dtype, o.format, dims, grad + first * pooled, nullptr, nullptr, bias.get() + part * o.k);
    });
    std::fill_n(filter_backprop, values, T{});
    for (std::int64_t part = 0; part < parts; ++part) add(values, sums.get() + part * values, filter_backprop);
    for (std::int64_t k = 0; k < o.k; ++k) {
        double total = 0;
        for (std::int64_t part = 0; part < parts; ++part) total += static_cast<double>(bias.get()[part * o.k + k]);
        bias_backprop[k] = static_cast<T>(total);
    }
}

/// Large layers: each operation is worth threads of its own, and sums for each part would not fit the caches.
void one_by_one(const ConvProblem& o, const PoolProblem& pool, const void* input, const void* filters,
                const std::uint8_t* taps, const void* grad, void* input_backprop, void* filter_backprop,
                void* bias_backprop) {
    const Scratch<std::byte> dy(o.n * o.p * o.q * o.k * size_of(o.dtype));
    max_pool2d_scatter(pool, taps, grad, dy.get());
    if (input_backprop) conv2d_backprop_input(o, filters, dy.get(), input_backprop);
    conv2d_backprop_filter(o, input, dy.get(), filter_backprop);
    bias_gradient(o.dtype, o.format, pool.output_dims(), grad, nullptr, nullptr, bias_backprop);
}

} // namespace

bool max_pool_backprop_serves(const ConvProblem& o) {
    const std::int64_t size = size_of(o.dtype);
    return o.p * o.q * o.k <= kImageBytes / size && o.h * o.w * o.c <= kInputBytes / size &&
           filter_values(o) <= kMostFilterValues;
}

void max_pool_backprop(const ConvProblem& problem, const PoolProblem& pool, const void* input, const void* filters,
                       const std::uint8_t* taps, const void* grad, void* input_backprop, void* filter_backprop,
                       void* bias_backprop) {
    check_pool_of_output(problem, pool);
    if (problem.n == 0 || pool.p == 0 || pool.q == 0) { // of any number of images
        const auto zeros = [&](void* to, std::int64_t count) {
            std::fill_n(static_cast<std::byte*>(to), count * size_of(problem.dtype), std::byte{});
        };
        if (input_backprop) zeros(input_backprop, problem.n * problem.h * problem.w * problem.c);
        zeros(filter_backprop, filter_values(problem));
        zeros(bias_backprop, problem.k);
        return;
    }
    if (!max_pool_backprop_serves(problem))
        one_by_one(problem, pool, input, filters, taps, grad, input_backprop, filter_backprop, bias_backprop);
    else if (problem.dtype == DataType::float32)
        backprop(problem, pool, static_cast<const float*>(input), static_cast<const float*>(filters), taps,
                 static_cast<const float*>(grad), static_cast<float*>(input_backprop),
                 static_cast<float*>(filter_backprop), static_cast<float*>(bias_backprop));
    else
        backprop(problem, pool, static_cast<const double*>(input), static_cast<const double*>(filters), taps,
                 static_cast<const double*>(grad), static_cast<double*>(input_backprop),
                 static_cast<double*>(filter_backprop), static_cast<double*>(bias_backprop));
}

} // namespace fastconv
