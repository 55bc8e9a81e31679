// Transposes a matrix: packs filters whose lanes are not neighbours in memory, and turns NHWC to NCHW and back.
//
// Vectorised over both axes: a square of 32 bytes x 32 bytes (8x8 float32, 4x4 float64) sits in 8 (4) registers and is
// transposed there, 3 (2) shuffles a vector, so that both sides are read and written in whole vectors; AVX-512 would
// halve the stores but need 4 shuffles a vector. Squares over the right edge are loaded in part; fewer rows than a
// square's, and the baseline, go value by value. The ceiling is the shuffle port's vector a cycle, and memory's beyond
// L1.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

#if defined(__AVX2__)
template <class T>
constexpr int side = 32 / static_cast<int>(sizeof(T));

FASTCONV_INLINE __m256i mask32(int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FASTCONV_INLINE __m256i mask64(int64_t count) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}

/// to[c][r] = from[r][c] for 8 rows and `columns` (1 ... 8).
FASTCONV_INLINE void square(const float* from, ptrdiff_t from_row, float* to, ptrdiff_t to_row, int64_t columns) {
    __m256 a[8], b[8];
    if (columns >= 8) {
        FASTCONV_UNROLL
        for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(from + i * from_row);
    } else {
        const __m256i mask = mask32(columns);
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

FASTCONV_INLINE void square(const double* from, ptrdiff_t from_row, double* to, ptrdiff_t to_row, int64_t columns) {
    __m256d a[4], b[4];
    const __m256i mask = mask64(columns);
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
#else
template <class T>
constexpr int side = 1;

template <class T>
FASTCONV_INLINE void square(const T* from, ptrdiff_t, T* to, ptrdiff_t, int64_t) {
    *to = *from;
}
#endif

template <class T>
void transpose(const T* from, ptrdiff_t from_row, T* to, ptrdiff_t to_row, int64_t rows, int64_t columns) {
    // In strips of columns whose lines, read and written, stay in L1 until all their squares are done. The last rows
    // are a square that overlaps the one before.
    constexpr int64_t strip = 32;
    for (int64_t first = 0; first < columns && rows >= side<T>; first += strip) {
        const int64_t last = columns < first + strip ? columns : first + strip;
        for (int64_t r = 0; r < rows; r += side<T>) {
            const int64_t row = r + side<T> <= rows ? r : rows - side<T>;
            for (int64_t c = first; c < last; c += side<T>)
                square(from + row * from_row + c, from_row, to + c * to_row + row, to_row, columns - c);
        }
    }
    for (int64_t r = 0; r < rows && rows < side<T>; ++r)
        for (int64_t c = 0; c < columns; ++c) to[c * to_row + r] = from[r * from_row + c];
}

} // namespace

void add_transpose(KernelTable& table) {
    table.f32.transpose = transpose<float>;
    table.f64.transpose = transpose<double>;
}

} // namespace FASTCONV_ISA
} // namespace fastconv
