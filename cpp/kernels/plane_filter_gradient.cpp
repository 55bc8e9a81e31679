// Filter gradient of a depthwise convolution on planes (NCHW): for each tap, the sum of the products of two planes.
//
// Vectorised over the pixels of a row. The sums of 3x3 taps, or of up to 9 taps of one window row, sit in registers
// while the loop runs over rows and vectors of pixels. Per vector, a load of dy and a load of x for each tap feed one
// FMA for each tap. With a stride of 2, a value of x takes two loads and a permutation, which picks every other column.
// Nothing is copied: a vector that reaches into the padding, or beyond the last pixel, is loaded from inside the row.
// A permutation moves its columns to their lanes, and the lanes outside become zero. The caller adds up the lanes of a
// sum, once for all planes of a channel.
//
// Ceiling: planes from memory: their bandwidth. In the caches, the load port, at N + 1 loads for N FMAs, most of which
// cross a cache line; with a stride of 2, the permutations.
//
// Arguments: any window, with a stride of 1 or 2 columns. Nothing needs to be aligned.
//
// In each call, a sum starts from zero and is added to `sums` once, at the end. These two levels of summation keep the
// rounding error of long sums small.
#include "kernels/plane_filter_rows.h"
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int most_taps = 9;

template <class T>
FASTCONV_INLINE Index<T> lane_numbers() {
    Index<T> lanes{};
    FASTCONV_UNROLL
    for (int lane = 0; lane < width<T>; ++lane) lanes[lane] = (Lane<T>)lane;
    return lanes;
}

/// The columns of a vector that may reach beyond the row: lane l has column `first` + l*Stride.
template <class T, int Stride>
struct Edge {
    int64_t base, left; // where it is loaded, and the columns from there to the end of the row
    Index<T> from;      // the column of each lane, from `base` on
    Index<T> inside;

    FASTCONV_INLINE Edge(int64_t first, int64_t columns, int64_t count) {
        constexpr int64_t span = Stride * width<T>;
        const int64_t last = columns - span;
        base = first < last ? first : last;
        if (base < 0) base = 0;
        left = columns - base;
        // Columns far from the image need no exact number.
        int64_t shift = first - base;
        if (shift < -span) shift = -span;
        if (shift > span) shift = span;
        const Index<T> lanes = lane_numbers<T>();
        from = Stride * lanes + (Lane<T>)shift;
        inside = (from >= 0) & (from < (Lane<T>)(left < span ? left : span)) & (lanes < (Lane<T>)count);
    }
    FASTCONV_INLINE Vec<T> load(const T* row) const {
        const Vec<T> low = load_some(row + base, left);
        const Vec<T> value =
            Stride == 1 ? permute<T>(low, from) : pick<T>(low, load_some(row + base + width<T>, left - width<T>), from);
        return inside ? value : Vec<T>{};
    }
};

/// Columns first, first + Stride, ... The row has Stride*width columns from `first` on.
template <class T, int Stride>
FASTCONV_INLINE Vec<T> load_columns(const T* row, int64_t first, Index<T> even) {
    if (Stride == 1) return load(row + first);
    return pick<T>(load(row + first), load(row + first + width<T>), even);
}

/// Sums R window rows of S taps.
template <class T, int Stride, int R, int S>
FASTCONV_NOINLINE void sum_taps(const PlaneFilterRows<T>& a, int64_t window_row, int64_t tap) {
    Vec<T> sum[R][S];
    FASTCONV_UNROLL
    for (int r = 0; r < R; ++r) {
        FASTCONV_UNROLL
        for (int s = 0; s < S; ++s) sum[r][s] = Vec<T>{};
    }
    const Index<T> even = 2 * lane_numbers<T>();
    const int64_t left = a.first_column + tap * a.dilation, reach = (S - 1) * a.dilation + Stride * width<T>;
    for (int64_t row = 0; row < a.rows; ++row) {
        const T* const dy = a.dy + row * a.dy_row;
        const T* x[R];
        FASTCONV_UNROLL
        for (int r = 0; r < R; ++r) x[r] = a.x + row * a.x_row + a.offsets[window_row + r];
        for (int64_t i = 0; i < a.pixels; i += width<T>) {
            const int64_t first = left + i * Stride, count = a.pixels - i;
            if (first >= 0 && first + reach <= a.columns && count >= width<T>) {
                Vec<T> gradient = load(dy + i);
                keep_in_register(gradient);
                FASTCONV_UNROLL
                for (int r = 0; r < R; ++r) {
                    FASTCONV_UNROLL
                    for (int s = 0; s < S; ++s)
                        sum[r][s] += load_columns<T, Stride>(x[r], first + s * a.dilation, even) * gradient;
                }
                continue;
            }
            const Vec<T> gradient = load_some(dy + i, count);
            FASTCONV_UNROLL
            for (int s = 0; s < S; ++s) {
                const Edge<T, Stride> edge(first + s * a.dilation, a.columns, count < width<T> ? count : width<T>);
                FASTCONV_UNROLL
                for (int r = 0; r < R; ++r) sum[r][s] += edge.load(x[r]) * gradient;
            }
        }
    }
    FASTCONV_UNROLL
    for (int r = 0; r < R; ++r) {
        FASTCONV_UNROLL
        for (int s = 0; s < S; ++s) {
            T* const to = a.sums + ((window_row + r) * a.taps + tap + s) * width<T>;
            store(to, load(to) + sum[r][s]);
        }
    }
}

template <class T, int Stride>
void sum_window(const PlaneFilterRows<T>& a) {
    int64_t row = 0;
    for (; a.taps == 3 && row + 3 <= a.window_rows; row += 3) sum_taps<T, Stride, 3, 3>(a, row, 0);
    for (; row < a.window_rows; ++row)
        each_tile(a.taps, most_taps, [&](int64_t count, int64_t first) {
            dispatch<most_taps>(count, [&](auto taps) { sum_taps<T, Stride, 1, taps>(a, row, first); });
        });
}

template <class T>
void plane_filter_rows(const PlaneFilterRows<T>& a) {
    if (a.stride == 1)
        sum_window<T, 1>(a);
    else
        sum_window<T, 2>(a);
}

} // namespace

void add_plane_filter_gradient(KernelTable& table) {
    table.f32.plane_filter_rows = plane_filter_rows<float>;
    table.f64.plane_filter_rows = plane_filter_rows<double>;
}

} // namespace FASTCONV_ISA
} // namespace fastconv
