#include "algorithms/epilogue.h"

#include "core/isa.h"
#include "core/threads/parallel_for.h"

#include <algorithm>
#include <cstddef>

namespace fastconv {
namespace {

static_assert(activation_kernels == activation_count, "a kernel for each activation");

constexpr std::int64_t kTaskValues = 16 << 10;

template <class T>
FinishRows<T> rows_at(const Operands<T>& operands, std::ptrdiff_t start) {
    FinishRows<T> rows{};
    rows.x = rows.y = operands.output + start;
    rows.residual = operands.residual ? operands.residual + start : nullptr;
    rows.alpha = operands.alpha;
    rows.beta = operands.beta;
    return rows;
}

template <class T>
void finish(const Operands<T>& operands, const FinishRows<T>& rows) {
    kernels<T>().finish_rows[static_cast<std::size_t>(operands.activation)](rows);
}

} // namespace

template <class T>
void finish_stored_tile(const Correlation& g, const Operands<T>& operands, std::int64_t image, std::int64_t group,
                        const Tile& tile, std::int64_t k0, std::int64_t channels) {
    FinishRows<T> rows = rows_at(operands, g.output_start + image * g.out_image + group * g.out_group +
                                               tile.y0 * g.out_row + tile.x0 * g.out_pixel + k0);
    rows.y_row = g.out_row;
    rows.y_step = g.out_pixel;
    rows.rows = tile.rows;
    rows.pixels = tile.columns;
    rows.channels = channels;
    finish(operands, rows);
}

template <class T>
void finish_stored_planes(const Operands<T>& operands, std::int64_t start, std::int64_t planes, std::int64_t plane,
                          std::int64_t rows, std::int64_t row, std::int64_t columns) {
    FinishRows<T> values = rows_at(operands, start);
    values.y_row = plane; // to the kernel, a plane is a row, and a row of a plane is a pixel of many channels
    values.y_step = row;
    values.rows = planes;
    values.pixels = rows;
    values.channels = columns;
    finish(operands, values);
}

template <class T>
void finish_values(const Operands<T>& operands, std::int64_t start, std::int64_t count) {
    if (!operands.finishes()) return;
    parallel_for(ceil_div(count, kTaskValues), static_cast<double>(8 * count), [&](std::int64_t task) {
        const std::int64_t first = task * kTaskValues;
        FinishRows<T> rows = rows_at(operands, start + first);
        rows.y_step = rows.channels = std::min(kTaskValues, count - first);
        rows.rows = rows.pixels = 1;
        finish(operands, rows);
    });
}

double empty_sum_values(const Correlation& g) { return static_cast<double>(g.windows.q * g.groups * g.k); }

Tasks empty_sum_tasks(const Correlation& g) {
    const std::int64_t rows = g.n * g.windows.p;
    return moving_tasks(rows, rows * g.windows.q * g.groups * g.k);
}

template <class T>
void write_empty_sums(const Correlation& g, const Operands<T>& operands) {
    const Windows& a = g.windows;
    const std::int64_t channels = g.groups * g.k;
    const T* const bias = g.finish && operands.bias ? operands.bias + g.bias_start : nullptr;
    const Bounds<T> bounds = g.finish ? operands.kernel_bounds() : Bounds<T>{};
    parallel_for(empty_sum_tasks(g), [&](std::int64_t task) {
        const std::int64_t n = task / a.p, y = task % a.p;
        T* const row = operands.output + g.output_start + n * g.out_image + y * g.out_row;
        for (std::int64_t x = 0; x < a.q; ++x) {
            T* const pixel = row + x * g.out_pixel;
            if (bias == nullptr)
                std::fill_n(pixel, channels, within(bounds, T{}));
            else
                std::transform(bias, bias + channels, pixel, [&](T value) { return within(bounds, value); });
        }
        finish_tile(g, operands, n, 0, {y, 1, 0, a.q}, 0, channels);
    });
}

#define FASTCONV_EPILOGUE(T)                                                                                           \
    template void finish_stored_tile(const Correlation&, const Operands<T>&, std::int64_t, std::int64_t, const Tile&,  \
                                     std::int64_t, std::int64_t);                                                      \
    template void finish_stored_planes(const Operands<T>&, std::int64_t, std::int64_t, std::int64_t, std::int64_t,     \
                                       std::int64_t, std::int64_t);                                                    \
    template void finish_values(const Operands<T>&, std::int64_t, std::int64_t);                                       \
    template void write_empty_sums(const Correlation&, const Operands<T>&);
FASTCONV_EPILOGUE(float)
FASTCONV_EPILOGUE(double)

} // namespace fastconv
