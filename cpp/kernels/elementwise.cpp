// Elementwise arithmetic of two tensors, and scales and shifts of channels.
//
// Vectorised along rows. The elements of a row are neighbours in memory, or one element that is broadcast. Ceiling:
// memory bandwidth, since a vector takes two loads, one operation and a store.
//
// Arguments: any sizes. Nothing needs to be aligned. An output element may overwrite the input element in the same
// place.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <Arithmetic Which, class V>
FASTCONV_INLINE V compute(V a, V b) {
    switch (Which) {
    case Arithmetic::add:
        return a + b;
    case Arithmetic::subtract:
        return a - b;
    case Arithmetic::multiply:
        return a * b;
    case Arithmetic::divide:
        return a / b;
    case Arithmetic::maximum: // NaN if a or b is NaN
        return ((a > b) | (a != a)) ? a : b;
    default:
        return ((a < b) | (a != a)) ? a : b;
    }
}

/// Calls f(offset, part) for each vector of a row. `part` is 1 for a partial vector at the end of the row, else 0.
template <class T, class F>
FASTCONV_INLINE void each_vector(int64_t columns, const F& f) {
    int64_t i = 0;
    for (; i + width<T> <= columns; i += width<T>) f(i, Constant<0>{});
    if (i < columns) f(i, Constant<1>{});
}

template <class T, Arithmetic Which, bool AStep, bool BStep>
FASTCONV_INLINE void arithmetic_rows(const ArithmeticRows<T>& o) {
    for (int64_t r = 0; r < o.rows; ++r) {
        const T *a = o.a + r * o.a_row, *b = o.b + r * o.b_row;
        T* y = o.y + r * o.columns;
        const Vec<T> all_a = broadcast(*a), all_b = broadcast(*b);
        each_vector<T>(o.columns, [&](int64_t i, auto part) __attribute__((always_inline)) {
            constexpr bool Part = decltype(part)::value != 0;
            const int64_t count = o.columns - i;
            const Vec<T> left = AStep ? fetch<T, Part>(a + i, count) : all_a;
            const Vec<T> right = BStep ? fetch<T, Part>(b + i, count) : all_b;
            put<T, Part>(y + i, compute<Which>(left, right), count);
        });
    }
}

template <class T, Arithmetic Which>
void arithmetic(const ArithmeticRows<T>& o) {
    if (o.a_step == 0 && o.b_step == 0)
        arithmetic_rows<T, Which, false, false>(o);
    else if (o.a_step == 0)
        arithmetic_rows<T, Which, false, true>(o);
    else if (o.b_step == 0)
        arithmetic_rows<T, Which, true, false>(o);
    else
        arithmetic_rows<T, Which, true, true>(o);
}

template <class T, bool Scale, bool Shift>
FASTCONV_INLINE void scale_shift_rows(const T* x, const T* scale, const T* shift, T* y, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; ++r) {
        each_vector<T>(columns, [&](int64_t i, auto part) __attribute__((always_inline)) {
            constexpr bool Part = decltype(part)::value != 0;
            const int64_t count = columns - i, at = r * columns + i;
            Vec<T> value = fetch<T, Part>(x + at, count);
            if (Scale) value *= fetch<T, Part>(scale + i, count);
            if (Shift) value += fetch<T, Part>(shift + i, count);
            put<T, Part>(y + at, value, count);
        });
    }
}

template <class T>
void scale_shift(const T* x, const T* scale, const T* shift, T* y, int64_t rows, int64_t columns) {
    if (scale && shift)
        scale_shift_rows<T, true, true>(x, scale, shift, y, rows, columns);
    else if (scale)
        scale_shift_rows<T, true, false>(x, scale, shift, y, rows, columns);
    else if (shift)
        scale_shift_rows<T, false, true>(x, scale, shift, y, rows, columns);
    else if (y != x)
        scale_shift_rows<T, false, false>(x, scale, shift, y, rows, columns);
}

template <class T>
void add_functions(KernelsOf<T>& table) {
    table.arithmetic[0] = arithmetic<T, Arithmetic::add>;
    table.arithmetic[1] = arithmetic<T, Arithmetic::subtract>;
    table.arithmetic[2] = arithmetic<T, Arithmetic::multiply>;
    table.arithmetic[3] = arithmetic<T, Arithmetic::divide>;
    table.arithmetic[4] = arithmetic<T, Arithmetic::maximum>;
    table.arithmetic[5] = arithmetic<T, Arithmetic::minimum>;
    table.scale_shift = scale_shift<T>;
}

} // namespace

void add_elementwise(KernelTable& table) {
    add_functions(table.f32);
    add_functions(table.f64);
}

} // namespace FASTCONV_ISA
} // namespace fastconv
