// Batch normalisation and its gradient. Sums and numbers of channels are arrays with an element for each column.
//
// Vectorised over columns. Sums of up to four vectors of columns sit in registers during a few rows, or during all rows
// if these are no wider. Ceiling: memory bandwidth.
//
// Arguments: any number of rows and columns. Rows may lie apart in memory. Nothing needs to be aligned.
//
// Rounding: the sums of a column are chains of additions in the order of the rows. z rounds two or three times: the
// difference, the product with the scale and, without FMA, the sum with the offset. Each function computes it with the
// same operations, so that gradients see the signs of the forward pass.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int tile_vectors = 4;
/// The rows of a tile. Larger tiles would read from more places in memory at a time than CPUs prefetch.
constexpr int64_t tile_rows = 8;

/// The distance of two rows.
template <class Rows>
FASTCONV_INLINE ptrdiff_t row_step(const Rows& a) {
    return a.row != 0 ? a.row : a.columns;
}

/// Calls f(first row, rows, column, Constant<vectors>, part) for tiles that cover all rows and columns. Each column
/// sees its rows in order. `part` is 1 if the tile is one vector of which only some columns exist.
template <class T, class F>
FASTCONV_INLINE void each_column_tile(int64_t rows, int64_t columns, const F& f) {
    constexpr int64_t whole = tile_vectors * width<T>;
    const int64_t rows_at_once = columns <= whole ? rows : tile_rows;
    for (int64_t row = 0; row < rows; row += rows_at_once) {
        const int64_t some = rows - row < rows_at_once ? rows - row : rows_at_once;
        int64_t column = 0;
        for (; column + whole <= columns; column += whole)
            f(row, some, column, Constant<tile_vectors>{}, Constant<0>{});
        for (; column + width<T> <= columns; column += width<T>) f(row, some, column, Constant<1>{}, Constant<0>{});
        if (column < columns) f(row, some, column, Constant<1>{}, Constant<1>{});
    }
}

/// Fetches what the next tile reads. CPUs do not see a pattern in pieces of rows.
template <class T>
FASTCONV_INLINE void prefetch_next_tile(const T* x, ptrdiff_t row) {
    __builtin_prefetch(x + tile_rows * row);
}

/// What add_to_sums adds to the two sums of a vector of columns.
template <class T>
struct TwoTerms {
    Vec<T> first, second;
};

/// Adds terms(offset of a vector, its column, count, part) to both sums of each column.
template <class T, class F>
FASTCONV_INLINE void add_to_sums(int64_t rows, int64_t columns, ptrdiff_t step, T* first_sums, T* second_sums,
                                 const F& terms) {
    each_column_tile<T>(rows, columns,
                        [&](int64_t row, int64_t some, int64_t column, auto vectors, auto part)
                            __attribute__((always_inline)) {
                                constexpr bool Part = decltype(part)::value != 0;
                                constexpr int Vectors = decltype(vectors)::value;
                                const int64_t count = columns - column;
                                Vec<T> first[Vectors], second[Vectors];
                                FASTCONV_UNROLL
                                for (int v = 0; v < Vectors; ++v) {
                                    first[v] = fetch<T, Part>(first_sums + column + v * width<T>, count);
                                    second[v] = fetch<T, Part>(second_sums + column + v * width<T>, count);
                                }
                                for (int64_t r = row; r < row + some; ++r) {
                                    FASTCONV_UNROLL
                                    for (int v = 0; v < Vectors; ++v) {
                                        const int64_t at = column + v * width<T>;
                                        const TwoTerms<T> term = terms(r * step + at, at, count, part);
                                        first[v] += term.first;
                                        second[v] += term.second;
                                    }
                                }
                                FASTCONV_UNROLL
                                for (int v = 0; v < Vectors; ++v) {
                                    put<T, Part>(first_sums + column + v * width<T>, first[v], count);
                                    put<T, Part>(second_sums + column + v * width<T>, second[v], count);
                                }
                            });
}

template <class T>
void shifted_sums(const ShiftedSums<T>& a) {
    const ptrdiff_t step = row_step(a);
    add_to_sums(a.rows, a.columns, step, a.sums, a.squares,
                [&](int64_t at, int64_t column, int64_t count, auto part) __attribute__((always_inline)) {
                    constexpr bool Part = decltype(part)::value != 0;
                    prefetch_next_tile(a.x + at, step);
                    const Vec<T> d = fetch<T, Part>(a.x + at, count) - fetch<T, Part>(a.shift + column, count);
                    return TwoTerms<T>{d, d * d};
                });
}

/// z of a vector of columns, from x - mean.
template <class T, bool Part>
FASTCONV_INLINE Vec<T> transformed(const ColumnTransform<T>& z, Vec<T> centred, int64_t column, int64_t count) {
    return centred * fetch<T, Part>(z.scale + column, count) + fetch<T, Part>(z.offset + column, count);
}

/// grad, or 0 where the activation was at one of its bounds.
template <class T, bool Masked, bool Part, class Rows>
FASTCONV_INLINE Vec<T> masked_gradient(const Rows& a, Vec<T> centred, int64_t at, int64_t column, int64_t count) {
    Vec<T> grad = fetch<T, Part>(a.grad + at, count);
    if (!Masked) return grad;
    keep_in_register(grad); // a load with a mask would wait for z
    const Vec<T> z = transformed<T, Part>(a.z, centred, column, count);
    return ((z > a.low) & (z <= a.highest)) ? grad : Vec<T>{};
}

template <class T, bool Masked>
FASTCONV_INLINE void gradient_sums(const NormGradientSums<T>& a) {
    const ptrdiff_t step = row_step(a);
    add_to_sums(a.rows, a.columns, step, a.sums, a.products,
                [&](int64_t at, int64_t column, int64_t count, auto part) __attribute__((always_inline)) {
                    constexpr bool Part = decltype(part)::value != 0;
                    prefetch_next_tile(a.x + at, step);
                    prefetch_next_tile(a.grad + at, step);
                    const Vec<T> centred = fetch<T, Part>(a.x + at, count) - fetch<T, Part>(a.z.mean + column, count);
                    const Vec<T> d = masked_gradient<T, Masked, Part>(a, centred, at, column, count);
                    return TwoTerms<T>{d, d * centred};
                });
}

template <class T>
void norm_gradient_sums(const NormGradientSums<T>& a) {
    if (a.masked)
        gradient_sums<T, true>(a);
    else
        gradient_sums<T, false>(a);
}

/// y = value(offset of a vector, its column, count, part) for all vectors of the rows.
template <class T, class F>
FASTCONV_INLINE void write_columns(int64_t rows, int64_t columns, ptrdiff_t step, T* y, bool streaming,
                                   const F& value) {
    const bool streams =
        streaming && columns % width<T> == 0 && step % width<T> == 0 && (uintptr_t)y % vector_bytes == 0;
    for (int64_t r = 0; r < rows; ++r) {
        int64_t column = 0;
        for (; column + width<T> <= columns; column += width<T>) {
            const int64_t at = r * step + column;
            const Vec<T> result = value(at, column, width<T>, Constant<0>{});
            if (streams)
                store_streaming(y + at, result);
            else
                store(y + at, result);
        }
        if (column < columns) {
            const int64_t at = r * step + column, count = columns - column;
            store_part(y + at, value(at, column, count, Constant<1>{}), count);
        }
    }
    if (streams) finish_streaming();
}

template <class T, bool Residual>
FASTCONV_INLINE void normalize(const NormalizedColumns<T>& a) {
    write_columns(a.rows, a.columns, row_step(a), a.y, a.streaming,
                  [&](int64_t at, int64_t column, int64_t count, auto part) __attribute__((always_inline)) {
                      constexpr bool Part = decltype(part)::value != 0;
                      const Vec<T> centred = fetch<T, Part>(a.x + at, count) - fetch<T, Part>(a.z.mean + column, count);
                      Vec<T> z = transformed<T, Part>(a.z, centred, column, count);
                      if (Residual) z += fetch<T, Part>(a.residual + at, count);
                      z = z < a.low ? broadcast(a.low) : z;
                      return z > a.high ? broadcast(a.high) : z;
                  });
}

template <class T>
void normalize_columns(const NormalizedColumns<T>& a) {
    if (a.residual)
        normalize<T, true>(a);
    else
        normalize<T, false>(a);
}

template <class T, bool Masked, bool Factors>
FASTCONV_INLINE void input_gradient(const NormInputGradient<T>& a) {
    write_columns(a.rows, a.columns, row_step(a), a.y, a.streaming,
                  [&](int64_t at, int64_t column, int64_t count, auto part) __attribute__((always_inline)) {
                      constexpr bool Part = decltype(part)::value != 0;
                      const Vec<T> centred = fetch<T, Part>(a.x + at, count) - fetch<T, Part>(a.z.mean + column, count);
                      const Vec<T> d = masked_gradient<T, Masked, Part>(a, centred, at, column, count);
                      const Vec<T> scale = fetch<T, Part>(a.z.scale + column, count);
                      if (!Factors) return d * scale;
                      const Vec<T> factor = fetch<T, Part>(a.x_factor + column, count);
                      return d * scale + (centred * factor + fetch<T, Part>(a.shift + column, count));
                  });
}

template <class T>
void norm_input_gradient(const NormInputGradient<T>& a) {
    if (a.masked && a.shift)
        input_gradient<T, true, true>(a);
    else if (a.masked)
        input_gradient<T, true, false>(a);
    else if (a.shift)
        input_gradient<T, false, true>(a);
    else
        input_gradient<T, false, false>(a);
}

template <class T>
void add_to(KernelsOf<T>& kernels) {
    kernels.shifted_sums = shifted_sums<T>;
    kernels.normalize_columns = normalize_columns<T>;
    kernels.norm_gradient_sums = norm_gradient_sums<T>;
    kernels.norm_input_gradient = norm_input_gradient<T>;
}

} // namespace

void add_batch_norm(KernelTable& table) {
    add_to(table.f32);
    add_to(table.f64);
}

} // namespace FASTCONV_ISA
} // namespace fastconv
