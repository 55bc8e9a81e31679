// The tools of all kernels: the vectors and primitives of the ISA that a source is compiled for, and helpers built on
// them. Each ISA has its own header, kernels/simd/<ISA>.h.
//
// Only kernel sources include this. Everything has internal linkage (table.h gives the reason).
#pragma once

#include "kernels/table.h"
#include FASTCONV_ISA_HEADER // kernels/simd/<ISA>.h

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// ---- Part of a vector

/// The whole vector, or its first `count` lanes.
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
/// As load_part and store_part, but for any `count`. If `count` is 0 or less, they touch nothing. If it is `width` or
/// more, they take the whole vector.
template <class T>
FASTCONV_INLINE Vec<T> load_some(const T* from, int64_t count) {
    if (count >= width<T>) return load(from);
    return count > 0 ? load_part(from, count) : Vec<T>{};
}
template <class T>
FASTCONV_INLINE void store_some(T* to, Vec<T> value, int64_t count) {
    if (count >= width<T>)
        store(to, value);
    else if (count > 0)
        store_part(to, value, count);
}

/// Widens the first `count` (1 ... width) bytes to lanes. The other lanes are zero.
template <class T>
FASTCONV_INLINE Index<T> load_bytes(const uint8_t* from, int64_t count) {
    Bytes<T> bytes;
    if (count == width<T>)
        __builtin_memcpy(&bytes, from, sizeof bytes);
    else
        bytes = load_part_of_bytes<T>(from, count);
    return widen<T>(bytes);
}
/// Narrows the first `count` (1 ... width) lanes to bytes.
template <class T>
FASTCONV_INLINE void store_bytes(uint8_t* to, Index<T> value, int64_t count) {
    const Bytes<T> bytes = narrow<T>(value);
    if (count == width<T>)
        __builtin_memcpy(to, &bytes, sizeof bytes);
    else
        store_part_of_bytes<T>(to, bytes, count);
}

/// Bit i is set if column `first` + i is one of the `width` columns of the image, for i < 32.
FASTCONV_INLINE uint32_t columns_inside(int64_t first, int64_t width) {
    const int64_t from = first < 0 ? -first : 0, to = width - first;
    if (from >= 32 || to <= from) return 0;
    return (to >= 32 ? ~uint32_t{0} : (uint32_t{1} << to) - 1) & ~uint32_t{0} << from;
}

/// NaN stays NaN.
template <class T>
FASTCONV_INLINE Vec<T> within(const Bounds<T>& bounds, Vec<T> value) {
    return bounds.set ? at_most<T>(at_least<T>(value, bounds.low), bounds.high) : value;
}

// ---- Register tiles

/// The most vectors of filters in a register tile of direct.cpp or filter_gradient.cpp.
constexpr int max_filter_vectors = registers == 32 ? 4 : 2;
/// The most pixels, or window elements, in a tile of KV vectors of filters. The other registers hold KV vectors of
/// filters and a broadcast value.
template <int KV>
constexpr int max_broadcasts = registers == 32 ? (KV == 1 ? 14 : 24 / KV) : 12 / KV;

/// A compile-time number that can be passed as an argument.
template <int N>
struct Constant {
    static constexpr int value = N;
    constexpr operator int() const { return N; }
};

/// Calls f(Constant<n>{}) if n is 1 ... Max, and does nothing otherwise.
template <int Max, class F>
FASTCONV_INLINE void dispatch(int64_t n, const F& f) {
    if constexpr (Max > 0) {
        if (n == Max)
            f(Constant<Max>{});
        else
            dispatch<Max - 1>(n, f);
    }
}

/// Calls f(Constant<1>{}), ..., f(Constant<Max>{}).
template <int Max, class F>
FASTCONV_INLINE void for_each_constant(const F& f) {
    if constexpr (Max > 0) {
        for_each_constant<Max - 1>(f);
        f(Constant<Max>{});
    }
}

/// Cuts `count` into the fewest tiles of at most `most`, all of nearly the same size (7 becomes 4 + 3, not 6 + 1), and
/// calls f(size, first) for each.
template <class F>
FASTCONV_INLINE void each_tile(int64_t count, int64_t most, const F& f) {
    int64_t first = 0, left = count;
    for (int64_t tiles = (count + most - 1) / most; tiles > 0; --tiles) {
        const int64_t size = (left + tiles - 1) / tiles;
        f(size, first);
        first += size;
        left -= size;
    }
}

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv
