// Max and average pooling of a row of windows, and their gradients.
//
// Vectorised over channels; the running maximum (with its tap) or sum of one vector of channels sits in registers while
// the window streams by. One load a tap: the ceiling is the load ports' in L1 and the memory's beyond.
//
// Maximum: starts from the window's first element and takes a later one only if it is greater or the first NaN, so that
// the first maximum in row-major order wins, a NaN beats everything, and the first NaN wins among NaNs.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

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

/// Calls Window<T, P, Part>::run(a, i, c, count) for P windows from the i-th and a vector of channels from c.
template <template <class, int, bool> class Window, class T, int P>
FASTCONV_INLINE void windows(const PoolRow<T>& a, int64_t i) {
    int64_t c = 0;
    for (; c + width<T> <= a.channels; c += width<T>) Window<T, P, false>::run(a, i, c, width<T>);
    if (c < a.channels) Window<T, P, true>::run(a, i, c, a.channels - c);
}
template <template <class, int, bool> class Window, class T>
FASTCONV_INLINE void each_window(const PoolRow<T>& a) {
    // Few channels: independent windows hide the latency of the comparisons. Many: memory is best read in order.
    constexpr int several = 4;
    int64_t i = 0;
    if (a.channels < width<T>)
        for (; i + several <= a.pixels; i += several) windows<Window, T, several>(a, i);
    for (; i < a.pixels; ++i) windows<Window, T, 1>(a, i);
}

/// best == best is false once best is NaN: it stays. !(value <= best) is true for greater and for NaN.
template <class T>
FASTCONV_INLINE Index<T> beats(Vec<T> value, Vec<T> best) {
    return ~(value <= best) & (best == best);
}

template <class T, int P, bool Part>
FASTCONV_INLINE void maximum(const PoolRow<T>& a, const T* x, int64_t count, Vec<T> best[P], Index<T> tap[P]) {
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        best[p] = fetch<T, Part>(x + p * a.x_step + a.offsets[0], count);
        tap[p] = Index<T>{};
    }
    for (int64_t t = 1; t < a.taps; ++t) {
        const T* from = x + a.offsets[t];
        const Index<T> here = Index<T>{} + static_cast<typename VectorOf<T>::lane>(t);
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
struct MaxGradWindow {
    static FASTCONV_INLINE void run(const PoolRow<T>& a, int64_t i, int64_t c, int64_t count) {
        Vec<T> best[P], grad[P];
        Index<T> tap[P];
        maximum<T, P, Part>(a, a.x + i * a.x_step + c, count, best, tap);
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) grad[p] = fetch<T, Part>(a.grad + (i + p) * a.grad_step + c, count);
        T* to = a.y + i * a.y_step + c;
        if (a.apart) {
            for (int64_t t = 0; t < a.taps; ++t) {
                const Index<T> here = Index<T>{} + static_cast<typename VectorOf<T>::lane>(t);
                FASTCONV_UNROLL
                for (int p = 0; p < P; ++p)
                    put<T, Part>(to + p * a.y_step + a.offsets[t], tap[p] == here ? grad[p] : Vec<T>{}, count);
            }
            return;
        }
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) { // one window after the other, since they may overlap
            for (int64_t t = 0; t < a.taps; ++t) {
                const Index<T> here = Index<T>{} + static_cast<typename VectorOf<T>::lane>(t);
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
        const Vec<T> taps = broadcast(static_cast<T>(a.taps));
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) put<T, Part>(a.y + (i + p) * a.y_step + c, sum[p] / taps, count);
    }
};

template <class T, int P, bool Part>
struct AvgGradWindow {
    static FASTCONV_INLINE void run(const PoolRow<T>& a, int64_t i, int64_t c, int64_t count) {
        const Vec<T> taps = broadcast(static_cast<T>(a.taps));
        for (int p = 0; p < P; ++p) {
            const Vec<T> grad = fetch<T, Part>(a.grad + (i + p) * a.grad_step + c, count) / taps;
            T* to = a.y + (i + p) * a.y_step + c;
            for (int64_t t = 0; t < a.taps; ++t) {
                T* at = to + a.offsets[t];
                put<T, Part>(at, a.apart ? grad : fetch<T, Part>(at, count) + grad, count);
            }
        }
    }
};

template <class T>
void max_row(const PoolRow<T>& a) {
    if (a.argmax)
        each_window<ArgMaxWindow>(a);
    else
        each_window<MaxWindow>(a);
}
template <class T>
void max_grad_row(const PoolRow<T>& a) {
    each_window<MaxGradWindow>(a);
}
template <class T>
void avg_row(const PoolRow<T>& a) {
    each_window<AvgWindow>(a);
}
template <class T>
void avg_grad_row(const PoolRow<T>& a) {
    each_window<AvgGradWindow>(a);
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
