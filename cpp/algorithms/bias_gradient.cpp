// The gradient of a bias: the sum of the output's gradient over all pixels, masked first if there is a fused ReLU.
//
// The kernel sums chunks of rows in the data type. The sums of the chunks are added in double, so the error does not
// grow with the number of pixels. In NHWC, a row is one pixel or, if channels are few, as many pixels as fill whole
// vectors. The rows are divided into parts, one task each. In NCHW, a row is a piece of a channel, and each channel is
// a task. Parts and chunks follow from the problem alone, so the bits do not depend on the number of threads.
#include "core/errors.h"
#include "core/for_type.h"
#include "core/isa.h"
#include "core/numbers.h"
#include "core/partial_sums.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"
#include "fastconv/elementwise.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace fastconv {
namespace {

constexpr std::int64_t kChunkRows = 256;

template <class T>
struct Tensors {
    const T* out_backprop;
    const T* features; // may be null; `masked` is then null, too
    T* masked;
};

/// Adds the sum of each column i to totals[i]. Rows are dense, and the first one starts at value `at`. `sums` has room
/// for the sums of a chunk.
template <class T>
void add_columns(const Tensors<T>& tensors, std::int64_t at, std::int64_t rows, std::int64_t columns,
                 std::vector<T>& sums, double* totals) {
    ColumnSums<T> a{};
    a.row = a.columns = columns;
    a.sums = sums.data();
    for (std::int64_t r = 0; r < rows; r += kChunkRows) {
        const std::int64_t first = at + r * columns;
        a.x = tensors.out_backprop + first;
        a.features = tensors.features ? tensors.features + first : nullptr;
        a.masked = tensors.masked ? tensors.masked + first : nullptr;
        a.rows = std::min(kChunkRows, rows - r);
        kernels<T>().column_sums(a);
        for (std::int64_t i = 0; i < columns; ++i) totals[i] += static_cast<double>(sums[static_cast<std::size_t>(i)]);
    }
}

template <class T>
void sum_nhwc(std::int64_t pixels, std::int64_t channels, const Tensors<T>& tensors, T* bias) {
    const std::int64_t width = kernels<T>().width;
    const std::int64_t row_pixels = channels < 4 * width ? width / std::gcd(channels, width) : 1;
    const std::int64_t columns = row_pixels * channels, rows = pixels / row_pixels;
    const std::int64_t most = std::clamp<std::int64_t>((1 << 20) / columns, 1, 64);
    const std::int64_t parts = std::clamp<std::int64_t>(rows * columns / 16384, 1, most);
    const Scratch<double> totals(parts * columns);
    parallel_for(parts, static_cast<double>(pixels * channels), [&](std::int64_t part) {
        double* const to = totals.get() + part * columns;
        std::fill_n(to, columns, 0.0);
        std::vector<T> sums(static_cast<std::size_t>(columns));
        const std::int64_t first = part_start(part, parts, rows), last = part_start(part + 1, parts, rows);
        add_columns(tensors, first * columns, last - first, columns, sums, to);
        const std::int64_t rest = pixels - rows * row_pixels; // pixels that do not fill a row
        if (part + 1 == parts && rest > 0) add_columns(tensors, rows * columns, 1, rest * channels, sums, to);
    });
    if (bias) sum_in_double(parts * row_pixels, channels, totals.get(), bias);
}

template <class T>
void sum_nchw(std::int64_t images, std::int64_t channels, std::int64_t plane, const Tensors<T>& tensors, T* bias) {
    const std::int64_t columns = 4 * kernels<T>().width, rows = plane / columns, rest = plane - rows * columns;
    parallel_for(channels, static_cast<double>(images * channels * plane), [&](std::int64_t c) {
        std::vector<T> sums(static_cast<std::size_t>(columns));
        std::vector<double> totals(static_cast<std::size_t>(columns));
        for (std::int64_t n = 0; n < images; ++n) {
            const std::int64_t at = (n * channels + c) * plane;
            add_columns(tensors, at, rows, columns, sums, totals.data());
            if (rest > 0) add_columns(tensors, at + rows * columns, 1, rest, sums, totals.data());
        }
        if (bias) sum_in_double(columns, 1, totals.data(), bias + c);
    });
}

} // namespace

void bias_gradient(DataType dtype, DataFormat format, const Dims& dims, const void* out_backprop, const void* output,
                   void* masked, void* bias_backprop) {
    std::int64_t count = 1;
    bool good = dims.size() == 4;
    for (const std::int64_t d : dims) good = good && d >= 0 && !__builtin_mul_overflow(count, d, &count);
    if (!good) fail("out_backprop must have 4 dimensions and fewer than 2^63 values, got shape ", show(dims));
    if ((output == nullptr) != (masked == nullptr))
        throw InvalidArgument("output and masked must be given together, or not at all");
    if (dims[format == DataFormat::nhwc ? 3 : 1] == 0) return;
    for_type(dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        const Tensors<T> tensors{static_cast<const T*>(out_backprop), static_cast<const T*>(output),
                                 static_cast<T*>(masked)};
        T* const bias = static_cast<T*>(bias_backprop);
        if (format == DataFormat::nhwc)
            sum_nhwc(dims[0] * dims[1] * dims[2], dims[3], tensors, bias);
        else
            sum_nchw(dims[0], dims[1], dims[2] * dims[3], tensors, bias);
    });
}

} // namespace fastconv
