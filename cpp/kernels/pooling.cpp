// Max and average pooling of rows of windows, and their gradients.
//
// Vectorised over channels; the running maximum (with its tap) or sum of one vector of channels sits in registers while
// the window streams by. One load a tap: the ceiling is the load ports' in L1 and the memory's beyond. Few channels
// would leave most lanes empty, so that the commonest window, 2x2 with stride 2, is then vectorised over the flattened
// row of (window, channel): see Pairs.
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

template <class T>
FASTCONV_INLINE void advance(PoolRow<T>& a) {
    if (a.x) a.x += a.x_row; // null in gradients that do not read the input
    a.y += a.y_row;
    a.grad += a.grad_row;
    a.argmax_base += a.x_row;
    if (a.argmax) a.argmax += a.y_row;
    if (a.tap) a.tap += a.y_row;
    if (a.chosen_tap) a.chosen_tap += a.grad_row;
}

/// Calls Window<T, P, Part>::run(a, i, c, count) for P windows from the i-th and a vector of channels from c.
template <template <class, int, bool> class Window, class T, int P>
FASTCONV_INLINE void windows(const PoolRow<T>& a, int64_t i, bool again) {
    int64_t c = 0;
    for (; c + width<T> <= a.channels; c += width<T>) Window<T, P, false>::run(a, i, c, width<T>);
    if (c == a.channels) return;
    if (again && c > 0) // partial vectors are slow on some CPUs: the last whole one computes some channels again
        Window<T, P, false>::run(a, i, a.channels - width<T>, width<T>);
    else
        Window<T, P, true>::run(a, i, c, a.channels - c);
}
/// `again`: it does no harm to compute a window twice.
template <template <class, int, bool> class Window, class T>
FASTCONV_INLINE void each_window(PoolRow<T> a, bool again) {
    // Few channels: independent windows hide the latency of the comparisons. Many: memory is best read in order.
    constexpr int several = 4;
    for (int64_t r = 0; r < a.rows; ++r, advance(a)) {
        int64_t i = 0;
        if (a.channels < width<T>)
            for (; i + several <= a.pixels; i += several) windows<Window, T, several>(a, i, again);
        for (; i < a.pixels; ++i) windows<Window, T, 1>(a, i, again);
    }
}

