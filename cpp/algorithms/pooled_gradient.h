// The gradients of a convolution, computed from the gradient of the max pooling of its output.
//
// Only one pixel of each pooling window has a gradient. With 2x2 windows, this saves three quarters of the products.
// The gradient of the convolution's output is mostly zeros and is never written.
#pragma once

#include "algorithms/max_pool_fused_plan.h"
#include "kernels/table.h"

#include <cstdint>

namespace fastconv {

/// Computes one image at a time. `taps` and `grad` are those of the image's pooled output.
template <class T>
class PooledGradient {
  public:
    PooledGradient(const ConvProblem& problem, const PoolProblem& pool, const MaxPoolFusedPlan& plan);

    /// The table that input_gradient reads for every image: each filter, shifted by each tap inside a patch of zeros.
    std::int64_t shifts_size() const { return geometry_.shifts_size; }
    void fill_shifts(const T* filters, T* shifts) const;
    void input_gradient(const T* shifts, const std::uint8_t* taps, const T* grad, T* dx) const;

    /// The table that add_filter_gradient reads for every image. It may be empty.
    std::int64_t elements_size() const;
    void fill_elements(std::int32_t* elements) const;
    std::int64_t sums_size() const { return problem_.k * geometry_.column; }
    /// Adds the image's gradient to `sums`, which holds a column for each filter, sums_size() values in all. At least
    /// `following` values after the image may be read.
    void add_filter_gradient(const std::int32_t* elements, const T* input, std::int64_t following,
                             const std::uint8_t* taps, const T* grad, T* sums) const;
    /// Transposes the sums to the order of filters.
    void sums_to_filters(const T* sums, T* filters) const;

  private:
    /// Copies the part of the input that the kernels read, with its padding, and appends `more` zeros.
    void copy_with_padding(const T* input, std::int64_t more, T* to) const;
    void copy_without_padding(const T* padded, T* dx) const;
    /// Sums over all windows. The caller sets everything in `some` that is the same for all rows.
    void add_products(PooledProducts<T> some, const std::uint8_t* taps, const T* grad) const;

    const ConvProblem& problem_;
    const PoolProblem& pool_;
    const PooledGeometry& geometry_;
    const PooledFilterKernel filter_kernel_;
    const KernelsOf<T>& kernels_;
    const std::int64_t taps_count_;
};

} // namespace fastconv
