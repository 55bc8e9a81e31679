// Calls the kernels of kernels/max_pool_fused_backward.cpp.
#include "algorithms/pooled_gradient.h"

#include "algorithms/padded_tile.h"

#include "core/isa.h"
#include "core/workspace.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace fastconv {
namespace {

// The most windows in one chain of additions, unless a row has more. It bounds the rounding error.
constexpr std::int64_t kLongestChain = 64;

} // namespace

template <class T>
PooledGradient<T>::PooledGradient(const ConvProblem& problem, const PoolProblem& pool, const MaxPoolFusedPlan& plan)
    : problem_(problem), pool_(pool), geometry_(plan.geometry), filter_kernel_(plan.filter_kernel),
      kernels_(kernels<T>()), taps_count_(pool.r * pool.s) {}

template <class T>
void PooledGradient<T>::fill_shifts(const T* filters, T* shifts) const {
    const ConvProblem& o = problem_;
    const PooledGeometry& g = geometry_;
    const std::int64_t window = o.r * o.s * o.c, run = o.s * o.c;
    const Scratch<T> by_filter(o.k * window);
    kernels_.transpose(filters, o.k, by_filter.get(), window, window, o.k);
    std::fill_n(shifts, g.shifts_size, T{});
    for (std::int64_t tap = 0; tap < taps_count_; ++tap)
        for (std::int64_t k = 0; k < o.k; ++k)
            for (std::int64_t i = 0; i < o.r; ++i) {
                T* const patch = shifts + (tap * o.k + k) * g.patch;
                std::copy_n(by_filter.get() + k * window + i * run, run,
                            patch + (tap / pool_.s + i) * g.patch_row + tap % pool_.s * o.c);
            }
}

template <class T>
void PooledGradient<T>::input_gradient(const T* shifts, const std::uint8_t* taps, const T* grad, T* dx) const {
    const ConvProblem& o = problem_;
    const PooledGeometry& g = geometry_;
    const Scratch<T> padded(g.padded ? g.lines * g.line : 0), patches(pool_.p * pool_.q * g.patch);
    T* const sums = g.padded ? padded.get() : dx;
    const std::int64_t sums_row = g.padded ? g.line : o.w * o.c;
    std::fill_n(sums, g.padded ? g.lines * g.line : o.h * sums_row, T{});
    PooledPatches<T> all{};
    all.taps = taps;
    all.grad = grad;
    all.windows = pool_.p * pool_.q;
    all.filters = o.k;
    all.taps_count = taps_count_;
    all.shifts = shifts;
    all.tap_step = o.k * g.patch;
    all.patches = patches.get();
    all.patch = g.patch;
    kernels_.pooled_patches(all);
    kernels_.add_patches({patches.get(), g.patch, g.patch_rows, g.patch_row, pool_.p, pool_.q, sums, sums_row,
                          pool_.stride_h * sums_row, pool_.stride_w * o.c});
    if (g.padded) copy_without_padding(padded.get(), dx);
}

template <class T>
void PooledGradient<T>::copy_without_padding(const T* padded, T* dx) const {
    const ConvProblem& o = problem_;
    const PooledGeometry& g = geometry_;
    std::fill_n(dx, o.h * o.w * o.c, T{});
    const std::int64_t rows = std::min(o.h, g.lines - o.pad_top);
    const std::int64_t columns = std::min(o.w, g.line / o.c - o.pad_left);
    for (std::int64_t y = 0; y < rows; ++y)
        if (columns > 0)
            std::copy_n(padded + (y + o.pad_top) * g.line + o.pad_left * o.c, columns * o.c, dx + y * o.w * o.c);
}

template <class T>
std::int64_t PooledGradient<T>::elements_size() const {
    return filter_kernel_ == PooledFilterKernel::spreads ? taps_count_ * kernels_.width : 0;
}

