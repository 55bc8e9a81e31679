// Transposes a matrix, to pack filters whose lanes are not neighbours in memory and to convert between NHWC and NCHW.
//
// Vectorised over both axes. AVX2 and AVX-512 transpose a square of 8x8 floats or 4x4 doubles in registers, so that all
// reads and writes are whole vectors. Squares that reach beyond the right edge are read in part. If the matrix has
// fewer rows than a square, and on the baseline, values are copied one by one. Ceiling: the shuffle port, at 3 shuffles
// a vector (2 for double); beyond L1, memory bandwidth. CPUs do not see a pattern in reads that go from row to row, so
// the next cache line of each row is prefetched.
//
// Arguments: any size. The two matrices must not overlap.
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

template <class T>
void transpose(const T* from, ptrdiff_t from_row, T* to, ptrdiff_t to_row, int64_t rows, int64_t columns) {
    // Works in strips of columns: the cache lines of a strip, read and written, stay in L1 until all its squares are
    // done. The square of the last rows overlaps the one before it.
    constexpr int64_t side = square_side<T>;
    const int64_t strip = to_row * (ptrdiff_t)sizeof(T) % l1_period == 0 ? line<T> / 2 : line<T>;
    for (int64_t first = 0; first < columns && rows >= side; first += strip) {
        const int64_t last = columns < first + strip ? columns : first + strip;
        for (int64_t r = 0; r < rows; r += side) {
            const int64_t row = r + side <= rows ? r : rows - side;
            prefetch_next_line(from + row * from_row + first, from_row, side);
            for (int64_t c = first; c < last; c += side)
                transpose_square(from + row * from_row + c, from_row, to + c * to_row + row, to_row, columns - c);
        }
    }
    for (int64_t r = 0; r < rows && rows < side; ++r)
        for (int64_t c = 0; c < columns; ++c) to[c * to_row + r] = from[r * from_row + c];
}

} // namespace

void add_transpose(KernelTable& table) {
    table.f32.transpose = transpose<float>;
    table.f64.transpose = transpose<double>;
}

} // namespace FASTCONV_ISA
} // namespace fastconv
