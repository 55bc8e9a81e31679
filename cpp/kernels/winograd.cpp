// The transforms of Winograd's minimal filtering with 6x6 tiles: F(4x4, 3x3) and F(2x2, 5x5) for the forward pass and
// the input gradient, F(3x3, 4x4) and F(5x5, 2x2) for the filter gradient (Lavin & Gray, arXiv:1509.09308). Between the
// transforms, conv_row or outer_products multiply the tiles, once for each of the 36 points. All four algorithms share
// the interpolation points below, and so the transform of the input.
//
// Vectorised over channels. A one-dimensional transform takes 2 to 6 vectors and stays in registers. Between the two
// passes of a tile, 36 vectors go through 2.3 KB of stack, that is L1. A transform takes about 5 operations a value and
// loads and stores each value once. Ceiling: the bandwidth of L1 and L2.
//
// Arguments: any number of channels. Nothing needs to be aligned.
//
// The interpolation points are 0, +-a, +-b and infinity, with a = 1/sqrt(2) and b = sqrt(2). Since a*b = 1, the entries
// of all three matrices stay near 1. Rounding errors grow less than with a = 1 and b = 2.
#include "kernels/simd.h"
#include "kernels/table.h"
#include "kernels/winograd_points.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T>
struct Points {
    static constexpr T a = static_cast<T>(0.70710678118654752440L), b = static_cast<T>(1.41421356237309504880L);
    static constexpr T a2 = static_cast<T>(0.5), b2 = static_cast<T>(2.0);
    static constexpr T sum = a2 + b2;                   // a^2 + b^2;  a^2 * b^2 is 1
    static constexpr T na = static_cast<T>(-1.0 / 1.5); // 1 / (2 a^2 (a^2 - b^2))
    static constexpr T nb = static_cast<T>(1.0 / 6.0);  // 1 / (2 b^2 (b^2 - a^2))
    static constexpr T a3 = a * a2, b3 = b * b2, a4 = a2 * a2, b4 = b2 * b2;
};

/// B^T: transforms six values of an input line into six points.
template <class T>
FASTCONV_INLINE void input_points(const Vec<T> d[6], Vec<T> out[6]) {
    using P = Points<T>;
    const Vec<T> even_a = d[4] - P::b2 * d[2], odd_a = P::a * (d[3] - P::b2 * d[1]);
    const Vec<T> even_b = d[4] - P::a2 * d[2], odd_b = P::b * (d[3] - P::a2 * d[1]);
    out[0] = d[0] - P::sum * d[2] + d[4];
    out[1] = even_a + odd_a;
    out[2] = even_a - odd_a;
    out[3] = even_b + odd_b;
    out[4] = even_b - odd_b;
    out[5] = d[1] - P::sum * d[3] + d[5];
}

/// G of F(m, N), m + N = 7: transforms N filter taps, or output gradients, into six points.
template <class T, int N>
FASTCONV_INLINE void filter_points(const Vec<T> g[N], Vec<T> out[6]) {
    using P = Points<T>;
    Vec<T> even_a = P::na * g[0], even_b = P::nb * g[0], odd_a = P::na * P::a * g[1], odd_b = P::nb * P::b * g[1];
    if constexpr (N > 2) {
        even_a += P::na * P::a2 * g[2];
        even_b += P::nb * P::b2 * g[2];
    }
    if constexpr (N > 3) {
        odd_a += P::na * P::a3 * g[3];
        odd_b += P::nb * P::b3 * g[3];
    }
    if constexpr (N > 4) {
        even_a += P::na * P::a4 * g[4];
        even_b += P::nb * P::b4 * g[4];
    }
    out[0] = g[0];
    out[1] = even_a + odd_a;
    out[2] = even_a - odd_a;
    out[3] = even_b + odd_b;
    out[4] = even_b - odd_b;
    out[5] = g[N - 1];
}

/// A^T of F(N, r), N + r = 7: transforms six points into N outputs, or filter taps.
template <class T, int N>
FASTCONV_INLINE void output_values(const Vec<T> m[6], Vec<T> out[N]) {
    using P = Points<T>;
    const Vec<T> even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
    out[0] = m[0] + even_a + even_b;
    out[1] = P::a * odd_a + P::b * odd_b;
    if constexpr (N > 2) out[2] = P::a2 * even_a + P::b2 * even_b;
    if constexpr (N > 3) out[3] = P::a3 * odd_a + P::b3 * odd_b;
    if constexpr (N > 4) out[4] = P::a4 * even_a + P::b4 * even_b;
    out[N - 1] += m[5];
}

/// From a square of Size x Size pixels (zero outside the valid rows and columns) to 36 planes.
template <class T, int Size, void Line(const Vec<T>*, Vec<T>*), bool Part>
FASTCONV_INLINE void to_points(const WinogradTile<T>& a, int64_t c, int64_t count) {
    Vec<T> between[6][Size];
    FASTCONV_UNROLL
    for (int j = 0; j < Size; ++j) {
        Vec<T> line[Size], points[6];
        const bool valid = j >= a.column0 && j < a.column1;
        FASTCONV_UNROLL
        for (int i = 0; i < Size; ++i)
            line[i] = valid && i >= a.row0 && i < a.row1 ? fetch<T, Part>(a.pixels + i * a.row + j * a.pixel + c, count)
                                                         : Vec<T>{};
        Line(line, points);
        FASTCONV_UNROLL
        for (int i = 0; i < 6; ++i) between[i][j] = points[i];
    }
    FASTCONV_UNROLL
    for (int i = 0; i < 6; ++i) {
        Vec<T> points[6];
        Line(between[i], points);
        FASTCONV_UNROLL
        for (int j = 0; j < 6; ++j) put<T, Part>(a.points + (i * 6 + j) * a.plane + c, points[j], count);
    }
}

