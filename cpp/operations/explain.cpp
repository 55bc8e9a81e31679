// What a call would do, from the same planning functions that the call uses.
#include "algorithms/depthwise.h"
#include "algorithms/direct.h"
#include "algorithms/plan.h"
#include "algorithms/winograd.h"
#include "core/isa.h"
#include "core/threads/parallel_for.h"
#include "fastconv/threads.h"

#include <algorithm>

namespace fastconv {
namespace {

const char* name_of(Algorithm algorithm) {
    switch (algorithm) {
    case Algorithm::depthwise:
        return "depthwise";
    case Algorithm::winograd:
        return "winograd";
    default:
        return "direct";
    }
}

template <class T>
Sketch sketch_depthwise(const ConvProblem& o, Direction direction) {
    Sketch sketch;
    sketch.kernel = direction == Direction::filter_gradient ? "depthwise_filter_rows" : "depthwise_row";
    sketch.tile_pixels = 1;
    sketch.tile_filters = kernels<T>().width;
    sketch.tasks = o.n * o.p;
    sketch.multiplications = static_cast<double>(o.n * o.p * o.q) * static_cast<double>(o.r * o.s * o.k);
    return sketch;
}

/// The phases of a strided input gradient run one after the other: their work adds up, their memory does not.
template <class T>
Sketch sketch_phases(const ConvProblem& o, Algorithm algorithm) {
    Sketch all;
    for (const Gather<T>& gather : input_gradient_gathers<T>(o, nullptr, nullptr, nullptr)) {
        const Sketch one = algorithm == Algorithm::winograd ? sketch_winograd(gather) : sketch_direct(gather);
        if (all.kernel.empty()) {
            all.kernel = one.kernel;
            all.tile_pixels = one.tile_pixels;
            all.tile_filters = one.tile_filters;
        }
        all.tasks += one.tasks;
        all.shared_bytes = std::max(all.shared_bytes, one.shared_bytes);
        all.thread_bytes = std::max(all.thread_bytes, one.thread_bytes);
        all.multiplications += one.multiplications;
    }
    return all;
}

template <class T>
Sketch sketch(const ConvProblem& o, Direction direction, Algorithm algorithm) {
    if (algorithm == Algorithm::depthwise) return sketch_depthwise<T>(o, direction);
    const bool winograd = algorithm == Algorithm::winograd;
    if (direction == Direction::input_gradient) return sketch_phases<T>(o, algorithm);
    if (direction == Direction::filter_gradient)
        return winograd ? sketch_winograd_filter_gradient<T>(o) : sketch_direct_filter_gradient<T>(o);
    const Gather<T> gather = forward_gather<T>(o, nullptr, nullptr, nullptr, false, nullptr);
    return winograd ? sketch_winograd(gather) : sketch_direct(gather);
}

} // namespace

Explanation explain(const ConvProblem& problem, Direction direction) {
    ConvProblem nhwc = problem; // the conversion of NCHW is not part of the plan
    nhwc.format = DataFormat::nhwc;
    const bool single = problem.dtype == DataType::float32;
    const bool empty = problem.n == 0 || problem.p == 0 || problem.q == 0;
    const Algorithm algorithm =
        single ? choose_algorithm<float>(nhwc, direction) : choose_algorithm<double>(nhwc, direction);
    const Sketch of = empty    ? Sketch{}
                      : single ? sketch<float>(nhwc, direction, algorithm)
                               : sketch<double>(nhwc, direction, algorithm);
    const std::int64_t threads = std::clamp<std::int64_t>(of.tasks, 1, get_num_threads());
    return {name_of(algorithm),
            of.kernel,
            of.tile_pixels,
            of.tile_filters,
            of.tasks,
            threads,
            of.shared_bytes + threads * of.thread_bytes,
            of.multiplications};
}

} // namespace fastconv
