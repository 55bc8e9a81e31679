// Vectors of one ISA, built on the vector extensions of GCC and Clang. Each primitive that the extensions lack has a
// generic form here. An ISA's header defines its properties, then includes this header, then specialises the primitives
// for which the ISA has better instructions.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__clang__)
#define FASTCONV_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FASTCONV_UNROLL _Pragma("GCC unroll 16")
#endif
#define FASTCONV_INLINE inline __attribute__((always_inline))
#define FASTCONV_NOINLINE __attribute__((noinline))

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// ---- Vectors

template <class T>
constexpr int width = vector_bytes / static_cast<int>(sizeof(T));

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
    typedef float type __attribute__((vector_size(vector_bytes)));
    typedef float unaligned __attribute__((vector_size(vector_bytes), aligned(4), may_alias));
    typedef int32_t index __attribute__((vector_size(vector_bytes)));
    typedef int32_t lane;
    typedef uint8_t bytes __attribute__((vector_size(vector_bytes / 4)));
};
template <>
struct VectorOf<double> {
    typedef double type __attribute__((vector_size(vector_bytes)));
    typedef double unaligned __attribute__((vector_size(vector_bytes), aligned(8), may_alias));
    typedef int64_t index __attribute__((vector_size(vector_bytes)));
    typedef int64_t lane;
    typedef uint8_t bytes __attribute__((vector_size(vector_bytes / 8)));
};
template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
using Index = typename VectorOf<T>::index; // lanes of T's size; also the type of a comparison
template <class T>
using Lane = typename VectorOf<T>::lane; // of an Index
template <class T>
using Bytes = typename VectorOf<T>::bytes; // one byte per lane

template <class T>
FASTCONV_INLINE Vec<T> load(const T* from) {
    return *reinterpret_cast<const typename VectorOf<T>::unaligned*>(from);
}
template <class T>
FASTCONV_INLINE void store(T* to, Vec<T> value) {
    *reinterpret_cast<typename VectorOf<T>::unaligned*>(to) = value;
}
/// x - 0 is x for every x, so the compiler emits a plain broadcast. x + 0 would not do, because -0 + 0 is +0.
template <class T>
FASTCONV_INLINE Vec<T> broadcast(T value) {
    return value - Vec<T>{};
}

/// Keeps the compiler from loading the value again for each use. A load that crosses a cache line costs two loads.
template <class V>
FASTCONV_INLINE void keep_in_register(V& value) {
#if defined(__x86_64__)
    __asm__("" : "+v"(value));
#elif defined(__aarch64__)
    __asm__("" : "+w"(value));
#endif
}

// ---- Primitives that an ISA may specialise

// load_part and store_part touch the first `count` (1 ... width) elements only. In a load, the other lanes are zero.
// The generic forms are not inlined: kernels use them so often that compiling the branches would take a tenth of the
// build time.
template <class T>
FASTCONV_NOINLINE Vec<T> load_part(const T* from, int64_t count) {
    T values[width<T>] = {};
    int64_t at = 0;
    FASTCONV_UNROLL
    for (int lanes = width<T>; lanes > 0; lanes /= 2) {
        if (!(count & lanes)) continue;
        __builtin_memcpy(values + at, from + at, static_cast<size_t>(lanes) * sizeof(T));
        at += lanes;
    }
    return load(values);
}
template <class T>
FASTCONV_NOINLINE void store_part(T* to, Vec<T> value, int64_t count) {
    T values[width<T>];
    store(values, value);
    int64_t at = 0;
    FASTCONV_UNROLL
    for (int lanes = width<T>; lanes > 0; lanes /= 2) {
        if (!(count & lanes)) continue;
        __builtin_memcpy(to + at, values + at, static_cast<size_t>(lanes) * sizeof(T));
        at += lanes;
    }
}

/// Element l for each lane l whose mask is all ones. The other lanes are zero, and their elements are not touched.
template <class T>
FASTCONV_NOINLINE Vec<T> load_lanes(const T* from, Index<T> mask) {
    T values[width<T>];
    for (int l = 0; l < width<T>; ++l) values[l] = mask[l] ? from[l] : T{};
    return load(values);
}

/// Upper and lower bounds. NaN stays NaN.
template <class T>
FASTCONV_INLINE Vec<T> at_most(Vec<T> x, T limit) {
    return x > limit ? broadcast(limit) : x;
}
template <class T>
FASTCONV_INLINE Vec<T> at_least(Vec<T> x, T limit) {
    return x < limit ? broadcast(limit) : x;
}

/// Normal powers of two.
template <class T>
FASTCONV_INLINE Vec<T> power_of_two(Index<T> exponent) {
    constexpr int mantissa_bits = sizeof(T) == 4 ? 23 : 52, bias = sizeof(T) == 4 ? 127 : 1023;
    return (Vec<T>)((exponent + bias) << mantissa_bits);
}
/// value * 2^exponent. The power is the product of two factors, because it may be out of range when the result is not.
template <class T>
FASTCONV_INLINE Vec<T> times_power_of_two(Vec<T> value, Index<T> exponent) {
    const Index<T> half = exponent >> 1;
    return value * power_of_two<T>(half) * power_of_two<T>(exponent - half);
}

/// Stores to aligned memory, past the caches if the instruction set can (this general form cannot). That saves reading
/// the cache line first. Call finish_streaming before another thread reads the values.
template <class T>
FASTCONV_INLINE void store_streaming(T* to, Vec<T> value) {
    store(to, value);
}
FASTCONV_INLINE void finish_streaming() {
#if defined(__x86_64__)
    __builtin_ia32_sfence();
#endif
}

/// The sum of all lanes. First adds the upper half of the vector to the lower half, then halves of that, and so on.
template <class T>
FASTCONV_INLINE T add_lanes(Vec<T> value) {
    T sums[width<T>];
    FASTCONV_UNROLL
    for (int i = 0; i < width<T>; ++i) sums[i] = value[i];
    FASTCONV_UNROLL
    for (int half = width<T> / 2; half > 0; half /= 2) {
        FASTCONV_UNROLL
        for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
    }
    return sums[0];
}

/// Whether add_lanes_of_each is faster than add_lanes. The two may add in different orders.
template <class T>
constexpr bool adds_lanes_together = false;
/// Lane i is the sum of all lanes of values[i].
template <class T>
FASTCONV_INLINE Vec<T> add_lanes_of_each(const Vec<T> (&values)[width<T>]) {
    Vec<T> sums{};
    FASTCONV_UNROLL
    for (int i = 0; i < width<T>; ++i) sums[i] = add_lanes<T>(values[i]);
    return sums;
}

// Permutations. Kernels use them only if the ISA has fast ones (has_permute).
/// Lane l is values[lanes[l] modulo width].
template <class T>
FASTCONV_INLINE Vec<T> permute(Vec<T> values, Index<T> lanes) {
    Vec<T> result{};
    FASTCONV_UNROLL
    for (int l = 0; l < width<T>; ++l) result[l] = values[lanes[l] & (width<T> - 1)];
    return result;
}
/// Lane l is from[lanes[l]]. All of `lanes` are below width/2. A whole vector may be read.
template <class T>
FASTCONV_INLINE Vec<T> load_spread(const T* from, Index<T> lanes) {
    return permute<T>(load(from), lanes);
}
/// Lane l is value from[l] of the 2*width values of `low` and `high`.
template <class T>
FASTCONV_INLINE Vec<T> pick(Vec<T> low, Vec<T> high, Index<T> from) {
    return from >= width<T> ? permute<T>(high, from) : permute<T>(low, from);
}
// The even and the odd values of the 2*width values of `low` and `high`, in an order of their own. in_order sorts them.
// (Sums of such vectors need to be sorted only once.)
template <class T>
FASTCONV_INLINE Vec<T> evens(Vec<T> low, Vec<T> high) {
    Vec<T> result{};
    FASTCONV_UNROLL
    for (int l = 0; l < width<T>; ++l) result[l] = l < width<T> / 2 ? low[2 * l] : high[2 * l - width<T>];
    return result;
}
template <class T>
FASTCONV_INLINE Vec<T> odds(Vec<T> low, Vec<T> high) {
    Vec<T> result{};
    FASTCONV_UNROLL
    for (int l = 0; l < width<T>; ++l) result[l] = l < width<T> / 2 ? low[2 * l + 1] : high[2 * l + 1 - width<T>];
    return result;
}
template <class T>
FASTCONV_INLINE Vec<T> in_order(Vec<T> values) {
    return values;
}
/// Makes value 2*l that of lane l of `even`, and value 2*l + 1 that of lane l of `odd`. The first `width` values go to
/// `even`, the others to `odd`.
template <class T>
FASTCONV_INLINE void interleave(Vec<T>& even, Vec<T>& odd) {
    Vec<T> low{}, high{};
    FASTCONV_UNROLL
    for (int l = 0; l < width<T> / 2; ++l) {
        low[2 * l] = even[l];
        low[2 * l + 1] = odd[l];
        high[2 * l] = even[width<T> / 2 + l];
        high[2 * l + 1] = odd[width<T> / 2 + l];
    }
    even = low;
    odd = high;
}
/// Four rows of four values, in a vector of 16.
template <class T>
FASTCONV_INLINE Vec<T> load_four_rows(const T* from, ptrdiff_t row) {
    static_assert(width<T> == 16, "one vector");
    T values[16];
    FASTCONV_UNROLL
    for (int i = 0; i < 4; ++i) __builtin_memcpy(values + 4 * i, from + i * row, 4 * sizeof(T));
    return load(values);
}

// Conversions between bytes and lanes. GCC 12 emits several instructions per lane for the generic forms.
template <class T>
FASTCONV_INLINE Index<T> widen(Bytes<T> bytes) {
    return __builtin_convertvector(bytes, Index<T>);
}
template <class T>
FASTCONV_INLINE Bytes<T> narrow(Index<T> value) {
    return __builtin_convertvector(value, Bytes<T>);
}
// These touch the first `count` (1 ... width - 1) bytes only. In a load, the other bytes are zero.
template <class T>
FASTCONV_INLINE Bytes<T> load_part_of_bytes(const uint8_t* from, int64_t count) {
    uint8_t some[width<T>] = {};
    for (int64_t lane = 0; lane < count; ++lane) some[lane] = from[lane];
    Bytes<T> bytes;
    __builtin_memcpy(&bytes, some, sizeof bytes);
    return bytes;
}
template <class T>
FASTCONV_INLINE void store_part_of_bytes(uint8_t* to, Bytes<T> bytes, int64_t count) {
    uint8_t some[width<T>];
    __builtin_memcpy(some, &bytes, sizeof bytes);
    for (int64_t lane = 0; lane < count; ++lane) to[lane] = some[lane];
}

/// The side of the squares that transpose_square transposes: the lanes of a vector, or 1.
template <class T>
constexpr int square_side = 1;
/// to[c][r] = from[r][c] for a square.
template <class T>
FASTCONV_INLINE void transpose_square(const T* from, ptrdiff_t, T* to, ptrdiff_t) {
    static_assert(square_side<T> == 1, "an ISA with larger squares specialises this");
    *to = *from;
}

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv
