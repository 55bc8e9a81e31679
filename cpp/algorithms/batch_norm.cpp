// Batch normalisation in two passes over the tensor: mean and variance, then the normalised values.
//
// The first pass sums the differences from a shift and their squares, in the data type. The shift is the column's mean
// so far, so the sums stay small and little cancels in the variance. After each chunk of rows, mean and variance of the
// chunk are merged into those of the column in double, by the formula of Chan, Golub and LeVeque ("Updating formulae
// and a pairwise algorithm for computing sample variances", 1979). Parts and chunks follow from the problem alone, so
// the bits do not depend on the number of threads.
#include "algorithms/batch_norm.h"

#include "core/for_type.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace fastconv {
namespace {

/// Arrays with an element for each column of a part: the number of values, the distance of their mean from the base,
/// and the sum of their squared deviations. The base is a value of the channel. A mean alone would lose the digits that
/// the differences of means need, if it is much larger than the deviations.
struct Moments {
    double *count, *mean, *squares;
};

/// Merges the moments of some values into those of others. `share` is the part of the former in all values, `weight`
/// the number of the latter times the share.
inline void merge(double& mean, double& squares, double other_mean, double other_squares, double share, double weight) {
    const double delta = other_mean - mean;
    squares += other_squares + delta * delta * weight;
    // An infinite mean stays infinite. The usual formula would give NaN.
    mean = delta - delta == 0 ? mean + delta * share : mean + other_mean;
}

/// The moments of the columns of a part.
template <class T>
class ColumnMoments {
  public:
    /// `rest` is how many columns a rest has.
    ColumnMoments(std::int64_t columns, std::int64_t rest, const T* base, const Moments& moments)
        : columns_(columns), rest_(rest), base_(base), moments_(moments), values_(3 * columns), shift_(values_.get()),
          sums_(shift_ + columns), squares_(sums_ + columns) {
        for (double* const array : {moments.count, moments.mean, moments.squares}) std::fill_n(array, columns, 0.0);
    }

    void add(const T* x, std::int64_t rows, std::int64_t columns) {
        if (rows_ + rests_ == 0) start_chunk(x, rows, columns);
        kernels<T>().shifted_sums({x, shift_, rows, columns, sums_, squares_});
        (columns == columns_ ? rows_ : rests_) += rows;
    }

    void flush() {
        merge_columns(0, rest_, rows_ + rests_);
        merge_columns(rest_, columns_, rows_);
        rows_ = rests_ = 0;
    }

  private:
    /// Chooses the shift: the mean so far, or in the first chunk that of the first rows. It is a value of the column if
    /// all of these are equal.
    void start_chunk(const T* x, std::int64_t rows, std::int64_t columns) {
        std::fill_n(sums_, 2 * columns_, T{});
        if (moments_.count[0] > 0) {
            for (std::int64_t i = 0; i < columns_; ++i)
                shift_[i] = static_cast<T>(static_cast<double>(base_[i]) + moments_.mean[i]);
        } else {
            const std::int64_t some = std::min<std::int64_t>(rows, 8);
            std::fill_n(shift_, columns_, T{});
            for (std::int64_t r = 1; r < some; ++r)
                for (std::int64_t i = 0; i < columns; ++i) shift_[i] += x[r * columns + i] - x[i];
            for (std::int64_t i = 0; i < columns; ++i) shift_[i] = x[i] + shift_[i] / static_cast<T>(some);
        }
        for (std::int64_t i = 0; i < columns_; ++i) // a shift by infinity would make all differences NaN
            shift_[i] = shift_[i] - shift_[i] == T{0} ? shift_[i] : T{0};
    }

    /// Merges the chunk's moments of some columns, of `count` values each.
    void merge_columns(std::int64_t first, std::int64_t last, std::int64_t count) {
        if (first == last || count == 0) return;
        const double before = moments_.count[first], now = static_cast<double>(count), all = before + now;
        const double share = now / all, weight = before * share, one = 1 / now;
        double *const means = moments_.mean, *const squares = moments_.squares;
        for (std::int64_t i = first; i < last; ++i) {
            const double sum = static_cast<double>(sums_[i]), mean = sum * one;
            const double of_chunk = static_cast<double>(squares_[i]) - sum * mean;
            const double shift = static_cast<double>(shift_[i]) - static_cast<double>(base_[i]);
            merge(means[i], squares[i], shift + mean, of_chunk < 0 ? 0 : of_chunk, share, weight);
        }
        std::fill(moments_.count + first, moments_.count + last, all);
    }

    std::int64_t columns_, rest_;
    const T* base_;
    Moments moments_;
    Scratch<T> values_;
    T *shift_, *sums_, *squares_;
    std::int64_t rows_ = 0, rests_ = 0; // of this chunk
};

/// Merges the moments of all columns of some channels, one after the other. As many values of each channel are in the
/// first column, in the second, and so on.
template <class T>
void merge_channels(const RowParts& parts, const Moments& moments, const T* bases, std::int64_t channels, T* means,
                    T* variances) {
    const std::int64_t step = parts.channel_step();
    std::vector<double> both(static_cast<std::size_t>(2 * channels));
    double *const mean = both.data(), *const squares = mean + channels;
    double count = 0;
    for (std::int64_t i = 0; i < parts.sums_of_channel(); ++i) {
        const std::int64_t at = i * parts.sum_step();
        const double more = moments.count[at], all = count + more;
        if (more == 0) continue;
        const double share = more / all, weight = count * share;
        for (std::int64_t c = 0; c < channels; ++c)
            merge(mean[c], squares[c], moments.mean[at + c * step], moments.squares[at + c * step], share, weight);
        count = all;
    }
    for (std::int64_t c = 0; c < channels; ++c) {
        means[c] = count > 0 ? static_cast<T>(static_cast<double>(bases[c * step]) + mean[c])
                             : std::numeric_limits<T>::quiet_NaN();
        variances[c] = static_cast<T>(squares[c] / count);
    }
}

/// Mean and variance of each channel.
template <class T>
void find_statistics(const ChannelRows& all, const T* x, T* mean, T* variance) {
    constexpr std::int64_t channels_of_task = 64;
    const RowParts parts(all);
    const std::int64_t size = parts.parts * all.columns;
    const Scratch<T> bases(all.numbers());
    for (std::int64_t c = 0; c < all.channels; ++c) {
        const T base = all.size() > 0 ? x[all.planar ? c * all.plane() : c] : T{};
        all.repeat(c, base - base == T{0} ? base : T{0}, bases.get()); // finite
    }
    const Scratch<double> values(3 * size);
    const auto moments_from = [&](std::int64_t first) {
        double* const start = values.get() + first;
        return Moments{start, start + size, start + 2 * size};
    };
    parallel_for(parts.parts, 4 * static_cast<double>(all.size()), [&](std::int64_t part) {
        ColumnMoments<T> sums(all.columns, all.rest, bases.get() + parts.first_number(part),
                              moments_from(part * all.columns));
        parts.each_chunk(
            part, [&](std::int64_t at, std::int64_t rows, std::int64_t columns) { sums.add(x + at, rows, columns); },
            [&] { sums.flush(); });
    });
    parallel_for(ceil_div(all.channels, channels_of_task), 16 * static_cast<double>(size), [&](std::int64_t task) {
        const std::int64_t first = task * channels_of_task;
        const std::int64_t count = std::min(channels_of_task, all.channels - first);
        const std::int64_t number = first * parts.channel_step();
        merge_channels(parts, moments_from(number), bases.get() + number, count, mean + first, variance + first);
    });
}

template <class T>
void normalize(const BatchNormProblem& problem, const ChannelRows& all, const BatchNormInputs& inputs, const T* mean,
               const T* variance, T* output) {
    const ColumnNumbers<T> numbers(problem, all, inputs, mean, variance);
    const bool bound = is_bound(problem.activation), streaming = bypasses_caches<T>(all);
    const auto transform = kernels<T>().normalize_columns;
    each_row_block(all, 4, [&](std::int64_t at, std::int64_t rows, std::int64_t columns, std::int64_t number) {
        NormalizedColumns<T> a = linear_rows(numbers.from(number), inputs, at, rows, columns, output + at);
        if (bound) {
            const Bounds<T> bounds = bounds_of<T>(problem.activation);
            a.low = bounds.low;
            a.high = bounds.high;
            a.streaming = streaming;
            return transform(a);
        }
        each_piece(at, rows, columns, [&](std::int64_t piece, std::int64_t some) {
            transform(linear_rows(numbers.from(number), inputs, piece, some, columns, output + piece));
            activate_in_place(problem.activation, problem.dtype, output, piece, some * columns);
        });
    });
}

} // namespace

void batch_norm(const BatchNormProblem& problem, const BatchNormInputs& inputs, void* output, void* mean,
                void* variance) {
    if (problem.channels == 0) return;
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        const ChannelRows all(problem, kernels<T>().width);
        T *const means = static_cast<T*>(mean), *const variances = static_cast<T*>(variance);
        find_statistics(all, static_cast<const T*>(inputs.input), means, variances);
        normalize<T>(problem, all, inputs, means, variances, static_cast<T*>(output));
    });
}

void batch_norm_statistics(const BatchNormProblem& problem, const void* input, void* mean, void* variance) {
    if (problem.channels == 0) return;
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        find_statistics(ChannelRows(problem, kernels<T>().width), static_cast<const T*>(input), static_cast<T*>(mean),
                        static_cast<T*>(variance));
    });
}

void batch_norm_inference(const BatchNormProblem& problem, const BatchNormInputs& inputs, const void* mean,
                          const void* variance, void* output) {
    if (problem.channels == 0) return;
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        normalize<T>(problem, ChannelRows(problem, kernels<T>().width), inputs, static_cast<const T*>(mean),
                     static_cast<const T*>(variance), static_cast<T*>(output));
    });
}

} // namespace fastconv
