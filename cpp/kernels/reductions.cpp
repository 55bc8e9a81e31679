// Reductions of rows and of columns, normalisation of rows by their mean and variance, exponentials for softmax, and
// interpolation of pixels.
//
// Vectorised along rows. A reduction of columns keeps four vectors of results in registers. A reduction of a row keeps
// four vectors of partial results. Ceiling: memory bandwidth, since a vector takes one load and one operation.
//
// Arguments: at least one row and one column. Nothing needs to be aligned.
//
// Rounding: a sum is a sum of blocks, each of at most 32 additions in a chain, so that its error grows slowly.
#include "kernels/elementary_functions.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int64_t block = 32;

template <Reduction Which, class V>
FASTCONV_INLINE V fold(V a, V b) {
    switch (Which) {
    case Reduction::sum:
        return a + b;
    case Reduction::product:
        return a * b;
    case Reduction::maximum: // NaN if a or b is NaN
        return ((a > b) | (a != a)) ? a : b;
    default:
        return ((a < b) | (a != a)) ? a : b;
    }
}

// ---- Columns -----------------------------------------------------------------------------------------------------

template <class T, Reduction Which, int Vectors, bool Part>
FASTCONV_INLINE void fold_vectors(const T* x, ptrdiff_t row, int64_t rows, int64_t count, T* y) {
    Vec<T> total[Vectors];
    for (int64_t first = 0; first < rows; first += block) {
        const int64_t last = first + block < rows ? first + block : rows;
        Vec<T> some[Vectors];
        FASTCONV_UNROLL
        for (int v = 0; v < Vectors; ++v) some[v] = fetch<T, Part>(x + first * row + v * width<T>, count);
        for (int64_t r = first + 1; r < last; ++r) {
            FASTCONV_UNROLL
            for (int v = 0; v < Vectors; ++v)
                some[v] = fold<Which>(some[v], fetch<T, Part>(x + r * row + v * width<T>, count));
        }
        FASTCONV_UNROLL
        for (int v = 0; v < Vectors; ++v) total[v] = first == 0 ? some[v] : fold<Which>(total[v], some[v]);
    }
    FASTCONV_UNROLL
    for (int v = 0; v < Vectors; ++v) put<T, Part>(y + v * width<T>, total[v], count);
}

template <class T, Reduction Which>
void fold_columns(const T* x, ptrdiff_t row, int64_t rows, int64_t columns, T* y) {
    int64_t c = 0;
    for (; c + 4 * width<T> <= columns; c += 4 * width<T>) fold_vectors<T, Which, 4, false>(x + c, row, rows, 0, y + c);
    for (; c + width<T> <= columns; c += width<T>) fold_vectors<T, Which, 1, false>(x + c, row, rows, 0, y + c);
    if (c < columns) fold_vectors<T, Which, 1, true>(x + c, row, rows, columns - c, y + c);
}

// ---- A row -------------------------------------------------------------------------------------------------------

template <class T, Reduction Which>
T fold_row(const T* x, int64_t count) {
    constexpr int64_t strip = 4 * width<T>;
    if (count < strip) {
        T result = x[0];
        for (int64_t i = 1; i < count; ++i) result = fold<Which>(result, x[i]);
        return result;
    }
    // The row is cut into strips of four vectors. The values after the last strip are folded one by one.
    T partial[strip];
    fold_vectors<T, Which, 4, false>(x, strip, count / strip, 0, partial);
    T result = partial[0];
    for (int64_t i = 1; i < strip; ++i) result = fold<Which>(result, partial[i]);
    for (int64_t i = count / strip * strip; i < count; ++i) result = fold<Which>(result, x[i]);
    return result;
}

// ---- Normalisation -----------------------------------------------------------------------------------------------

template <class T>
FASTCONV_INLINE T sum_of_squares(const T* x, int64_t count, T mean) {
    Vec<T> total{};
    int64_t i = 0;
    while (i + width<T> <= count) {
        Vec<T> some{};
        for (int64_t n = 0; n < block && i + width<T> <= count; ++n, i += width<T>) {
            const Vec<T> distance = load(x + i) - mean;
            some += distance * distance;
        }
        total += some;
    }
    T sum = add_lanes<T>(total);
    for (; i < count; ++i) sum += (x[i] - mean) * (x[i] - mean);
    return sum;
}

template <class T>
void normalize_rows(const NormalizedRows<T>& a) {
    for (int64_t r = 0; r < a.rows; ++r) {
        const T* x = a.x + r * a.columns;
        T* y = a.y + r * a.columns;
        const T count = static_cast<T>(a.columns);
        const T mean = fold_row<T, Reduction::sum>(x, a.columns) / count;
        const T variance = sum_of_squares(x, a.columns, mean) / count;
        const T inverse = T{1} / static_cast<T>(__builtin_sqrt(static_cast<double>(variance) + a.epsilon));
        for (int64_t i = 0; i < a.columns; i += width<T>) {
            const int64_t left = a.columns - i;
            Vec<T> value = (load_some(x + i, left) - mean) * inverse;
            if (a.scale) value *= load_some(a.scale + i, left);
            if (a.offset) value += load_some(a.offset + i, left);
            store_some(y + i, value, left);
        }
    }
}

template <class T>
void exp_row(const T* x, T shift, T* y, int64_t count) {
    for (int64_t i = 0; i < count; i += width<T>) {
        const Vec<T> power = exp_shifted<T>(load_some(x + i, count - i) - shift, Vec<T>{}, Index<T>{});
        store_some(y + i, power, count - i);
    }
}

// ---- Bilinear interpolation --------------------------------------------------------------------------------------

template <class V, class T>
FASTCONV_INLINE V between(V from, V to, T weight) {
    return from + (to - from) * weight;
}

template <class T>
void interpolate_row(const InterpolatedRow<T>& a) {
    for (int64_t i = 0; i < a.pixels; ++i) {
        const ptrdiff_t left = a.left[i], right = a.right[i];
        const T weight = a.weights[i];
        T* y = a.y + i * a.channels;
        int64_t c = 0;
        for (; c + width<T> <= a.channels; c += width<T>) {
            const Vec<T> top = between(load(a.top + left + c), load(a.top + right + c), weight);
            const Vec<T> bottom = between(load(a.bottom + left + c), load(a.bottom + right + c), weight);
            store(y + c, between(top, bottom, a.weight));
        }
        for (; c < a.channels; ++c) {
            const T top = between(a.top[left + c], a.top[right + c], weight);
            const T bottom = between(a.bottom[left + c], a.bottom[right + c], weight);
            y[c] = between(top, bottom, a.weight);
        }
    }
}

template <class T>
void add_functions(KernelsOf<T>& table) {
    table.fold_columns[0] = fold_columns<T, Reduction::sum>;
    table.fold_columns[1] = fold_columns<T, Reduction::product>;
    table.fold_columns[2] = fold_columns<T, Reduction::maximum>;
    table.fold_columns[3] = fold_columns<T, Reduction::minimum>;
    table.fold_row[0] = fold_row<T, Reduction::sum>;
    table.fold_row[1] = fold_row<T, Reduction::product>;
    table.fold_row[2] = fold_row<T, Reduction::maximum>;
    table.fold_row[3] = fold_row<T, Reduction::minimum>;
    table.normalize_rows = normalize_rows<T>;
    table.exp_row = exp_row<T>;
    table.interpolate_row = interpolate_row<T>;
}

} // namespace

void add_reductions(KernelTable& table) {
    add_functions(table.f32);
    add_functions(table.f64);
}

} // namespace FASTCONV_ISA
} // namespace fastconv
