// Sums of columns: the gradient of a bias. With features, the same pass applies the gradient of a ReLU first.
//
// Vectorised over columns. The sums of up to four vectors of columns sit in registers, two or four sums for each
// column: consecutive rows go to different sums, so that additions do not wait for each other. At the end these sums
// are added. Ceiling: memory bandwidth, since each vector takes one load and one addition (with features another load
// and a store).
//
// Arguments: any number of rows and columns. Nothing needs to be aligned.
//
// Rounding: a column is two or four chains of additions, each over its share of the rows.
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T, bool Masked, int Vectors, bool Part>
FASTCONV_INLINE void sum_columns(const ColumnSums<T>& a, int64_t column, int64_t count) {
    constexpr int alternate = Vectors > 2 ? 2 : 4;
    Vec<T> sum[alternate][Vectors];
    FASTCONV_UNROLL
    for (int i = 0; i < alternate * Vectors; ++i) sum[i / Vectors][i % Vectors] = Vec<T>{};
    const auto add = [&](int64_t r, Vec<T>* to) __attribute__((always_inline)) {
        FASTCONV_UNROLL
        for (int v = 0; v < Vectors; ++v) {
            const int64_t at = r * a.row + column + v * width<T>;
            Vec<T> value = Part ? load_part(a.x + at, count) : load(a.x + at);
            if (Masked) {
                const Vec<T> feature = Part ? load_part(a.features + at, count) : load(a.features + at);
                value = feature > Vec<T>{} ? value : Vec<T>{};
                if (Part)
                    store_part(a.masked + at, value, count);
                else
                    store(a.masked + at, value);
            }
            to[v] += value;
        }
    };
    int64_t r = 0;
    for (; r + alternate <= a.rows; r += alternate) {
        FASTCONV_UNROLL
        for (int i = 0; i < alternate; ++i) add(r + i, sum[i]);
    }
    for (; r < a.rows; ++r) add(r, sum[0]);
    FASTCONV_UNROLL
    for (int v = 0; v < Vectors; ++v) {
        Vec<T> total = sum[0][v] + sum[1][v];
        if (alternate == 4) total += sum[alternate - 2][v] + sum[alternate - 1][v];
        if (Part)
            store_part(a.sums + column + v * width<T>, total, count);
        else
            store(a.sums + column + v * width<T>, total);
    }
}

template <class T, bool Masked>
FASTCONV_INLINE void sum_all(const ColumnSums<T>& a) {
    int64_t c = 0;
    for (; c + 4 * width<T> <= a.columns; c += 4 * width<T>) sum_columns<T, Masked, 4, false>(a, c, 0);
    const int64_t vectors = (a.columns - c) / width<T>;
    if (vectors == 3) sum_columns<T, Masked, 3, false>(a, c, 0);
    if (vectors == 2) sum_columns<T, Masked, 2, false>(a, c, 0);
    if (vectors == 1) sum_columns<T, Masked, 1, false>(a, c, 0);
    c += vectors * width<T>;
    if (c < a.columns) sum_columns<T, Masked, 1, true>(a, c, a.columns - c);
}

template <class T>
void column_sums(const ColumnSums<T>& a) {
    if (a.features)
        sum_all<T, true>(a);
    else
        sum_all<T, false>(a);
}

} // namespace

void add_bias_gradient(KernelTable& table) {
    table.f32.column_sums = column_sums<float>;
    table.f64.column_sums = column_sums<double>;
}

} // namespace FASTCONV_ISA
} // namespace fastconv
