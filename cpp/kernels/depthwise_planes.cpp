// Depthwise convolution of NCHW planes with windows of 3x3 or 5x5, and its input gradient with a stride of 2.
//
// Vectorised over the columns of an output row. Nothing is copied. Vectors at the border of a plane load only the
// columns inside it. The last vector of a row ends with the row, so it overlaps the one before, and both write the same
// values. Likewise the last tile of rows.
//
// Forward: the sums of 4 output rows sit in registers (2 with 16 registers), with all taps of a 3x3 window. A row of
// the input is loaded once for each window column, and serves all output rows whose windows cross it. Per output vector
// of a 3x3 window, 4.5 loads (6 with 16 registers) feed 9 FMAs. At a stride of 2, pairs of vectors are separated into
// even and odd columns in registers.
//
// Input gradient with a stride of 2: the even and the odd columns of a row of dx have sums of their own. They are
// interleaved on the way out. Each row of dx is computed once, from the rows of dy that reach it.
//
// Ceiling: memory for large planes. In the caches, loads that cross cache lines. Planes follow each other in memory, so
// that each tile can prefetch what comes some distance after it. Hardware prefetchers do not follow tiles of some rows.
//
// Arguments: see depthwise_planes.h. Nothing needs to be aligned.
//
// Each sum adds its taps in the order of depthwise_row: row after row, and the columns of a row from left to right.
#include "kernels/depthwise_planes.h"
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr bool has_masked_loads = has_permute; // the ISAs with permutations have them
constexpr int tile_rows = registers == 32 ? 4 : 2;
constexpr int64_t ahead = 4096; // bytes

template <class T, int Vectors>
FASTCONV_INLINE void prefetch_ahead(const T* from, bool write) {
    constexpr int bytes = Vectors * vector_bytes;
    const char* const at = reinterpret_cast<const char*>(from) + ahead;
    FASTCONV_UNROLL
    for (int i = 0; i < bytes; i += 64) write ? __builtin_prefetch(at + i, 1) : __builtin_prefetch(at + i, 0);
}

/// The lanes of a vector from `column` on that lie in the row.
template <class T>
FASTCONV_INLINE Index<T> lanes_inside(int64_t column, int64_t row_width) {
    const int64_t first = column < 0 ? -column : 0, last = row_width - column;
    Index<T> lanes{};
    FASTCONV_UNROLL
    for (int l = 0; l < width<T>; ++l) lanes[l] = l;
    const auto from = static_cast<Lane<T>>(first < width<T> ? first : width<T>);
    const auto to = static_cast<Lane<T>>(last < width<T> ? (last > 0 ? last : 0) : width<T>);
    return (lanes >= from) & (lanes < to);
}

template <class T, bool Border>
FASTCONV_INLINE Vec<T> load_inside(const T* from, Index<T> lanes) {
    return Border ? load_lanes(from, lanes) : load(from);
}

/// Where load `load` of load_columns starts, in columns from the first one. At a stride of 2, two neighbouring vectors
/// have the values of two window columns.
template <class T, int Stride>
constexpr int load_offset(int load) {
    return Stride == 1 ? load : load / 2 * 2 + load % 2 * width<T>;
}

/// The values of S neighbouring window columns. At a stride of 2, they are in the order of evens and odds.
template <class T, int S, int Stride, bool Border>
FASTCONV_INLINE void load_columns(const T* from, const Index<T> (&inside)[S + 1], Vec<T> (&value)[S]) {
    Vec<T> loaded[S + 1];
    FASTCONV_UNROLL
    for (int i = 0; i < S + Stride - 1; ++i)
        loaded[i] = load_inside<T, Border>(from + load_offset<T, Stride>(i), inside[i]);
    FASTCONV_UNROLL
    for (int s = 0; s < S; ++s) {
        if (Stride == 1) {
            value[s] = loaded[s];
            keep_in_register(value[s]);
        } else {
            value[s] = s % 2 == 0 ? evens<T>(loaded[s], loaded[s + 1]) : odds<T>(loaded[s - 1], loaded[s]);
        }
    }
}

template <class T>
FASTCONV_INLINE Vec<T> finished(const DepthwisePlane<T>& a, Vec<T> sum) {
    if (a.bias) sum += *a.bias;
    return within<T>(a.bounds, sum);
}

/// The input rows of a tile of output rows, and the taps.
template <class T, int S, int Lines>
struct PlaneLines {
    const T* line[Lines];
    Vec<T> tap[S * S];
};

template <class T, int S, int Stride, int Rows, bool Border>
FASTCONV_INLINE void plane_tile(const DepthwisePlane<T>& a, const PlaneLines<T, S, (Rows - 1) * Stride + S>& from,
                                int64_t column, T* y, int64_t count) {
    constexpr int lines = (Rows - 1) * Stride + S;
    static_assert(lines <= 16, "FASTCONV_UNROLL unrolls no longer loop");
    Index<T> inside[S + 1];
    FASTCONV_UNROLL
    for (int i = 0; i < S + Stride - 1; ++i)
        if (Border) inside[i] = lanes_inside<T>(column + load_offset<T, Stride>(i), a.width);
    Vec<T> sum[Rows];
    FASTCONV_UNROLL
    for (int row = 0; row < Rows; ++row) sum[row] = Vec<T>{};
    FASTCONV_UNROLL
    for (int t = 0; t < lines; ++t) {
        Vec<T> value[S];
        load_columns<T, S, Stride, Border>(from.line[t] + column, inside, value);
        FASTCONV_UNROLL
        for (int s = 0; s < S; ++s) {
            FASTCONV_UNROLL
            for (int row = 0; row < Rows; ++row) {
                const int r = t - row * Stride;
                if (r >= 0 && r < S) sum[row] += value[s] * from.tap[r * S + s];
            }
        }
    }
    FASTCONV_UNROLL
    for (int row = 0; row < Rows; ++row)
        put<T, Border>(y + row * a.y_row, finished(a, Stride == 1 ? sum[row] : in_order<T>(sum[row])), count);
}

/// Pixel i and up to `width` more. It is not inlined, so that the addresses of the inner tiles stay in registers.
template <class T, int S, int Stride, int Rows>
FASTCONV_NOINLINE void border_tile(const DepthwisePlane<T>& a, const PlaneLines<T, S, (Rows - 1) * Stride + S>& from,
                                   int64_t i, T* y) {
    const int64_t count = a.pixels - i < width<T> ? a.pixels - i : width<T>;
    plane_tile<T, S, Stride, Rows, true>(a, from, a.first_column + i * Stride, y + i, count);
}

/// Calls body(i) for the first pixels i of the vectors that cover a row. The last ones overlap if there are several.
template <class Body>
FASTCONV_INLINE void each_vector(int64_t pixels, int64_t step, Body&& body) {
    for (int64_t i = 0; i < pixels; i += step) body(i + step <= pixels || i == 0 ? i : pixels - step);
}

template <class T, int S, int Stride, int Rows>
void plane_rows(const DepthwisePlane<T>& a, int64_t row) {
    constexpr int lines = (Rows - 1) * Stride + S;
    constexpr int last_load = load_offset<T, Stride>(S + Stride - 2);
    const int64_t top = a.first_row + row * Stride;
    PlaneLines<T, S, lines> from;
    FASTCONV_UNROLL
    for (int t = 0; t < lines; ++t)
        from.line[t] = top + t >= 0 && top + t < a.height ? a.x + (top + t) * a.width : a.zeros;
    FASTCONV_UNROLL
    for (int i = 0; i < S * S; ++i) from.tap[i] = broadcast(a.filters[i]);
    T* const y = a.y + row * a.y_row;
    const T* const next = a.x + (top + lines - Rows * Stride) * a.width + a.first_column;
    each_vector(a.pixels, width<T>, [&](int64_t i) __attribute__((always_inline)) {
        const int64_t column = a.first_column + i * Stride;
        FASTCONV_UNROLL
        for (int t = 0; t < Rows * Stride; ++t) prefetch_ahead<T, Stride>(next + i * Stride + t * a.width, false);
        FASTCONV_UNROLL
        for (int t = 0; t < Rows; ++t) prefetch_ahead<T, 1>(y + i + t * a.y_row, true);
        if (column >= 0 && column + last_load + width<T> <= a.width && a.pixels - i >= width<T>)
            plane_tile<T, S, Stride, Rows, false>(a, from, column, y + i, width<T>);
        else
            border_tile<T, S, Stride, Rows>(a, from, i, y);
    });
}

template <class T, int S, int Stride>
void depthwise_plane(const DepthwisePlane<T>& a) {
    if (a.rows < tile_rows) {
        for (int64_t row = 0; row < a.rows; ++row) plane_rows<T, S, Stride, 1>(a, a.row + row);
        return;
    }
    each_vector(a.rows, tile_rows, [&](int64_t row) { plane_rows<T, S, Stride, tile_rows>(a, a.row + row); });
}

/// Calls body(plane) for each of the planes.
template <class T, class Body>
FASTCONV_INLINE void each_plane(const DepthwisePlane<T>& a, Body&& body) {
    DepthwisePlane<T> plane = a;
    for (int64_t i = 0; i < a.planes; ++i) {
        body(plane);
        plane.x += a.height * a.width;
        plane.y += a.y_plane;
        plane.filters += a.window * a.window;
        if (plane.bias) ++plane.bias;
    }
}

/// Whole planes as one row of pixels each. A vector of pixels may span several rows, so each tap has a mask of the
/// pixels whose tap is inside the plane. All planes have the same masks.
template <class T, int S>
void long_rows(const DepthwisePlane<T>& a) {
    const int64_t pixels = a.rows * a.pixels;
    int64_t row = a.first_row, column = a.first_column;
    for (int64_t first = 0; first < pixels; first += width<T>) {
        const int64_t count = pixels - first < width<T> ? pixels - first : width<T>;
        Index<T> rows[S], columns[S];
        FASTCONV_UNROLL
        for (int s = 0; s < S; ++s) rows[s] = columns[s] = Index<T>{};
        for (int l = 0; l < count; ++l) {
            for (int s = 0; s < S; ++s) {
                rows[s][l] = row + s >= 0 && row + s < a.height ? -1 : 0;
                columns[s][l] = column + s >= 0 && column + s < a.width ? -1 : 0;
            }
            if (++column == a.first_column + a.width) {
                column = a.first_column;
                ++row;
            }
        }
        Index<T> inside[S * S];
        FASTCONV_UNROLL
        for (int i = 0; i < S * S; ++i) inside[i] = rows[i / S] & columns[i % S];
        each_plane(a, [&](const DepthwisePlane<T>& plane) __attribute__((always_inline)) {
            const T* const x = plane.x + first + a.first_row * a.width + a.first_column;
            Vec<T> sum{};
            FASTCONV_UNROLL
            for (int r = 0; r < S; ++r) {
                FASTCONV_UNROLL
                for (int s = 0; s < S; ++s)
                    sum += load_lanes(x + r * a.width + s, inside[r * S + s]) * plane.filters[r * S + s];
            }
            store_some(plane.y + first, finished(plane, sum), count);
        });
    }
}

template <class T, int S>
void depthwise_planes(const DepthwisePlane<T>& a) {
    // With more pixels, rows fill vectors well, and a loaded value serves several rows.
    constexpr int64_t most_pixels = 256;
    if (S == 3 && has_masked_loads && a.stride == 1 && a.pixels == a.width && a.pixels == a.y_row && a.row == 0 &&
        a.planes > 1 && a.rows * a.pixels <= most_pixels)
        return long_rows<T, S>(a);
    each_plane(a, [&](const DepthwisePlane<T>& plane) {
        a.stride == 1 ? depthwise_plane<T, S, 1>(plane) : depthwise_plane<T, S, 2>(plane);
    });
}

template <class T>
void depthwise_plane_any(const DepthwisePlane<T>& a) {
    a.window == 3 ? depthwise_planes<T, 3>(a) : depthwise_planes<T, 5>(a);
}

/// The rows of dy that reach a row of dx, and their rows of taps.
template <class T, int S>
struct GradientLines {
    const T* line[(S + 1) / 2];
    const T* taps[(S + 1) / 2];
    int count = 0;

    GradientLines(const DepthwisePlane<T>& a, int64_t row) {
        const int64_t padded = row - a.first_row;
        for (int64_t r = S - 1 - padded % 2; r >= 0; r -= 2) { // from the top row of dy to the bottom row
            if (padded < r || (padded - r) / 2 >= a.height) continue;
            line[count] = a.x + (padded - r) / 2 * a.width;
            taps[count++] = a.filters + r * S;
        }
    }
};

/// A vector of even columns of dx and one of odd columns, from column 2*pair on. If the padding is odd (Odd), then even
/// columns have odd taps.
template <class T, int S, bool Odd, bool Border>
FASTCONV_INLINE void gradient_tile(const DepthwisePlane<T>& a, const GradientLines<T, S>& lines,
                                   const Index<T> (&inside)[(S + 1) / 2], int64_t column, T* y, int64_t count) {
    constexpr int reach = (S - 1) / 2;
    Vec<T> even{}, odd{};
    for (int i = 0; i < lines.count; ++i) {
        const T* const taps = lines.taps[i];
        FASTCONV_UNROLL
        for (int v = 0; v <= reach; ++v) {
            Vec<T> value = load_inside<T, Border>(lines.line[i] + column + v, inside[v]);
            keep_in_register(value);
            const int s = 2 * (reach - v) - (Odd ? 1 : 0); // of even columns
            if (s >= 0) even += value * taps[s];
            if (s + 1 < S) odd += value * taps[s + 1];
        }
    }
    even = finished(a, even);
    odd = finished(a, odd);
    interleave<T>(even, odd);
    store_some(y, even, count);
    store_some(y + width<T>, odd, count - width<T>);
}

template <class T, int S, bool Odd>
void gradient_plane(const DepthwisePlane<T>& a) {
    constexpr int reach = (S - 1) / 2;
    const int64_t first = (1 - a.first_column) / 2 - reach, pairs = (a.pixels + 1) / 2;
    const bool short_rows = pairs <= width<T>; // of one vector, so that all rows have the same masks
    Index<T> inside[reach + 1];
    const auto find_inside = [&](int64_t column) __attribute__((always_inline)) {
        FASTCONV_UNROLL
        for (int v = 0; v <= reach; ++v) inside[v] = lanes_inside<T>(column + v, a.width);
    };
    find_inside(first);
    for (int64_t row = a.row; row < a.row + a.rows; ++row) {
        const GradientLines<T, S> lines(a, row);
        T* const y = a.y + row * a.y_row;
        const T* const x = a.x + (row - a.first_row) / 2 * a.width;
        each_vector(pairs, width<T>, [&](int64_t pair) __attribute__((always_inline)) {
            const int64_t column = first + pair, count = a.pixels - 2 * pair;
            if (row % 2 == 0) prefetch_ahead<T, 1>(x + column, false);
            prefetch_ahead<T, 2>(y + 2 * pair, true);
            if (column >= 0 && column + reach + width<T> <= a.width)
                return gradient_tile<T, S, Odd, false>(a, lines, inside, column, y + 2 * pair, count);
            if (!short_rows) find_inside(column);
            gradient_tile<T, S, Odd, true>(a, lines, inside, column, y + 2 * pair, count);
        });
    }
}

template <class T>
void depthwise_plane_gradient(const DepthwisePlane<T>& a) {
    const bool odd = a.first_column % 2 != 0;
    each_plane(a, [&](const DepthwisePlane<T>& plane) {
        if (a.window == 3)
            odd ? gradient_plane<T, 3, true>(plane) : gradient_plane<T, 3, false>(plane);
        else
            odd ? gradient_plane<T, 5, true>(plane) : gradient_plane<T, 5, false>(plane);
    });
}

template <class T>
void fill(KernelsOf<T>& kernels) {
    kernels.depthwise_plane = depthwise_plane_any<T>;
    kernels.depthwise_plane_gradient = depthwise_plane_gradient<T>;
}

} // namespace

void add_depthwise_planes(KernelTable& table) {
    fill(table.f32);
    fill(table.f64);
}

} // namespace FASTCONV_ISA
} // namespace fastconv
