// Explains what a call would do, from its plan.
#include "algorithms/algorithms.h"
#include "core/for_type.h"
#include "core/threads/parallel_for.h"
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

namespace {

ConvProblem in_nhwc(const ConvProblem& problem) {
    ConvProblem nhwc = problem;
    nhwc.format = DataFormat::nhwc;
    return nhwc;
}

/// The plan of a problem. The conversion of NCHW is not part of it.
template <class T>
std::shared_ptr<const ConvPlan<T>> plan_of(const ConvProblem& problem, Direction direction) {
    if (problem.format == DataFormat::nchw && problem.c * problem.k > 1) {
        auto on_planes = conv_plan<T>(problem, direction, false);
        if (!on_planes->empty()) return on_planes;
    }
    return conv_plan<T>(in_nhwc(problem), direction, false);
}

bool is_empty(const ConvProblem& o) { return o.n == 0 || o.p == 0 || o.q == 0 || o.k == 0; }

} // namespace

Explanation explain(const ConvProblem& problem, Direction direction) {
    const PlanSummary summary = for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        return is_empty(problem) ? PlanSummary{} : plan_of<T>(problem, direction)->summary();
    });
    const std::int64_t threads = std::clamp<std::int64_t>(summary.tasks, 1, get_num_threads());
    return {algorithm_family(in_nhwc(problem), direction),
            summary.kernel,
            summary.tile_pixels,
            summary.tile_filters,
            summary.tasks,
            threads,
            summary.shared_bytes + threads * summary.thread_bytes,
            summary.multiplications};
}

bool Phase::parallel() const { return loop && costs.size() > 1 && pays_for_threads(operations); }

std::vector<Phase> count_tasks(const ConvProblem& problem, Direction direction) {
    return for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        return is_empty(problem) ? std::vector<Phase>{} : plan_of<T>(problem, direction)->phases();
    });
}

std::vector<std::int64_t> tasks_run_by(const std::function<void()>& function) {
    std::vector<std::int64_t> counts;
    const RecordLoops record(counts);
    function();
    return counts;
}

} // namespace fastconv