/// From 36 planes to a square of Size x Size values.
template <class T, int Size, void Line(const Vec<T>*, Vec<T>*), bool Part>
FASTCONV_INLINE void from_points(const T* points, ptrdiff_t plane, int64_t count, Vec<T> out[Size][Size]) {
    Vec<T> between[Size][6];
    FASTCONV_UNROLL
    for (int j = 0; j < 6; ++j) {
        Vec<T> line[6], values[Size];
        FASTCONV_UNROLL
        for (int i = 0; i < 6; ++i) line[i] = fetch<T, Part>(points + (i * 6 + j) * plane, count);
        Line(line, values);
        FASTCONV_UNROLL
        for (int i = 0; i < Size; ++i) between[i][j] = values[i];
    }
    FASTCONV_UNROLL
    for (int i = 0; i < Size; ++i) Line(between[i], out[i]);
}

template <class T, int Size, void Line(const Vec<T>*, Vec<T>*)>
FASTCONV_INLINE void tile_to_points(const WinogradTile<T>& a) {
    int64_t c = 0;
    for (; c + width<T> <= a.channels; c += width<T>) to_points<T, Size, Line, false>(a, c, width<T>);
    if (c < a.channels) to_points<T, Size, Line, true>(a, c, a.channels - c);
}

template <class T>
void input_tile(const WinogradTile<T>& a) {
    tile_to_points<T, 6, input_points<T>>(a);
}
/// N x N taps of a filter, or output gradients.
template <class T, int N>
void filter_tile(const WinogradTile<T>& a) {
    tile_to_points<T, N, filter_points<T, N>>(a);
}

template <class T, int N, bool Part>
FASTCONV_INLINE Vec<T> output_channels(const WinogradOutput<T>& a, int64_t c, int64_t count) {
    Vec<T> out[N][N];
    from_points<T, N, output_values<T, N>, Part>(a.points + c, a.plane, count, out);
    Vec<T> bias{}, zero_or_nan{};
    if (a.bias) bias = fetch<T, Part>(a.bias + c, count);
    FASTCONV_UNROLL
    for (int i = 0; i < N; ++i) {
        FASTCONV_UNROLL
        for (int j = 0; j < N; ++j) {
            Vec<T> value = out[i][j];
            zero_or_nan += value - value; // NaN once any value is infinite or NaN
            if (a.bias) value += bias;
            value = within<T>(a.bounds, value);
            if (i < a.rows && j < a.columns) put<T, Part>(a.y + i * a.row + j * a.pixel + c, value, count);
        }
    }
    return zero_or_nan;
}

template <class T>
FASTCONV_INLINE bool all_zero(Vec<T> values) {
    bool zero = true;
    for (int lane = 0; lane < width<T>; ++lane) zero &= values[lane] == 0;
    return zero;
}

template <class T, int N>
bool output_tile(const WinogradOutput<T>& a) {
    Vec<T> zero_or_nan{};
    int64_t c = 0;
    for (; c + width<T> <= a.channels; c += width<T>) zero_or_nan += output_channels<T, N, false>(a, c, width<T>);
    if (c < a.channels) zero_or_nan += output_channels<T, N, true>(a, c, a.channels - c);
    return all_zero<T>(zero_or_nan);
}

template <class T, int N, bool Part>
FASTCONV_INLINE Vec<T> tap_channels(const WinogradOutput<T>& a, int64_t c, int64_t count) {
    Vec<T> out[N][N];
    from_points<T, N, output_values<T, N>, Part>(a.points + c, a.plane, count, out);
    Vec<T> zero_or_nan{};
    FASTCONV_UNROLL
    for (int i = 0; i < N; ++i) {
        FASTCONV_UNROLL
        for (int j = 0; j < N; ++j) {
            T* to = a.y + i * a.row + j * a.pixel + c;
            const Vec<T> value = a.accumulate ? fetch<T, Part>(to, count) + out[i][j] : out[i][j];
            zero_or_nan += value - value;
            put<T, Part>(to, value, count);
        }
    }
    return zero_or_nan;
}

template <class T, int N>
bool tap_tile(const WinogradOutput<T>& a) {
    Vec<T> zero_or_nan{};
    int64_t c = 0;
    for (; c + width<T> <= a.channels; c += width<T>) zero_or_nan += tap_channels<T, N, false>(a, c, width<T>);
    if (c < a.channels) zero_or_nan += tap_channels<T, N, true>(a, c, a.channels - c);
    return all_zero<T>(zero_or_nan);
}

template <class T>
void fill(KernelsOf<T>& kernels) {
    kernels.winograd_input = input_tile<T>;
    kernels.winograd_filter[0] = filter_tile<T, 3>;
    kernels.winograd_filter[1] = filter_tile<T, 5>;
    kernels.winograd_gradient[0] = filter_tile<T, 4>;
    kernels.winograd_gradient[1] = filter_tile<T, 2>;
    kernels.winograd_output[0] = output_tile<T, 4>;
    kernels.winograd_output[1] = output_tile<T, 2>;
    kernels.winograd_taps[0] = tap_tile<T, 3>;
    kernels.winograd_taps[1] = tap_tile<T, 5>;
}

} // namespace

void add_winograd(KernelTable& table) {
    fill(table.f32);
    fill(table.f64);
}

} // namespace FASTCONV_ISA
} // namespace fastconv
