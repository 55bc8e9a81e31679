// The one ordered list of convolution algorithms. If costs are equal, the first is taken.
#include "algorithms/algorithms.h"

#include "algorithms/depthwise.h"
#include "algorithms/depthwise_planes.h"
#include "algorithms/direct.h"
#include "algorithms/joined_windows.h"
#include "algorithms/planes.h"
#include "algorithms/planes_dense.h"
#include "algorithms/planes_filter_gradient.h"
#include "algorithms/winograd.h"
#include "core/errors.h"
#include "core/for_type.h"
#include "core/made_once.h"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fastconv {
namespace {

template <class T>
using AlgorithmList = std::vector<const Algorithm<T>*>;

template <class T>
MadeOnce<const AlgorithmList<T>> g_algorithms;
MadeOnce<const std::vector<std::string>> g_names;

template <class T>
std::unique_ptr<const AlgorithmList<T>> make_list() {
    return std::make_unique<const AlgorithmList<T>>(AlgorithmList<T>{
        // Forward passes and input gradients
        &direct_streamed<T>(),
        &direct<T>(),
        &direct_grouped<T>(),
        &small_k_reduce<T>(),
        &small_k_spread<T>(),
        &winograd<T>(),
        &depthwise<T>(),
        // Filter gradients
        &direct_filter_gradient<T>(),
        &direct_grouped_filter_gradient<T>(),
        &small_k_spread_filter_gradient<T>(),
        &winograd_filter_gradient<T>(),
        &depthwise_filter_gradient<T>(),
    });
}

template <class T>
const AlgorithmList<T>& algorithms() {
    return g_algorithms<T>.get(make_list<T>);
}

/// Whether the request allows this algorithm. The caller may have named a family, or the request may need direct sums.
template <class T>
bool may_be_taken(const Algorithm<T>& algorithm, const Request& request) {
    if (request.only_direct) return std::string_view(algorithm.family) == "direct";
    if (request.layer.algorithm == kAutoAlgorithm) return true;
    return algorithm_names()[static_cast<std::size_t>(request.layer.algorithm)] == algorithm.family;
}

/// A layer without filters is planned as if it had one filter for each group.
ConvProblem with_filters(const ConvProblem& layer) {
    ConvProblem result = layer;
    result.k = std::max(layer.k, layer.groups);
    return result;
}

template <class T>
const Algorithm<T>& cheapest(const Request& request) {
    const Algorithm<T>* best = nullptr;
    double least = 0;
    for (const Algorithm<T>* algorithm : algorithms<T>()) {
        if (!may_be_taken(*algorithm, request) || !algorithm->serves(request)) continue;
        const double cost = algorithm->cost(request);
        if (best != nullptr && cost >= least) continue;
        best = algorithm;
        least = cost;
    }
    if (best == nullptr)
        // check_named_algorithm has already refused most calls that no algorithm serves.
        fail("algorithm '", algorithm_names()[static_cast<std::size_t>(request.layer.algorithm)],
             "' cannot compute this convolution; use 'auto' or 'direct'");
    return *best;
}

/// The same request for an algorithm that computes NHWC and NCHW.
Request on_planes(Request request) {
    request.planes = true;
    return request;
}

/// The algorithm of the NHWC layer decides how its planes are computed, so that the sums add in the same order.
template <class T>
void plan_gradient_on_planes(const Request& request, ConvPlan<T>& plan) {
    const Algorithm<T>& nhwc = cheapest<T>(request);
    if (&nhwc == &winograd_filter_gradient<T>()) nhwc.plan(on_planes(request), plan);
    if (&nhwc == &direct_filter_gradient<T>()) plan_direct_gradient_on_planes(request, plan);
    if (&nhwc == &depthwise_filter_gradient<T>()) plan_depthwise_gradient_on_planes(request, plan);
}

/// Likewise, for forward passes and input gradients.
template <class T>
void plan_correlation_on_planes(const Request& request, ConvPlan<T>& plan) {
    const ConvProblem& o = request.layer;
    const std::vector<Correlation> parts = request.direction == Direction::forward
                                               ? std::vector<Correlation>{forward_correlation(o)}
                                               : input_gradient_correlations(o);
    if (parts.empty() || parts.front().empty()) return;
    // The input gradient of a depthwise layer takes the algorithm of its forward pass.
    const Request forward{o, Direction::forward, forward_correlation(o), 1, false};
    if (&cheapest<T>(forward) == &depthwise<T>()) plan_depthwise_planes(request, plan);
    if (!plan.empty()) return;
    const Request first = request.with(parts.front());
    const Algorithm<T>& nhwc = cheapest<T>(first);
    const bool is_direct = &nhwc == &direct<T>() || &nhwc == &direct_streamed<T>();
    if (is_direct && plan_dense_planes(first, plan)) return; // it serves strides
    if (parts.size() > 1) return;
    if (&nhwc == &winograd<T>()) nhwc.plan(on_planes(first), plan);
    if (is_direct || &nhwc == &depthwise<T>()) plan_planes(first, !is_direct, plan);
}

} // namespace

