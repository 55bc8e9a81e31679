// Direct convolution of a run of output pixels. With rotated filters, it computes the input gradient.
//
// Vectorised over filters (the output channels). A tile of P pixels x KV vectors of filters sits in registers while the
// loop runs over the whole window. Per window element, KV loads of packed filters and P broadcasts of x feed P*KV FMAs.
// Register budget: P*KV sums + KV filter vectors + 1 broadcast. With 32 registers that is 24 + 4 + 1, for tiles P x KV
// of 6x4, 8x3, 12x2 and 14x1. With 16 registers it is 12 + 2 + 1, for 6x2 and 12x1.
//
// Ceiling: the FMA peak, at two loads and two FMAs a cycle. A tile of 6x4 takes 10 loads for 24 FMAs. A tile of 14x1
// takes 15 loads for 14 FMAs, so its ceiling is 14/15 of the peak. That holds while the filters of a tile come from L1
// or L2 and all tiles are full. Runs of pixels may therefore cover several rows: a tile that crosses from one row to
// the next takes a pointer for each of its pixels (an indirection), at most 12, which with the filters' pointer and a
// counter fill the general registers.
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

/// Where the pixels of a tile are in x or y. Across: the tile crosses rows, and pixel p is at pixels[p]. Otherwise it
/// is at first + p*step. (`first` is a copy, because for the compiler a stored vector may change *pixels.)
template <bool Across, class T>
struct TilePixels {
    T* const* pixels;
    ptrdiff_t step;
    T* first = *pixels;

    FASTCONV_INLINE T* operator[](int p) const { return Across ? pixels[p] : first + p * step; }
};

/// sum = f(sum, value) for the values of a whole tile. Part: the last vector of each pixel has only `last` values.
template <bool Part, class T, bool Across, class U, int KV, int P, class F>
FASTCONV_INLINE void with_pixels(TilePixels<Across, U> values, int64_t last, Vec<T> (&sum)[P][KV], const F& f) {
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) {
            const T* from = values[p] + j * width<T>;
            sum[p][j] = f(sum[p][j], Part && j == KV - 1 ? load_part(from, last) : load(from));
        }
    }
}

template <bool Part, bool Across, class T, int KV, int P>
FASTCONV_INLINE void finish_tile(const ConvRow<T>& a, TilePixels<Across, T> y, const T* pixel_bias, int64_t last,
                                 Vec<T> (&sum)[P][KV]) {
    if (a.accumulate) with_pixels<Part, T>(y, last, sum, [](Vec<T> value, Vec<T> before) { return before + value; });
    if (a.bias) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) {
            const T* from = a.bias + j * width<T>;
            const Vec<T> bias = Part && j == KV - 1 ? load_part(from, last) : load(from);
            FASTCONV_UNROLL
            for (int p = 0; p < P; ++p) sum[p][j] += bias;
        }
    }
    if (!Across && pixel_bias) {
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) {
            FASTCONV_UNROLL
            for (int j = 0; j < KV; ++j) sum[p][j] += broadcast(pixel_bias[p]);
        }
    }
    if (a.residual) {
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) {
            const T* const residual = a.residual + (y[p] - a.y);
            FASTCONV_UNROLL
            for (int j = 0; j < KV; ++j) {
                const T* from = residual + j * width<T>;
                sum[p][j] += Part && j == KV - 1 ? load_part(from, last) : load(from);
            }
        }
    }
    if (a.bounds.set) {
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) {
            FASTCONV_UNROLL
            for (int j = 0; j < KV; ++j) sum[p][j] = within<T>(a.bounds, sum[p][j]);
        }
    }
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) {
            T* to = y[p] + j * width<T>;
            if (Part && j == KV - 1)
                store_part(to, sum[p][j], last);
            else
                store(to, sum[p][j]);
        }
    }
}

constexpr ptrdiff_t line_bytes = 64;

/// Prefetches `bytes` bytes into L2.
FASTCONV_INLINE void prefetch(const void* from, ptrdiff_t bytes) {
    for (ptrdiff_t at = 0; at < bytes; at += line_bytes) __builtin_prefetch(static_cast<const char*>(from) + at, 0, 2);
}

/// Prefetches what a tile writes, because stores that miss the caches wait for each other, and its residual.
template <int KV, int P, bool Across, class T>
FASTCONV_INLINE void prefetch_output(const ConvRow<T>& a, TilePixels<Across, T> y) {
    constexpr int line = line_bytes / static_cast<int>(sizeof(T));
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        FASTCONV_UNROLL
        for (int k = 0; k < KV * width<T>; k += line) __builtin_prefetch(y[p] + k, 1, 3);
        __builtin_prefetch(y[p] + a.channels - 1, 1, 3); // y may be in the middle of a line
        if (a.residual == nullptr) continue;
        const T* const residual = a.residual + (y[p] - a.y);
        FASTCONV_UNROLL
        for (int k = 0; k < KV * width<T>; k += line) __builtin_prefetch(residual + k, 0, 3);
        __builtin_prefetch(residual + a.channels - 1, 0, 3);
    }
}

/// What a tile prefetches of the next filters into L2: `step` bytes further for each element of the window, at most two
/// cache lines. One burst would stall the multiplications until memory has delivered most of it.
struct Ahead {
    const char* at; // or null
    ptrdiff_t step;
};

/// Adds the products of a tile.
template <bool Across, int Prefetch, class T, int KV, int P>
FASTCONV_INLINE void multiply(const ConvRow<T>& a, TilePixels<Across, const T> windows, Ahead ahead,
                              Vec<T> (&sum)[P][KV]) {
    const T* x[Across ? P : 1];
    FASTCONV_UNROLL
    for (int p = 0; p < (Across ? P : 1); ++p) x[p] = windows[p];
    const ptrdiff_t step = a.x_step;
    const T* filters = a.filters;
    for (int64_t i = 0; i < a.segment_count; ++i) {
        if (a.filter_offsets) filters = a.filters + a.filter_offsets[i];
        ptrdiff_t at = a.segments[i];
        const ptrdiff_t end = at + a.segment_length;
        for (; at != end; ++at) {
            if constexpr (Prefetch > 0) {
                __builtin_prefetch(ahead.at, 0, 2);
                if constexpr (Prefetch > 1) __builtin_prefetch(ahead.at + line_bytes, 0, 2);
                ahead.at += ahead.step;
            }
            Vec<T> filter[KV];
            FASTCONV_UNROLL
            for (int j = 0; j < KV; ++j) filter[j] = load(filters + j * width<T>);
            filters += KV * width<T>;
            FASTCONV_UNROLL
            for (int p = 0; p < P; ++p) {
                const Vec<T> value = broadcast(Across ? x[Across ? p : 0][at] : x[0][at + p * step]);
                FASTCONV_UNROLL
                for (int j = 0; j < KV; ++j) sum[p][j] += value * filter[j];
            }
        }
    }
}

template <bool Across, class T, int KV, int P>
FASTCONV_NOINLINE void conv_tile(const ConvRow<T>& a, const T* const* x, T* const* to, const T* pixel_bias,
                                 Ahead ahead) {
    // A prefetch per element costs little, except with KV = 1, where loads are the limit. With more than 8 pointers, no
    // register is left for its address.
    constexpr bool may_prefetch = KV > 1 && (!Across || P <= 8);
    constexpr bool may_prefetch_two = may_prefetch && KV * width<T> * static_cast<int>(sizeof(T)) > line_bytes;
    const int64_t last = a.channels - (KV - 1) * width<T>;
    const bool part = has_masks || last < width<T>;
    const TilePixels<Across, const T> windows{x, a.x_step};
    const TilePixels<Across, T> y{to, a.y_step};
    if (a.prefetch_y) prefetch_output<KV, P>(a, y);
    Vec<T> sum[P][KV];
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) sum[p][j] = Vec<T>{};
    }
    if (a.resume) {
        const auto take = [](Vec<T>, Vec<T> value) { return value; };
        if (a.sums_in_x)
            with_pixels<false, T>(windows, last, sum, take);
        else
            part ? with_pixels<true, T>(y, last, sum, take) : with_pixels<false, T>(y, last, sum, take);
    }
    if (!may_prefetch || ahead.at == nullptr)
        multiply<Across, 0>(a, windows, ahead, sum);
    else if (may_prefetch_two && ahead.step > line_bytes)
        multiply<Across, may_prefetch_two ? 2 : 0>(a, windows, ahead, sum);
    else
        multiply<Across, may_prefetch ? 1 : 0>(a, windows, ahead, sum);
    part ? finish_tile<true>(a, y, pixel_bias, last, sum) : finish_tile<false>(a, y, pixel_bias, last, sum);
}

/// Prefetches the windows of `pixels` pixels from `next` on, whose runs are too short for the hardware prefetcher.
template <class T>
FASTCONV_INLINE void prefetch_windows(const ConvRow<T>& a, const T* next, int64_t pixels) {
    constexpr auto size = static_cast<ptrdiff_t>(sizeof(T));
    if (a.x_step == a.segment_length)
        prefetch(next, pixels * a.x_step * size);
    else
        for (int64_t p = 0; p < pixels; ++p) prefetch(next + p * a.x_step, a.segment_length * size);
}

/// Cuts the prefetches of the next filters into parts for tiles of at most `most` pixels. If there are few tiles,
/// nothing is prefetched: memory is the limit then.
template <class T, int KV>
class FilterPrefetch {
  public:
    FilterPrefetch(const ConvRow<T>& a, int64_t most) {
        constexpr ptrdiff_t element = KV * width<T> * static_cast<ptrdiff_t>(sizeof(T)); // bytes of its filters
        const int64_t tiles = (a.pixels + most - 1) / most;
        if (a.next_filters == nullptr || 2 * tiles * line_bytes < element) return;
        at_ = reinterpret_cast<const char*>(a.next_filters);
        step_ = (element + tiles - 1) / tiles;
        share_ = step_ * a.segment_count * a.segment_length;
    }
    Ahead next() {
        const char* at = at_;
        at_ += share_; // 0 if at_ is null
        return {at, step_};
    }

  private:
    const char* at_ = nullptr;
    ptrdiff_t step_ = 0, share_ = 0;
};

template <class T, int KV>
void conv_rows(const ConvRow<T>& a) {
    constexpr int most = max_broadcasts<KV> < 12 ? max_broadcasts<KV> : 12; // more pointers do not fit in registers
    const T* x = a.x;
    T* y = a.y;
    int64_t column = 0;
    FilterPrefetch<T, KV> prefetch_of_filters(a, most);
    each_tile(a.pixels, most, [&](int64_t pixels, int64_t) {
        const T* windows[most];
        T* to[most];
        const bool across = column + pixels > a.row_pixels;
        for (int64_t p = 0; p < pixels; ++p) {
            windows[p] = x;
            to[p] = y;
            x += a.x_step;
            y += a.y_step;
            if (++column < a.row_pixels) continue;
            x += a.row_step - a.row_pixels * a.x_step;
            y += a.y_row_step - a.row_pixels * a.y_step;
            column = 0;
        }
        if (a.prefetch_x) prefetch_windows(a, x, pixels);
        if (across)
            dispatch<most>(pixels, [&](auto p) {
                conv_tile<true, T, KV, p>(a, windows, to, nullptr, prefetch_of_filters.next());
            });
        else
            dispatch<most>(pixels, [&](auto p) {
                conv_tile<false, T, KV, p>(a, windows, to, nullptr, prefetch_of_filters.next());
            });
    });
}

template <class T, int KV>
void conv_row(const ConvRow<T>& a) {
    if (a.row_pixels != 0) return conv_rows<T, KV>(a);
    constexpr int most = max_broadcasts<KV>;
    FilterPrefetch<T, KV> prefetch_of_filters(a, most);
    each_tile(a.pixels, most, [&](int64_t pixels, int64_t first) {
        const T* x = a.x + first * a.x_step;
        T* y = a.y + first * a.y_step;
        const T* const pixel_bias = a.pixel_bias ? a.pixel_bias + first : nullptr;
        if (a.prefetch_x) prefetch_windows(a, x + pixels * a.x_step, pixels);
        dispatch<most>(pixels,
                       [&](auto p) { conv_tile<false, T, KV, p>(a, &x, &y, pixel_bias, prefetch_of_filters.next()); });
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