template <class T>
void PooledGradient<T>::fill_elements(std::int32_t* elements) const {
    const std::int64_t width = kernels_.width, run = problem_.s * problem_.c;
    for (std::int64_t i = 0; i < elements_size(); ++i) {
        const std::int64_t tap = i / width, row = i % width / run, value = i % width % run;
        const std::int64_t element = (tap / pool_.s + row) * kSpreadRowValues + tap % pool_.s * problem_.c + value;
        elements[i] = static_cast<std::int32_t>(std::min(element, width - 1)); // beyond the window, any element will do
    }
}

template <class T>
void PooledGradient<T>::copy_with_padding(const T* input, std::int64_t more, T* to) const {
    const std::int64_t size = geometry_.lines * geometry_.line;
    fill_padded_tile(windows_of(problem_), geometry_.covered, input, problem_.c, problem_.c, to);
    std::fill_n(to + size, more, T{});
}

template <class T>
void PooledGradient<T>::add_filter_gradient(const std::int32_t* elements, const T* input, std::int64_t following,
                                            const std::uint8_t* taps, const T* grad, T* sums) const {
    const ConvProblem& o = problem_;
    const PooledGeometry& g = geometry_;
    const std::int64_t read_after = std::max(kernels_.width, kMostRunValues); // most values read after the end
    const bool in_place = !g.padded && following >= read_after;
    const Scratch<T> padded(in_place ? 0 : g.lines * g.line + read_after);
    if (!in_place) copy_with_padding(input, read_after, padded.get());
    const T* const x = in_place ? input : padded.get();
    const std::int64_t x_row = in_place ? o.w * o.c : g.line;
    const bool in_columns = filter_kernel_ == PooledFilterKernel::products;
    const Scratch<T> columns(in_columns ? g.columns_size : 0);
    if (in_columns)
        kernels_.window_columns(
            {x, x_row, o.c, g.covered.rows, g.covered.columns, o.r, o.s * o.c, columns.get(), g.column});
    // How far the input of an output pixel of the convolution is from that of the pixel below it, and of the pixel to
    // its right.
    const std::int64_t down = in_columns ? g.covered.columns * g.column : x_row, right = in_columns ? g.column : o.c;
    std::array<std::ptrdiff_t, max_pool_taps> offsets{};
    for (std::int64_t tap = 0; tap < taps_count_; ++tap)
        offsets[static_cast<std::size_t>(tap)] = tap / pool_.s * down + tap % pool_.s * right;
    PooledProducts<T> some{};
    some.windows = pool_.q;
    some.filters = o.k;
    some.taps_count = taps_count_;
    some.x = in_columns ? columns.get() : x;
    some.row = pool_.stride_h * down;
    some.step = pool_.stride_w * right;
    some.x_row = x_row;
    some.offsets = offsets.data();
    some.elements = elements;
    some.runs = o.r;
    some.run = o.s * o.c;
    some.sums = sums;
    some.column = g.column;
    add_products(some, taps, grad);
}

template <class T>
void PooledGradient<T>::add_products(PooledProducts<T> some, const std::uint8_t* taps, const T* grad) const {
    const auto kernel = filter_kernel_ == PooledFilterKernel::spreads ? kernels_.pooled_spreads
                        : filter_kernel_ == PooledFilterKernel::runs  ? kernels_.pooled_runs
                                                                      : kernels_.pooled_products;
    const T* const x = some.x;
    const std::int64_t rows = std::max<std::int64_t>(1, kLongestChain / pool_.q), row_values = pool_.q * problem_.k;
    for (std::int64_t row = 0; row < pool_.p; row += rows) {
        some.rows = std::min(rows, pool_.p - row);
        some.taps = taps + row * row_values;
        some.grad = grad + row * row_values;
        some.x = x + row * some.row;
        kernel(some);
    }
}

template <class T>
void PooledGradient<T>::sums_to_filters(const T* sums, T* filters) const {
    const std::int64_t k = problem_.k;
    kernels_.transpose(sums, geometry_.column, filters, k, k, filter_values(problem_) / k);
}

template class PooledGradient<float>;
template class PooledGradient<double>;

} // namespace fastconv