const std::vector<std::string>& algorithm_names() {
    return g_names.get([] {
        std::vector<std::string> names{"auto"};
        for (const Algorithm<float>* algorithm : algorithms<float>())
            if (std::find(names.begin(), names.end(), algorithm->family) == names.end())
                names.emplace_back(algorithm->family);
        return std::make_unique<const std::vector<std::string>>(std::move(names));
    });
}

std::int64_t algorithm_index(std::string_view name) {
    const std::vector<std::string>& names = algorithm_names();
    const auto found = std::find(names.begin(), names.end(), name);
    if (found != names.end()) return found - names.begin();
    std::string all;
    for (std::size_t i = 0; i < names.size(); ++i)
        all += (i == 0 ? "'" : i + 1 == names.size() ? " or '" : ", '") + names[i] + "'";
    fail("algorithm must be ", all, ", got '", name, "'");
}

void check_named_algorithm(const ConvProblem& problem, const char* filters_name) {
    if (problem.algorithm == kAutoAlgorithm) return;
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        const ConvProblem layer = with_filters(problem);
        const Request request{layer, Direction::forward, forward_correlation(layer), 1, false};
        const char* limits = nullptr;
        for (const Algorithm<T>* algorithm : algorithms<T>()) {
            if (!may_be_taken(*algorithm, request)) continue;
            if (algorithm->serves(request)) return;
            if (algorithm->limits != nullptr) limits = algorithm->limits;
        }
        fail("algorithm '", algorithm_names()[static_cast<std::size_t>(problem.algorithm)], "' supports only ", limits,
             ", got ", filters_name, " of shape ", show(problem.filter_dims()), " with strides ",
             show({problem.stride_h, problem.stride_w}), ", dilations ", show({problem.dilation_h, problem.dilation_w}),
             " and ", problem.groups, problem.groups == 1 ? " group" : " groups", "; use 'auto' or 'direct'");
    });
}

const char* algorithm_family(const ConvProblem& problem, Direction direction) {
    const ConvProblem layer = join_windows(with_filters(problem), direction);
    return for_type(layer.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        // A strided input gradient has several correlations, perhaps without taps. All take the family of the forward
        // pass.
        const std::vector<Correlation> residues =
            direction == Direction::input_gradient ? input_gradient_correlations(layer) : std::vector<Correlation>{};
        const Correlation part = residues.size() == 1 ? residues.front() : forward_correlation(layer);
        return cheapest<T>({layer, direction, part, 1, false}).family;
    });
}

template <class T>
void plan_cheapest(const Request& request, ConvPlan<T>& plan) {
    if (request.is_correlation() && request.part.empty()) return;
    cheapest<T>(request).plan(request, plan);
}

template <class T>
void plan_input_gradient(const Request& request, ConvPlan<T>& plan) {
    const std::vector<Correlation> residues = input_gradient_correlations(request.layer);
    // All residues of a depthwise layer take the same algorithm.
    const Algorithm<T>& all = depthwise_strided_gradient<T>();
    if (all.serves(request) && &cheapest<T>(request.with(residues.front())) == &depthwise<T>())
        return all.plan(request, plan);
    for (const Correlation& residue : residues) plan_cheapest(request.with(residue), plan);
}

template <class T>
void plan_on_planes(const Request& request, ConvPlan<T>& plan) {
    request.is_correlation() ? plan_correlation_on_planes(request, plan) : plan_gradient_on_planes(request, plan);
}

template void plan_on_planes(const Request&, ConvPlan<float>&);
template void plan_on_planes(const Request&, ConvPlan<double>&);
template void plan_cheapest(const Request&, ConvPlan<float>&);
template void plan_cheapest(const Request&, ConvPlan<double>&);
template void plan_input_gradient(const Request&, ConvPlan<float>&);
template void plan_input_gradient(const Request&, ConvPlan<double>&);

} // namespace fastconv
