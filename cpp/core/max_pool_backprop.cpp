// The gradients of a convolution whose output went into a max-pooling and nowhere else, a few images at a time.
//
// Where layers are small, the convolution's output gradient, which the pooling's gradient writes and the convolution's
// two read, costs more time than the sums: it is four times as large as the pooled one behind 2x2 windows, mostly
// zeros, and leaves the caches before it is read. Here a task scatters the gradient of a few images into scratch memory
// and calls both gradients of the convolution on it at once. Both also share one parallel_for, instead of two
// operations that a framework starts on two threads, of which one ends first.
#include "core/gather.h"
#include "core/threading.h"
#include "core/workspace.h"
#include "fastconv/fastconv.h"

#include <algorithm>

namespace fastconv {
namespace {

constexpr std::int64_t kParts = 32;                 // of the filter gradient; fixed, since it decides the sum's order
constexpr std::int64_t kLeastImages = 4;            // of a part, which takes some 2 us to set up
constexpr std::int64_t kImageBytes = 64 << 10;      // of an image's output gradient; and of a few together
constexpr std::int64_t kInputBytes = 1 << 20;       // of an image, of which a task may turn a few from NCHW
constexpr std::int64_t kMostFilterValues = 4 << 10; // each part has sums of its own for all of them

std::int64_t filter_values(const ConvProblem& o) { return o.r * o.s * (o.c / o.groups) * o.k; }

std::int64_t size_of(DataType type) { return type == DataType::float32 ? sizeof(float) : sizeof(double); }

template <class T>
void add(std::int64_t count, const T* from, T* to) {
    for (std::int64_t i = 0; i < count; ++i) to[i] += from[i];
}

template <class T>
void backprop(const ConvProblem& o, const PoolProblem& pool, const T* input, const T* filters, const std::uint8_t* taps,
              const T* grad, T* input_backprop, T* filter_backprop) {
    const std::int64_t image = o.h * o.w * o.c, output = o.p * o.q * o.k, pooled = pool.p * pool.q * pool.c;
    const std::int64_t values = filter_values(o), parts = std::min(kParts, ceil_div(o.n, kLeastImages));
    const auto that_fit = [&](std::int64_t bytes, std::int64_t image_values) {
        return std::max<std::int64_t>(1, bytes / std::max<std::int64_t>(1, image_values * size_of(o.dtype)));
    };
    const std::int64_t few = std::min(that_fit(kImageBytes, output), that_fit(kInputBytes, image));
    const PackedFilters packed(o.dtype, o.filter_dims(), filters); // once for all parts
    const Scratch<T> sums(parts * values);
    const double work =
        (input_backprop ? 4.0 : 2.0) * static_cast<double>(o.n * o.p * o.q) * static_cast<double>(values);
    parallel_for(parts, work, [&](std::int64_t part) {
        const std::int64_t first = part_start(part, parts, o.n), end = part_start(part + 1, parts, o.n);
        T* const sum = sums.get() + part * values;
        const Scratch<T> dy(std::min(few, end - first) * output), more(end - first > few ? values : 0);
        for (std::int64_t n = first; n < end; n += few) {
            ConvProblem some = o;
            PoolProblem windows = pool;
            some.n = windows.n = std::min(few, end - n);
            max_pool2d_scatter(windows, taps + n * pooled, grad + n * pooled, dy.get());
            conv2d_backprop_filter(some, input + n * image, dy.get(), n == first ? sum : more.get());
            if (n > first) add(values, more.get(), sum);
            if (input_backprop) conv2d_backprop_input(some, packed, dy.get(), input_backprop + n * image);
        }
    });
    std::fill_n(filter_backprop, values, T{});
    for (std::int64_t part = 0; part < parts; ++part) add(values, sums.get() + part * values, filter_backprop);
}

} // namespace

bool max_pool_backprop_serves(const ConvProblem& o) {
    const std::int64_t size = size_of(o.dtype);
    return o.p * o.q * o.k <= kImageBytes / size && o.h * o.w * o.c <= kInputBytes / size &&
           filter_values(o) <= kMostFilterValues;
}

void max_pool_backprop(const ConvProblem& problem, const PoolProblem& pool, const void* input, const void* filters,
                       const std::uint8_t* taps, const void* grad, void* input_backprop, void* filter_backprop) {
    if (!max_pool_backprop_serves(problem))
        throw InvalidArgument("the layer is too large for the gradients of convolution and max-pooling in one");
    if (pool.format != problem.format)
        throw InvalidArgument("convolution and max-pooling must have the same data format");
    check_dims("the input of the max-pooling", pool.input_dims(), problem.output_dims(),
               "the output of the convolution");
    if (problem.dtype == DataType::float32)
        backprop(problem, pool, static_cast<const float*>(input), static_cast<const float*>(filters), taps,
                 static_cast<const float*>(grad), static_cast<float*>(input_backprop),
                 static_cast<float*>(filter_backprop));
    else
        backprop(problem, pool, static_cast<const double*>(input), static_cast<const double*>(filters), taps,
                 static_cast<const double*>(grad), static_cast<double*>(input_backprop),
                 static_cast<double*>(filter_backprop));
}

} // namespace fastconv
