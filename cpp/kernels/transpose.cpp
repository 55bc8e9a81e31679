// Transposes a matrix, to pack filters whose lanes are not neighbours in memory and to convert between NHWC and NCHW.
//
// Vectorised over both axes. All ISAs but the baseline transpose squares with a side of one vector, so that all writes
// are whole vectors. They use at most 8 registers at a time. The last square of a row or column overlaps the one before
// it. If the matrix is narrower than a square, squares are copied to a buffer in L1 and back. The baseline copies
// values one by one. A dense matrix of two columns is separated in registers. Ceiling: the loads, which take 16 bytes
// each; beyond L1, memory bandwidth. CPUs do not see a pattern in reads that go from row to row, so the next cache line
// of each row is prefetched.
//
// The streaming form collects whole cache lines of the result in a buffer in L1 and writes them past the caches. This
// saves reading the memory first.
//
// Arguments: any size. The two matrices must not overlap. The streaming form streams if the result consists of whole
// cache lines. Else it does what the plain form does.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr ptrdiff_t line_bytes = 64; // of a cache line
/// The elements of a cache line.
template <class T>
constexpr int64_t line = line_bytes / (ptrdiff_t)sizeof(T);
/// Addresses at this distance compete for the same few lines of L1.
constexpr ptrdiff_t l1_period = 4096;

template <class T>
FASTCONV_INLINE void prefetch_next_line(const T* from, ptrdiff_t from_row, int64_t rows) {
    for (int64_t r = 0; r < rows; ++r) __builtin_prefetch(from + r * from_row + line<T>);
}

/// Part of a square: at most `square_side` rows and columns.
template <class T>
FASTCONV_INLINE void transpose_part(const T* from, ptrdiff_t from_row, T* to, ptrdiff_t to_row, int64_t rows,
                                    int64_t columns) {
    constexpr int64_t side = square_side<T>;
    alignas(line_bytes) T in[side * side], out[side * side];
    for (int64_t r = 0; r < rows; ++r) store(in + r * side, load_some(from + r * from_row, columns));
    transpose_square(in, side, out, side);
    for (int64_t c = 0; c < columns; ++c) store_some(to + c * to_row, load(out + c * side), rows);
}

/// A dense matrix of two columns: pairs of values become two rows.
template <class T>
void transpose_pairs(const T* from, T* to, ptrdiff_t to_row, int64_t rows) {
    const auto store_rows = [&](int64_t r, Vec<T> low, Vec<T> high) __attribute__((always_inline)) {
        store_some(to + r, in_order<T>(evens<T>(low, high)), rows - r);
        store_some(to + to_row + r, in_order<T>(odds<T>(low, high)), rows - r);
    };
    int64_t r = 0;
    for (; r + width<T> <= rows; r += width<T>) store_rows(r, load(from + 2 * r), load(from + 2 * r + width<T>));
    if (r == rows) return;
    const int64_t values = 2 * (rows - r);
    store_rows(r, load_some(from + 2 * r, values), load_some(from + 2 * r + width<T>, values - width<T>));
}

template <class T>
void transpose(const T* from, ptrdiff_t from_row, T* to, ptrdiff_t to_row, int64_t rows, int64_t columns) {
    constexpr int64_t side = square_side<T>;
    if (columns == 2 && from_row == 2) return transpose_pairs(from, to, to_row, rows);
    if constexpr (side > 1) {
        if (rows < side || columns < side) {
            for (int64_t r = 0; r < rows; r += side)
                for (int64_t c = 0; c < columns; c += side)
                    transpose_part(from + r * from_row + c, from_row, to + c * to_row + r, to_row,
                                   rows - r < side ? rows - r : side, columns - c < side ? columns - c : side);
            return;
        }
    }
    // Works in strips of columns: the cache lines of a strip, read and written, stay in L1 until all its squares are
    // done. The first square of a strip overlaps the next one if the others then write aligned vectors.
    const int64_t strip = to_row * (ptrdiff_t)sizeof(T) % l1_period == 0 ? side : line<T>;
    const int64_t before = (int64_t)(-(uintptr_t)to / sizeof(T) % side),
                  head = before > 0 && to_row % side == 0 ? before : side;
    for (int64_t first = 0; first < columns; first += strip) {
        const int64_t last = columns < first + strip ? columns : first + strip;
        for (int64_t r = 0; r < rows; r += r == 0 ? head : side) {
            const int64_t row = r + side <= rows ? r : rows - side;
            prefetch_next_line(from + row * from_row + first, from_row, side);
            for (int64_t c = first; c < last; c += side) {
                const int64_t column = c + side <= columns ? c : columns - side;
                transpose_square(from + row * from_row + column, from_row, to + column * to_row + row, to_row);
            }
        }
    }
}

/// Writes a cache line for each column of a square.
template <class T>
FASTCONV_INLINE void stream_lines(const T* from, ptrdiff_t from_row, T* to, ptrdiff_t to_row) {
    constexpr int64_t side = square_side<T>;
    alignas(line_bytes) T lines[side * line<T>];
    for (int64_t r = 0; r < line<T>; r += side) transpose_square(from + r * from_row, from_row, lines + r, line<T>);
    for (int64_t c = 0; c < side; ++c) {
        FASTCONV_UNROLL
        for (int64_t i = 0; i < line<T>; i += width<T>)
            store_streaming(to + c * to_row + i, load(lines + c * line<T> + i));
    }
}

template <class T>
void transpose_streaming(const T* from, ptrdiff_t from_row, T* to, ptrdiff_t to_row, int64_t rows, int64_t columns) {
    constexpr int64_t side = square_side<T>;
    const bool whole_lines = (uintptr_t)to % line_bytes == 0 && to_row % line<T> == 0 && rows % line<T> == 0;
    if (!whole_lines || columns < side) return transpose(from, from_row, to, to_row, rows, columns);
    for (int64_t first = 0; first < columns; first += line<T>) {
        const int64_t last = columns < first + line<T> ? columns : first + line<T>;
        for (int64_t r = 0; r < rows; r += line<T>) {
            prefetch_next_line(from + r * from_row + first, from_row, line<T>);
            for (int64_t c = first; c < last; c += side) {
                const int64_t column = c + side <= columns ? c : columns - side;
                stream_lines(from + r * from_row + column, from_row, to + column * to_row + r, to_row);
            }
        }
    }
    finish_streaming();
}

} // namespace

void add_transpose(KernelTable& table) {
    table.f32.transpose = transpose<float>;
    table.f64.transpose = transpose<double>;
    table.f32.transpose_streaming = transpose_streaming<float>;
    table.f64.transpose_streaming = transpose_streaming<double>;
}

} // namespace FASTCONV_ISA
} // namespace fastconv
