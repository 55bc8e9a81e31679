// The input gradient of a depthwise convolution with a stride of 2 columns, one row of dx at a time.
//
// Vectorised over channels. In a row of dx with its padding, columns 2m and 2m + 1 are a pair. Tap s of column dy[q]
// reaches column 2q + s, so a pair takes dy[m - (S - 1)/2] to dy[m]: the even column with the even taps, and the odd
// column with the odd taps. P pairs x KV vectors of sums sit in registers, with the S*KV filters of a window row and a
// value of dy. A loaded dy serves all S columns that it reaches. Each column of dx is written once, and neighbours are
// written together.
//
// Ceiling: memory, because dx has 4 values for each value of dy if rows have a stride of 2 as well, and a value takes
// S*S/4 FMAs. In the caches, S*P FMAs take P + (S - 1)/2 loads of dy and S of filters.
//
// Arguments: DepthwiseRow with a stride of -2. x is dy, and y is rows of dx. Tap j of column q of dy is in column
// first_column + 2*q + j of dx, and first_column is at most 0. `width` is the number of columns of dy, and `pixels`
// that of dx. Columns outside are skipped. offsets[t] is that of a whole row of dy. Nothing needs to be aligned.
#pragma once

#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

/// The columns of a tile that exist, as bits.
struct Inside {
    uint32_t dy, dx;
};

/// P pairs from `pair` on. dy and dx point to the first column of each that the tile would take.
template <class T, int S, int KV, int P, bool Part>
void gradient_tile(const DepthwiseRow<T>& a, const T* dy, T* dx, int64_t c, int64_t count, Inside inside) {
    constexpr int reach = (S - 1) / 2;
    static_assert(P + reach <= 16 && 2 * P <= 16, "FASTCONV_UNROLL unrolls no longer loop");
    Vec<T> sum[2 * P][KV];
    FASTCONV_UNROLL
    for (int u = 0; u < 2 * P; ++u) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) sum[u][j] = Vec<T>{};
    }
    for (int64_t t = 0; t < a.taps; t += S) {
        const T* from = dy + a.offsets[t] + c;
        Vec<T> filter[S][KV];
        FASTCONV_UNROLL
        for (int s = 0; s < S; ++s) {
            FASTCONV_UNROLL
            for (int j = 0; j < KV; ++j)
                filter[s][j] = fetch<T, Part>(a.filters + a.filter_offsets[t + s] + c + j * width<T>, count);
        }
        FASTCONV_UNROLL
        for (int column = 0; column < P + reach; ++column) {
            if ((inside.dy >> column & 1) == 0) continue;
            FASTCONV_UNROLL
            for (int j = 0; j < KV; ++j) {
                Vec<T> value = fetch<T, Part>(from + column * a.x_column + j * width<T>, count);
                keep_in_register(value);
                FASTCONV_UNROLL
                for (int s = 0; s < S; ++s) {
                    const int u = 2 * (column - reach) + s; // of the tile
                    if (u >= 0 && u < 2 * P) sum[u][j] += value * filter[s][j];
                }
            }
        }
    }
    FASTCONV_UNROLL
    for (int u = 0; u < 2 * P; ++u) {
        if ((inside.dx >> u & 1) == 0) continue;
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) {
            Vec<T> value = sum[u][j];
            if (a.bias) value += fetch<T, Part>(a.bias + c + j * width<T>, count);
            value = within<T>(a.bounds, value);
            put<T, Part>(dx + u * a.y_step + c + j * width<T>, value, count);
        }
    }
}

template <class T, int S, int KV, int P>
void gradient_pairs(const DepthwiseRow<T>& a, const T* x, T* y, int64_t pair) {
    const int64_t q = pair - (S - 1) / 2, u = 2 * pair + a.first_column; // the first columns of dy and dx
    const T* dy = x + q * a.x_column;
    T* dx = y + u * a.y_step;
    const Inside inside{columns_inside(q, a.width), columns_inside(u, a.pixels)};
    int64_t c = 0;
    for (; c + KV * width<T> <= a.channels; c += KV * width<T>)
        gradient_tile<T, S, KV, P, false>(a, dy, dx, c, width<T>, inside);
    for (; KV > 1 && c + width<T> <= a.channels; c += width<T>)
        gradient_tile<T, S, 1, P, false>(a, dy, dx, c, width<T>, inside);
    if (c < a.channels) gradient_tile<T, S, 1, P, true>(a, dy, dx, c, a.channels - c, inside);
}

/// A row of dx.
template <class T, int S>
void gradient_row(const DepthwiseRow<T>& a, const T* x, T* y) {
    // S = 7 takes 16 sums and 14 filters of 32 registers. With 16, S = 3 takes 8 sums and 6 filters, and others take
    // one vector of channels at a time. Two vectors fill cache lines that come from memory at once.
    constexpr int vectors = registers == 32 || S == 3 ? 2 : 1, most = registers == 32 || S > 3 ? 4 : 2;
    const int64_t padding = -a.first_column, last = (padding + a.pixels + 1) / 2;
    int64_t pair = padding / 2;
    for (; pair + most / 2 < last; pair += most) gradient_pairs<T, S, vectors, most>(a, x, y, pair);
    if (pair < last) gradient_pairs<T, S, vectors, 2>(a, x, y, pair);
}

template <class T>
void gradient_row(const DepthwiseRow<T>& a, const T* x, T* y) {
    if (a.sliding == 3)
        gradient_row<T, 3>(a, x, y);
    else if (a.sliding == 5)
        gradient_row<T, 5>(a, x, y);
    else
        gradient_row<T, 7>(a, x, y);
}

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv
