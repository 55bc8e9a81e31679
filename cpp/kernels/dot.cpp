// Direct convolution with few filters, for a row of output pixels: input gradients of first layers, above all.
//
// Vectorised over the reduction (the values of a window), since 3 filters would fill 3 of 16 lanes of direct.cpp's
// tile. P pixels x M filters, each a vector of partial sums, sit in registers: per vector of window values M loads of
// packed filters and P loads of x feed P*M FMAs. At the end the lanes of each sum are added. Register budget: P*M sums
// + M filters + 1 value: 16 + 8 + 1 of 32 at most, 12 + 4 + 1 of 16 (the last from memory). Sixteen sums are one vector
// of results: with AVX-512 they are transposed and added together, 3 operations a sum. Ceiling: the FMA peak less these
// additions, and less the loads that cross a cache line (all, where x is not aligned).
//
// The lanes of a sum are added in a fixed order, and a window value's lane depends on the layer only.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int max_filters = registers == 32 ? 8 : 4;
template <int M>
constexpr int max_pixels = registers == 32 ? (16 / M < 8 ? 16 / M : 8) : (12 / M < 6 ? 12 / M : 6);

/// Adds the lanes of sums[p*M + m], m < M, and what else belongs to output m of pixel p, for each of P pixels.
template <int M, int P, class T>
FASTCONV_INLINE void finish_each(const DotRow<T>& a, const Vec<T> (&sums)[P * M], T* y) {
    for (int p = 0; p < P; ++p) {
        for (int m = 0; m < M; ++m) {
            T value = add_lanes(sums[p * M + m]);
            T* to = y + p * a.y_step + m;
            if (a.accumulate) value = *to + value;
            if (a.bias) value += a.bias[m];
            if (a.relu) value = value < T{} ? T{} : value; // so that NaN stays NaN
            *to = value;
        }
    }
}

#if defined(__AVX512F__)
FASTCONV_INLINE __m512 add_quarters(__m512 a, __m512 b, __m512 c,
                                    __m512 d) { // quarter q: four partial sums of the q-th
    const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
    const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xEE));
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
}
/// Sixteen at once: element 4*q + j of the result belongs to sums[4*q + j].
template <int M, int P>
FASTCONV_INLINE void finish_sixteen(const DotRow<float>& a, const Vec<float> (&sums)[P * M], float* y) {
    static_assert(P * M <= 16, "one vector of results");
    __m512 s[16], quarters[4];
    FASTCONV_UNROLL
    for (int i = 0; i < 16; ++i) s[i] = i < P * M ? (__m512)sums[i < P * M ? i : 0] : _mm512_setzero_ps();
    FASTCONV_UNROLL
    for (int j = 0; j < 4; ++j) quarters[j] = add_quarters(s[j], s[4 + j], s[8 + j], s[12 + j]);
    const __m512d low = _mm512_castps_pd(
        _mm512_add_ps(_mm512_unpacklo_ps(quarters[0], quarters[1]), _mm512_unpackhi_ps(quarters[0], quarters[1])));
    const __m512d high = _mm512_castps_pd(
        _mm512_add_ps(_mm512_unpacklo_ps(quarters[2], quarters[3]), _mm512_unpackhi_ps(quarters[2], quarters[3])));
    const __m512 all =
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(low, high)), _mm512_castpd_ps(_mm512_unpackhi_pd(low, high)));
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    Vec<float> bias{};
    if (a.bias) bias = load_part(a.bias, M);
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        Vec<float> value = (Vec<float>)_mm512_permutexvar_ps(_mm512_add_epi32(lanes, _mm512_set1_epi32(p * M)), all);
        float* to = y + p * a.y_step;
        if (a.accumulate) value = load_part(to, M) + value;
        if (a.bias) value += bias;
        if (a.relu) value = value < Vec<float>{} ? Vec<float>{} : value;
        store_part(to, value, M);
    }
}
#endif

template <class T, int M, int P>
void dot_tile(const DotRow<T>& a, const T* x, T* y) {
    Vec<T> sum[P * M];
    FASTCONV_UNROLL
    for (int i = 0; i < P * M; ++i) sum[i] = Vec<T>{};
    const T* filters = a.filters;
    const int64_t whole = a.segment_length / width<T> * width<T>, part = a.segment_length - whole;
    for (int64_t i = 0; i < a.segment_count; ++i) {
        const T* run = x + a.segments[i];
        for (int64_t e = 0; e < whole; e += width<T>) {
            Vec<T> filter[M];
            FASTCONV_UNROLL
            for (int m = 0; m < M; ++m) filter[m] = load(filters + m * a.filter_step);
            FASTCONV_UNROLL
            for (int p = 0; p < P; ++p) {
                Vec<T> value = load(run + p * a.x_step);
                keep_in_register(value);
                FASTCONV_UNROLL
                for (int m = 0; m < M; ++m) sum[p * M + m] += value * filter[m];
            }
            run += width<T>;
            filters += width<T>;
        }
        if (part) {
            FASTCONV_UNROLL
            for (int p = 0; p < P; ++p) {
                const Vec<T> value = load_part(run + p * a.x_step, part);
                FASTCONV_UNROLL
                for (int m = 0; m < M; ++m) sum[p * M + m] += value * load(filters + m * a.filter_step);
            }
            filters += width<T>;
        }
    }
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        finish_sixteen<M, P>(a, sum, y);
    else
#endif
        finish_each<M, P>(a, sum, y);
}

template <class T, int M, int P>
struct DotTiles {
    static void run(const DotRow<T>& a, const T* x, T* y, int64_t pixels) {
        if (pixels == P)
            dot_tile<T, M, P>(a, x, y);
        else
            DotTiles<T, M, P - 1>::run(a, x, y, pixels);
    }
};
template <class T, int M>
struct DotTiles<T, M, 0> {
    static void run(const DotRow<T>&, const T*, T*, int64_t) {}
};

template <class T, int M>
void dot_pixels(const DotRow<T>& a) {
    constexpr int most = max_pixels<M>;
    const T* x = a.x;
    T* y = a.y;
    int64_t left = a.pixels;
    for (int64_t tiles = (left + most - 1) / most; tiles > 0; --tiles) {
        const int64_t pixels = (left + tiles - 1) / tiles;
        DotTiles<T, M, most>::run(a, x, y, pixels);
        x += pixels * a.x_step;
        y += pixels * a.y_step;
        left -= pixels;
    }
}

template <class T, int M>
struct DotFilters {
    static void run(const DotRow<T>& a) {
        if (a.filter_count == M)
            dot_pixels<T, M>(a);
        else
            DotFilters<T, M - 1>::run(a);
    }
};
template <class T>
struct DotFilters<T, 0> {
    static void run(const DotRow<T>&) {}
};

template <class T>
void dot_row(const DotRow<T>& a) {
    DotFilters<T, max_filters>::run(a);
}

} // namespace

void add_dot(KernelTable& table) {
    table.f32.dot_row = dot_row<float>;
    table.f64.dot_row = dot_row<double>;
    table.f32.max_dots = table.f64.max_dots = max_filters;
}

} // namespace FASTCONV_ISA
} // namespace fastconv
