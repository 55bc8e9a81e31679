// The operations in the operation table (operations/table.cpp) as native ops, through TensorFlow's C API alone.
//
// tf.load_op_library opens this library with dlopen, which runs the library's constructor. The constructor registers
// the ops and their kernels. tf.load_op_library then makes the Python wrappers. One binary serves all TensorFlow
// versions from 2.16 on. No op is stateful: TensorFlow would run stateful ops one after the other. Attributes are
// encoded in the shapes of inputs (see attributes.h), so that kernels and shape functions read the same numbers.
#include "front_end.h"

#include <algorithm>
#include <cstdio>
#include <string>

namespace fastconv::tf {
namespace {

/// The name of the op, such as FastconvConv2DMaxPool2D for "conv2d_max_pool2d".
std::string op_name(const Operation& operation) {
    std::string name = "Fastconv";
    bool starts_word = true;
    for (const char* c = operation.name; *c != '\0'; ++c) {
        const bool is_letter = *c >= 'a' && *c <= 'z';
        const bool after_digit = name.back() >= '0' && name.back() <= '9';
        if (*c != '_') name += is_letter && (starts_word || after_digit) ? static_cast<char>(*c - 'a' + 'A') : *c;
        starts_word = *c == '_';
    }
    return name;
}

std::string described(const Input& input) {
    switch (input.kind) {
    case InputKind::sizes:
    case InputKind::optional_sizes:
        return "like: U";
    case InputKind::bytes:
        return std::string(input.name) + ": uint8";
    default:
        return std::string(input.name) + ": T";
    }
}

std::string described(const Output& output) {
    const char* type = output.kind == OutputKind::bytes   ? ": uint8"
                       : output.kind == OutputKind::int64 ? ": int64"
                                                          : ": T";
    return output.name + std::string(type);
}

void register_op(std::size_t index, const Status& status) {
    const Operation& operation = operations()[index];
    const std::string name = op_name(operation);
    TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder(name.c_str());
    TF_OpDefinitionBuilderAddAttr(op, "T: {float, double}");
    const auto lends = [](const Input& input) { return is_sizes(input.kind); };
    if (std::any_of(operation.inputs.begin(), operation.inputs.end(), lends))
        TF_OpDefinitionBuilderAddAttr(op, "U: {uint8, float, double}");
    if (filters_index(operation) < operation.inputs.size())
        TF_OpDefinitionBuilderAddAttr(op, (std::string(kConstantFilters) + ": bool = false").c_str());
    if (operation.check != nullptr)
        TF_OpDefinitionBuilderAddAttr(op, (std::string(kCheckInputs) + ": bool = true").c_str());
    if (operation.geometry == Geometry::elementwise) {
        TF_OpDefinitionBuilderAddAttr(op, (std::string(kActivation) + ": string = 'linear'").c_str());
        TF_OpDefinitionBuilderAddAttr(op, (std::string(kEpsilon) + ": string = '0.001'").c_str());
    }
    for (std::size_t i = 0; i < operation.graph_inputs(); ++i)
        TF_OpDefinitionBuilderAddInput(op, described(operation.inputs[i]).c_str());
    TF_OpDefinitionBuilderAddInput(op, "geometry: uint8");
    if (operation.geometry == Geometry::both) TF_OpDefinitionBuilderAddInput(op, "pool_geometry: uint8");
    for (const Output& output : operation.outputs) TF_OpDefinitionBuilderAddOutput(op, described(output).c_str());
    TF_OpDefinitionBuilderSetShapeInferenceFunction(op, shape_function(index));
    TF_RegisterOpDefinition(op, status.get()); // takes ownership of the builder
    for (const int type : {kFloat, kDouble}) {
        status.check();
        TF_KernelBuilder* kernel =
            TF_NewKernelBuilder(name.c_str(), "CPU", create_kernel(index), compute, destroy_kernel);
        TF_KernelBuilder_TypeConstraint(kernel, "T", type, status.get());
        status.check();
        TF_RegisterKernelBuilder(name.c_str(), kernel, status.get());
    }
    status.check();
}

/// Runs during the dlopen of this library. Errors go to stderr. tf.load_op_library then finds no op and reports that.
__attribute__((constructor)) void register_all() {
    if (const char* missing = find_functions()) {
        std::fprintf(stderr, "fastconv: %s was not found; import tensorflow (2.16 or later) first\n", missing);
        return;
    }
    const std::size_t count = operations().size();
    if (count > most_operations) {
        std::fprintf(
            stderr,
            "fastconv: the operation table has %zu operations; raise most_operations in the TensorFlow front end\n",
            count);
        return;
    }
    const Status status;
    for (std::size_t i = 0; i < count; ++i) {
        if (guarded(status.get(), [&] { register_op(i, status); })) continue;
        std::fprintf(stderr, "fastconv: registering %s failed: %s\n", op_name(operations()[i]).c_str(),
                     TF_Message(status.get()));
        return;
    }
}

} // namespace
} // namespace fastconv::tf
