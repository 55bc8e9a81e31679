// The gradient of batch normalisation.
//
// d is the gradient before the activation. The first pass sums d and d*(x - mean) for each channel, as
// bias_gradient.cpp sums: chunks of rows in the data type, the sums of the chunks in double. The second pass computes
// the gradient of the input. With given statistics, that needs no sums, so one pass computes everything.
//
// If the activation only bounds values and there is no residual, both passes recompute the normalised value and see
// where it was bounded. Else the first pass stores d, which is the gradient of the residual. Without a residual, d
// takes the place of the input's gradient until the second pass.
#include "algorithms/batch_norm.h"

#include "core/for_type.h"
#include "core/partial_sums.h"

#include <algorithm>
#include <vector>

namespace fastconv {
namespace {

template <class T>
class Gradient {
  public:
    Gradient(const BatchNormProblem& problem, const BatchNormInputs& inputs, const T* mean, const T* variance,
             const BatchNormGradients& gradients, const BatchNormInputGradients& results, bool given_statistics)
        : problem_(problem), inputs_(inputs), variance_(variance), gradients_(gradients), results_(results),
          given_statistics_(given_statistics), all_(problem, kernels<T>().width),
          numbers_(problem, all_, inputs, mean, variance), x_(static_cast<const T*>(inputs.input)),
          grad_(static_cast<const T*>(gradients.output)), dx_(static_cast<T*>(results.input)),
          stores_d_(inputs.residual != nullptr || !is_bound(problem.activation)),
          d_(results.residual != nullptr ? static_cast<T*>(results.residual) : dx_) {}

    void run() {
        const auto channels = static_cast<std::size_t>(problem_.channels);
        std::vector<double> sums(channels), products(channels);
        sum(sums.data(), products.data());
        auto *const scale = static_cast<T*>(results_.scale), *const offset = static_cast<T*>(results_.offset);
        for (std::size_t c = 0; c < channels; ++c) {
            offset[c] = static_cast<T>(sums[c]);
            scale[c] = static_cast<T>(products[c] * ColumnNumbers<T>::inverse_deviation(problem_, variance_[c]));
        }
        if (!given_statistics_) compute_input_gradient(sums.data(), products.data());
    }

  private:
    // ---- First pass

    void sum(double* sums, double* products) const {
        const RowParts parts(all_);
        const std::int64_t count = parts.parts * all_.columns;
        const Scratch<double> totals(2 * count);
        parallel_for(parts.parts, 4 * static_cast<double>(all_.size()), [&](std::int64_t part) {
            double* const to = totals.get() + part * all_.columns;
            sum_part(parts, part, to, to + count);
        });
        const std::int64_t of_channel = parts.sums_of_channel(), step = parts.sum_step();
        for (std::int64_t c = 0; c < all_.channels; ++c) {
            const double* const from = totals.get() + c * parts.channel_step();
            sums[c] = products[c] = 0;
            for (std::int64_t i = 0; i < of_channel; ++i) {
                sums[c] += from[i * step];
                products[c] += from[count + i * step];
            }
        }
    }

    void sum_part(const RowParts& parts, std::int64_t part, double* sums, double* products) const {
        const std::int64_t columns = all_.columns, number = parts.first_number(part);
        std::fill_n(sums, columns, 0.0);
        std::fill_n(products, columns, 0.0);
        std::vector<T> of_chunk(static_cast<std::size_t>(2 * columns));
        T *const first = of_chunk.data(), *const second = first + columns;
        parts.each_chunk(
            part,
            [&](std::int64_t at, std::int64_t rows, std::int64_t some) {
                if (!stores_d_ && !given_statistics_) return sum_piece(at, rows, some, number, first, second);
                each_piece(at, rows, some, [&](std::int64_t piece, std::int64_t piece_rows) {
                    sum_piece(piece, piece_rows, some, number, first, second);
                });
            },
            [&] {
                for (std::int64_t i = 0; i < columns; ++i) {
                    sums[i] += static_cast<double>(first[i]);
                    products[i] += static_cast<double>(second[i]);
                }
                std::fill(of_chunk.begin(), of_chunk.end(), T{});
            });
    }

