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

/// Arrays with an element for each run of a part: the number of values, the distance of their mean from the base, and
/// the sum of their squared deviations. The base is a value of the channel. A mean alone would lose the digits that the
/// differences of means need, if it is much larger than the deviations.
struct Moments {
    double *count, *mean, *squares;
};

/// Merges the moments of other values into `mean` and `squares`. `share` is the number of the other values divided by
/// the number of all values. `weight` is `share` times the number of values behind `mean` and `squares`.
inline void merge(double& mean, double& squares, double other_mean, double other_squares, double share, double weight) {
    const double delta = other_mean - mean;
    squares += other_squares + delta * delta * weight;
    // An infinite mean stays infinite. The usual formula would give NaN.
    mean = delta - delta == 0 ? mean + delta * share : mean + other_mean;
}

/// The moments of the runs of a part. The columns of a run share a shift, so their sums can be added.
template <class T>
class RunMoments {
  public:
    RunMoments(const ChannelRows& all, const T* base, const Moments& moments)
        : all_(all), runs_(all.runs()), base_(base), moments_(moments), values_(3 * all.columns), shift_(values_.get()),
          sums_(shift_ + all.columns), squares_(sums_ + all.columns) {
        for (double* const array : {moments.count, moments.mean, moments.squares}) std::fill_n(array, runs_, 0.0);
    }

    void add(const T* x, std::int64_t rows, std::int64_t columns) {
        if (rows_ + rests_ == 0) start_chunk(x, rows, columns);
        kernels<T>().shifted_sums({x, shift_, rows, columns, sums_, squares_, all_.row});
        (columns == all_.columns ? rows_ : rests_) += rows;
    }

    void flush() {
        if (all_.repeats > 1) {
            merge_runs(0, runs_, rows_ * all_.repeats + rests_ * all_.rest);
        } else {
            merge_runs(0, all_.rest, rows_ + rests_);
            merge_runs(all_.rest, runs_, rows_);
        }
        rows_ = rests_ = 0;
    }

  private:
    /// Chooses the shift of each run: the mean so far, or in the first chunk that of some values. It is a value of the
    /// run if all of these are equal.
    void start_chunk(const T* x, std::int64_t rows, std::int64_t columns) {
        std::fill_n(sums_, 2 * all_.columns, T{});
        const std::int64_t repeats = std::min(all_.repeats, columns);
        const std::int64_t across = std::min<std::int64_t>(repeats, 8);
        const std::int64_t some = std::min<std::int64_t>(rows, 8 / across);
        const std::int64_t runs = columns / repeats; // that the first rows have
        T* const shift = all_.repeats > 1 ? squares_ : shift_;
        if (moments_.count[0] > 0) {
            for (std::int64_t i = 0; i < runs_; ++i)
                shift[i] = static_cast<T>(static_cast<double>(base_[i]) + moments_.mean[i]);
        } else {
            std::fill_n(shift, runs_, T{});
            for (std::int64_t r = 0; r < some; ++r)
                for (std::int64_t j = 0; j < across; ++j)
                    for (std::int64_t i = 0; i < runs; ++i)
                        shift[i] += x[r * all_.row + i * repeats + j] - x[i * repeats];
            for (std::int64_t i = 0; i < runs; ++i)
                shift[i] = x[i * repeats] + shift[i] / static_cast<T>(some * across);
        }
        for (std::int64_t i = 0; i < runs_; ++i) // a shift by infinity would make all differences NaN
            shift[i] = shift[i] - shift[i] == T{0} ? shift[i] : T{0};
        if (all_.repeats == 1) return;
        for (std::int64_t i = 0; i < runs_; ++i) std::fill_n(shift_ + i * all_.repeats, all_.repeats, shift[i]);
        std::fill_n(squares_, runs_, T{});
    }

    /// Merges the chunk's moments of some runs, of `count` values each.
    void merge_runs(std::int64_t first, std::int64_t last, std::int64_t count) {
        if (first == last || count == 0) return;
        const double before = moments_.count[first], now = static_cast<double>(count), all = before + now;
        const double share = now / all, weight = before * share, one = 1 / now;
        double *const means = moments_.mean, *const squares = moments_.squares;
        each_run(all_, first, last, [&](std::int64_t i, const auto& total) {
            const double sum = total(sums_), mean = sum * one;
            const double of_chunk = total(squares_) - sum * mean;
            const double shift = static_cast<double>(shift_[i * all_.repeats]) - static_cast<double>(base_[i]);
            merge(means[i], squares[i], shift + mean, of_chunk < 0 ? 0 : of_chunk, share, weight);
        });
        std::fill(moments_.count + first, moments_.count + last, all);
    }

    const ChannelRows& all_;
    std::int64_t runs_;
    const T* base_;
    Moments moments_;
    Scratch<T> values_;
    T *shift_, *sums_, *squares_;
    std::int64_t rows_ = 0, rests_ = 0; // of this chunk
};

