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

/// Calls window(c, count, part) for each vector of channels.
template <template <class, bool> class Window, class T>
FASTCONV_INLINE void each_window(const PoolRow<T>& a) {
    const int64_t whole = a.channels / width<T> * width<T>;
    for (int64_t i = 0; i < a.pixels; ++i) {
        for (int64_t c = 0; c < whole; c += width<T>) Window<T, false>::run(a, i, c, width<T>);
        if (whole < a.channels) Window<T, true>::run(a, i, whole, a.channels - whole);
    }
}

template <class T, bool Part>
FASTCONV_INLINE Vec<T> maximum(const PoolRow<T>& a, const T* x, int64_t count, Index<T>& tap) {
    Vec<T> best = fetch<T, Part>(x + a.offsets[0], count);
    tap = Index<T>{};
    for (int64_t t = 1; t < a.taps; ++t) {
        const Vec<T> value = fetch<T, Part>(x + a.offsets[t], count);
        // best == best is false once best is NaN: it stays. !(value <= best) is true for greater and for NaN.
        const Index<T> take = ~(value <= best) & (best == best);
        best = take ? value : best;
        tap = take ? Index<T>{} + static_cast<typename VectorOf<T>::lane>(t) : tap;
    }
    return best;
}

template <class T, bool Part>
struct MaxWindow {
    static FASTCONV_INLINE void run(const PoolRow<T>& a, int64_t i, int64_t c, int64_t count) {
        Index<T> tap;
        put<T, Part>(a.y + i * a.y_step + c, maximum<T, Part>(a, a.x + i * a.x_step + c, count, tap), count);
        if (!a.argmax) return;
        for (int64_t lane = 0; lane < count; ++lane)
            a.argmax[i * a.y_step + c + lane] = a.argmax_base + i * a.x_step + a.offsets[tap[lane]] + c + lane;
    }
};

template <class T, bool Part>
struct MaxGradWindow {
    static FASTCONV_INLINE void run(const PoolRow<T>& a, int64_t i, int64_t c, int64_t count) {
        Index<T> tap;
        maximum<T, Part>(a, a.x + i * a.x_step + c, count, tap);
        const Vec<T> grad = fetch<T, Part>(a.grad + i * a.grad_step + c, count);
        T* to = a.y + i * a.y_step + c;
        for (int64_t t = 0; t < a.taps; ++t) {
            const Index<T> here = tap == Index<T>{} + static_cast<typename VectorOf<T>::lane>(t);
            T* at = to + a.offsets[t];
            put<T, Part>(at, fetch<T, Part>(at, count) + (here ? grad : Vec<T>{}), count);
        }
    }
};

template <class T, bool Part>
struct AvgWindow {
    static FASTCONV_INLINE void run(const PoolRow<T>& a, int64_t i, int64_t c, int64_t count) {
        const T* x = a.x + i * a.x_step + c;
        Vec<T> sum = fetch<T, Part>(x + a.offsets[0], count);
        for (int64_t t = 1; t < a.taps; ++t) sum += fetch<T, Part>(x + a.offsets[t], count);
        put<T, Part>(a.y + i * a.y_step + c, sum / broadcast(static_cast<T>(a.taps)), count);
    }
};

template <class T, bool Part>
struct AvgGradWindow {
    static FASTCONV_INLINE void run(const PoolRow<T>& a, int64_t i, int64_t c, int64_t count) {
        const Vec<T> grad = fetch<T, Part>(a.grad + i * a.grad_step + c, count) / broadcast(static_cast<T>(a.taps));
        T* to = a.y + i * a.y_step + c;
        for (int64_t t = 0; t < a.taps; ++t) {
            T* at = to + a.offsets[t];
            put<T, Part>(at, fetch<T, Part>(at, count) + grad, count);
        }
    }
};

template <class T>
void max_row(const PoolRow<T>& a) {
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