    void sum_piece(std::int64_t at, std::int64_t rows, std::int64_t columns, std::int64_t number, T* sums,
                   T* products) const {
        const ColumnTransform<T> z = numbers_.from(number);
        const T* gradient = grad_;
        if (stores_d_) {
            kernels<T>().normalize_columns(linear_rows(z, inputs_, at, rows, columns, d_ + at));
            multiply_by_derivative(problem_.activation, d_ + at, grad_ + at, d_ + at, rows * columns);
            gradient = d_;
        }
        const Bounds<T> bounds = bounds_of<T>(problem_.activation);
        kernels<T>().norm_gradient_sums({z, x_ + at, gradient + at, masked(), bounds.low, largest_unbounded(bounds),
                                         rows, columns, sums, products});
        if (given_statistics_) write_input_gradient(at, rows, columns, number, nullptr, nullptr);
    }

    /// Whether the kernels find out where the activation bounded values.
    bool masked() const { return !stores_d_ && problem_.activation.kind != Activation::linear; }

    // ---- Second pass

    /// The input's gradient is d*scale + (x - mean)*x_factor + shift. With n values in a channel and s =
    /// 1/sqrt(variance + epsilon), the mean contributes (grad_mean - scale*sum(d))/n, and the variance contributes
    /// (2*grad_variance - scale*s^2*sum(d*(x - mean)))*(x - mean)/n.
    void compute_input_gradient(const double* sums, const double* products) const {
        const auto* const scale = static_cast<const T*>(inputs_.scale);
        const auto *const grad_mean = static_cast<const T*>(gradients_.mean), *const grad_variance =
                                                                                  static_cast<const T*>(
                                                                                      gradients_.variance);
        const double n = static_cast<double>(problem_.count());
        const std::int64_t count = all_.numbers();
        const Scratch<T> factors(2 * count);
        T *const x_factor = factors.get(), *const shift = x_factor + count;
        for (std::int64_t c = 0; c < all_.channels; ++c) {
            const double s = ColumnNumbers<T>::inverse_deviation(problem_, variance_[c]);
            const double factor = (scale ? static_cast<double>(scale[c]) : 1.0) * s;
            double of_mean = -factor * sums[c], of_variance = -factor * s * s * products[c];
            if (grad_mean) of_mean += static_cast<double>(grad_mean[c]);
            if (grad_variance) of_variance += 2 * static_cast<double>(grad_variance[c]);
            all_.repeat(c, static_cast<T>(of_variance / n), x_factor);
            all_.repeat(c, static_cast<T>(of_mean / n), shift);
        }
        each_row_block(all_, 4, [&](std::int64_t at, std::int64_t rows, std::int64_t columns, std::int64_t number) {
            write_input_gradient(at, rows, columns, number, x_factor + number, shift + number);
        });
    }

    void write_input_gradient(std::int64_t at, std::int64_t rows, std::int64_t columns, std::int64_t number,
                              const T* x_factor, const T* shift) const {
        const Bounds<T> bounds = bounds_of<T>(problem_.activation);
        const T* const gradient = stores_d_ ? d_ : grad_;
        kernels<T>().norm_input_gradient({numbers_.from(number), x_ + at, gradient + at, x_factor, shift, masked(),
                                          bounds.low, largest_unbounded(bounds), rows, columns, dx_ + at,
                                          bypasses_caches<T>(all_) && gradient != dx_});
    }

    const BatchNormProblem& problem_;
    const BatchNormInputs& inputs_;
    const T* variance_;
    const BatchNormGradients& gradients_;
    const BatchNormInputGradients& results_;
    const bool given_statistics_;
    const ChannelRows all_;
    const ColumnNumbers<T> numbers_;
    const T *x_, *grad_;
    T* dx_;
    const bool stores_d_;
    T* d_;
};

void compute(const BatchNormProblem& problem, const BatchNormInputs& inputs, const void* mean, const void* variance,
             const BatchNormGradients& gradients, const BatchNormInputGradients& results, bool given_statistics) {
    if (problem.channels == 0) return;
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        Gradient<T>(problem, inputs, static_cast<const T*>(mean), static_cast<const T*>(variance), gradients, results,
                    given_statistics)
            .run();
    });
}

} // namespace

void batch_norm_grad(const BatchNormProblem& problem, const BatchNormInputs& inputs, const void* mean,
                     const void* variance, const BatchNormGradients& gradients,
                     const BatchNormInputGradients& results) {
    compute(problem, inputs, mean, variance, gradients, results, false);
}

void batch_norm_inference_grad(const BatchNormProblem& problem, const BatchNormInputs& inputs, const void* mean,
                               const void* variance, const void* grad, const BatchNormInputGradients& results) {
    compute(problem, inputs, mean, variance, {grad, nullptr, nullptr}, results, true);
}

} // namespace fastconv
