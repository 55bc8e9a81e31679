// What kernels are written with: the vectors and primitives of the ISA they are compiled for, and the helpers that they
// share. An ISA's own part is kernels/simd/<ISA>.h.
//
// Included by kernel sources only. Everything has internal linkage (see table.h for the reason).
#pragma once

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
/// What is there of a vector of which `count` lanes are left, which may be none or more than all.
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

/// Lanes from bytes, of which the first `count` (1 ... width) are there; the others read as zero.
template <class T>
FASTCONV_INLINE Index<T> load_bytes(const uint8_t* from, int64_t count) {
    Bytes<T> bytes;
    if (count == width<T>)
        __builtin_memcpy(&bytes, from, sizeof bytes);
    else
        bytes = load_part_of_bytes<T>(from, count);
    return widen<T>(bytes);
}
template <class T>
FASTCONV_INLINE void store_bytes(uint8_t* to, Index<T> value, int64_t count) {
    const Bytes<T> bytes = narrow<T>(value);
    if (count == width<T>)
        __builtin_memcpy(to, &bytes, sizeof bytes);
    else
        store_part_of_bytes<T>(to, bytes, count);
}

/// Vectors and scalars. NaN stays NaN.
template <class V>
FASTCONV_INLINE V relu(V value) {
    return value < V{} ? V{} : value;
}

// ---- Register tiles

/// The most vectors of filters that a register tile of direct.cpp or filter_gradient.cpp is wide.
constexpr int max_filter_vectors = registers == 32 ? 4 : 2;
/// And its most pixels, or window elements, where it is KV vectors wide: as many as leave registers for KV vectors of
/// filters and a broadcast value.
template <int KV>
constexpr int max_broadcasts = registers == 32 ? (KV == 1 ? 14 : 24 / KV) : 12 / KV;

/// A number that the compiler knows.
template <int N>
struct Constant {
    static constexpr int value = N;
    constexpr operator int() const { return N; }
};

/// Calls f(Constant<n>) for an n of 1 ... Max, and nothing for another.
template <int Max, class F>
FASTCONV_INLINE void dispatch(int64_t n, const F& f) {
    if constexpr (Max > 0) {
        if (n == Max)
            f(Constant<Max>{});
        else
            dispatch<Max - 1>(n, f);
    }
}

/// Calls f(Constant<1>), ..., f(Constant<Max>).
template <int Max, class F>
FASTCONV_INLINE void for_each_constant(const F& f) {
    if constexpr (Max > 0) {
        for_each_constant<Max - 1>(f);
        f(Constant<Max>{});
    }
}

/// Cuts `count` into as few tiles of at most `most` as possible, all of about the same size (7 are 4 + 3, not 6 + 1),
/// and calls f(size, first) for each.
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
