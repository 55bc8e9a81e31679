// Max and average pooling of rows of windows, and their gradients.
//
// Vectorised over channels. The running maximum (with its tap) or sum of one vector of channels sits in registers while
// the loop runs over the window. With fewer channels than lanes, the loop handles 4 windows at a time. Ceiling: one
// load a tap, which means the load ports in L1 and memory bandwidth beyond. Few channels leave most lanes empty. For
// the most common case of this, 2x2 windows with stride 2, there are separate kernels (max_pool_2x2.h).
//
// Arguments: windows of one shape that lie inside the input. A gradient that is not `disjoint` adds to y, so y must be
// initialised.
//
// A maximum starts from the window's first element. A later element replaces it only if it is greater or the first NaN.
// So the first maximum in row-major order wins, a NaN beats everything else, and the first NaN wins among NaNs.
#include "kernels/pooling.h"
#include "kernels/max_pool_2x2.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T, int P, bool Part>
FASTCONV_INLINE void maximum(const PoolRow<T>& a, const T* x, int64_t count, Vec<T> best[P], Index<T> tap[P]) {
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        best[p] = fetch<T, Part>(x + p * a.x_step + a.offsets[0], count);
        tap[p] = Index<T>{};
    }
    for (int64_t t = 1; t < a.taps; ++t) {
        const T* from = x + a.offsets[t];
        const Index<T> here = Index<T>{} + static_cast<Lane<T>>(t);
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) {
            const Vec<T> value = fetch<T, Part>(from + p * a.x_step, count);
            const Index<T> take = beats<T>(value, best[p]);
            best[p] = take ? value : best[p];
            tap[p] = take ? here : tap[p];
        }
    }
}

template <class T, int P, bool Part>
struct MaxWindow {
    static FASTCONV_INLINE void run(const PoolRow<T>& a, int64_t i, int64_t c, int64_t count) {
        const T* x = a.x + i * a.x_step + c;
        Vec<T> best[P];
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) best[p] = fetch<T, Part>(x + p * a.x_step + a.offsets[0], count);
        for (int64_t t = 1; t < a.taps; ++t) {
            const T* from = x + a.offsets[t];
            FASTCONV_UNROLL
            for (int p = 0; p < P; ++p) {
                const Vec<T> value = fetch<T, Part>(from + p * a.x_step, count);
                best[p] = beats<T>(value, best[p]) ? value : best[p];
            }
        }
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) put<T, Part>(a.y + (i + p) * a.y_step + c, best[p], count);
    }
};

template <class T, int P, bool Part>
struct ArgMaxWindow {
    static FASTCONV_INLINE void run(const PoolRow<T>& a, int64_t i, int64_t c, int64_t count) {
        Vec<T> best[P];
        Index<T> tap[P];
        maximum<T, P, Part>(a, a.x + i * a.x_step + c, count, best, tap);
        for (int p = 0; p < P; ++p) {
            put<T, Part>(a.y + (i + p) * a.y_step + c, best[p], count);
            const int64_t base = a.argmax_base + (i + p) * a.x_step + c;
            for (int64_t lane = 0; lane < count; ++lane)
                a.argmax[(i + p) * a.y_step + c + lane] = base + a.offsets[tap[p][lane]] + lane;
        }
    }
};

template <class T, int P, bool Part>
struct TapMaxWindow {
    static FASTCONV_INLINE void run(const PoolRow<T>& a, int64_t i, int64_t c, int64_t count) {
        Vec<T> best[P];
        Index<T> tap[P];
        maximum<T, P, Part>(a, a.x + i * a.x_step + c, count, best, tap);
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) {
            const int64_t at = (i + p) * a.y_step + c;
            put<T, Part>(a.y + at, best[p], count);
            store_bytes<T>(a.tap + at, tap[p], Part ? count : width<T>);
        }
    }
};

template <class T, int P, bool Part>
struct MaxGradWindow {
    static FASTCONV_INLINE void run(const PoolRow<T>& a, int64_t i, int64_t c, int64_t count) {
        Vec<T> best[P], grad[P];
        Index<T> tap[P];
        if (a.chosen_tap) {
            FASTCONV_UNROLL
            for (int p = 0; p < P; ++p)
                tap[p] = load_bytes<T>(a.chosen_tap + (i + p) * a.grad_step + c, Part ? count : width<T>);
        } else {
            maximum<T, P, Part>(a, a.x + i * a.x_step + c, count, best, tap);
        }
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) grad[p] = fetch<T, Part>(a.grad + (i + p) * a.grad_step + c, count);
        T* to = a.y + i * a.y_step + c;
        if (a.disjoint) {
            for (int64_t t = 0; t < a.taps; ++t) {
                const Index<T> here = Index<T>{} + static_cast<Lane<T>>(t);
                FASTCONV_UNROLL
                for (int p = 0; p < P; ++p)
                    put<T, Part>(to + p * a.y_step + a.offsets[t], tap[p] == here ? grad[p] : Vec<T>{}, count);
            }
            return;
        }
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) { // one window after the other, since they may overlap
            for (int64_t t = 0; t < a.taps; ++t) {
                const Index<T> here = Index<T>{} + static_cast<Lane<T>>(t);
                T* at = to + p * a.y_step + a.offsets[t];
                put<T, Part>(at, fetch<T, Part>(at, count) + (tap[p] == here ? grad[p] : Vec<T>{}), count);
            }
        }
    }
};

template <class T, int P, bool Part>
struct AvgWindow {
    static FASTCONV_INLINE void run(const PoolRow<T>& a, int64_t i, int64_t c, int64_t count) {
        const T* x = a.x + i * a.x_step + c;
        Vec<T> sum[P];
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) sum[p] = fetch<T, Part>(x + p * a.x_step + a.offsets[0], count);
        for (int64_t t = 1; t < a.taps; ++t) {
            FASTCONV_UNROLL
            for (int p = 0; p < P; ++p) sum[p] += fetch<T, Part>(x + p * a.x_step + a.offsets[t], count);
        }
        const Vec<T> counted = broadcast(static_cast<T>(a.counted));
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) put<T, Part>(a.y + (i + p) * a.y_step + c, sum[p] / counted, count);
    }
};

template <class T, int P, bool Part>
struct AvgGradWindow {
    static FASTCONV_INLINE void run(const PoolRow<T>& a, int64_t i, int64_t c, int64_t count) {
        const Vec<T> counted = broadcast(static_cast<T>(a.counted));
        for (int p = 0; p < P; ++p) {
            const Vec<T> grad = fetch<T, Part>(a.grad + (i + p) * a.grad_step + c, count) / counted;
            T* to = a.y + (i + p) * a.y_step + c;
            for (int64_t t = 0; t < a.taps; ++t) {
                T* at = to + a.offsets[t];
                put<T, Part>(at, a.disjoint ? grad : fetch<T, Part>(at, count) + grad, count);
            }
        }
    }
};

template <class T>
void max_row(const PoolRow<T>& a) {
    const bool pairs = has_pairs(a);
    if (a.argmax)
        each_window<ArgMaxWindow>(a, true);
    else if (a.tap && pairs)
        each_group<T, false, true>(a);
    else if (a.tap)
        each_window<TapMaxWindow>(a, true);
    else if (pairs)
        each_group<T, false, false>(a);
    else
        each_window<MaxWindow>(a, true);
}
template <class T>
void max_grad_row(const PoolRow<T>& a) {
    if (!a.disjoint || !has_pairs(a))
        each_window<MaxGradWindow>(a, a.disjoint);
    else if (has_permute && a.chosen_tap && 2 * a.channels <= width<T>)
        scatter_pairs(a);
    else if (a.chosen_tap)
        each_group<T, false, true, true>(a);
    else
        each_group<T, true, false>(a);
}
template <class T>
void avg_row(const PoolRow<T>& a) {
    each_window<AvgWindow>(a, true);
}
template <class T>
void avg_grad_row(const PoolRow<T>& a) {
    each_window<AvgGradWindow>(a, a.disjoint);
}

template <class T>
void fill(KernelsOf<T>& kernels) {
    kernels.max_row = max_row<T>;
    kernels.max_grad_row = max_grad_row<T>;
    kernels.avg_row = avg_row<T>;
    kernels.avg_grad_row = avg_grad_row<T>;
}

} // namespace

void add_pooling(KernelTable& table) {
    fill(table.f32);
    fill(table.f64);
}

} // namespace FASTCONV_ISA
} // namespace fastconv
