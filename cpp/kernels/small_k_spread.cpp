// Convolution of some output rows with few filters and windows of 3 or 5 rows at stride 1, and its filter gradient.
//
// Vectorised over the flattened (pixel, filter) axis of an output row, which is contiguous in NHWC memory. So 6 filters
// fill every lane. The tiles of direct.cpp would leave 10 of 16 lanes empty. The input is planar,
// [channel][row][column], so the pixels of a vector are neighbours: one load and one permutation spread them over the
// lanes. (One filter needs no permutation.) The lane pattern says which pixel and which filter a lane belongs to. It
// repeats after at most `filters` vectors.
//
// Forward: the sums of 8 output rows sit in registers. The spread values of an input row serve the R output rows whose
// windows cross it. Per channel and column tap, 8 + R - 1 permutations and R filter vectors feed 8*R FMAs. Register
// budget: 8 sums + R filters + value + lanes, that is 15 of 16 at R = 5.
//
// Filter gradient: R x J sums sit in registers while the loop runs over the input rows. J is the number of column taps
// at a time: 3 if R is 3, 2 if R is 5, and 1 for the remaining taps. Per row, J permutations and R rows of dy feed R*J
// FMAs. Register budget at R = 5: 10 sums + 2 values + lanes, that is 13 of 16. Rows of dy stay in the registers that
// are left.
//
// Ceiling: the FMA peak if permutations have a port of their own, otherwise FMAs / (FMAs + permutations) of it.
//
// Arguments: window_rows is 3 or 5, the stride is 1, and there are at most `width` filters. If permutations are slow
// (`spreads` is false), there is one filter.
//
// In a training step, the outputs and dy are not in the caches: they were last used a whole step ago, or they are
// larger than L2. The kernels access both in columns of vectors. No hardware prefetcher follows that, so each tile
// prefetches as much of the next rows as it reads or writes itself.
//
// In every tile, an output is one chain of additions over channels, then column taps, then row taps. (With 32 registers
// and 3x3 windows, the row taps come before the column taps.)
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int most_rows = 8;

/// Prefetches `bytes` bytes and returns the address after them.
template <bool Write>
FASTCONV_INLINE const char* prefetch(const char* from, int64_t bytes) {
    constexpr int64_t line = 64;
    for (int64_t i = 0; i < bytes; i += line) __builtin_prefetch(from + i, Write);
    return from + bytes;
}

template <class T, bool One>
FASTCONV_INLINE Vec<T> load_pixels(const T* from, Index<T> lanes) {
    if constexpr (One)
        return load(from);
    else
        return load_spread(from, lanes);
}

/// The lane pattern of all vectors of a row that start with the same filter.
template <class T>
struct LanePattern {
    Index<T> lanes; // pixel of each lane, relative to that of the first lane
    int64_t period; // number of patterns

    LanePattern(int64_t first, int64_t filters) {
        int64_t filter = first * width<T> % filters;
        Lane<T> pixel = 0;
        for (int lane = 0; lane < width<T>; ++lane) {
            lanes[lane] = pixel;
            if (++filter == filters) {
                filter = 0;
                ++pixel;
            }
        }
        period = filters; // divided by gcd(filters, width), a power of two
        while (period % 2 == 0 && period / 2 * width<T> % filters == 0) period /= 2;
    }
};