/// Merges the moments of all runs of some channels, one after the other. As many values of each channel are in the
/// first run, in the second, and so on.
template <class T>
void merge_channels(const RowParts& parts, const Moments& moments, const T* bases, std::int64_t channels, T* means,
                    T* variances) {
    std::vector<double> both(static_cast<std::size_t>(2 * channels));
    double *const mean = both.data(), *const squares = mean + channels;
    double count = 0;
    for (std::int64_t i = 0; i < parts.sums_of_channel(); ++i) {
        const std::int64_t at = i * parts.all.channels;
        const double more = moments.count[at], all = count + more;
        if (more == 0) continue;
        const double share = more / all, weight = count * share;
        for (std::int64_t c = 0; c < channels; ++c)
            merge(mean[c], squares[c], moments.mean[at + c], moments.squares[at + c], share, weight);
        count = all;
    }
    for (std::int64_t c = 0; c < channels; ++c) {
        means[c] =
            count > 0 ? static_cast<T>(static_cast<double>(bases[c]) + mean[c]) : std::numeric_limits<T>::quiet_NaN();
        variances[c] = static_cast<T>(squares[c] / count);
    }
}

/// Mean and variance of each channel.
template <class T>
void find_statistics(const ChannelRows& all, const T* x, T* mean, T* variance) {
    constexpr std::int64_t channels_of_task = 64;
    const RowParts parts(all);
    const std::int64_t runs = all.runs(), size = parts.parts * runs;
    const Scratch<T> bases(runs);
    for (std::int64_t c = 0; c < all.channels; ++c) {
        const T base = all.size() > 0 ? x[c * all.repeats] : T{};
        all.repeat_runs(c, base - base == T{0} ? base : T{0}, bases.get()); // finite
    }
    const Scratch<double> values(3 * size);
    const auto moments_from = [&](std::int64_t first) {
        double* const start = values.get() + first;
        return Moments{start, start + size, start + 2 * size};
    };
    parallel_for(parts.parts, 4 * static_cast<double>(all.size()), [&](std::int64_t part) {
        RunMoments<T> sums(all, bases.get(), moments_from(part * runs));
        parts.each_chunk(
            part, [&](std::int64_t at, std::int64_t rows, std::int64_t columns) { sums.add(x + at, rows, columns); },
            [&] { sums.flush(); });
    });
    parallel_for(ceil_div(all.channels, channels_of_task), 16 * static_cast<double>(size), [&](std::int64_t task) {
        const std::int64_t first = task * channels_of_task;
        const std::int64_t count = std::min(channels_of_task, all.channels - first);
        merge_channels(parts, moments_from(first), bases.get() + first, count, mean + first, variance + first);
    });
}

template <class T>
void normalize(const BatchNormProblem& problem, const ChannelRows& all, const BatchNormInputs& inputs, const T* mean,
               const T* variance, T* output) {
    const ColumnNumbers<T> numbers(problem, all, inputs, mean, variance);
    const bool bound = is_bound(problem.activation), streaming = bypasses_caches<T>(all);
    const auto transform = kernels<T>().normalize_columns;
    each_row_block(all, 4, [&](std::int64_t at, std::int64_t rows, std::int64_t columns) {
        NormalizedColumns<T> a = linear_rows(numbers.get(), inputs, at, rows, columns, all.row, output + at);
        if (bound) {
            const Bounds<T> bounds = bounds_of<T>(problem.activation);
            a.low = bounds.low;
            a.high = bounds.high;
            a.streaming = streaming;
            return transform(a);
        }
        each_piece(all, at, rows, columns, [&](std::int64_t piece, std::int64_t some) {
            transform(linear_rows(numbers.get(), inputs, piece, some, columns, all.row, output + piece));
            activate_in_place(problem.activation, problem.dtype, output, piece, some * columns);
        });
    });
}

/// The normalisation of a group of channels.
template <class T>
struct Normalization {
    BatchNormProblem problem;
    ChannelRows rows;
    BatchNormInputs inputs;
    const T *mean, *variance;
    T* output;                      // null if only the statistics are wanted
    T *found_mean, *found_variance; // null if the statistics are given

    void first() const {
        if (found_mean) find_statistics(rows, static_cast<const T*>(inputs.input), found_mean, found_variance);
    }
    void second() const {
        if (output) normalize<T>(problem, rows, inputs, mean, variance, output);
    }
};

void normalize_groups(const BatchNormProblem& problem, const BatchNormInputs& inputs, const void* mean,
                      const void* variance, void* output, void* found_mean, void* found_variance) {
    if (problem.channels == 0) return;
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        const ChannelGroups groups(problem, kernels<T>().width);
        run_passes(groups, [&](std::int64_t group) {
            const std::int64_t channel = groups.first_channel(group);
            return std::unique_ptr<const Normalization<T>>(
                new Normalization<T>{groups.problem(group), groups.rows(group), inputs_of<T>(inputs, groups, group),
                                     advanced<T>(mean, channel), advanced<T>(variance, channel),
                                     advanced<T>(output, groups.first_value(group)), advanced<T>(found_mean, channel),
                                     advanced<T>(found_variance, channel)});
        });
    });
}

} // namespace

void batch_norm(const BatchNormProblem& problem, const BatchNormInputs& inputs, void* output, void* mean,
                void* variance) {
    normalize_groups(problem, inputs, mean, variance, output, mean, variance);
}

void batch_norm_statistics(const BatchNormProblem& problem, const void* input, void* mean, void* variance) {
    normalize_groups(problem, {input, nullptr, nullptr, nullptr}, mean, variance, nullptr, mean, variance);
}

void batch_norm_inference(const BatchNormProblem& problem, const BatchNormInputs& inputs, const void* mean,
                          const void* variance, void* output) {
    normalize_groups(problem, inputs, mean, variance, output, nullptr, nullptr);
}

} // namespace fastconv
