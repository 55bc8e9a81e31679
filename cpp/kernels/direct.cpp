// Direct convolution in registers, for a row of output pixels: forward and, with turned filters, the input gradient.
//
// Vectorised over filters (the output channels); a tile of P pixels x KV vectors of filters sits in registers while the
// whole window streams by: per window element KV loads of packed filters and P broadcasts feed P*KV FMAs.
// Register budget: P*KV sums + KV filter vectors + 1 broadcast: 24 + 4 + 1 of 32 (AVX-512: 4x6, 3x8, 2x12, 1x14),
// 12 + 2 + 1 of 16 (AVX2 and baseline: 2x6, 1x12). 4x6 asks 10 loads for 24 FMAs, so with two loads and two FMAs a
// cycle the FMA ports are the limit, and the ceiling is the FMA peak; 1x14 asks 15 loads for 14 FMAs.
//
// For every output element the sum runs over the window in the order of the segments, in one chain from zero (or from
// where the last call stopped), whatever the tile: bits do not depend on where an element sits.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <int KV>
constexpr int max_pixels = registers == 32 ? (KV == 1 ? 14 : 24 / KV) : 12 / KV;

template <class T, int KV, int P>
void conv_tile(const ConvRow<T>& a, const T* x, T* y) {
    const int64_t last = a.channels - (KV - 1) * width<T>;
    const auto before = [&](int p, int j) {
        const T* from = y + p * a.y_step + j * width<T>;
        return j == KV - 1 && last < width<T> ? load_part(from, last) : load(from);
    };
    Vec<T> sum[P][KV];
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) sum[p][j] = a.resume ? before(p, j) : Vec<T>{};
    }
    const ptrdiff_t step = a.x_step;
    const T* filters = a.filters;
    if (a.segment_count == 1 && a.segment_length == step && step * static_cast<ptrdiff_t>(sizeof(T)) <= 2048) {
        // 1x1 windows: P short runs at a time end before the hardware sees where they go; the next tile's follow here.
        const char* next = reinterpret_cast<const char*>(x + P * step);
        for (ptrdiff_t at = 0; at < P * step * static_cast<ptrdiff_t>(sizeof(T)); at += 64)
            __builtin_prefetch(next + at, 0, 2);
    }
    for (int64_t i = 0; i < a.segment_count; ++i) {
        const T* run = x + a.segments[i];
        const T* end = run + a.segment_length;
        for (; run != end; ++run) {
            Vec<T> filter[KV];
            FASTCONV_UNROLL
            for (int j = 0; j < KV; ++j) filter[j] = load(filters + j * width<T>);
            filters += KV * width<T>;
            FASTCONV_UNROLL
            for (int p = 0; p < P; ++p) {
                const Vec<T> value = broadcast(run[p * step]);
                FASTCONV_UNROLL
                for (int j = 0; j < KV; ++j) sum[p][j] += value * filter[j];
            }
        }
    }
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) {
            T* to = y + p * a.y_step + j * width<T>;
            const bool part = j == KV - 1 && last < width<T>;
            Vec<T> value = sum[p][j];
            if (a.accumulate) value = before(p, j) + value;
            if (a.bias) {
                const T* bias = a.bias + j * width<T>;
                value += part ? load_part(bias, last) : load(bias);
            }
            if (a.relu) value = value < Vec<T>{} ? Vec<T>{} : value; // so that NaN stays NaN
            if (part)
                store_part(to, value, last);
            else
                store(to, value);
        }
    }
}

template <class T, int KV, int P>
struct ConvTiles {
    static void run(const ConvRow<T>& a, const T* x, T* y, int64_t pixels) {
        if (pixels == P)
            conv_tile<T, KV, P>(a, x, y);
        else
            ConvTiles<T, KV, P - 1>::run(a, x, y, pixels);
    }
};
template <class T, int KV>
struct ConvTiles<T, KV, 0> {
    static void run(const ConvRow<T>&, const T*, T*, int64_t) {}
};

/// The row in as few tiles as possible, of about the same size: 7 pixels are 4 + 3, not 6 + 1.
template <class T, int KV>
void conv_row(const ConvRow<T>& a) {
    constexpr int most = max_pixels<KV>;
    const T* x = a.x;
    T* y = a.y;
    int64_t left = a.pixels;
    for (int64_t tiles = (left + most - 1) / most; tiles > 0; --tiles) {
        const int64_t pixels = (left + tiles - 1) / tiles;
        ConvTiles<T, KV, most>::run(a, x, y, pixels);
        x += pixels * a.x_step;
        y += pixels * a.y_step;
        left -= pixels;
    }
}

template <class T>
void fill(KernelsOf<T>& kernels) {
    kernels.width = width<T>;
    kernels.conv_row[0] = conv_row<T, 1>;
    kernels.conv_row[1] = conv_row<T, 2>;
    kernels.conv_row_pixels[0] = max_pixels<1>;
    kernels.conv_row_pixels[1] = max_pixels<2>;
#if defined(__AVX512F__)
    kernels.max_vectors = 4;
    kernels.conv_row_pixels[2] = max_pixels<3>;
    kernels.conv_row_pixels[3] = max_pixels<4>;
    kernels.conv_row[2] = conv_row<T, 3>;
    kernels.conv_row[3] = conv_row<T, 4>;
#else
    kernels.max_vectors = 2;
#endif
}

} // namespace

void add_direct(KernelTable& table) {
    fill(table.f32);
    fill(table.f64);
}

} // namespace FASTCONV_ISA
} // namespace fastconv
