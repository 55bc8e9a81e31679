// The gradients of a convolution whose output went into a max pooling and nowhere else.
//
// In small layers, writing and reading the gradient of the convolution's output takes more time than the sums. With 2x2
// windows, this gradient is four times as large as the pooled gradient, and mostly zeros. It leaves the caches before
// the convolution's input gradient and filter gradient read it. Here one parallel_for computes both gradients. A task
// takes a few images at a time, and computes each of the two gradients in one of two ways:
//
// - from the pooled gradient: sums over one value for each filter and pooling window (PooledGradient);
// - from the gradient of the convolution's output, which is scattered into scratch memory first.
#include "algorithms/max_pool_fused_plan.h"
#include "algorithms/max_pool_taps.h"
#include "algorithms/pooled_gradient.h"
#include "core/for_type.h"
#include "core/isa.h"
#include "core/numbers.h"
#include "core/partial_sums.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"
#include "fastconv/elementwise.h"
#include "fastconv/pooling.h"
#include "operations/conv_plan.h"

#include <algorithm>
#include <cstddef>
#include <memory>

namespace fastconv {
namespace {

/// The caller's tensors, or parts of them.
template <class T>
struct Tensors {
    const T* input;
    const T* filters;
    const std::uint8_t* taps;
    const T* grad;
    T* input_backprop; // may be null
    T* filter_backprop;
    T* bias_backprop;
};

template <class T>
class FusedBackward {
  public:
    FusedBackward(const ConvProblem& problem, const PoolProblem& pool, const MaxPoolFusedPlan& plan,
                  const Tensors<T>& tensors)
        : problem_(problem), pool_(pool), plan_(plan), tensors_(tensors), kernels_(kernels<T>()),
          image_(problem.h * problem.w * problem.c), pooled_(pool.p * pool.q * pool.c),
          filter_values_(filter_values(problem)), packed_(problem.dtype, problem.filter_dims(), tensors.filters),
          gradient_(problem, pool, plan), input_from_pooled_(tensors.input_backprop && plan.pooled_input_gradient &&
                                                             kernels_.all_finite(tensors.filters, filter_values_)),
          filters_from_pooled_(plan.filter_kernel != PooledFilterKernel::none),
          shifts_(input_from_pooled_ ? gradient_.shifts_size() : 0),
          elements_(filters_from_pooled_ ? gradient_.elements_size() : 0) {
        if (input_from_pooled_) gradient_.fill_shifts(tensors.filters, shifts_.get());
        if (filters_from_pooled_) gradient_.fill_elements(elements_.get());
    }

    void run() const {
        const std::int64_t parts = plan_.parts, values = filter_values_, n = problem_.n;
        const Scratch<T> sums(parts * values), bias(parts * problem_.k);
        const double work = (tensors_.input_backprop ? 4.0 : 2.0) * static_cast<double>(n * problem_.p * problem_.q) *
                            static_cast<double>(values);
        parallel_for(parts, work, [&](std::int64_t part) {
            compute_part(part_start(part, parts, n), part_start(part + 1, parts, n), sums.get() + part * values,
                         bias.get() + part * problem_.k);
        });
        std::fill_n(tensors_.filter_backprop, values, T{});
        add_partials(parts, values, sums.get(), tensors_.filter_backprop);
        sum_in_double(parts, problem_.k, bias.get(), tensors_.bias_backprop);
    }

  private:
    /// Computes the gradients of images [first, end). Those of the filters and the bias go to `sums` and `bias`.
    void compute_part(std::int64_t first, std::int64_t end, T* sums, T* bias) const {
        std::fill_n(sums, filter_values_, T{});
        const Scratch<T> by_filter(filters_from_pooled_ ? gradient_.sums_size() : 0), filter_gradient(filter_values_);
        for (std::int64_t n = first; n < end; n += plan_.images) {
            compute_images(n, std::min(plan_.images, end - n), by_filter.get(), filter_gradient.get());
            add_partials(1, filter_values_, filter_gradient.get(), sums);
        }
        // One pixel of a window gets the window's gradient. Which pixel it is makes no difference for the bias.
        Dims dims = pool_.output_dims();
        dims[0] = end - first;
        bias_gradient(problem_.dtype, problem_.format, dims, tensors_.grad + first * pooled_, nullptr, nullptr, bias);
    }

    Tensors<T> from_image(std::int64_t n) const {
        Tensors<T> result = tensors_;
        result.input += n * image_;
        result.taps += n * pooled_;
        result.grad += n * pooled_;
        if (result.input_backprop) result.input_backprop += n * image_;
        return result;
    }

    void compute_images(std::int64_t n, std::int64_t count, T* by_filter, T* filter_gradient) const {
        Tensors<T> images = from_image(n);
        images.filter_backprop = filter_gradient;
        // 0 times infinity is NaN. If a value is not finite, compute all products, as the separate operations do.
        const bool finite =
            (input_from_pooled_ || filters_from_pooled_) && kernels_.all_finite(images.grad, count * pooled_);
        const bool input_from_pooled = input_from_pooled_ && finite;
        const bool filters_from_pooled =
            filters_from_pooled_ && finite && kernels_.all_finite(images.input, count * image_);
        // Compute one gradient for all images, then the other, because each repeatedly reads a table that fills L1.
        if (filters_from_pooled) {
            std::fill_n(by_filter, gradient_.sums_size(), T{});
            for (std::int64_t i = n; i < n + count; ++i) {
                const Tensors<T> image = from_image(i);
                gradient_.add_filter_gradient(elements_.get(), image.input, (problem_.n - 1 - i) * image_, image.taps,
                                              image.grad, by_filter);
            }
            gradient_.sums_to_filters(by_filter, filter_gradient);
        }
        for (std::int64_t i = n; input_from_pooled && i < n + count; ++i) {
            const Tensors<T> image = from_image(i);
            gradient_.input_gradient(shifts_.get(), image.taps, image.grad, image.input_backprop);
        }
        scatter(count, images, !filters_from_pooled, images.input_backprop && !input_from_pooled);
    }

    /// Computes the chosen gradients from the gradient of the convolution's output.
    void scatter(std::int64_t count, const Tensors<T>& images, bool filters, bool input) const {
        if (!filters && !input) return;
        ConvProblem problem = problem_;
        PoolProblem pool = pool_;
        problem.n = pool.n = count;
        const Scratch<T> dy(count * problem.p * problem.q * problem.k);
        max_pool2d_scatter(pool, images.taps, images.grad, dy.get());
        if (filters) conv2d_backprop_filter(problem, images.input, dy.get(), images.filter_backprop);
        if (input) conv2d_backprop_input(problem, packed_, dy.get(), images.input_backprop);
    }

    const ConvProblem& problem_;
    const PoolProblem& pool_;
    const MaxPoolFusedPlan& plan_;
    const Tensors<T>& tensors_;
    const KernelsOf<T>& kernels_;
    const std::int64_t image_, pooled_, filter_values_;
    const PackedFilters packed_; // packed once, used by all parts
    const PooledGradient<T> gradient_;
    const bool input_from_pooled_, filters_from_pooled_; // the choice if all values are finite
    const Scratch<T> shifts_;
    const Scratch<std::int32_t> elements_;
};

/// For large layers, whose partial sums would not fit into the caches. Each operation uses all threads.
void one_by_one(const ConvProblem& o, const PoolProblem& pool, const Tensors<void>& tensors) {
    const Scratch<std::byte> dy(o.n * o.p * o.q * o.k * size_of(o.dtype));
    max_pool2d_scatter(pool, tensors.taps, tensors.grad, dy.get());
    if (tensors.input_backprop) conv2d_backprop_input(o, tensors.filters, dy.get(), tensors.input_backprop);
    conv2d_backprop_filter(o, tensors.input, dy.get(), tensors.filter_backprop);
    bias_gradient(o.dtype, o.format, pool.output_dims(), tensors.grad, nullptr, nullptr, tensors.bias_backprop);
}

/// The gradients if there are no images, no pooled output or no filters.
void all_zeros(const ConvProblem& o, const Tensors<void>& tensors) {
    const auto zeros = [&](void* to, std::int64_t count) {
        std::fill_n(static_cast<std::byte*>(to), count * size_of(o.dtype), std::byte{});
    };
    if (tensors.input_backprop) zeros(tensors.input_backprop, o.n * o.h * o.w * o.c);
    zeros(tensors.filter_backprop, filter_values(o));
    zeros(tensors.bias_backprop, o.k);
}

template <class T>
Tensors<T> typed(const Tensors<void>& tensors) {
    return {static_cast<const T*>(tensors.input),
            static_cast<const T*>(tensors.filters),
            tensors.taps,
            static_cast<const T*>(tensors.grad),
            static_cast<T*>(tensors.input_backprop),
            static_cast<T*>(tensors.filter_backprop),
            static_cast<T*>(tensors.bias_backprop)};
}

struct CachedPlan : Plan {
    explicit CachedPlan(const MaxPoolFusedPlan& made) : decisions(made) {}
    const MaxPoolFusedPlan decisions;
};

PlanPointer cached_max_pool_plan(const ConvProblem& problem, const PoolProblem& pool) {
    PlanKey key;
    add_setting(key, PlanKind::max_pool_fused_backward);
    add_problem(key, problem);
    key.add(pool.r, pool.s, pool.p, pool.q, pool.stride_h, pool.stride_w, pool.pad_top, pool.pad_bottom, pool.pad_left,
            pool.pad_right);
    return cached_plan(key, [&] { return std::make_shared<CachedPlan>(plan_max_pool_fused(problem, pool)); });
}

} // namespace

void conv2d_max_pool2d_backprop(const ConvProblem& problem, const PoolProblem& pool, const void* input,
                                const void* filters, const std::uint8_t* taps, const void* grad, const void* output,
                                void* input_backprop, void* filter_backprop, void* bias_backprop) {
    check_pool_of_output(problem, pool);
    Tensors<void> tensors{input, filters, taps, grad, input_backprop, filter_backprop, bias_backprop};
    if (problem.n == 0 || pool.p == 0 || pool.q == 0 || pool.c == 0)
        return all_zeros(problem, tensors); // otherwise the loop over images would run without computing anything
    const std::int64_t pooled_bytes = pool.n * pool.p * pool.q * pool.c * size_of(pool.dtype);
    const Scratch<std::byte> masked(output != nullptr ? pooled_bytes : 0);
    if (output != nullptr) {
        bias_gradient(pool.dtype, pool.format, pool.output_dims(), grad, output, masked.get(), nullptr);
        tensors.grad = masked.get();
    }
    const PlanPointer cached = cached_max_pool_plan(problem, pool);
    const MaxPoolFusedPlan& plan = static_cast<const CachedPlan&>(*cached).decisions;
    if (!plan.fused) return one_by_one(problem, pool, tensors);
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        const Tensors<T> operands = typed<T>(tensors);
        FusedBackward<T>(problem, pool, plan, operands).run();
    });
}

} // namespace fastconv
