// The gradient of a bias: the sum of the output's gradient over all pixels, and what of that passes a ReLU.
//
// Few channels are folded: a row is then as many pixels as it takes to fill whole vectors. Parts of the pixels, and
// chunks of these which the kernel sums in the data type, follow from the problem alone; what they give is added in
// double. So the bits do not depend on the number of threads, nor does the error grow with the number of pixels.
#include "core/isa.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"
#include "fastconv/elementwise.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace fastconv {
namespace {

constexpr std::int64_t kChunkRows = 256;

/// Adds the columns of `a` to `totals`, of which there are a.columns; a.sums is set here.
template <class T>
void add_columns(ColumnSums<T> a, std::vector<T>& sums, double* totals) {
    const std::int64_t rows = a.rows;
    a.sums = sums.data();
    for (std::int64_t r = 0; r < rows; r += kChunkRows) {
        a.rows = std::min(kChunkRows, rows - r);
        kernels<T>().column_sums(a);
        for (std::int64_t i = 0; i < a.columns; ++i)
            totals[i] += static_cast<double>(sums[static_cast<std::size_t>(i)]);
        a.x += a.rows * a.row;
        if (a.features) a.features += a.rows * a.row;
        if (a.masked) a.masked += a.rows * a.row;
    }
}

/// From value `at`; rows are dense.
template <class T>
ColumnSums<T> columns_at(const T* x, const T* features, T* masked, std::int64_t at, std::int64_t rows,
                         std::int64_t columns) {
    return {x + at, features ? features + at : nullptr, masked ? masked + at : nullptr, columns, rows, columns,
            nullptr};
}

template <class T>
void sum_pixels(std::int64_t pixels, std::int64_t channels, const T* x, const T* features, T* masked, T* bias) {
    const std::int64_t width = kernels<T>().width;
    const std::int64_t fold = channels < 4 * width ? width / std::gcd(channels, width) : 1;
    const std::int64_t columns = fold * channels, rows = pixels / fold;
    const std::int64_t most = std::clamp<std::int64_t>((1 << 20) / columns, 1, 64);
    const std::int64_t parts = std::clamp<std::int64_t>(rows * columns / 16384, 1, most);
    const Scratch<double> totals(parts * columns);
    parallel_for(parts, static_cast<double>(pixels * channels), [&](std::int64_t part) {
        double* const to = totals.get() + part * columns;
        std::fill_n(to, columns, 0.0);
        std::vector<T> sums(static_cast<std::size_t>(columns));
        const std::int64_t first = part * rows / parts, last = (part + 1) * rows / parts;
        add_columns(columns_at(x, features, masked, first * columns, last - first, columns), sums, to);
        if (part + 1 == parts && pixels > rows * fold) // the pixels that do not fill a row
            add_columns(columns_at(x, features, masked, rows * columns, 1, (pixels - rows * fold) * channels), sums,
                        to);
    });
    if (bias == nullptr) return;
    for (std::int64_t c = 0; c < channels; ++c) {
        double total = 0;
        for (std::int64_t i = c; i < parts * columns; i += channels) total += totals.get()[i];
        bias[c] = static_cast<T>(total);
    }
}

template <class T>
void sum_planes(std::int64_t images, std::int64_t channels, std::int64_t plane, const T* x, const T* features,
                T* masked, T* bias) {
    const std::int64_t columns = 4 * kernels<T>().width, rows = plane / columns;
    parallel_for(channels, static_cast<double>(images * channels * plane), [&](std::int64_t c) {
        std::vector<T> sums(static_cast<std::size_t>(columns));
        std::vector<double> totals(static_cast<std::size_t>(columns));
        for (std::int64_t n = 0; n < images; ++n) {
            const std::int64_t at = (n * channels + c) * plane;
            add_columns(columns_at(x, features, masked, at, rows, columns), sums, totals.data());
            if (plane > rows * columns)
                add_columns(columns_at(x, features, masked, at + rows * columns, 1, plane - rows * columns), sums,
                            totals.data());
        }
        if (bias) bias[c] = static_cast<T>(std::accumulate(totals.begin(), totals.end(), 0.0));
    });
}

template <class T>
void compute(DataFormat format, const Dims& dims, const void* gradients, const void* features, void* masked,
             void* bias) {
    const T *x = static_cast<const T*>(gradients), *y = static_cast<const T*>(features);
    if (format == DataFormat::nhwc)
        sum_pixels(dims[0] * dims[1] * dims[2], dims[3], x, y, static_cast<T*>(masked), static_cast<T*>(bias));
    else
        sum_planes(dims[0], dims[1], dims[2] * dims[3], x, y, static_cast<T*>(masked), static_cast<T*>(bias));
}

} // namespace

void bias_gradient(DataType dtype, DataFormat format, const Dims& dims, const void* out_backprop, const void* output,
                   void* masked, void* bias_backprop) {
    std::int64_t count = 1;
    bool good = dims.size() == 4;
    for (const std::int64_t d : dims) good = good && d >= 0 && !__builtin_mul_overflow(count, d, &count);
    if (!good || dims[format == DataFormat::nhwc ? 3 : 1] == 0)
        throw InvalidArgument("out_backprop must have 4 dimensions, and channels");
    if ((output == nullptr) != (masked == nullptr))
        throw InvalidArgument("output and masked must both be given, or none");
    if (dtype == DataType::float32)
        compute<float>(format, dims, out_backprop, output, masked, bias_backprop);
    else
        compute<double>(format, dims, out_backprop, output, masked, bias_backprop);
}

} // namespace fastconv
