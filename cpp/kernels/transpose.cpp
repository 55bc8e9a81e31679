// Transposes a matrix: packs filters whose lanes are not neighbours in memory, and converts between NHWC and NCHW.
//
// Vectorised over both axes: a square (AVX2 and AVX-512: 32 bytes x 32 bytes) is transposed in registers, so that both
// sides are read and written in whole vectors. Squares over the right edge are loaded in part. Fewer rows than a square
// has, and the baseline, go value by value. Ceiling: the shuffle port's vector a cycle, and memory's beyond L1.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T>
void transpose(const T* from, ptrdiff_t from_row, T* to, ptrdiff_t to_row, int64_t rows, int64_t columns) {
    // In strips of columns whose lines, read and written, stay in L1 until all their squares are done. The last rows
    // are a square that overlaps the one before.
    constexpr int64_t side = square_side<T>, strip = 32;
    for (int64_t first = 0; first < columns && rows >= side; first += strip) {
        const int64_t last = columns < first + strip ? columns : first + strip;
        for (int64_t r = 0; r < rows; r += side) {
            const int64_t row = r + side <= rows ? r : rows - side;
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
