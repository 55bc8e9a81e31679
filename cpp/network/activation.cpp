#include "network/activation.h"

#include "core/errors.h"
#include "core/for_type.h"
#include "network/chunks.h"

#include <cmath>

namespace fastconv::network {
namespace {

struct Known {
    const char* name;
    std::size_t parameters;
};
// In the order of the enumeration.
constexpr Known kActivations[] = {
    {"linear", 0}, {"relu", 0},    {"relu6", 0},        {"leaky_relu", 1}, {"elu", 1},  {"gelu", 0}, {"gelu_tanh", 0},
    {"silu", 0},   {"sigmoid", 0}, {"hard_sigmoid", 2}, {"hard_swish", 0}, {"tanh", 0}, {"clip", 2}};

template <class T>
T activated(ActivationKind kind, T alpha, T beta, T x) {
    const T one = 1, half = T{0.5};
    const auto clip = [](T value, T low, T high) { return value < low ? low : value > high ? high : value; };
    switch (kind) {
    case ActivationKind::relu:
        return x < 0 ? T{} : x;
    case ActivationKind::relu6:
        return clip(x, 0, 6);
    case ActivationKind::leaky_relu:
        return x < 0 ? alpha * x : x;
    case ActivationKind::elu:
        return x < 0 ? alpha * std::expm1(x) : x;
    case ActivationKind::gelu:
        return half * x * (one + std::erf(x * static_cast<T>(0.70710678118654752)));
    case ActivationKind::gelu_tanh:
        return half * x *
               (one + std::tanh(static_cast<T>(0.79788456080286536) * (x + static_cast<T>(0.044715) * x * x * x)));
    case ActivationKind::silu:
        return x / (one + std::exp(-x));
    case ActivationKind::sigmoid:
        return one / (one + std::exp(-x));
    case ActivationKind::hard_sigmoid:
        return clip(alpha * x + beta, 0, 1);
    case ActivationKind::hard_swish:
        return x * clip(x / 6 + half, 0, 1);
    case ActivationKind::tanh:
        return std::tanh(x);
    case ActivationKind::clip:
        return clip(x, alpha, beta);
    default:
        return x;
    }
}

} // namespace

ActivationCall parse_activation(std::string_view name, const std::vector<double>& parameters) {
    std::string names;
    for (std::size_t i = 0; i < std::size(kActivations); ++i) {
        const Known& known = kActivations[i];
        names += (i == 0 ? "" : ", ") + std::string(known.name);
        if (name != known.name) continue;
        if (parameters.size() != known.parameters)
            fail("activation '", name, "' takes ", known.parameters, " numbers after its name, got ",
                 parameters.size());
        ActivationCall call{static_cast<ActivationKind>(i)};
        for (std::size_t p = 0; p < parameters.size(); ++p) {
            if (std::isnan(parameters[p])) fail("activation '", name, "' has a parameter that is not a number");
            call.parameters[p] = parameters[p];
        }
        if (call.kind == ActivationKind::clip && parameters[0] > parameters[1])
            fail("activation 'clip' must have its lower limit first, got ", parameters[0], " and ", parameters[1]);
        return call;
    }
    fail("activation must be one of ", names, ", got '", name, "'");
}

void activate(const ActivationCall& activation, DataType dtype, void* values, std::int64_t first, std::int64_t count) {
    if (activation.kind == ActivationKind::linear) return;
    for_type(dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        T* from = static_cast<T*>(values) + first;
        const T alpha = static_cast<T>(activation.parameters[0]), beta = static_cast<T>(activation.parameters[1]);
        for (std::int64_t i = 0; i < count; ++i) from[i] = activated(activation.kind, alpha, beta, from[i]);
    });
}

void activate_all(const ActivationCall& activation, DataType dtype, void* values, std::int64_t count) {
    if (activation.kind == ActivationKind::linear) return;
    for_each_chunk(count,
                   [&](std::int64_t first, std::int64_t size) { activate(activation, dtype, values, first, size); });
}

} // namespace fastconv::network
