// The loops of the pooling kernels over rows of windows, and the comparison that finds a maximum.
#pragma once

#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T>
FASTCONV_INLINE void advance(PoolRow<T>& a) {
    if (a.x) a.x += a.x_row; // null in gradients that do not read the input
    a.y += a.y_row;
    a.grad += a.grad_row;
    a.argmax_base += a.x_row;
    if (a.argmax) a.argmax += a.y_row;
    if (a.tap) a.tap += a.y_row;
    if (a.chosen_tap) a.chosen_tap += a.grad_row;
}

/// Calls Window<T, P, Part>::run(a, i, c, count) for the P windows from window i on, for each vector of channels.
template <template <class, int, bool> class Window, class T, int P>
FASTCONV_INLINE void windows(const PoolRow<T>& a, int64_t i, bool again) {
    int64_t c = 0;
    for (; c + width<T> <= a.channels; c += width<T>) Window<T, P, false>::run(a, i, c, width<T>);
    if (c == a.channels) return;
    if (again && c > 0) // partial vectors are slow on some CPUs: compute some channels again with a whole one
        Window<T, P, false>::run(a, i, a.channels - width<T>, width<T>);
    else
        Window<T, P, true>::run(a, i, c, a.channels - c);
}
/// `again`: whether some channels of a window may be computed twice.
template <template <class, int, bool> class Window, class T>
FASTCONV_INLINE void each_window(PoolRow<T> a, bool again) {
    // With few channels, independent windows hide the latency of comparisons. With many, reading in order is faster.
    constexpr int several = 4;
    for (int64_t r = 0; r < a.rows; ++r, advance(a)) {
        int64_t i = 0;
        if (a.channels < width<T>)
            for (; i + several <= a.pixels; i += several) windows<Window, T, several>(a, i, again);
        for (; i < a.pixels; ++i) windows<Window, T, 1>(a, i, again);
    }
}

/// Whether `value` replaces `best`. If `best` is NaN, it stays, because best == best is false. Otherwise a greater
/// value or a NaN replaces `best`, because value <= best is false.
template <class T>
FASTCONV_INLINE Index<T> beats(Vec<T> value, Vec<T> best) {
    return ~(value <= best) & (best == best);
}

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv
