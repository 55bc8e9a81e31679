// The gradients of a small convolution that is followed by max pooling, from the gradient of the pooled output. Only
// one pixel of each pooling window has a gradient, so with 2x2 windows three quarters of the products need not be
// computed.
//
// The tap of a window says which pixel this is. The tap differs from filter to filter and is known only at run time.
// The kernels use the tap to select an address:
//
// pooled_patches computes the input gradient. The pixels of a pooling window read a patch of the input. The gradient of
// this patch is a sum over filters of grad times the filter, which its tap shifts inside a patch of zeros. A table in
// L1 holds all shifted filters. Vectorised over the values of a patch. Up to 12 vectors of sums (8 with 16 registers)
// sit in registers. A step takes one filter: a broadcast and an FMA per vector, with operands from memory. Ceiling: two
// loads a cycle, which for patches of 6 vectors is 6/7 of the FMA peak.
//
// pooled_products computes the filter gradient of one image. window_columns first copies the windows that the
// convolution's pixels read, so that each is contiguous. Vectorised over the elements of a window. The sums of 4
// filters x up to 4 vectors (with 16 registers: 4x3, 2x5 or 1x7) sit in registers while the loop runs over the pooling
// windows. A step loads a tap, its offset, a gradient and the window. Ceiling: two loads a cycle.
//
// pooled_runs computes the same for windows of few values, such as 3x3 windows of one channel. Copying them would take
// longer than the sums, so their rows are read in place, four values each. Vectorised over these four values. The sums
// of 4 filters x up to 3 rows sit in registers. A step loads a tap, its offset, a gradient and the rows. Ceiling: two
// loads a cycle.
//
// pooled_spreads computes the same if a patch fits into one vector of 16 lanes. Vectorised over the elements of a
// window. The patch is loaded once, row by row, and serves all filters. A filter's tap selects a permutation of the
// patch. 8 sums, the patch and 3 masks sit in registers. A step loads a tap, a permutation and a gradient. Ceiling: two
// loads a cycle.
//
// Arguments: gradients must be finite (see all_finite), because the zeros of the table are multiplied by them. Lanes
// beyond a window may hold anything, because nothing reads their sums.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int most_patch_vectors = registers == 32 ? 12 : 8;

// Not inlined: GCC would not keep the pointers of one large function in registers.
template <class T, int Windows, int Vectors>
FASTCONV_NOINLINE void patches(const PooledPatches<T>& a, int64_t window, ptrdiff_t at) {
    const int64_t filters = a.filters, taps_count = a.taps_count;
    const ptrdiff_t tap_step = a.tap_step, patch = a.patch;
    const uint8_t* taps = a.taps + window * filters;
    const T* grad = a.grad + window * filters;
    const T* shifts = a.shifts + at;
    Vec<T> sum[Windows][Vectors];
    FASTCONV_UNROLL
    for (int i = 0; i < Windows * Vectors; ++i) sum[i / Vectors][i % Vectors] = Vec<T>{};
    for (const uint8_t* const end = taps + filters; taps < end; ++taps, ++grad, shifts += patch) {
        FASTCONV_UNROLL
        for (int i = 0; i < Windows; ++i) {
            const int64_t tap = taps[i * filters];
            if (tap >= taps_count) continue; // no pixel takes this gradient
            const T* from = shifts + tap * tap_step;
            const Vec<T> value = broadcast(grad[i * filters]);
            FASTCONV_UNROLL
            for (int v = 0; v < Vectors; ++v) sum[i][v] += value * load(from + v * width<T>);
        }
    }
    T* to = a.patches + window * patch + at;
    FASTCONV_UNROLL
    for (int i = 0; i < Windows * Vectors; ++i)
        store(to + i / Vectors * patch + i % Vectors * width<T>, sum[i / Vectors][i % Vectors]);
}

