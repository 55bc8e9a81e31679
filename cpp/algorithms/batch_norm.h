// What batch normalisation and its gradient share.
#pragma once

#include "algorithms/activation.h"
#include "algorithms/channel_rows.h"
#include "core/isa.h"
#include "core/workspace.h"

#include <cmath>

namespace fastconv {

/// A normalisation with known mean and variance, as numbers of each column: z = (x - mean)*scale + offset.
template <class T>
class ColumnNumbers {
  public:
    ColumnNumbers(const BatchNormProblem& problem, const ChannelRows& all, const BatchNormInputs& inputs, const T* mean,
                  const T* variance)
        : values_(3 * all.columns), count_(all.columns) {
        const auto *scale = static_cast<const T*>(inputs.scale), *offset = static_cast<const T*>(inputs.offset);
        for (std::int64_t c = 0; c < all.channels; ++c) {
            const double factor =
                (scale ? static_cast<double>(scale[c]) : 1.0) * inverse_deviation(problem, variance[c]);
            all.repeat(c, mean[c], values_.get());
            all.repeat(c, static_cast<T>(factor), values_.get() + count_);
            all.repeat(c, offset ? offset[c] : T{}, values_.get() + 2 * count_);
        }
    }

    static double inverse_deviation(const BatchNormProblem& problem, T variance) {
        return 1 / std::sqrt(static_cast<double>(variance) + problem.epsilon);
    }

    ColumnTransform<T> get() const {
        const T* const first = values_.get();
        return {first, first + count_, first + 2 * count_};
    }

  private:
    Scratch<T> values_;
    std::int64_t count_;
};

/// Whether a result of this size should bypass the caches. It will not be there when it is used anyway.
template <class T>
bool bypasses_caches(const ChannelRows& all) {
    constexpr std::int64_t most_cached = 16 << 20;
    return all.tensor_size * static_cast<std::int64_t>(sizeof(T)) >= most_cached;
}

template <class T>
const T* advanced(const void* values, std::int64_t count) {
    return values ? static_cast<const T*>(values) + count : nullptr;
}

template <class T>
T* advanced(void* values, std::int64_t count) {
    return values ? static_cast<T*>(values) + count : nullptr;
}

/// The inputs of a group of channels.
template <class T>
BatchNormInputs inputs_of(const BatchNormInputs& all, const ChannelGroups& groups, std::int64_t group) {
    const std::int64_t channel = groups.first_channel(group), value = groups.first_value(group);
    return {advanced<T>(all.input, value), advanced<T>(all.scale, channel), advanced<T>(all.offset, channel),
            advanced<T>(all.residual, value)};
}

/// The arguments of the kernel that writes z + residual, without the activation, for some rows. Neighbouring rows start
/// `row` values apart.
template <class T>
NormalizedColumns<T> linear_rows(const ColumnTransform<T>& z, const BatchNormInputs& inputs, std::int64_t at,
                                 std::int64_t rows, std::int64_t columns, std::int64_t row, T* y) {
    const auto* const residual = static_cast<const T*>(inputs.residual);
    const Bounds<T> none = bounds_of<T>({});
    return {z,
            static_cast<const T*>(inputs.input) + at,
            residual ? residual + at : nullptr,
            y,
            none.low,
            none.high,
            rows,
            columns,
            false,
            row};
}

} // namespace fastconv
