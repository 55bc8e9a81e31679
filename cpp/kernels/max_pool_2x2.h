// Max pooling, and its gradient, of 2x2 windows with stride 2 and fewer channels than lanes.
//
// Vectorised over the flattened (window, channel) axis of a row. A group of windows fills the lanes. Lane l belongs to
// window l / channels, channel l % channels. The input of a group is two contiguous runs, one per row. `even` and `odd`
// pick the left and the right taps from them. Whole vectors are loaded and stored. The lanes beyond the group belong to
// the next group, which is computed later and overwrites them. Only the last group of a row is partial.
//
// Arguments: has_pairs(a) must hold. Ceiling: the shuffle port, with 4 picks per group. With AVX-512 a pick is one
// permutation, otherwise two.
#pragma once

#include "kernels/pooling.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

/// The layout of a group. If `Many` is true, a group holds several windows. Otherwise it holds one.
template <class T, bool Many>
struct Pairs {
    static constexpr int taps = 4;
    int64_t channels, group, lanes;
    Index<T> even, odd;             // Many: for each lane of the group, the lanes of its taps in the input run
    Index<T> from[2], right_tap[2]; // Many: for each lane of the input run, its lane in the group; 1 at a right tap

    explicit FASTCONV_INLINE Pairs(const PoolRow<T>& a)
        : channels(a.channels), group(Many ? width<T> / a.channels : 1), lanes(group * a.channels) {
        if (!Many) return;
        for (int64_t l = 0; l < width<T>; ++l)
            even[l] = l < lanes ? static_cast<Lane<T>>(l + l / channels * channels) : 0;
        odd = even + static_cast<Lane<T>>(channels);
        for (int64_t m = 0; m < 2 * width<T>; ++m) {
            const bool used = m < 2 * lanes;
            from[m / width<T>][m % width<T>] =
                used ? static_cast<Lane<T>>(m / (2 * channels) * channels + m % channels) : 0;
            right_tap[m / width<T>][m % width<T>] = used ? static_cast<Lane<T>>(m / channels % 2) : 0;
        }
    }

    /// The left and the right tap of `count` lanes.
    template <bool Whole>
    FASTCONV_INLINE void read(const T* x, int64_t count, Vec<T>& left, Vec<T>& right) const {
        if constexpr (Many) {
            const Vec<T> low = Whole ? load(x) : load_some(x, 2 * count);
            const Vec<T> high = Whole ? load(x + width<T>) : load_some(x + width<T>, 2 * count - width<T>);
            left = pick<T>(low, high, even);
            right = pick<T>(low, high, odd);
        } else {
            left = Whole ? load(x) : load_part(x, count);
            right = Whole ? load(x + channels) : load_part(x + channels, count);
        }
    }

    template <bool Whole, bool WithTap>
    FASTCONV_INLINE void find(const PoolRow<T>& a, int64_t i, int64_t count, Vec<T>& best, Index<T>& tap) const {
        Vec<T> value[taps];
        read<Whole>(a.x + i * a.x_step + a.offsets[0], count, value[0], value[1]);
        read<Whole>(a.x + i * a.x_step + a.offsets[2], count, value[2], value[3]);
        best = value[0];
        tap = Index<T>{};
        FASTCONV_UNROLL
        for (int t = 1; t < taps; ++t) {
            const Index<T> take = beats<T>(value[t], best);
            best = take ? value[t] : best;
            if (WithTap) tap = take ? Index<T>{} + static_cast<Lane<T>>(t) : tap;
        }
    }

    template <bool Whole, bool WithTap>
    FASTCONV_INLINE void forward(const PoolRow<T>& a, int64_t i, int64_t count) const {
        Vec<T> best;
        Index<T> tap;
        find<Whole, WithTap>(a, i, count, best, tap);
        const int64_t at = i * a.y_step;
        if (Whole)
            store(a.y + at, best);
        else
            store_part(a.y + at, best, count);
        if (WithTap) store_bytes<T>(a.tap + at, tap, Whole ? width<T> : count);
    }

    template <bool Whole, bool Chosen>
    FASTCONV_INLINE void gradient(const PoolRow<T>& a, int64_t i, int64_t count) const {
        Vec<T> best;
        Index<T> tap;
        if (Chosen)
            tap = load_bytes<T>(a.chosen_tap + i * a.grad_step, Whole ? width<T> : count);
        else
            find<Whole, true>(a, i, count, best, tap);
        const T* from_grad = a.grad + i * a.grad_step;
        const Vec<T> grad = Whole ? load(from_grad) : load_part(from_grad, count);
        T* y = a.y + i * a.y_step;
        if constexpr (Many) {
            Vec<T> spread[2];
            Index<T> spread_tap[2];
            FASTCONV_UNROLL
            for (int v = 0; v < 2; ++v) {
                spread[v] = pick<T>(grad, grad, from[v]);
                spread_tap[v] = (Index<T>)pick<T>((Vec<T>)tap, (Vec<T>)tap, from[v]) - right_tap[v];
            }
            FASTCONV_UNROLL
            for (int row = 0; row < 2; ++row) {
                const Index<T> here = Index<T>{} + static_cast<Lane<T>>(2 * row);
                FASTCONV_UNROLL
                for (int v = 0; v < 2; ++v) {
                    const Vec<T> value = spread_tap[v] == here ? spread[v] : Vec<T>{};
                    T* to = y + a.offsets[2 * row] + v * width<T>;
                    if (Whole)
                        store(to, value);
                    else
                        store_some(to, value, 2 * count - v * width<T>);
                }
            }
        } else {
            FASTCONV_UNROLL
            for (int t = 0; t < taps; ++t) { // the right tap overwrites what the left one stored beyond its lanes
                const Vec<T> value = tap == Index<T>{} + static_cast<Lane<T>>(t) ? grad : Vec<T>{};
                if (Whole)
                    store(y + a.offsets[t], value);
                else
                    store_part(y + a.offsets[t], value, count);
            }
        }
    }
};

// The gradient of 2x2 windows whose taps are given, if one row of a window (2 * channels values) fits into a vector and
// the ISA can permute. Vectors run along the two input rows, so that each is stored once, and whole except for the
// last. The gradients of a vector's windows take one load, and a permutation brings them to their lanes. Their taps
// take another load and permutation. The permutations repeat after `count` vectors. Ceiling: one vector of each row in
// 4 cycles, for 2 loads, 2 permutations, 2 comparisons and 2 stores. The stores that cross cache lines cost most.
template <class T>
struct PairRows {
    static constexpr int most = 7; // largest (2 * channels) / gcd(2 * channels, width) for 2 * channels <= width
    int64_t count = 0;
    Index<T> from[most];  // the gradient that each lane takes, counted from the vector's first window
    Index<T> right[most]; // 1 in the lanes of right taps, 0 in those of left taps
    int64_t next[most];   // the distance from a vector's first gradient to that of the next vector

    explicit FASTCONV_INLINE PairRows(int64_t channels) {
        const auto c = static_cast<Lane<T>>(channels), two = static_cast<Lane<T>>(2 * channels);
        Index<T> lanes{};
        for (int64_t l = 0; l < width<T>; ++l) lanes[l] = static_cast<Lane<T>>(l);
        int64_t start = 0; // where the vector starts in its first window
        do {
            Index<T> at = lanes + static_cast<Lane<T>>(start), window{};
            for (int64_t passed = 0; passed < start + width<T>; passed += 2 * channels) {
                const Index<T> beyond = at >= two;
                window += beyond ? Index<T>{} + c : Index<T>{};
                at -= beyond ? Index<T>{} + two : Index<T>{};
            }
            const Index<T> is_right = at >= c;
            from[count] = window + (is_right ? at - c : at);
            right[count] = is_right ? Index<T>{} + static_cast<Lane<T>>(1) : Index<T>{};
            next[count] = (start + width<T>) / (2 * channels) * channels;
            start = (start + width<T>) % (2 * channels);
            ++count;
        } while (start != 0);
    }

    FASTCONV_INLINE void scatter(const PoolRow<T>& a) const {
        const int64_t gradients = a.pixels * a.channels;
        int64_t at = 0, pattern = 0;
        for (int64_t to = 0; to < 2 * gradients; to += width<T>) {
            const int64_t left = gradients - at < width<T> ? gradients - at : width<T>;
            const Vec<T> grad = left == width<T> ? load(a.grad + at) : load_part(a.grad + at, left);
            const Index<T> tap = load_bytes<T>(a.chosen_tap + at, left);
            const Vec<T> spread = pick<T>(grad, grad, from[pattern]);
            const Index<T> spread_tap = (Index<T>)pick<T>((Vec<T>)tap, (Vec<T>)tap, from[pattern]) - right[pattern];
            FASTCONV_UNROLL
            for (int row = 0; row < 2; ++row) {
                const Index<T> here = Index<T>{} + static_cast<Lane<T>>(2 * row);
                const Vec<T> value = spread_tap == here ? spread : Vec<T>{};
                store_some(a.y + a.offsets[2 * row] + to, value, 2 * gradients - to);
            }
            at += next[pattern];
            pattern = pattern + 1 == count ? 0 : pattern + 1;
        }
    }
};

template <class T>
FASTCONV_INLINE bool has_pairs(const PoolRow<T>& a) {
    return a.channels < width<T> && (has_permute || 2 * a.channels > width<T>) && a.taps == 4 &&
           a.x_step == 2 * a.channels && a.offsets[1] - a.offsets[0] == a.channels &&
           a.offsets[3] - a.offsets[2] == a.channels;
}

template <class T, bool Many, bool Gradient, bool Option>
FASTCONV_INLINE void each_group(PoolRow<T> a) {
    const Pairs<T, Many> pairs(a);
    for (int64_t r = 0; r < a.rows; ++r, advance(a)) {
        int64_t i = 0;
        for (; i + pairs.group < a.pixels; i += pairs.group) {
            if (Gradient)
                pairs.template gradient<true, Option>(a, i, pairs.lanes);
            else
                pairs.template forward<true, Option>(a, i, pairs.lanes);
        }
        const int64_t count = (a.pixels - i) * a.channels;
        if (Gradient)
            pairs.template gradient<false, Option>(a, i, count);
        else
            pairs.template forward<false, Option>(a, i, count);
    }
}
template <class T, bool Gradient, bool Option>
FASTCONV_INLINE void each_group(const PoolRow<T>& a) {
    if (has_permute && 2 * a.channels <= width<T>)
        each_group<T, has_permute, Gradient, Option>(a);
    else
        each_group<T, false, Gradient, Option>(a);
}

template <class T>
void scatter_pairs(PoolRow<T> a) {
    const PairRows<T> pairs(a.channels);
    for (int64_t r = 0; r < a.rows; ++r, advance(a)) pairs.scatter(a);
}
} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv
