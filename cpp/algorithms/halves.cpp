// Correlations that are too large for one pass. They are cut into halves, and each half is planned on its own.
#include "algorithms/algorithms.h"
#include "algorithms/direct.h"
#include "algorithms/filter_blocks.h"

namespace fastconv {
namespace {

/// Splits an axis of `size` into two halves, calls set(half, start, size of the half) for each half, and plans both.
template <class T, class Set>
void plan_both(const Request& request, std::int64_t size, ConvPlan<T>& plan, Set&& set) {
    for (std::int64_t part = 0; part < 2; ++part) {
        Correlation half = request.part;
        const std::int64_t start = part * (size / 2);
        set(half, start, part == 0 ? size / 2 : size - start);
        plan_cheapest(request.with(half), plan);
    }
}

/// For an axis that is summed over: the first half leaves the sum unfinished, and the second half adds to it.
void set_sum(Correlation& half, std::int64_t start) {
    if (start == 0)
        half.finish = false;
    else
        half.accumulate = true;
}

} // namespace

template <class T>
bool plan_halves(const Request& request, std::int64_t packed_values, bool splits_filters, ConvPlan<T>& plan) {
    const Correlation& g = request.part;
    const Windows& a = g.windows;
    const bool too_big = packed_values * static_cast<std::int64_t>(sizeof(T)) > kPackedBytes;
    if (g.window() > kSumLength && a.r > 1) {
        plan_both(request, a.r, plan, [&](Correlation& half, std::int64_t start, std::int64_t size) {
            half.windows.r = size;
            half.windows.base_h += start * a.dilation_h;
            half.filters_start += start * g.f_i;
            set_sum(half, start);
        });
    } else if (g.window() > kSumLength) {
        plan_both(request, a.s, plan, [&](Correlation& half, std::int64_t start, std::int64_t size) {
            half.windows.s = size;
            half.windows.base_w += start * a.dilation_w;
            half.filters_start += start * g.f_j;
            set_sum(half, start);
        });
    } else if (too_big && g.groups > 1) {
        plan_both(request, g.groups, plan, [&](Correlation& half, std::int64_t start, std::int64_t size) {
            half.groups = size;
            half.input_start += start * g.group_in;
            half.filters_start += start * g.f_group;
            half.output_start += start * g.out_group;
            half.bias_start += start * g.k;
        });
    } else if (too_big && splits_filters) {
        plan_both(request, g.k, plan, [&](Correlation& half, std::int64_t start, std::int64_t size) {
            half.k = size;
            half.filters_start += start * g.f_k;
            half.output_start += start;
            half.bias_start += start;
        });
    } else if (too_big && g.c > 1) {
        plan_both(request, g.c, plan, [&](Correlation& half, std::int64_t start, std::int64_t size) {
            half.c = size;
            half.input_start += start;
            half.filters_start += start * g.f_c;
            set_sum(half, start);
        });
    } else {
        return false;
    }
    return true;
}

template bool plan_halves(const Request&, std::int64_t, bool, ConvPlan<float>&);
template bool plan_halves(const Request&, std::int64_t, bool, ConvPlan<double>&);

} // namespace fastconv
