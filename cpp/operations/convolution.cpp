// The convolutions of the C++ API. They get the plan from the cache and convert NCHW.
#include "fastconv/convolution.h"

#include "algorithms/algorithms.h"
#include "algorithms/epilogue.h"
#include "algorithms/joined_windows.h"
#include "algorithms/nhwc_gradient.h"
#include "core/environment.h"
#include "core/for_type.h"
#include "core/geometry.h"
#include "core/isa.h"
#include "core/layout.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"
#include "operations/conv_plan.h"

#include <algorithm>
#include <utility>

namespace fastconv {

namespace {

ConvProblem in_nhwc(ConvProblem problem) {
    problem.format = DataFormat::nhwc;
    return problem;
}

PlanKey plan_key(const ConvProblem& o, Direction direction, bool filters_stay, std::int64_t threads) {
    PlanKey key;
    add_setting(key, static_cast<PlanKind>(direction));
    key.add(filters_stay, threads);
    add_problem(key, o);
    return key;
}

template <class T>
PlanPointer make_plan(const ConvProblem& problem, Direction direction, bool filters_stay, std::int64_t threads) {
    const ConvProblem o = join_windows(problem, direction);
    auto plan = std::make_shared<ConvPlan<T>>();
    const ConvProblem layer = in_nhwc(o);
    Request request{layer, direction, {}, threads, filters_stay};
    if (o.format == DataFormat::nchw) {
        plan_on_planes(request, *plan);
    } else if (direction == Direction::filter_gradient) {
        plan_cheapest(request, *plan);
    } else if (direction == Direction::forward) {
        plan_cheapest(request.with(forward_correlation(o)), *plan);
    } else {
        plan_input_gradient(request, *plan);
    }
    return plan;
}

} // namespace

void add_problem(PlanKey& key, const ConvProblem& o) {
    key.add(o.dtype, o.format, o.depthwise, o.algorithm, o.deciding_batch, o.n, o.h, o.w, o.c, o.k, o.r, o.s, o.p, o.q,
            o.groups);
    key.add(o.stride_h, o.stride_w, o.dilation_h, o.dilation_w, o.pad_top, o.pad_bottom, o.pad_left, o.pad_right);
}

template <class T>
std::shared_ptr<const ConvPlan<T>> conv_plan(const ConvProblem& o, Direction direction, bool filters_stay,
                                             KeptPlan* kept) {
    const std::int64_t threads = threads_for_tasks();
    const PlanKey key = plan_key(o, direction, filters_stay, threads);
    const auto make = [&] { return make_plan<T>(o, direction, filters_stay, threads); };
    return std::static_pointer_cast<const ConvPlan<T>>(kept ? kept->get(key, make) : cached_plan(key, make));
}

template std::shared_ptr<const ConvPlan<float>> conv_plan(const ConvProblem&, Direction, bool, KeptPlan*);
template std::shared_ptr<const ConvPlan<double>> conv_plan(const ConvProblem&, Direction, bool, KeptPlan*);

namespace {

template <class T>
void run(const ConvProblem& o, Direction direction, const Operands<T>& operands, KeptPlan* kept) {
    const auto plan = conv_plan<T>(o, direction, operands.cache != nullptr, kept);
    if (direction != Direction::input_gradient || operands.bias == nullptr) return plan->run(operands);
    const std::int64_t channels = join_windows(o, direction).c;
    if (channels == o.c) return plan->run(operands);
    const Scratch<T> bias(channels);
    for (std::int64_t c = 0; c < channels; c += o.c) std::copy_n(operands.bias, o.c, bias.get() + c);
    Operands<T> joined = operands;
    joined.bias = bias.get();
    plan->run(joined);
}

/// The size of the images that a correlation reads or writes.
struct Images {
    std::int64_t pixels, channels;
    std::int64_t values() const { return pixels * channels; }
};

template <class T>
void set_epilogue(const Epilogue& epilogue, Operands<T>& operands) {
    const ActivationFunction& activation = epilogue.activation;
    operands.bias = static_cast<const T*>(epilogue.bias);
    operands.residual = static_cast<const T*>(epilogue.residual);
    if (is_bound(activation)) operands.bounds = bounds_of<T>(activation);
    operands.activation = activation.kind;
    operands.alpha = static_cast<T>(activation.alpha);
    operands.beta = static_cast<T>(activation.beta);
}

/// The input gradient of a convolution without filters. All sums are 0, so only the epilogue remains.
template <class T>
void run_without_filters(const ConvProblem& o, Operands<T> operands) {
    const std::int64_t image = o.h * o.w * o.c, channel = o.format == DataFormat::nhwc ? 1 : o.h * o.w;
    for (std::int64_t i = 0; i < o.n * image; ++i)
        operands.output[i] = operands.bias ? operands.bias[i / channel % o.c] : T{};
    operands.bounds = {}; // none is applied yet
    finish_values(operands, 0, o.n * image);
}

/// The problem in NHWC if that is what its images are in memory: NCHW with one channel and one filter.
ConvProblem in_same_layout(const ConvProblem& o) { return o.c == 1 && o.k == 1 ? in_nhwc(o) : o; }

template <class T>
void run_any_layout(const ConvProblem& problem, Direction direction, const Operands<T>& operands, KeptPlan* kept) {
    const ConvProblem o = in_same_layout(problem);
    if (o.n == 0) return;
    if (o.k == 0) { // no filters
        if (direction == Direction::input_gradient) run_without_filters(o, operands);
        return;
    }
    if (o.format == DataFormat::nhwc) return run(o, direction, operands, kept);
    const auto on_planes = conv_plan<T>(o, direction, operands.cache != nullptr);
    if (!on_planes->empty()) return on_planes->run(operands);
    Images from{o.h * o.w, o.c}, to{o.p * o.q, o.k};
    if (direction == Direction::input_gradient) std::swap(from, to);
    const std::int64_t image_bytes = (from.values() + to.values()) * static_cast<std::int64_t>(sizeof(T));
    // Each part packs the filters again, so it is larger for large filters.
    const std::int64_t filter_bytes = o.r * o.s * (o.c / o.groups) * o.k * static_cast<std::int64_t>(sizeof(T));
    const std::int64_t most_bytes = std::max(nhwc_part_bytes(), std::min(4 * filter_bytes, kMostPartBytes));
    each_nhwc_part(o, image_bytes, most_bytes, [&](const ConvProblem& part, std::int64_t n) {
        const Scratch<T> x(part.n * from.values()), y(part.n * to.values());
        transpose_images(part.n, from.channels, from.pixels, operands.input + n * from.values(), x.get());
        // A residual is NCHW, so it is added after the output is converted.
        Operands<T> nhwc = operands.residual != nullptr ? operands.without_finish() : operands;
        nhwc.input = x.get();
        nhwc.output = y.get();
        run(part, direction, nhwc, kept);
        transpose_images(part.n, to.pixels, to.channels, y.get(), operands.output + n * to.values(), o.n);
        if (operands.residual != nullptr) finish_values(operands, n * to.values(), part.n * to.values());
    });
}

template <class T>
void run_filter_gradient(const ConvProblem& given, const Operands<T>& operands, KeptPlan* kept) {
    const ConvProblem o = in_same_layout(given);
    if (o.n == 0 || o.p == 0 || o.q == 0 || o.k == 0) {
        std::fill_n(operands.output, o.r * o.s * (o.c / o.groups) * o.k, T{});
        return;
    }
    if (o.format == DataFormat::nhwc) return run(o, Direction::filter_gradient, operands, kept);
    const auto on_planes = conv_plan<T>(o, Direction::filter_gradient, false);
    if (!on_planes->empty()) return on_planes->run(operands);
    run(in_nhwc(o), Direction::filter_gradient, NhwcGradientOperands<T>(o, operands).get(), kept);
}

void forward(const ConvProblem& problem, const void* input, const void* filters, PackCache* cache,
             const Epilogue& epilogue, void* output, KeptPlan* kept) {
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        Operands<T> operands{};
        operands.input = static_cast<const T*>(input);
        operands.filters = static_cast<const T*>(filters);
        set_epilogue(epilogue, operands);
        operands.output = static_cast<T*>(output);
        operands.cache = cache;
        run_any_layout(problem, Direction::forward, operands, kept);
    });
}

void input_gradient(const ConvProblem& problem, const void* filters, PackCache* cache, const void* out_backprop,
                    const Epilogue& epilogue, void* input_backprop, KeptPlan* kept) {
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        Operands<T> operands{};
        operands.input = static_cast<const T*>(out_backprop);
        operands.filters = static_cast<const T*>(filters);
        set_epilogue(epilogue, operands);
        operands.output = static_cast<T*>(input_backprop);
        operands.cache = cache;
        run_any_layout(problem, Direction::input_gradient, operands, kept);
    });
}

KeptPlan* kept_by(const PlanHolder* holder) { return holder ? holder->get() : nullptr; }

} // namespace

PlanHolder::PlanHolder() : kept_(std::make_unique<KeptPlan>()) {}
PlanHolder::~PlanHolder() = default;

ConvProblem make_conv_problem(DataType dtype, const Dims& input, const Dims& filters, const ConvArguments& arguments) {
    const std::int64_t algorithm =
        arguments.algorithm == "auto" ? kAutoAlgorithm : algorithm_index(arguments.algorithm);
    ConvProblem problem = resolve_conv_problem(dtype, input, filters, arguments);
    problem.algorithm = algorithm;
    check_named_algorithm(problem, arguments.filters_name);
    return problem;
}

void conv2d(const ConvProblem& problem, const void* input, const void* filters, const Epilogue& epilogue, void* output,
            const PlanHolder* holder) {
    forward(problem, input, filters, nullptr, epilogue, output, kept_by(holder));
}

void conv2d(const ConvProblem& problem, const void* input, const PackedFilters& filters, const Epilogue& epilogue,
            void* output) {
    forward(problem, input, filters.data(), filters.cache(), epilogue, output, &filters.cache()->forward);
}

void conv2d_transpose(const ConvProblem& problem, const void* input, const void* filters, const Epilogue& epilogue,
                      void* output, const PlanHolder* holder) {
    input_gradient(problem, filters, nullptr, input, epilogue, output, kept_by(holder));
}

void conv2d_transpose(const ConvProblem& problem, const void* input, const PackedFilters& filters,
                      const Epilogue& epilogue, void* output) {
    input_gradient(problem, filters.data(), filters.cache(), input, epilogue, output, &filters.cache()->input_gradient);
}

void conv2d_backprop_input(const ConvProblem& problem, const void* filters, const void* out_backprop,
                           void* input_backprop, const PlanHolder* holder) {
    conv2d_transpose(problem, out_backprop, filters, {}, input_backprop, holder);
}

void conv2d_backprop_input(const ConvProblem& problem, const PackedFilters& filters, const void* out_backprop,
                           void* input_backprop) {
    conv2d_transpose(problem, out_backprop, filters, {}, input_backprop);
}

void conv2d_backprop_filter(const ConvProblem& problem, const void* input, const void* out_backprop,
                            void* filter_backprop, const PlanHolder* holder) {
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        Operands<T> operands{};
        operands.input = static_cast<const T*>(input);
        operands.out_backprop = static_cast<const T*>(out_backprop);
        operands.output = static_cast<T*>(filter_backprop);
        run_filter_gradient(problem, operands, kept_by(holder));
    });
}

} // namespace fastconv
