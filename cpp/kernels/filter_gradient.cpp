// Filter gradient: outer products of input values and output gradients, summed over the pixels of some rows.
//
// Vectorised over filters (the channels of dy). A tile of M window elements x KV vectors of filters sits in registers
// while the loop runs over the pixels. Per pixel, KV loads of dy and M broadcasts of x feed M*KV FMAs. dy is read in
// place, with a partial load for the last vector. If M may be above 8 and the M elements are neighbours in memory, they
// share one pointer, because 12 pointers would not fit into the general registers. Register budget and ceiling are
// those of direct.cpp, with M in place of P.
//
// If filters are few, the caller exchanges x and dy: a tile is then M filters x KV vectors of channels.
//
// Arguments: `count` is M, at most outer_products_count, with one instance of the kernel per KV. Nothing needs to be
// aligned.
//
// In each call, a sum starts from zero and is added to `out` once, at the end. These two levels of summation keep the
// rounding error of long sums small.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T, int KV, int M, bool Part, bool Run>
FASTCONV_NOINLINE void outer_tile(const OuterProducts<T>& a) {
    Vec<T> sum[M][KV];
    FASTCONV_UNROLL
    for (int m = 0; m < M; ++m) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) sum[m][j] = Vec<T>{};
    }
    ptrdiff_t offset[M];
    FASTCONV_UNROLL
    for (int m = 0; m < M; ++m) offset[m] = Run ? m : a.offsets[m];
    const int64_t last = a.channels - (KV - 1) * width<T>;
    for (int64_t row = 0; row < a.rows; ++row) {
        const T* x = a.x + row * a.x_row + (Run ? a.offsets[0] : 0);
        const T* dy = a.dy + row * a.dy_row;
        for (int64_t i = 0; i < a.pixels; ++i) {
            Vec<T> gradient[KV];
            FASTCONV_UNROLL
            for (int j = 0; j < KV; ++j)
                gradient[j] = Part && j == KV - 1 ? load_part(dy + j * width<T>, last) : load(dy + j * width<T>);
            FASTCONV_UNROLL
            for (int m = 0; m < M; ++m) {
                const Vec<T> value = broadcast(x[offset[m]]);
                FASTCONV_UNROLL
                for (int j = 0; j < KV; ++j) sum[m][j] += value * gradient[j];
            }
            x += a.x_step;
            dy += a.dy_step;
        }
    }
    FASTCONV_UNROLL
    for (int m = 0; m < M; ++m) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) {
            T* to = a.out + a.out_offsets[m] + j * width<T>;
            if (Part && j == KV - 1)
                store_part(to, load_part(to, last) + sum[m][j], last);
            else
                store(to, load(to) + sum[m][j]);
        }
    }
}

template <class T, int KV, int M, bool Run>
FASTCONV_INLINE void outer_tiles(const OuterProducts<T>& a) {
    if (a.channels == KV * width<T>)
        outer_tile<T, KV, M, false, Run>(a);
    else
        outer_tile<T, KV, M, true, Run>(a);
}

/// The first and the last one do not tell, because the elements of planes may be in any order.
FASTCONV_INLINE bool neighbours(const ptrdiff_t* offsets, int count) {
    bool all = true;
    for (int m = 1; m < count; ++m) all &= offsets[m] - offsets[0] == m;
    return all;
}

template <class T, int KV, int M>
FASTCONV_INLINE void outer_tiles(const OuterProducts<T>& a) {
    if constexpr (max_broadcasts<KV> > 8)
        if (neighbours(a.offsets, M)) return outer_tiles<T, KV, M, true>(a);
    outer_tiles<T, KV, M, false>(a);
}

template <class T, int KV>
void outer_products(const OuterProducts<T>& a) {
    dispatch<max_broadcasts<KV>>(a.count, [&](auto count) { outer_tiles<T, KV, count>(a); });
}

template <class T>
void fill(KernelsOf<T>& kernels) {
    for_each_constant<max_filter_vectors>([&](auto vectors) {
        kernels.outer_products[vectors - 1] = outer_products<T, vectors>;
        kernels.outer_products_count[vectors - 1] = max_broadcasts<vectors>;
    });
}

} // namespace

void add_filter_gradient(KernelTable& table) {
    fill(table.f32);
    fill(table.f64);
}

} // namespace FASTCONV_ISA
} // namespace fastconv
