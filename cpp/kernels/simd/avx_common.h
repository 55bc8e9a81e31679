// What AVX2 and AVX-512 share: operations on 32 bytes.
#pragma once

#include "kernels/simd/vectors.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Masks of the first `count` lanes.
FASTCONV_INLINE __m256i first_lanes_32(int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FASTCONV_INLINE __m256i first_lanes_64(int64_t count) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}

// The sum of all lanes, in the order of add_lanes.
FASTCONV_INLINE float add_lanes_256(__m256 value) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}
FASTCONV_INLINE double add_lanes_256(__m256d value) {
    const __m128d sum = _mm_add_pd(_mm256_castpd256_pd128(value), _mm256_extractf128_pd(value, 1));
    return _mm_cvtsd_f64(_mm_add_sd(sum, _mm_unpackhi_pd(sum, sum)));
}

// A square has rows of 32 bytes. It sits in 8 registers for float, 4 for double, and takes 3 shuffles a vector for
// float, 2 for double. (Squares with rows of 64 bytes would halve the stores but take 4 shuffles a vector.)
template <>
constexpr int square_side<float> = 8;
template <>
constexpr int square_side<double> = 4;

template <>
FASTCONV_INLINE void transpose_square(const float* from, ptrdiff_t from_row, float* to, ptrdiff_t to_row,
                                      int64_t columns) {
    __m256 a[8], b[8];
    if (columns >= 8) {
        FASTCONV_UNROLL
        for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(from + i * from_row);
    } else {
        const __m256i mask = first_lanes_32(columns);
        FASTCONV_UNROLL
        for (int i = 0; i < 8; ++i) a[i] = _mm256_maskload_ps(from + i * from_row, mask);
    }
    FASTCONV_UNROLL
    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
    FASTCONV_UNROLL
    for (int i = 0; i < 8; i += 4) {
        a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
        a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xEE);
        a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
        a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xEE);
    }
    FASTCONV_UNROLL
    for (int i = 0; i < 4; ++i) {
        b[i] = _mm256_permute2f128_ps(a[i], a[i + 4], 0x20);
        b[i + 4] = _mm256_permute2f128_ps(a[i], a[i + 4], 0x31);
    }
    FASTCONV_UNROLL
    for (int i = 0; i < 8; ++i)
        if (i < columns) _mm256_storeu_ps(to + i * to_row, b[i]);
}

template <>
FASTCONV_INLINE void transpose_square(const double* from, ptrdiff_t from_row, double* to, ptrdiff_t to_row,
                                      int64_t columns) {
    __m256d a[4], b[4];
    const __m256i mask = first_lanes_64(columns);
    FASTCONV_UNROLL
    for (int i = 0; i < 4; ++i)
        a[i] = columns >= 4 ? _mm256_loadu_pd(from + i * from_row) : _mm256_maskload_pd(from + i * from_row, mask);
    FASTCONV_UNROLL
    for (int i = 0; i < 4; i += 2) {
        b[i] = _mm256_unpacklo_pd(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_pd(a[i], a[i + 1]);
    }
    a[0] = _mm256_permute2f128_pd(b[0], b[2], 0x20);
    a[1] = _mm256_permute2f128_pd(b[1], b[3], 0x20);
    a[2] = _mm256_permute2f128_pd(b[0], b[2], 0x31);
    a[3] = _mm256_permute2f128_pd(b[1], b[3], 0x31);
    FASTCONV_UNROLL
    for (int i = 0; i < 4; ++i)
        if (i < columns) _mm256_storeu_pd(to + i * to_row, a[i]);
}

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv
