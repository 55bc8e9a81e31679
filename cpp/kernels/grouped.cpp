// Convolution of rows of pixels in groups with few channels, and its filter gradient.
//
// Vectorised over the channels of several neighbouring groups, whole groups only. With 4 input and 4 output channels in
// each group, a vector of 16 lanes holds 4 groups. The tiles of direct.cpp and filter_gradient.cpp would use 4 lanes.
//
// Forward: the lanes are output channels. A permutation gives each lane the same input channel of its own group, one
// input channel after the other. The sums of P neighbouring pixels sit in registers: 8 pixels, or 6 for three taps at
// stride 2. The taps of a window row form runs of S = 1, 2, 3 or 5 columns. A permuted vector serves all windows that
// its column lies in, so (P - 1)*stride + S loads and permutations feed S*P FMAs. Register budget: 8 sums + 5 filters +
// value + lanes + mask, that is all 16.
//
// Filter gradient: the lanes are input channels, and dy is permuted: each lane gets the same output channel of its own
// group. A tile of taps x output channels sits in registers, 3x4, or 6x2 for groups with at most two output channels.
// Per pixel, 3 loads of x and 4 permutations of dy feed 12 FMAs. Register budget: 12 sums + 3 values + 1 permuted
// vector, that is all 16. The lanes of the permutations are then read from L1.
//
// Ceiling, if the CPU permutes one vector a cycle: the FMA peak for runs of three or five taps at stride 1 and for the
// filter gradient, 70 % of it for three taps at stride 2, and half of it for runs of one tap.
//
// Arguments: permutations are fast (`spreads`), and a vector has room for the input channels and for the output
// channels of `vector_groups` groups. Filters are packed and zero-padded as table.h says. Nothing needs to be aligned.
//
// Each output is one chain of additions over runs, then input channels, then taps. Columns outside the image are
// skipped. The tile does not change this order. In each call, a sum of the filter gradient starts from zero and is
// added to `sums` once, at the end.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

/// The lanes of a vector to take: each group has `lanes` lanes in a row, and all of them take the group's first
/// channel, g*channels. Lanes behind the last group take channel 0.
template <class T>
Index<T> first_channels(int64_t groups, int64_t lanes, int64_t channels) {
    Index<T> from{};
    for (int64_t group = 0; group < groups; ++group)
        for (int64_t lane = 0; lane < lanes; ++lane)
            from[group * lanes + lane] = static_cast<Lane<T>>(group * channels);
    return from;
}

/// P pixels. Bit i of `inside` is set if the tile's column i is in the image. Inner: all of them are.
template <class T, int S, int Stride, int P, bool Part, bool Inner>
void grouped_tile(const GroupedRows<T>& a, Index<T> first, int64_t groups, const T* x, const T* filters, const T* bias,
                  T* y, uint32_t inside) {
    constexpr int columns = (P - 1) * Stride + S;
    static_assert(columns <= 16, "FASTCONV_UNROLL unrolls no longer loop");
    const int64_t count = groups * a.inputs;
    Vec<T> sum[P];
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) sum[p] = Vec<T>{};
    for (int64_t run = 0; run < a.runs; ++run) {
        const T* from = x + a.offsets[run];
        const T* taps = filters + a.filter_offsets[run];
        Index<T> lanes = first;
        for (int64_t c = 0; c < a.inputs; ++c) {
            Vec<T> filter[S];
            FASTCONV_UNROLL
            for (int s = 0; s < S; ++s) filter[s] = load(taps + s * width<T>);
            taps += S * width<T>;
            FASTCONV_UNROLL
            for (int column = 0; column < columns; ++column) {
                if (!Inner && (inside >> column & 1) == 0) continue;
                const Vec<T> value = permute<T>(fetch<T, Part>(from + column * a.x_column, count), lanes);
                FASTCONV_UNROLL
                for (int p = 0; p < P; ++p)
                    if (column >= p * Stride && column < p * Stride + S) sum[p] += value * filter[column - p * Stride];
            }
            lanes += 1;
        }
    }
    const int64_t outputs = groups * a.outputs;
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        Vec<T> value = sum[p];
        if (bias) value += load_some(bias, outputs);
        value = within<T>(a.bounds, value);
        store_some(y + p * a.y_step, value, outputs);
    }
}

template <class T, int S, int Stride, bool Part>
void grouped_row(const GroupedRows<T>& a, Index<T> first, int64_t groups, const T* x, const T* filters, const T* bias,
                 T* y) {
    constexpr int most = Stride == 2 ? 6 : 8;
    for (int64_t i = 0; i < a.pixels;) {
        const auto tile = [&](auto pixels) {
            constexpr int columns = (pixels - 1) * Stride + S;
            const int64_t column = a.first_column + i * Stride;
            const T* from = x + i * Stride * a.x_column;
            if (column >= 0 && column + columns <= a.width)
                grouped_tile<T, S, Stride, pixels, Part, true>(a, first, groups, from, filters, bias, y + i * a.y_step,
                                                               0);
            else
                grouped_tile<T, S, Stride, pixels, Part, false>(a, first, groups, from, filters, bias, y + i * a.y_step,
                                                                columns_inside(column, a.width));
            i += pixels;
        };
        const int64_t left = a.pixels - i;
        if (left >= most)
            tile(Constant<most>{});
        else if (left >= 4)
            tile(Constant<4>{});
        else if (left >= 2)
            tile(Constant<2>{});
        else
            tile(Constant<1>{});
    }
}

/// All vectors of groups, one after the other. The filters of a vector stay in L1 while its rows pass by.
template <class T, int S, int Stride>
void grouped_rows(const GroupedRows<T>& a) {
    const Index<T> first = first_channels<T>(a.vector_groups, a.outputs, a.inputs);
    const T* filters = a.filters;
    for (int64_t group = 0; group < a.groups; group += a.vector_groups) {
        const int64_t left = a.groups - group, groups = left < a.vector_groups ? left : a.vector_groups;
        const T* bias = a.bias ? a.bias + group * a.outputs : nullptr;
        for (int64_t row = 0; row < a.rows; ++row) {
            const T* x = a.x + row * a.x_row + group * a.inputs;
            T* y = a.y + row * a.y_row + group * a.outputs;
            if (has_masks || groups * a.inputs < width<T>)
                grouped_row<T, S, Stride, true>(a, first, groups, x, filters, bias, y);
            else
                grouped_row<T, S, Stride, false>(a, first, groups, x, filters, bias, y);
        }
        filters += a.filter_vector;
    }
}

template <class T>
void grouped_rows_any(const GroupedRows<T>& a) {
    if constexpr (has_permute) {
        if (a.taps == 1)
            grouped_rows<T, 1, 1>(a);
        else if (a.taps == 2)
            grouped_rows<T, 2, 1>(a);
        else if (a.taps == 5)
            grouped_rows<T, 5, 1>(a);
        else if (a.stride == 1)
            grouped_rows<T, 3, 1>(a);
        else
            grouped_rows<T, 3, 2>(a);
    }
}

/// The sums of Taps taps from `tap` on, for Outputs output channels of each group from `output` on.
template <class T, int Taps, int Outputs>
void grouped_filter_tile(const GroupedFilterRows<T>& a, Index<T> first, int64_t tap, int64_t output) {
    const int64_t x_count = a.groups * a.inputs, dy_count = a.groups * a.outputs;
    Vec<T> sum[Taps][Outputs];
    ptrdiff_t offset[Taps];
    FASTCONV_UNROLL
    for (int t = 0; t < Taps; ++t) {
        offset[t] = a.offsets[tap + t];
        FASTCONV_UNROLL
        for (int k = 0; k < Outputs; ++k) sum[t][k] = Vec<T>{};
    }
    Index<T> lanes[Outputs];
    FASTCONV_UNROLL
    for (int k = 0; k < Outputs; ++k) lanes[k] = first + static_cast<Lane<T>>(output + k);
    const auto add_rows = [&](auto part) __attribute__((always_inline)) {
        for (int64_t row = 0; row < a.rows; ++row) {
            const T* x = a.x + row * a.x_row;
            const T* dy = a.dy + row * a.dy_row;
            for (int64_t i = 0; i < a.pixels; ++i) {
                const Vec<T> gradient = fetch<T, part != 0>(dy, dy_count);
                Vec<T> value[Taps];
                FASTCONV_UNROLL
                for (int t = 0; t < Taps; ++t) value[t] = fetch<T, part != 0>(x + offset[t], x_count);
                FASTCONV_UNROLL
                for (int k = 0; k < Outputs; ++k) {
                    const Vec<T> one = permute<T>(gradient, lanes[k]);
                    FASTCONV_UNROLL
                    for (int t = 0; t < Taps; ++t) sum[t][k] += value[t] * one;
                }
                x += a.x_step;
                dy += a.dy_step;
            }
        }
    };
    if (has_masks || x_count < width<T> || dy_count < width<T>)
        add_rows(Constant<1>{});
    else
        add_rows(Constant<0>{});
    FASTCONV_UNROLL
    for (int t = 0; t < Taps; ++t) {
        FASTCONV_UNROLL
        for (int k = 0; k < Outputs; ++k) {
            T* to = a.sums + ((tap + t) * a.outputs + output + k) * width<T>;
            store(to, load(to) + sum[t][k]);
        }
    }
}

template <class T>
void grouped_filter_rows(const GroupedFilterRows<T>& a) {
    if constexpr (has_permute) {
        const Index<T> first = first_channels<T>(a.groups, a.inputs, a.outputs);
        each_tile(a.outputs, 4, [&](int64_t outputs, int64_t output) {
            dispatch<4>(outputs, [&](auto k) {
                constexpr int most = k <= 2 ? 6 : 3;
                each_tile(a.taps, most, [&](int64_t taps, int64_t tap) {
                    dispatch<most>(taps, [&](auto t) { grouped_filter_tile<T, t, k>(a, first, tap, output); });
                });
            });
        });
    }
}

} // namespace

void add_grouped(KernelTable& table) {
    table.f32.grouped_rows = grouped_rows_any<float>;
    table.f64.grouped_rows = grouped_rows_any<double>;
    table.f32.grouped_filter_rows = grouped_filter_rows<float>;
    table.f64.grouped_filter_rows = grouped_filter_rows<double>;
}

} // namespace FASTCONV_ISA
} // namespace fastconv
