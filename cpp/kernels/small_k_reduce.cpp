// Direct convolution of a row of output pixels with few filters, above all for the input gradients of first layers.
//
// Vectorised over the reduction (the values of a window), because 3 filters would fill only 3 of the 16 lanes of
// direct.cpp's tile. P pixels x M filters sit in registers, each as a vector of partial sums. Per vector of window
// values, M loads of packed filters and P loads of x feed P*M FMAs. At the end the lanes of each sum are added.
// Register budget: P*M sums + M filters + 1 value, at most 16 + 8 + 1 of 32, or 12 + 4 + 1 of 16 (one of these is read
// from memory). AVX-512 adds the lanes of all float sums of a tile together: it transposes them, at 3 operations a sum,
// and gets all results in one vector.
//
// Ceiling: the FMA peak, reduced by the additions of lanes and by the loads that cross a cache line. With vectors of 64
// bytes, every load of x crosses a cache line, unless x is aligned.
//
// Arguments: filters packed and zero-padded as SmallKReduceRow says, at most max_reduced_filters of them.
//
// The lanes of a sum are added in a fixed order, and the lane of a window value depends on the layer only. So the bits
// of an element do not depend on its position.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int max_filters = registers == 32 ? 8 : 4;
template <int M>
constexpr int max_pixels = registers == 32 ? (M == 1       ? 16
                                              : 16 / M < 8 ? 16 / M
                                                           : 8)
                                           : (12 / M < 6 ? 12 / M : 6);

/// Adds the lanes of each sum, adds y and the bias, applies ReLU and stores the results. sums[p*M + m] is output m of
/// pixel p.
template <int M, int P, class T>
FASTCONV_INLINE void finish_each(const SmallKReduceRow<T>& a, const Vec<T> (&sums)[P * M], T* y) {
    T values[P * M];
    FASTCONV_UNROLL
    for (int i = 0; i < P * M; ++i) values[i] = add_lanes<T>(sums[i]);
    if (a.accumulate) {
        FASTCONV_UNROLL
        for (int i = 0; i < P * M; ++i) values[i] = y[i / M * a.y_step + i % M] + values[i];
    }
    if (a.bias) {
        FASTCONV_UNROLL
        for (int i = 0; i < P * M; ++i) values[i] += a.bias[i % M];
    }
    if (a.bounds.set) {
        FASTCONV_UNROLL
        for (int i = 0; i < P * M; ++i)
            values[i] = within<T>(a.bounds, broadcast(values[i]))[0]; // GCC compiles scalar bounds to slow code
    }
    FASTCONV_UNROLL
    for (int i = 0; i < P * M; ++i) y[i / M * a.y_step + i % M] = values[i];
}

/// As finish_each, but adds the lanes of all sums together. It stores the M outputs of a pixel at once, or all results
/// where pixels are neighbours in memory.
template <int M, int P, class T>
FASTCONV_INLINE void finish_together(const SmallKReduceRow<T>& a, const Vec<T> (&sums)[P * M], T* y) {
    static_assert(P * M <= width<T>, "one vector of results");
    Vec<T> each[width<T>];
    FASTCONV_UNROLL
    for (int i = 0; i < width<T>; ++i) each[i] = i < P * M ? sums[i < P * M ? i : 0] : Vec<T>{};
    const Vec<T> all = add_lanes_of_each<T>(each);
    Index<T> lanes{}, filters{};
    FASTCONV_UNROLL
    for (int lane = 0; lane < width<T>; ++lane) {
        lanes[lane] = lane;
        filters[lane] = lane % M;
    }
    Vec<T> bias{};
    if (a.bias) bias = load_part(a.bias, M);
    if (a.y_step == M) {
        Vec<T> value = all;
        if (a.accumulate) value = load_part(y, P * M) + value;
        if (a.bias) value += permute<T>(bias, filters);
        value = within<T>(a.bounds, value);
        store_part(y, value, P * M);
        return;
    }
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        Vec<T> value = permute<T>(all, lanes + p * M);
        T* to = y + p * a.y_step;
        if (a.accumulate) value = load_part(to, M) + value;
        if (a.bias) value += bias;
        value = within<T>(a.bounds, value);
        store_part(to, value, M);
    }
}

template <class T, int M, int P>
FASTCONV_NOINLINE void reduce_tile(const SmallKReduceRow<T>& a, const T* x, T* y) {
    Vec<T> sum[P * M];
    FASTCONV_UNROLL
    for (int i = 0; i < P * M; ++i) sum[i] = Vec<T>{};
    const T* filters = a.filters;
    const ptrdiff_t step = a.x_step, filter_step = a.filter_step;
    const int64_t whole = a.segment_length / width<T> * width<T>, part = a.segment_length - whole;
    for (int64_t i = 0; i < a.segment_count; ++i) {
        const T* run = x + a.segments[i];
        for (int64_t e = 0; e < whole; e += width<T>) {
            Vec<T> filter[M];
            FASTCONV_UNROLL
            for (int m = 0; m < M; ++m) filter[m] = load(filters + m * filter_step);
            FASTCONV_UNROLL
            for (int p = 0; p < P; ++p) {
                Vec<T> value = load(run + p * step);
                keep_in_register(value);
                FASTCONV_UNROLL
                for (int m = 0; m < M; ++m) sum[p * M + m] += value * filter[m];
            }
            run += width<T>;
            filters += width<T>;
        }
        if (part) {
            FASTCONV_UNROLL
            for (int p = 0; p < P; ++p) {
                const Vec<T> value = load_part(run + p * step, part);
                FASTCONV_UNROLL
                for (int m = 0; m < M; ++m) sum[p * M + m] += value * load(filters + m * filter_step);
            }
            filters += width<T>;
        }
    }
    if constexpr (adds_lanes_together<T>)
        finish_together<M, P>(a, sum, y);
    else
        finish_each<M, P>(a, sum, y);
}

template <class T, int M>
void reduce_pixels(const SmallKReduceRow<T>& a) {
    constexpr int most = max_pixels<M>;
    each_tile(a.pixels, most, [&](int64_t pixels, int64_t first) {
        const T* x = a.x + first * a.x_step;
        T* y = a.y + first * a.y_step;
        dispatch<most>(pixels, [&](auto p) { reduce_tile<T, M, p>(a, x, y); });
    });
}

template <class T>
void small_k_reduce_row(const SmallKReduceRow<T>& a) {
    dispatch<max_filters>(a.filter_count, [&](auto m) { reduce_pixels<T, m>(a); });
}

} // namespace

void add_small_k_reduce(KernelTable& table) {
    table.f32.small_k_reduce_row = small_k_reduce_row<float>;
    table.f64.small_k_reduce_row = small_k_reduce_row<double>;
    table.f32.max_reduced_filters = table.f64.max_reduced_filters = max_filters;
}

} // namespace FASTCONV_ISA
} // namespace fastconv
