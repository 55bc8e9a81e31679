// The activations of networks, element by element.
#pragma once

#include "fastconv/network.h"

#include <string_view>

namespace fastconv::network {

enum class ActivationKind : std::uint8_t {
    linear,
    relu,
    relu6,
    leaky_relu,
    elu,
    gelu,
    gelu_tanh,
    silu,
    sigmoid,
    hard_sigmoid,
    hard_swish,
    tanh,
    clip,
};

struct ActivationCall {
    ActivationKind kind = ActivationKind::linear;
    double parameters[2] = {0, 0};
};

/// Throws unless the activation exists and takes these parameters.
ActivationCall parse_activation(std::string_view name, const std::vector<double>& parameters);

/// Overwrites `count` values. `first` is the offset of the first one.
void activate(const ActivationCall& activation, DataType dtype, void* values, std::int64_t first, std::int64_t count);
/// Overwrites `count` values on all threads.
void activate_all(const ActivationCall& activation, DataType dtype, void* values, std::int64_t count);

} // namespace fastconv::network