// Taps as bytes.
template <class T>
struct BytesOf {
    typedef uint8_t type __attribute__((vector_size(width<T>)));
    typedef uint8_t unaligned __attribute__((vector_size(width<T>), aligned(1), may_alias));
};
#if defined(__AVX512F__)
FASTCONV_INLINE __m128i load_some_bytes(const uint8_t* from, int64_t count) {
    return _mm_maskz_loadu_epi8((__mmask16)((1u << count) - 1), from);
}
FASTCONV_INLINE void store_some_bytes(uint8_t* to, __m128i bytes, int64_t count) {
    _mm_mask_storeu_epi8(to, (__mmask16)((1u << count) - 1), bytes);
}
#endif
// Between bytes and lanes. GCC 12 takes several instructions a lane where there is a function of ours.
template <class T>
FASTCONV_INLINE Index<T> widen(typename BytesOf<T>::type bytes) {
    return __builtin_convertvector(bytes, Index<T>);
}
template <class T>
FASTCONV_INLINE typename BytesOf<T>::type narrow(Index<T> value) {
    return __builtin_convertvector(value, typename BytesOf<T>::type);
}
#if defined(__AVX512F__)
template <>
FASTCONV_INLINE Index<float> widen<float>(BytesOf<float>::type bytes) {
    return (Index<float>)_mm512_cvtepu8_epi32((__m128i)bytes);
}
template <>
FASTCONV_INLINE Index<double> widen<double>(BytesOf<double>::type bytes) {
    return (Index<double>)_mm512_cvtepu8_epi64(_mm_cvtsi64_si128((int64_t)bytes));
}
#elif defined(__AVX2__)
template <>
FASTCONV_INLINE Index<float> widen<float>(BytesOf<float>::type bytes) {
    return (Index<float>)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)bytes));
}
template <>
FASTCONV_INLINE Index<double> widen<double>(BytesOf<double>::type bytes) {
    return (Index<double>)_mm256_cvtepu8_epi64(_mm_cvtsi32_si128((int32_t)bytes));
}
template <>
FASTCONV_INLINE BytesOf<float>::type narrow<float>(Index<float> value) {
    const __m128i low = _mm256_castsi256_si128((__m256i)value), high = _mm256_extracti128_si256((__m256i)value, 1);
    const __m128i words = _mm_packs_epi32(low, high);
    return (BytesOf<float>::type)_mm_cvtsi128_si64(_mm_packus_epi16(words, words));
}
template <>
FASTCONV_INLINE BytesOf<double>::type narrow<double>(Index<double> value) {
    const __m128i low = _mm256_castsi256_si128((__m256i)value), high = _mm256_extracti128_si256((__m256i)value, 1);
    const __m128i pairs = _mm_packs_epi32(low, high), words = _mm_packs_epi32(pairs, pairs); // a pair: number, zero
    return (BytesOf<double>::type)_mm_cvtsi128_si32(_mm_packus_epi16(words, words));
}
#endif
template <class T>
FASTCONV_INLINE Index<T> load_bytes(const uint8_t* from, int64_t count) {
    typename BytesOf<T>::type bytes{};
    if (count == width<T>) {
        bytes = *reinterpret_cast<const typename BytesOf<T>::unaligned*>(from);
    } else {
#if defined(__AVX512F__)
        const __m128i some = load_some_bytes(from, count);
        __builtin_memcpy(&bytes, &some, sizeof bytes);
#else
        uint8_t some[width<T>] = {};
        for (int64_t lane = 0; lane < count; ++lane) some[lane] = from[lane];
        __builtin_memcpy(&bytes, some, sizeof bytes);
#endif
    }
    return widen<T>(bytes);
}
template <class T>
FASTCONV_INLINE void store_bytes(uint8_t* to, Index<T> value, int64_t count) {
    const typename BytesOf<T>::type bytes = narrow<T>(value);
    if (count == width<T>) {
        *reinterpret_cast<typename BytesOf<T>::unaligned*>(to) = bytes;
    } else {
#if defined(__AVX512F__)
        __m128i some = _mm_setzero_si128();
        __builtin_memcpy(&some, &bytes, sizeof bytes);
        store_some_bytes(to, some, count);
#else
        uint8_t some[width<T>];
        __builtin_memcpy(some, &bytes, sizeof bytes);
        for (int64_t lane = 0; lane < count; ++lane) to[lane] = some[lane];
#endif
    }
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

// ---- Windows of 2x2 with stride 2 and fewer channels than lanes
// ------------------------------------------------------ `group` windows fill the lanes: lane l is channel l % channels
// of window l / channels. Their input is two contiguous runs, one a row, of which `even` and `odd` pick the left and
// the right tap. Whole vectors are loaded and stored: what that is too much belongs to the next window, whose turn
// comes later. Only the last group of a row is partial.

#if defined(__AVX512F__)
constexpr bool can_pick = true;
FASTCONV_INLINE Vec<float> pick(Vec<float> low, Vec<float> high, Index<float> from) {
    return (Vec<float>)_mm512_permutex2var_ps((__m512)low, (__m512i)from, (__m512)high);
}
FASTCONV_INLINE Vec<double> pick(Vec<double> low, Vec<double> high, Index<double> from) {
    return (Vec<double>)_mm512_permutex2var_pd((__m512d)low, (__m512i)from, (__m512d)high);
}
#elif defined(__AVX2__)
constexpr bool can_pick = true;
FASTCONV_INLINE Vec<float> pick(Vec<float> low, Vec<float> high, Index<float> from) {
    const __m256 a = _mm256_permutevar8x32_ps((__m256)low, (__m256i)from);
    const __m256 b = _mm256_permutevar8x32_ps((__m256)high, (__m256i)from);
    return from > 7 ? (Vec<float>)b : (Vec<float>)a;
}
FASTCONV_INLINE Vec<double> pick(Vec<double> low, Vec<double> high, Index<double> from) {
    const Index<double> two = from + from, pair = two | ((two + 1) << 32);
    const __m256 a = _mm256_permutevar8x32_ps((__m256)low, (__m256i)pair);
    const __m256 b = _mm256_permutevar8x32_ps((__m256)high, (__m256i)pair);
    return from > 3 ? (Vec<double>)b : (Vec<double>)a;
}
#else
constexpr bool can_pick = false;
template <class V, class I>
FASTCONV_INLINE V pick(V low, V, I) {
    return low;
}
#endif

template <class T>
FASTCONV_INLINE Vec<T> load_some(const T* from, int64_t count) {
    if (count >= width<T>) return load(from);
    return count > 0 ? load_part(from, count) : Vec<T>{};
}
template <class T>
FASTCONV_INLINE void store_some(T* to, Vec<T> value, int64_t count) {
    if (count >= width<T>)
        store(to, value);
    else if (count > 0)
        store_part(to, value, count);
}

/// Many: a group is several windows.
template <class T, bool Many>
struct Pairs {
    static constexpr int taps = 4;
    int64_t channels, group, lanes;
    Index<T> even, odd;             // Many: lanes of the input run
    Index<T> from[2], right_tap[2]; // Many: for a lane of the input run, which lane of the group; 1 at a right tap

    explicit FASTCONV_INLINE Pairs(const PoolRow<T>& a)
        : channels(a.channels), group(Many ? width<T> / a.channels : 1), lanes(group * a.channels) {
        typedef typename VectorOf<T>::lane lane_type;
        if (!Many) return;
        for (int64_t l = 0; l < width<T>; ++l)
            even[l] = l < lanes ? static_cast<lane_type>(l + l / channels * channels) : 0;
        odd = even + static_cast<lane_type>(channels);
        for (int64_t m = 0; m < 2 * width<T>; ++m) {
            const bool used = m < 2 * lanes;
            from[m / width<T>][m % width<T>] =
                used ? static_cast<lane_type>(m / (2 * channels) * channels + m % channels) : 0;
            right_tap[m / width<T>][m % width<T>] = used ? static_cast<lane_type>(m / channels % 2) : 0;
        }
    }

    /// The left and the right tap of `count` lanes.
    template <bool Whole>
    FASTCONV_INLINE void read(const T* x, int64_t count, Vec<T>& left, Vec<T>& right) const {
        if (Many) {
            const Vec<T> low = Whole ? load(x) : load_some(x, 2 * count);
            const Vec<T> high = Whole ? load(x + width<T>) : load_some(x + width<T>, 2 * count - width<T>);
            left = pick(low, high, even);
            right = pick(low, high, odd);
        } else {
            left = Whole ? load(x) : load_part(x, count);
            right = Whole ? load(x + channels) : load_part(x + channels, count);
        }
    }

    template <bool Whole, bool WithTap>
    FASTCONV_INLINE void find(const PoolRow<T>& a, int64_t i, int64_t count, Vec<T>& best, Index<T>& tap) const {
        typedef typename VectorOf<T>::lane lane_type;
        Vec<T> value[taps];
        read<Whole>(a.x + i * a.x_step + a.offsets[0], count, value[0], value[1]);
        read<Whole>(a.x + i * a.x_step + a.offsets[2], count, value[2], value[3]);
        best = value[0];
        tap = Index<T>{};
        FASTCONV_UNROLL
        for (int t = 1; t < taps; ++t) {
            const Index<T> take = beats<T>(value[t], best);
            best = take ? value[t] : best;
            if (WithTap) tap = take ? Index<T>{} + static_cast<lane_type>(t) : tap;
        }
    }

    template <bool Whole, bool WithTap>
    FASTCONV_INLINE void forward(const PoolRow<T>& a, int64_t i, int64_t count) const {
        Vec<T> best;
        Index<T> tap;
        find<Whole, WithTap>(a, i, count, best, tap);
        const int64_t at = i * a.y_step;
        if (Whole)
            store(a.y + at, best);
        else
            store_part(a.y + at, best, count);
        if (WithTap) store_bytes<T>(a.tap + at, tap, Whole ? width<T> : count);
    }

    template <bool Whole, bool Chosen>
    FASTCONV_INLINE void gradient(const PoolRow<T>& a, int64_t i, int64_t count) const {
        typedef typename VectorOf<T>::lane lane_type;
        Vec<T> best;
        Index<T> tap;
        if (Chosen)
            tap = load_bytes<T>(a.chosen_tap + i * a.grad_step, Whole ? width<T> : count);
        else
            find<Whole, true>(a, i, count, best, tap);
        const T* from_grad = a.grad + i * a.grad_step;
        const Vec<T> grad = Whole ? load(from_grad) : load_part(from_grad, count);
        T* y = a.y + i * a.y_step;
        if (Many) {
            Vec<T> spread[2];
            Index<T> spread_tap[2];
            FASTCONV_UNROLL
            for (int v = 0; v < 2; ++v) {
                spread[v] = pick(grad, grad, from[v]);
                spread_tap[v] = (Index<T>)pick((Vec<T>)tap, (Vec<T>)tap, from[v]) - right_tap[v];
            }
            FASTCONV_UNROLL
            for (int row = 0; row < 2; ++row) {
                const Index<T> here = Index<T>{} + static_cast<lane_type>(2 * row);
                FASTCONV_UNROLL
                for (int v = 0; v < 2; ++v) {
                    const Vec<T> value = spread_tap[v] == here ? spread[v] : Vec<T>{};
                    T* to = y + a.offsets[2 * row] + v * width<T>;
                    if (Whole)
                        store(to, value);
                    else
                        store_some(to, value, 2 * count - v * width<T>);
                }
            }
        } else {
            FASTCONV_UNROLL
            for (int t = 0; t < taps; ++t) { // the right tap after the left one, whose surplus lies there
                const Vec<T> value = tap == Index<T>{} + static_cast<lane_type>(t) ? grad : Vec<T>{};
                if (Whole)
                    store(y + a.offsets[t], value);
                else
                    store_part(y + a.offsets[t], value, count);
            }
        }
    }
};

// The gradient of such windows where their taps are given, and at least one window fits into a vector: vectors run
// along the two input rows, so that each is stored once, whole. The lanes of such a vector belong to few windows, whose
// gradients and taps one load each and a permutation bring there. The permutations repeat after `count` vectors. Per
// vector 2 loads, 2 permutations, 2 comparisons, 2 stores: the ceiling is one such vector in 4 cycles, where the stores
// that cross cache lines cost most.
template <class T>
struct PairRows {
    static constexpr int most = 7; // (2 * channels) / gcd(2 * channels, width), as 2 * channels <= width
    int64_t count = 0;
    Index<T> from[most];  // a lane's window and channel, counted from the vector's first window
    Index<T> right[most]; // 1 at a right tap
    int64_t next[most];   // from the vector's first window to the next vector's, in gradients

    explicit FASTCONV_INLINE PairRows(int64_t channels) {
        typedef typename VectorOf<T>::lane lane_type;
        const auto c = static_cast<lane_type>(channels), two = static_cast<lane_type>(2 * channels);
        Index<T> lanes{};
        for (int64_t l = 0; l < width<T>; ++l) lanes[l] = static_cast<lane_type>(l);
        int64_t start = 0; // of the vector in its first window
        do {
            Index<T> at = lanes + static_cast<lane_type>(start), window{};
            for (int64_t passed = 0; passed < start + width<T>; passed += 2 * channels) {
                const Index<T> beyond = at >= two;
                window += beyond ? Index<T>{} + c : Index<T>{};
                at -= beyond ? Index<T>{} + two : Index<T>{};
            }
            const Index<T> is_right = at >= c;
            from[count] = window + (is_right ? at - c : at);
            right[count] = is_right ? Index<T>{} + static_cast<lane_type>(1) : Index<T>{};
            next[count] = (start + width<T>) / (2 * channels) * channels;
            start = (start + width<T>) % (2 * channels);
            ++count;
        } while (start != 0);
    }

    FASTCONV_INLINE void scatter(const PoolRow<T>& a) const {
        const int64_t gradients = a.pixels * a.channels;
        int64_t at = 0, pattern = 0;
        for (int64_t to = 0; to < 2 * gradients; to += width<T>) {
            const int64_t left = gradients - at < width<T> ? gradients - at : width<T>;
            const Vec<T> grad = left == width<T> ? load(a.grad + at) : load_part(a.grad + at, left);
            const Index<T> tap = load_bytes<T>(a.chosen_tap + at, left);
            const Vec<T> spread = pick(grad, grad, from[pattern]);
            const Index<T> spread_tap = (Index<T>)pick((Vec<T>)tap, (Vec<T>)tap, from[pattern]) - right[pattern];
            FASTCONV_UNROLL
            for (int row = 0; row < 2; ++row) {
                const Index<T> here = Index<T>{} + static_cast<typename VectorOf<T>::lane>(2 * row);
                const Vec<T> value = spread_tap == here ? spread : Vec<T>{};
                store_some(a.y + a.offsets[2 * row] + to, value, 2 * gradients - to);
            }
            at += next[pattern];
            pattern = pattern + 1 == count ? 0 : pattern + 1;
        }
    }
};

template <class T>
FASTCONV_INLINE bool has_pairs(const PoolRow<T>& a) {
    return a.channels < width<T> && (can_pick || 2 * a.channels > width<T>) && a.taps == 4 &&
           a.x_step == 2 * a.channels && a.offsets[1] - a.offsets[0] == a.channels &&
           a.offsets[3] - a.offsets[2] == a.channels;
}

template <class T, bool Many, bool Gradient, bool Option>
FASTCONV_INLINE void each_group(PoolRow<T> a) {
    const Pairs<T, Many> pairs(a);
    for (int64_t r = 0; r < a.rows; ++r, advance(a)) {
        int64_t i = 0;
        for (; i + pairs.group < a.pixels; i += pairs.group) {
            if (Gradient)
                pairs.template gradient<true, Option>(a, i, pairs.lanes);
            else
                pairs.template forward<true, Option>(a, i, pairs.lanes);
        }
        const int64_t count = (a.pixels - i) * a.channels;
        if (Gradient)
            pairs.template gradient<false, Option>(a, i, count);
        else
            pairs.template forward<false, Option>(a, i, count);
    }
}
template <class T, bool Gradient, bool Option>
FASTCONV_INLINE void each_group(const PoolRow<T>& a) {
    if (can_pick && 2 * a.channels <= width<T>)
        each_group<T, can_pick, Gradient, Option>(a);
    else
        each_group<T, false, Gradient, Option>(a);
}

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
void scatter_pairs(PoolRow<T> a) {
    const PairRows<T> pairs(a.channels);
    for (int64_t r = 0; r < a.rows; ++r, advance(a)) pairs.scatter(a);
}
template <class T>
void max_grad_row(const PoolRow<T>& a) {
    if (!a.apart || !has_pairs(a))
        each_window<MaxGradWindow>(a, a.apart);
    else if (a.chosen_tap && can_pick && 2 * a.channels <= width<T>)
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
    each_window<AvgGradWindow>(a, a.apart);
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
