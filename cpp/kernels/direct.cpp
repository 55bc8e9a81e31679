// Direct convolution of a row of output pixels. With rotated filters, it computes the input gradient.
//
// Vectorised over filters (the output channels). A tile of P pixels x KV vectors of filters sits in registers while the
// loop runs over the whole window. Per window element, KV loads of packed filters and P broadcasts of x feed P*KV FMAs.
// Register budget: P*KV sums + KV filter vectors + 1 broadcast. With 32 registers that is 24 + 4 + 1, for tiles P x KV
// of 6x4, 8x3, 12x2 and 14x1. With 16 registers it is 12 + 2 + 1, for 6x2 and 12x1.
//
// Ceiling: the FMA peak, at two loads and two FMAs a cycle. A tile of 6x4 takes 10 loads for 24 FMAs. A tile of 14x1
// takes 15 loads for 14 FMAs, so its ceiling is 14/15 of the peak.
//
// Arguments: filters packed and zero-padded as ConvRow says, with one instance of the kernel per KV. Nothing needs to
// be aligned.
//
// Each output element is one chain of additions over the window, in the order of the segments. It starts from zero, or
// from y if the call resumes an earlier one. The tile does not change this order, so the bits of an element do not
// depend on its position.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

/// sum = f(sum, y) for a whole tile. Part: the last vector of each pixel has only `last` values.
template <bool Part, class T, int KV, int P, class F>
FASTCONV_INLINE void with_output(const ConvRow<T>& a, const T* y, int64_t last, Vec<T> (&sum)[P][KV], const F& f) {
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) {
            const T* from = y + p * a.y_step + j * width<T>;
            sum[p][j] = f(sum[p][j], Part && j == KV - 1 ? load_part(from, last) : load(from));
        }
    }
}

template <bool Part, class T, int KV, int P>
FASTCONV_INLINE void finish_tile(const ConvRow<T>& a, T* y, int64_t last, Vec<T> (&sum)[P][KV]) {
    if (a.accumulate) with_output<Part>(a, y, last, sum, [](Vec<T> value, Vec<T> before) { return before + value; });
    if (a.bias) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) {
            const T* from = a.bias + j * width<T>;
            const Vec<T> bias = Part && j == KV - 1 ? load_part(from, last) : load(from);
            FASTCONV_UNROLL
            for (int p = 0; p < P; ++p) sum[p][j] += bias;
        }
    }
    if (a.relu) {
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) {
            FASTCONV_UNROLL
            for (int j = 0; j < KV; ++j) sum[p][j] = relu(sum[p][j]);
        }
    }
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) {
            T* to = y + p * a.y_step + j * width<T>;
            if (Part && j == KV - 1)
                store_part(to, sum[p][j], last);
            else
                store(to, sum[p][j]);
        }
    }
}

template <class T, int KV, int P>
FASTCONV_NOINLINE void conv_tile(const ConvRow<T>& a, const T* x, T* y) {
    const int64_t last = a.channels - (KV - 1) * width<T>;
    const bool part = has_masks || last < width<T>;
    Vec<T> sum[P][KV];
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) sum[p][j] = Vec<T>{};
    }
    if (a.resume) {
        const auto from_y = [](Vec<T>, Vec<T> value) { return value; };
        part ? with_output<true>(a, y, last, sum, from_y) : with_output<false>(a, y, last, sum, from_y);
    }
    const ptrdiff_t step = a.x_step;
    const T* filters = a.filters;
    if (a.segment_count == 1 && a.segment_length == step && step * static_cast<ptrdiff_t>(sizeof(T)) <= 2048) {
        // 1x1 windows: the P runs of a tile are too short for the hardware prefetcher. Prefetch those of the next tile.
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
    part ? finish_tile<true>(a, y, last, sum) : finish_tile<false>(a, y, last, sum);
}

template <class T, int KV>
void conv_row(const ConvRow<T>& a) {
    constexpr int most = max_broadcasts<KV>;
    each_tile(a.pixels, most, [&](int64_t pixels, int64_t first) {
        const T* x = a.x + first * a.x_step;
        T* y = a.y + first * a.y_step;
        dispatch<most>(pixels, [&](auto p) { conv_tile<T, KV, p>(a, x, y); });
    });
}

template <class T>
void fill(KernelsOf<T>& kernels) {
    kernels.width = width<T>;
    kernels.max_vectors = max_filter_vectors;
    for_each_constant<max_filter_vectors>([&](auto vectors) {
        kernels.conv_row[vectors - 1] = conv_row<T, vectors>;
        kernels.conv_row_pixels[vectors - 1] = max_broadcasts<vectors>;
    });
}

} // namespace

void add_direct(KernelTable& table) {
    fill(table.f32);
    fill(table.f64);
}

} // namespace FASTCONV_ISA
} // namespace fastconv
