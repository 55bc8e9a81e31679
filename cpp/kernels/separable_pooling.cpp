// The steps of separable pooling: combine rows of values with the same rows, shifted.
//
// Vectorised along rows, whatever the values are: pixels and channels are flattened. A tile is two vectors, each loaded
// at two or three places, combined and stored. Ceiling: the load and store ports, since the rows stay in L1 or L2.
//
// Arguments: y may be x. If so, the shift is positive and the kernel goes forwards, so that it reads each value before
// it overwrites it. Nothing needs to be aligned.
//
// A maximum keeps x unless the shifted value beats it (pooling.h). So the first maximum and the first NaN win here,
// too.
#include "kernels/pooling.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

enum class Combination : uint8_t { copy, maximum, sum_of_two, sum_of_three };

/// Element i of row r, in a line from which a.x, a.third and a.y start.
template <class T, Combination Which, int Vectors, bool Part>
FASTCONV_INLINE void combine_vectors(const ShiftedLines<T>& a, int64_t r, int64_t i, int64_t count) {
    const T* x = a.x + r * a.x_row + i;
    Vec<T> value[Vectors];
    FASTCONV_UNROLL
    for (int v = 0; v < Vectors; ++v) {
        value[v] = fetch<T, Part>(x + v * width<T>, count);
        if (Which == Combination::copy) continue;
        const Vec<T> shifted = fetch<T, Part>(x + a.shift + v * width<T>, count);
        if (Which == Combination::maximum)
            value[v] = beats<T>(shifted, value[v]) ? shifted : value[v];
        else
            value[v] += shifted;
        if (Which == Combination::sum_of_three)
            value[v] += fetch<T, Part>(a.third + r * a.third_row + i + v * width<T>, count);
    }
    FASTCONV_UNROLL
    for (int v = 0; v < Vectors; ++v) {
        if (a.divisors)
            value[v] /= fetch<T, Part>(a.divisors + r * a.count + i + v * width<T>, count) * *a.line_divisors;
        put<T, Part>(a.y + r * a.y_row + i + v * width<T>, value[v], count);
    }
}

template <class T, Combination Which>
void combine_lines(ShiftedLines<T> a) {
    if (a.x_row == a.count && a.y_row == a.count && (!a.third || a.third_row == a.count)) { // contiguous
        a.count *= a.rows;
        a.rows = 1;
    }
    for (int64_t l = 0; l < a.lines; ++l) {
        for (int64_t r = 0; r < a.rows; ++r) {
            int64_t i = 0;
            for (; i + 2 * width<T> <= a.count; i += 2 * width<T>) combine_vectors<T, Which, 2, false>(a, r, i, 0);
            for (; i + width<T> <= a.count; i += width<T>) combine_vectors<T, Which, 1, false>(a, r, i, 0);
            if (i < a.count) combine_vectors<T, Which, 1, true>(a, r, i, a.count - i);
        }
        a.x += a.x_line;
        a.y += a.y_line;
        if (a.third) a.third += a.third_line;
        if (a.divisors) ++a.line_divisors;
    }
}

template <class T>
void max_shifted(const ShiftedLines<T>& a) {
    if (a.shift == 0)
        combine_lines<T, Combination::copy>(a);
    else
        combine_lines<T, Combination::maximum>(a);
}
template <class T>
void add_shifted(const ShiftedLines<T>& a) {
    if (a.shift == 0)
        combine_lines<T, Combination::copy>(a);
    else if (a.third)
        combine_lines<T, Combination::sum_of_three>(a);
    else
        combine_lines<T, Combination::sum_of_two>(a);
}

template <class T>
void fill(KernelsOf<T>& kernels) {
    kernels.max_shifted = max_shifted<T>;
    kernels.add_shifted = add_shifted<T>;
}

} // namespace

void add_separable_pooling(KernelTable& table) {
    fill(table.f32);
    fill(table.f64);
}

} // namespace FASTCONV_ISA
} // namespace fastconv