/// Adds the products of the R x columns taps of each channel to `sum`, unless `nine` is set. (If the caller tested
/// `nine`, GCC would spill registers.)
template <class T, int R, int Rows, bool One>
FASTCONV_INLINE void add_taps(const SmallKSpreadRows<T>& a, bool nine, const T* x, const T* filters, Index<T> lanes,
                              Vec<T> (&sum)[Rows]) {
    for (int64_t c = 0; !nine && c < a.channels; ++c) {
        for (int64_t j = 0; j < a.columns; ++j) {
            const T* from = x + c * a.x_plane + j;
            Vec<T> filter[R];
            FASTCONV_UNROLL
            for (int i = 0; i < R; ++i) filter[i] = load(filters + i * width<T>);
            filters += R * width<T>;
            FASTCONV_UNROLL
            for (int t = 0; t < Rows + R - 1; ++t) {
                Vec<T> value = load_pixels<T, One>(from + t * a.x_row, lanes);
                if (One) keep_in_register(value);
                FASTCONV_UNROLL
                for (int i = 0; i < R; ++i)
                    if (t - i >= 0 && t - i < Rows) sum[t - i] += value * filter[i];
            }
        }
    }
}

/// Does the same as add_taps if `nine` is set, for 3x3 windows. The nine filter vectors of a channel stay in registers,
/// so one load of x serves three column taps. (Most of these loads cross a cache line.)
template <class T, int Rows>
FASTCONV_INLINE void add_nine_taps(const SmallKSpreadRows<T>& a, bool nine, const T* x, const T* filters,
                                   Index<T> lanes, Vec<T> (&sum)[Rows]) {
    for (int64_t c = 0; nine && c < a.channels; ++c) {
        const T* from = x + c * a.x_plane;
        Vec<T> filter[9];
        FASTCONV_UNROLL
        for (int i = 0; i < 9; ++i) filter[i] = load(filters + i * width<T>);
        filters += 9 * width<T>;
        FASTCONV_UNROLL
        for (int t = 0; t < Rows + 2; ++t) {
            Vec<T> values = load(from + t * a.x_row);
            keep_in_register(values); // GCC would load it three times
            FASTCONV_UNROLL
            for (int j = 0; j < 3; ++j) {
                const Vec<T> value = permute<T>(values, lanes + j);
                FASTCONV_UNROLL
                for (int i = 0; i < 3; ++i)
                    if (t - i >= 0 && t - i < Rows) sum[t - i] += value * filter[j * 3 + i];
            }
        }
    }
}

template <class T, int R, int Rows, bool One>
FASTCONV_INLINE void spread_tile(const SmallKSpreadRows<T>& a, const T* x, const T* filters, Index<T> lanes,
                                 const T* bias, T* y, int64_t count) {
    Vec<T> sum[Rows];
    FASTCONV_UNROLL
    for (int row = 0; row < Rows; ++row) sum[row] = Vec<T>{};
    bool nine = false;
    if constexpr (has_permute && registers == 32 && R == 3 && !One) {
        nine = a.columns == 3 && lanes[width<T> - 1] + 2 < width<T>;
        add_nine_taps<T, Rows>(a, nine, x, filters, lanes, sum);
    }
    add_taps<T, R, Rows, One>(a, nine, x, filters, lanes, sum);
    FASTCONV_UNROLL
    for (int row = 0; row < Rows; ++row) {
        Vec<T> value = sum[row];
        if (bias) value += load(bias);
        value = within<T>(a.bounds, value);
        T* to = y + row * a.y_row;
        if (count < width<T>)
            store_part(to, value, count);
        else
            store(to, value);
    }
}

template <class T, int R, bool One>
void small_k_spread_rows(const SmallKSpreadRows<T>& a) {
    const int64_t length = a.pixels * a.filter_count, vectors = (length + width<T> - 1) / width<T>;
    const char* next_rows = reinterpret_cast<const char*>(a.y + a.rows * a.y_row);
    int64_t period = 1;
    for (int64_t pattern = 0; pattern < period && pattern < vectors; ++pattern) {
        const LanePattern<T> at(pattern, a.filter_count);
        period = at.period;
        const T* filters = a.filters + pattern * a.channels * a.columns * R * width<T>;
        const T* bias = a.bias ? a.bias + pattern * width<T> : nullptr;
        for (int64_t v = pattern; v < vectors; v += period) {
            const int64_t count = length - v * width<T>;
            const T* x = a.x + v * width<T> / a.filter_count;
            T* y = a.y + v * width<T>;
            each_tile(a.rows, most_rows, [&](int64_t rows, int64_t) {
                next_rows = prefetch<true>(next_rows, rows * vector_bytes);
                dispatch<most_rows>(
                    rows, [&](auto n) { spread_tile<T, R, n, One>(a, x, filters, at.lanes, bias, y, count); });
                x += rows * a.x_row;
                y += rows * a.y_row;
            });
        }
    }
}

template <class T>
void small_k_spread_rows_any(const SmallKSpreadRows<T>& a) {
    if constexpr (has_permute) {
        if (a.filter_count > 1)
            return a.window_rows == 3 ? small_k_spread_rows<T, 3, false>(a) : small_k_spread_rows<T, 5, false>(a);
    }
    a.window_rows == 3 ? small_k_spread_rows<T, 3, true>(a) : small_k_spread_rows<T, 5, true>(a);
}

/// Adds the products of J neighbouring column taps x R row taps to `sums`, [column tap][row tap][lane].
template <class T, int R, int J, bool One, bool Part>
FASTCONV_INLINE void gradient_column(const SmallKSpreadFilterRows<T>& a, const T* x, const T* dy, Index<T> lanes,
                                     int64_t count, T* sums) {
    Vec<T> sum[J][R];
    FASTCONV_UNROLL
    for (int j = 0; j < J; ++j) {
        FASTCONV_UNROLL
        for (int i = 0; i < R; ++i) sum[j][i] = Vec<T>{};
    }
    Index<T> inside{};
    if (Part)
        for (int lane = 0; lane < width<T>; ++lane) inside[lane] = lane < count ? -1 : 0;
    // Lanes beyond the row hold what follows it in memory. 0 times that may be NaN, so they are cleared.
    const auto values = [&](int64_t t, int j) __attribute__((always_inline)) {
        const Vec<T> value = load_pixels<T, One>(x + t * a.x_row + j, lanes);
        return Part ? inside ? value : Vec<T>{} : value;
    };
    constexpr bool may_load_once = has_permute && registers == 32 && !One && !Part;
    const bool one_load = may_load_once && lanes[width<T> - 1] + J <= width<T>; // one load serves all columns
    const auto several_values = [&](int64_t t, Vec<T> value[J]) __attribute__((always_inline)) {
        if (one_load) {
            Vec<T> row = load(x + t * a.x_row);
            keep_in_register(row);
            FASTCONV_UNROLL
            for (int j = 0; j < J; ++j) value[j] = permute<T>(row, lanes + j);
            return;
        }
        FASTCONV_UNROLL
        for (int j = 0; j < J; ++j) {
            value[j] = values(t, j);
            if (One) keep_in_register(value[j]);
        }
    };
    const auto gradient = [&](int64_t row) __attribute__((always_inline)) {
        return Part ? load_part(dy + row * a.dy_row, count) : load(dy + row * a.dy_row);
    };
    const auto some_rows = [&](int64_t first, int64_t last) __attribute__((always_inline)) { // rows of the input
        for (int64_t t = first; t < last; ++t) {
            Vec<T> value[J];
            FASTCONV_UNROLL
            for (int j = 0; j < J; ++j) value[j] = values(t, j);
            FASTCONV_UNROLL
            for (int i = 0; i < R; ++i) {
                if (t - i < 0 || t - i >= a.rows) continue;
                const Vec<T> row = gradient(t - i);
                FASTCONV_UNROLL
                for (int j = 0; j < J; ++j) sum[j][i] += value[j] * row;
            }
        }
    };
    const int64_t first = a.rows < R - 1 ? a.rows + R - 1 : R - 1;
    some_rows(0, first);
    Vec<T> d[R]; // the rows of dy that meet input row t: each step loads one and shifts the others
    FASTCONV_UNROLL
    for (int i = 0; i < R; ++i) d[i] = first < a.rows && i + 1 < R ? gradient(first - 1 - i) : Vec<T>{};
    for (int64_t t = first; t < a.rows; ++t) {
        FASTCONV_UNROLL
        for (int i = R - 1; i > 0; --i) d[i] = d[i - 1];
        d[0] = gradient(t);
        Vec<T> value[J];
        several_values(t, value);
        FASTCONV_UNROLL
        for (int j = 0; j < J; ++j) {
            FASTCONV_UNROLL
            for (int i = 0; i < R; ++i) sum[j][i] += value[j] * d[i];
        }
    }
    if (first < a.rows + R - 1) some_rows(first > a.rows ? first : a.rows, a.rows + R - 1);
    FASTCONV_UNROLL
    for (int j = 0; j < J; ++j) {
        FASTCONV_UNROLL
        for (int i = 0; i < R; ++i) {
            T* to = sums + (j * R + i) * width<T>;
            store(to, load(to) + sum[j][i]);
        }
    }
}

template <class T, int R, bool One, bool Part>
FASTCONV_INLINE void gradient_columns(const SmallKSpreadFilterRows<T>& a, const T* x, const T* dy, Index<T> lanes,
                                      int64_t count, T* sums) {
    constexpr int several = R == 3 ? 3 : 2;
    for (int64_t c = 0; c < a.channels; ++c) {
        const T* from = x + c * a.x_plane;
        int64_t j = 0;
        for (; j + several <= a.columns; j += several) {
            gradient_column<T, R, several, One, Part>(a, from + j, dy, lanes, count, sums);
            sums += several * R * width<T>;
        }
        for (; j < a.columns; ++j) {
            gradient_column<T, R, 1, One, Part>(a, from + j, dy, lanes, count, sums);
            sums += R * width<T>;
        }
    }
}

template <class T, int R, bool One>
void small_k_spread_filter_rows(const SmallKSpreadFilterRows<T>& a) {
    const int64_t length = a.pixels * a.filter_count, vectors = (length + width<T> - 1) / width<T>;
    const char* next_rows = reinterpret_cast<const char*>(a.dy + a.rows * a.dy_row);
    int64_t period = 1;
    for (int64_t pattern = 0; pattern < period && pattern < vectors; ++pattern) {
        const LanePattern<T> at(pattern, a.filter_count);
        period = at.period;
        T* sums = a.sums + pattern * a.channels * a.columns * R * width<T>;
        for (int64_t v = pattern; v < vectors; v += period) {
            const T* x = a.x + v * width<T> / a.filter_count;
            const T* dy = a.dy + v * width<T>;
            const int64_t count = length - v * width<T>;
            next_rows = prefetch<false>(next_rows, a.rows * vector_bytes);
            if (count >= width<T>)
                gradient_columns<T, R, One, false>(a, x, dy, at.lanes, count, sums);
            else
                gradient_columns<T, R, One, true>(a, x, dy, at.lanes, count, sums);
        }
    }
}

template <class T>
void small_k_spread_filter_rows_any(const SmallKSpreadFilterRows<T>& a) {
    if constexpr (has_permute) {
        if (a.filter_count > 1)
            return a.window_rows == 3 ? small_k_spread_filter_rows<T, 3, false>(a)
                                      : small_k_spread_filter_rows<T, 5, false>(a);
    }
    a.window_rows == 3 ? small_k_spread_filter_rows<T, 3, true>(a) : small_k_spread_filter_rows<T, 5, true>(a);
}

template <class T>
void fill(KernelsOf<T>& kernels) {
    kernels.small_k_spread_rows = small_k_spread_rows_any<T>;
    kernels.small_k_spread_filter_rows = small_k_spread_filter_rows_any<T>;
    kernels.spreads = has_permute;
}

} // namespace

void add_small_k_spread(KernelTable& table) {
    fill(table.f32);
    fill(table.f64);
}

} // namespace FASTCONV_ISA
} // namespace fastconv
