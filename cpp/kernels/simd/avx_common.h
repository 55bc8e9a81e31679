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

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv
