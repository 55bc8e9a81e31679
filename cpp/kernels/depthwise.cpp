// Depthwise convolution of a row of pixels, and its filter gradient.
//
// Vectorised over channels. Forward: P pixels x 1 vector of channels in registers; the filter vector of a tap serves P
// pixels. Filter gradient: up to 9 taps x 1 vector of channels; the dy vector of a pixel serves all of them. Each FMA
// takes its own load of x, so that the ceiling is the load ports' (two vectors a cycle from L1), far below that from
// L2.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T, bool Part>
FASTCONV_INLINE Vec<T> fetch(const T* from, int64_t count) {
    return Part ? load_part(from, count) : load(from);
}
template <class T, bool Part>
FASTCONV_INLINE void put(T* to, Vec<T> value, int64_t count) {
    if (Part)
        store_part(to, value, count);
    else
        store(to, value);
}

template <class T, int P, bool Part>
void depthwise_tile(const DepthwiseRow<T>& a, const T* x, T* y, int64_t c, int64_t count) {
    Vec<T> sum[P];
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) sum[p] = Vec<T>{};
    for (int64_t t = 0; t < a.taps; ++t) {
        const Vec<T> filter = fetch<T, Part>(a.filters + a.filter_offsets[t] + c, count);
        const T* from = x + a.offsets[t] + c;
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) sum[p] += fetch<T, Part>(from + p * a.x_step, count) * filter;
    }
    Vec<T> bias{};
    if (a.bias) bias = fetch<T, Part>(a.bias + c, count);
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        Vec<T> value = sum[p];
        if (a.bias) value += bias;
        if (a.relu) value = value < Vec<T>{} ? Vec<T>{} : value;
        put<T, Part>(y + p * a.y_step + c, value, count);
    }
}

template <class T, bool Part>
void depthwise_pixels(const DepthwiseRow<T>& a, int64_t c, int64_t count) {
    constexpr int most = 8;
    int64_t i = 0;
    for (; i + most <= a.pixels; i += most)
        depthwise_tile<T, most, Part>(a, a.x + i * a.x_step, a.y + i * a.y_step, c, count);
    for (; i + 4 <= a.pixels; i += 4) depthwise_tile<T, 4, Part>(a, a.x + i * a.x_step, a.y + i * a.y_step, c, count);
    for (; i < a.pixels; ++i) depthwise_tile<T, 1, Part>(a, a.x + i * a.x_step, a.y + i * a.y_step, c, count);
}

template <class T>
void depthwise_row(const DepthwiseRow<T>& a) {
    int64_t c = 0;
    for (; c + width<T> <= a.channels; c += width<T>) depthwise_pixels<T, false>(a, c, width<T>);
    if (c < a.channels) depthwise_pixels<T, true>(a, c, a.channels - c);
}

template <class T, int Taps, bool Part>
void filter_tile(const DepthwiseFilterRow<T>& a, int64_t first, int64_t c, int64_t count) {
    Vec<T> sum[Taps];
    FASTCONV_UNROLL
    for (int t = 0; t < Taps; ++t) sum[t] = Vec<T>{};
    const T* x = a.x + c;
    const T* dy = a.dy + c;
    for (int64_t i = 0; i < a.pixels; ++i) {
        const Vec<T> gradient = fetch<T, Part>(dy, count);
        FASTCONV_UNROLL
        for (int t = 0; t < Taps; ++t) sum[t] += fetch<T, Part>(x + a.offsets[first + t], count) * gradient;
        x += a.x_step;
        dy += a.dy_step;
    }
    FASTCONV_UNROLL
    for (int t = 0; t < Taps; ++t) {
        T* to = a.out + a.out_offsets[first + t] + c;
        put<T, Part>(to, fetch<T, Part>(to, count) + sum[t], count);
    }
}

template <class T, bool Part>
void filter_taps(const DepthwiseFilterRow<T>& a, int64_t c, int64_t count) {
    int64_t t = 0;
    for (; t + 9 <= a.taps; t += 9) filter_tile<T, 9, Part>(a, t, c, count);
    for (; t + 3 <= a.taps; t += 3) filter_tile<T, 3, Part>(a, t, c, count);
    for (; t < a.taps; ++t) filter_tile<T, 1, Part>(a, t, c, count);
}

template <class T>
void depthwise_filter_row(const DepthwiseFilterRow<T>& a) {
    int64_t c = 0;
    for (; c + width<T> <= a.channels; c += width<T>) filter_taps<T, false>(a, c, width<T>);
    if (c < a.channels) filter_taps<T, true>(a, c, a.channels - c);
}

} // namespace

void add_depthwise(KernelTable& table) {
    table.f32.depthwise_row = depthwise_row<float>;
    table.f64.depthwise_row = depthwise_row<double>;
    table.f32.depthwise_filter_row = depthwise_filter_row<float>;
    table.f64.depthwise_filter_row = depthwise_filter_row<double>;
}

} // namespace FASTCONV_ISA
} // namespace fastconv
