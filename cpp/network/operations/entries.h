// The entries of the network's table of operations (network/operation.cpp) by topic, in the table's order.
#pragma once

#include "network/operation.h"

namespace fastconv::network {

std::vector<Operation> convolution_entries();
std::vector<Operation> pooling_entries();
std::vector<Operation> elementwise_entries();
std::vector<Operation> shape_entries();
std::vector<Operation> padding_entries();
std::vector<Operation> resize_entries();
std::vector<Operation> softmax_entries();
std::vector<Operation> reduction_entries();

// ---- Specifications that several entries share --------------------------------------------------------------------

Json json(std::int64_t number);
Json json(double number);
Json json(bool value);
Json json(const char* text);
Json json(std::initializer_list<std::int64_t> numbers);
AttributeSpec required(const char* name, AttributeKind kind);
AttributeSpec activation_spec();

} // namespace fastconv::network
