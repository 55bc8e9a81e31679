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
    Gradient(const BatchNormProblem& problem, const ChannelRows& all, const BatchNormInputs& inputs, const T* mean,
             const T* variance, const BatchNormGradients& gradients, const BatchNormInputGradients& results,
             bool given_statistics)
        : problem_(problem), inputs_(inputs), variance_(variance), gradients_(gradients), results_(results),
          given_statistics_(given_statistics), all_(all), sums_(static_cast<std::size_t>(problem.channels)),
          products_(sums_), numbers_(problem, all_, inputs, mean, variance), x_(static_cast<const T*>(inputs.input)),
          grad_(static_cast<const T*>(gradients.output)), dx_(static_cast<T*>(results.input)),
          stores_d_(inputs.residual != nullptr || !is_bound(problem.activation)),
          d_(results.residual != nullptr ? static_cast<T*>(results.residual) : dx_) {}

    void first() {
        sum();
        auto *const scale = static_cast<T*>(results_.scale), *const offset = static_cast<T*>(results_.offset);
        for (std::size_t c = 0; c < sums_.size(); ++c) {
            offset[c] = static_cast<T>(sums_[c]);
            scale[c] = static_cast<T>(products_[c] * ColumnNumbers<T>::inverse_deviation(problem_, variance_[c]));
        }
    }

    void second() const {
        if (!given_statistics_) compute_input_gradient();
    }

  private:
    // ---- First pass

    void sum() {
        const RowParts parts(all_);
        const std::int64_t runs = all_.runs(), count = parts.parts * runs;
        const Scratch<double> totals(2 * count);
        parallel_for(parts.parts, 4 * static_cast<double>(all_.size()), [&](std::int64_t part) {
            double* const to = totals.get() + part * runs;
            sum_part(parts, part, to, to + count);
        });
        for (std::int64_t c = 0; c < all_.channels; ++c) {
            const double* const from = totals.get() + c;
            double sum = 0, product = 0;
            for (std::int64_t i = 0; i < parts.sums_of_channel(); ++i) {
                sum += from[i * all_.channels];
                product += from[count + i * all_.channels];
            }
            sums_[static_cast<std::size_t>(c)] = sum;
            products_[static_cast<std::size_t>(c)] = product;
        }
    }

    void sum_part(const RowParts& parts, std::int64_t part, double* sums, double* products) const {
        const std::int64_t columns = all_.columns, runs = all_.runs();
        std::fill_n(sums, runs, 0.0);
        std::fill_n(products, runs, 0.0);
        const Scratch<T> of_chunk(2 * columns);
        T *const first = of_chunk.get(), *const second = first + columns;
        std::fill_n(first, 2 * columns, T{});
        parts.each_chunk(
            part,
            [&](std::int64_t at, std::int64_t rows, std::int64_t some) {
                if (!stores_d_ && !given_statistics_) return sum_piece(at, rows, some, first, second);
                each_piece(all_, at, rows, some, [&](std::int64_t piece, std::int64_t piece_rows) {
                    sum_piece(piece, piece_rows, some, first, second);
                });
            },
            [&] {
                each_run(all_, 0, runs, [&](std::int64_t i, const auto& total) {
                    sums[i] += total(first);
                    products[i] += total(second);
                });
                std::fill_n(first, 2 * columns, T{});
            });
    }

    void sum_piece(std::int64_t at, std::int64_t rows, std::int64_t columns, T* sums, T* products) const {
        const ColumnTransform<T> z = numbers_.get();
        const T* gradient = grad_;
        if (stores_d_) {
            kernels<T>().normalize_columns(linear_rows(z, inputs_, at, rows, columns, all_.row, d_ + at));
            multiply_by_derivative(problem_.activation, d_ + at, grad_ + at, d_ + at, rows * columns);
            gradient = d_;
        }
        const Bounds<T> bounds = bounds_of<T>(problem_.activation);
        kernels<T>().norm_gradient_sums({z, x_ + at, gradient + at, masked(), bounds.low, largest_unbounded(bounds),
                                         rows, columns, sums, products, all_.row});
        if (given_statistics_) write_input_gradient(at, rows, columns, nullptr, nullptr);
    }

    /// Whether the kernels find out where the activation bounded values.
    bool masked() const { return !stores_d_ && problem_.activation.kind != Activation::linear; }

    // ---- Second pass

    /// The input's gradient is d*scale + (x - mean)*x_factor + shift. With n values in a channel and s =
    /// 1/sqrt(variance + epsilon), the mean contributes (grad_mean - scale*sum(d))/n, and the variance contributes
    /// (2*grad_variance - scale*s^2*sum(d*(x - mean)))*(x - mean)/n.
    void compute_input_gradient() const {
        const auto* const scale = static_cast<const T*>(inputs_.scale);
        const auto *const grad_mean = static_cast<const T*>(gradients_.mean), *const grad_variance =
                                                                                  static_cast<const T*>(
                                                                                      gradients_.variance);
        const double n = static_cast<double>(problem_.count());
        const Scratch<T> factors(2 * all_.columns);
        T *const x_factor = factors.get(), *const shift = x_factor + all_.columns;
        for (std::int64_t c = 0; c < all_.channels; ++c) {
            const double s = ColumnNumbers<T>::inverse_deviation(problem_, variance_[c]);
            const double factor = (scale ? static_cast<double>(scale[c]) : 1.0) * s;
            const auto i = static_cast<std::size_t>(c);
            double of_mean = -factor * sums_[i], of_variance = -factor * s * s * products_[i];
            if (grad_mean) of_mean += static_cast<double>(grad_mean[c]);
            if (grad_variance) of_variance += 2 * static_cast<double>(grad_variance[c]);
            all_.repeat(c, static_cast<T>(of_variance / n), x_factor);
            all_.repeat(c, static_cast<T>(of_mean / n), shift);
        }
        each_row_block(all_, 4, [&](std::int64_t at, std::int64_t rows, std::int64_t columns) {
            write_input_gradient(at, rows, columns, x_factor, shift);
        });
    }

    void write_input_gradient(std::int64_t at, std::int64_t rows, std::int64_t columns, const T* x_factor,
                              const T* shift) const {
        const Bounds<T> bounds = bounds_of<T>(problem_.activation);
        const T* const gradient = stores_d_ ? d_ : grad_;
        kernels<T>().norm_input_gradient({numbers_.get(), x_ + at, gradient + at, x_factor, shift, masked(), bounds.low,
                                          largest_unbounded(bounds), rows, columns, dx_ + at,
                                          bypasses_caches<T>(all_) && gradient != dx_, all_.row});
    }

    const BatchNormProblem problem_;
    const BatchNormInputs inputs_;
    const T* variance_;
    const BatchNormGradients gradients_;
    const BatchNormInputGradients results_;
    const bool given_statistics_;
    const ChannelRows all_;
    std::vector<double> sums_, products_; // of each channel
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
        const ChannelGroups groups(problem, kernels<T>().width);
        run_passes(groups, [&](std::int64_t group) {
            const std::int64_t channel = groups.first_channel(group), value = groups.first_value(group);
            const BatchNormGradients grads{advanced<T>(gradients.output, value), advanced<T>(gradients.mean, channel),
                                           advanced<T>(gradients.variance, channel)};
            const BatchNormInputGradients to{advanced<T>(results.input, value), advanced<T>(results.scale, channel),
                                             advanced<T>(results.offset, channel),
                                             advanced<T>(results.residual, value)};
            return std::make_unique<Gradient<T>>(groups.problem(group), groups.rows(group),
                                                 inputs_of<T>(inputs, groups, group), advanced<T>(mean, channel),
                                                 advanced<T>(variance, channel), grads, to, given_statistics);
        });
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