template <class T>
void pooled_patches(const PooledPatches<T>& a) {
    each_tile(a.patch / width<T>, most_patch_vectors, [&](int64_t vectors, int64_t first) {
        dispatch<most_patch_vectors>(vectors, [&](auto n) {
            const ptrdiff_t at = first * width<T>;
            int64_t window = 0;
            if constexpr (2 * n <= most_patch_vectors) // one window would have too few sums to hide the latency
                for (; window + 2 <= a.windows; window += 2) patches<T, 2, n>(a, window, at);
            for (; window < a.windows; ++window) patches<T, 1, n>(a, window, at);
        });
    });
}

// In a step, all vectors of a filter share the loads of a tap, an offset and a gradient. So a tile takes as many
// vectors as it can. If a window has few vectors, a tile takes more filters, which hide the latency of the FMAs.
constexpr int most_column_vectors = registers == 32 ? 4 : 7;
template <int Vectors>
constexpr int product_filters = registers == 32 || Vectors < 4 ? 4
                                : Vectors < 6                  ? 2
                                                               : 1;

template <class T, int Filters, int Vectors>
FASTCONV_NOINLINE void products(const PooledProducts<T>& a, int64_t k, ptrdiff_t at) {
    const int64_t taps_count = a.taps_count;
    const ptrdiff_t* offsets = a.offsets;
    Vec<T> sum[Filters][Vectors];
    T* sums = a.sums + k * a.column + at;
    FASTCONV_UNROLL
    for (int i = 0; i < Filters * Vectors; ++i) sum[i / Vectors][i % Vectors] = Vec<T>{};
    const uint8_t* taps = a.taps + k;
    const T* grad = a.grad + k;
    for (int64_t row = 0; row < a.rows; ++row) {
        const T* columns = a.x + row * a.row + at;
        for (int64_t window = 0; window < a.windows; ++window) {
            FASTCONV_UNROLL
            for (int i = 0; i < Filters; ++i) {
                const int64_t tap = taps[i];
                if (tap >= taps_count) continue; // no pixel takes this gradient
                const T* from = columns + offsets[tap];
                const Vec<T> value = broadcast(grad[i]);
                FASTCONV_UNROLL
                for (int v = 0; v < Vectors; ++v) sum[i][v] += value * load(from + v * width<T>);
            }
            taps += a.filters;
            grad += a.filters;
            columns += a.step;
        }
    }
    FASTCONV_UNROLL
    for (int i = 0; i < Filters * Vectors; ++i) {
        T* to = sums + i / Vectors * a.column + i % Vectors * width<T>;
        store(to, load(to) + sum[i / Vectors][i % Vectors]);
    }
}

template <class T, int Filters, int Vectors>
void products_from(const PooledProducts<T>& a, int64_t k, ptrdiff_t at) {
    for (; k + Filters <= a.filters; k += Filters) products<T, Filters, Vectors>(a, k, at);
    if constexpr (Filters > 1) products_from<T, Filters / 2, Vectors>(a, k, at);
}

template <class T>
void pooled_products(const PooledProducts<T>& a) {
    each_tile(a.column / width<T>, most_column_vectors, [&](int64_t vectors, int64_t first) {
        dispatch<most_column_vectors>(vectors,
                                      [&](auto n) { products_from<T, product_filters<n>, n>(a, 0, first * width<T>); });
    });
}

constexpr int most_runs = 6; // the most runs in a vector of 16 lanes, if each has at least 3 values

/// Writes the vector at offset `at` of every column. The vector holds values of `Runs` runs, beginning with run
/// `first`. For each run, a whole vector is loaded whose lanes hold the values of the run in their final places. From
/// the start of the run on, its lanes replace those of the runs before it.
template <class T, int Runs>
void column_vectors(const WindowColumns<T>& a, int64_t at, int64_t first) {
    Index<T> is_run[Runs];
    ptrdiff_t from[Runs];
    for (int i = 0; i < Runs; ++i) {
        from[i] = (first + i) * (a.x_row - a.run) + at;
        for (int lane = 0; lane < width<T>; ++lane) is_run[i][lane] = at + lane >= (first + i) * a.run ? -1 : 0;
    }
    const int64_t pixels = a.pixels, column = a.column; // copies, because GCC assumes that stores change the fields
    const ptrdiff_t x_step = a.x_step;
    T* to = a.columns + at;
    for (int64_t row = 0; row < a.rows; ++row) {
        const T* x = a.x + row * a.x_row;
        for (int64_t i = 0; i < pixels; ++i) {
            Vec<T> value = load(x + from[0]);
            FASTCONV_UNROLL
            for (int j = 1; j < Runs; ++j) value = is_run[j] ? load(x + from[j]) : value;
            store(to, value);
            x += x_step;
            to += column;
        }
    }
}

template <class T>
void window_columns(const WindowColumns<T>& a) {
    for (int64_t at = 0; at < a.column; at += width<T>) {
        const int64_t first = at / a.run, last = (at + width<T> - 1) / a.run;
        dispatch<most_runs>((last < a.runs ? last + 1 : a.runs) - first,
                            [&](auto runs) { column_vectors<T, runs>(a, at, first); });
    }
}

constexpr int most_run_filters = 4, most_run_rows = 3;

template <class T, int Filters, int Rows>
FASTCONV_NOINLINE void runs(const PooledProducts<T>& a, int64_t k) {
    typedef T Four __attribute__((vector_size(4 * sizeof(T))));
    typedef T Unaligned __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias));
    const int64_t taps_count = a.taps_count, filters = a.filters, windows = a.windows;
    const ptrdiff_t step = a.step, x_row = a.x_row;
    const ptrdiff_t* const offsets = a.offsets;
    Four sum[Filters][Rows];
    FASTCONV_UNROLL
    for (int i = 0; i < Filters * Rows; ++i) sum[i / Rows][i % Rows] = Four{};
    const uint8_t* taps = a.taps + k;
    const T* grad = a.grad + k;
    for (int64_t row = 0; row < a.rows; ++row) {
        const T* x = a.x + row * a.row;
        for (int64_t window = 0; window < windows; ++window) {
            FASTCONV_UNROLL
            for (int i = 0; i < Filters; ++i) {
                const int64_t tap = taps[i];
                if (tap >= taps_count) continue; // no pixel takes this gradient
                const T* from = x + offsets[tap];
                const Four value = grad[i] - Four{};
                FASTCONV_UNROLL
                for (int j = 0; j < Rows; ++j)
                    sum[i][j] += value * *reinterpret_cast<const Unaligned*>(from + j * x_row);
            }
            taps += filters;
            grad += filters;
            x += step;
        }
    }
    FASTCONV_UNROLL
    for (int i = 0; i < Filters * Rows; ++i) {
        const Four values = sum[i / Rows][i % Rows];
        T* to = a.sums + (k + i / Rows) * a.column + i % Rows * a.run;
        for (int64_t value = 0; value < a.run; ++value) to[value] += values[value];
    }
}

template <class T>
void pooled_runs(const PooledProducts<T>& a) {
    each_tile(a.filters, most_run_filters, [&](int64_t filters, int64_t first) {
        dispatch<most_run_filters>(
            filters, [&](auto n) { dispatch<most_run_rows>(a.runs, [&](auto rows) { runs<T, n, rows>(a, first); }); });
    });
}

constexpr int most_spread_filters = 8;

template <class T, int Filters>
FASTCONV_NOINLINE void spreads(const PooledProducts<T>& a, int64_t k) {
    constexpr int lanes = width<T>;
    const int64_t taps_count = a.taps_count, filters = a.filters, windows = a.windows;
    const ptrdiff_t step = a.step, x_row = a.x_row;
    const int32_t* const elements = a.elements;
    T* const sums = a.sums + k * lanes;
    Vec<T> sum[Filters];
    FASTCONV_UNROLL
    for (int i = 0; i < Filters; ++i) sum[i] = Vec<T>{};
    const uint8_t* taps = a.taps + k;
    const T* grad = a.grad + k;
    for (int64_t row = 0; row < a.rows; ++row) {
        const T* x = a.x + row * a.row;
        for (int64_t window = 0; window < windows; ++window) {
            const Vec<T> patch = load_four_rows(x, x_row);
            FASTCONV_UNROLL
            for (int i = 0; i < Filters; ++i) {
                const int64_t tap = taps[i];
                if (tap >= taps_count) continue; // no pixel takes this gradient
                Index<T> element;
                __builtin_memcpy(&element, elements + tap * lanes, sizeof element);
                sum[i] += broadcast(grad[i]) * permute<T>(patch, element);
            }
            taps += filters;
            grad += filters;
            x += step;
        }
    }
    FASTCONV_UNROLL
    for (int i = 0; i < Filters; ++i) store(sums + i * lanes, load(sums + i * lanes) + sum[i]);
}

