// Explains what a call would do, from its plan.
#include "algorithms/algorithms.h"
#include "core/for_type.h"
#include "fastconv/convolution.h"
#include "fastconv/threads.h"
#include "operations/conv_plan.h"

#include <algorithm>

namespace fastconv {

Direction parse_direction(std::string_view text) {
    if (text == "forward") return Direction::forward;
    if (text == "input gradient") return Direction::input_gradient;
    if (text == "filter gradient") return Direction::filter_gradient;
    throw InvalidArgument("direction must be 'forward', 'input gradient' or 'filter gradient', got '" +
                          std::string(text) + "'");
}

Explanation explain(const ConvProblem& problem, Direction direction) {
    ConvProblem nhwc = problem; // the conversion of NCHW is not part of the plan
    nhwc.format = DataFormat::nhwc;
    const bool empty = problem.n == 0 || problem.p == 0 || problem.q == 0 || problem.k == 0;
    const PlanSummary summary = for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        return empty ? PlanSummary{} : conv_plan<T>(nhwc, direction, false)->summary();
    });
    const std::int64_t threads = std::clamp<std::int64_t>(summary.tasks, 1, get_num_threads());
    return {algorithm_family(nhwc, direction),
            summary.kernel,
            summary.tile_pixels,
            summary.tile_filters,
            summary.tasks,
            threads,
            summary.shared_bytes + threads * summary.thread_bytes,
            summary.multiplications};
}

} // namespace fastconv