template <class T>
void pooled_spreads(const PooledProducts<T>& a) {
    constexpr int64_t most = most_spread_filters;
    for (int64_t k = 0; k < a.filters; k += most)
        dispatch<most>(a.filters - k < most ? a.filters - k : most, [&](auto n) { spreads<T, n>(a, k); });
}

// 0 times a finite value is 0, and 0 times any other value is NaN. A sum that is NaN stays NaN. Four sums hide the
// latency of the FMAs.
template <class T>
bool all_finite(const T* x, int64_t count) {
    Vec<T> zero[4] = {};
    int64_t i = 0;
    for (; i + 4 * width<T> <= count; i += 4 * width<T>) {
        FASTCONV_UNROLL
        for (int j = 0; j < 4; ++j) zero[j] += load(x + i + j * width<T>) * Vec<T>{};
    }
    for (; i + width<T> <= count; i += width<T>) zero[0] += load(x + i) * Vec<T>{};
    if (i < count) zero[1] += load_part(x + i, count - i) * Vec<T>{};
    const Vec<T> sum = (zero[0] + zero[1]) + (zero[2] + zero[3]);
    for (int lane = 0; lane < width<T>; ++lane)
        if (sum[lane] != 0) return false;
    return true;
}

template <class T>
FASTCONV_INLINE void add_row(const T* from, T* to, int64_t count) {
    typedef T Half __attribute__((vector_size(vector_bytes / 2), aligned(sizeof(T)), may_alias));
    int64_t i = 0;
    for (; i + width<T> <= count; i += width<T>) store(to + i, load(to + i) + load(from + i));
    // A masked store would be slower: the next patch soon loads these values, and would wait until they are in L1.
    if (i + width<T> / 2 <= count) {
        *reinterpret_cast<Half*>(to + i) += *reinterpret_cast<const Half*>(from + i);
        i += width<T> / 2;
    }
    for (; i < count; ++i) to[i] += from[i];
}

template <class T>
void add_patches(const AddPatches<T>& a) {
    for (int64_t row = 0; row < a.rows; ++row) {
        // Neighbouring patches overlap, and a load of bytes from two recent stores is slow. So add every other patch
        // first, then the rest.
        for (int64_t first = 0; first < 2; ++first) {
            for (int64_t window = first; window < a.windows; window += 2) {
                const T* from = a.patches + (row * a.windows + window) * a.patch;
                T* to = a.to + row * a.row + window * a.step;
                for (int64_t i = 0; i < a.patch_rows; ++i)
                    add_row(from + i * a.patch_row, to + i * a.to_row, a.patch_row);
            }
        }
    }
}

template <class T>
void fill(KernelsOf<T>& kernels) {
    kernels.pooled_patches = pooled_patches<T>;
    kernels.pooled_products = pooled_products<T>;
    kernels.pooled_runs = pooled_runs<T>;
    if constexpr (has_permute && sizeof(T) == 4 && width<T> == 16) kernels.pooled_spreads = pooled_spreads<T>;
    kernels.window_columns = window_columns<T>;
    kernels.all_finite = all_finite<T>;
    kernels.add_patches = add_patches<T>;
}

} // namespace

void add_max_pool_fused_backward(KernelTable& table) {
    fill(table.f32);
    fill(table.f64);
}

} // namespace FASTCONV_ISA
} // namespace fastconv
