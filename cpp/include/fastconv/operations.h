// All operations as one table, so that a front end serves all of them with the same code.
//
// A front end adapts tensors. It reads the attributes (attributes.h) and the shapes of the inputs into a Call. `infer`
// validates the call and computes the shapes of the outputs. The front end then provides memory for the outputs, and
// `run` computes them.
#pragma once

#include "fastconv/attributes.h"
#include "fastconv/batch_norm.h"

#include <array>

namespace fastconv {

constexpr std::size_t most_inputs = 9, most_outputs = 4;

enum class InputKind : std::uint8_t {
    tensor,          // of the call's data type
    filters,         // a tensor of the call's data type, or PackedFilters
    optional_tensor, // a tensor of the call's data type, or nothing
    sizes,           // a shape, given as numbers
    bytes,           // uint8
    optional_sizes,  // sizes, or nothing
};
constexpr bool is_sizes(InputKind kind) { return kind == InputKind::sizes || kind == InputKind::optional_sizes; }
constexpr bool is_optional(InputKind kind) {
    return kind == InputKind::optional_tensor || kind == InputKind::optional_sizes;
}

struct Input {
    const char* name;
    InputKind kind = InputKind::tensor;
    bool in_graphs = true; // false for an optional input without a gradient; such inputs come last
};

enum class OutputKind : std::uint8_t { tensor, bytes, int64 };

struct Output {
    const char* name;
    OutputKind kind = OutputKind::tensor;
    int may_overwrite = -1; // the input, of the same shape, whose memory this output may overwrite; -1: none
    bool only_with_input_gradient = false; // left out if the attribute input_gradient is false
    int only_with_input = -1;              // index of an optional input; left out if that is
};

constexpr std::int64_t unknown_size = -1;

struct Shape {
    Dims dims;         // in partial calls, a size may be unknown_size
    bool known = true; // whether the rank is known; false in partial calls only
    bool given = true; // false for an optional input that is left out
    bool refused =
        false; // an optional input that is not a tensor; the other inputs are validated before its error is thrown

    FASTCONV_API bool complete() const;
};

struct Operation;

/// One call: its arguments and, after `infer`, its problems and the shapes of its outputs.
struct Call {
    explicit Call(const Operation& which) : operation(&which) {}

    const Operation* operation;
    DataType dtype = DataType::float32;
    Attributes attributes;
    std::array<Shape, most_inputs> inputs;
    /// A partial call may have unknown sizes. It is inferred, but never run.
    bool partial = false;
    bool attributes_known = true; // false in partial calls only

    std::array<Shape, most_outputs> outputs;
    // Set in complete calls, if the operation contains a convolution, a pooling or a batch normalisation.
    ConvProblem convolution;
    PoolProblem pooling;
    BatchNormProblem batch_norm;

    FASTCONV_API bool complete() const;
    bool wants(const Output& output) const {
        if (output.only_with_input >= 0 && !inputs[static_cast<std::size_t>(output.only_with_input)].given)
            return false;
        return attributes.input_gradient || !output.only_with_input_gradient;
    }
};

/// Pointers to dense memory of the inferred shapes. An output must not overlap any other buffer, except an input that
/// it may overwrite.
struct Buffers {
    std::array<const void*, most_inputs> inputs{}; // null for sizes and packed filters, and if left out
    std::array<void*, most_outputs> outputs{};     // null if not wanted
    const PackedFilters* packed = nullptr;         // replaces the input of kind `filters`
    const PlanHolder* holder = nullptr;            // the plan of the last call, if the caller repeats the same call
};

/// Which codes (attributes.h) an op in a graph takes.
enum class Geometry : std::uint8_t { convolution, pooling, both, elementwise };

struct Operation {
    const char* name;
    std::vector<Input> inputs;
    Geometry geometry;
    AttributeSet attributes;
    std::vector<Output> outputs;
    /// Validates the call and fills in its problems and outputs. For a partial call, it validates what is known and
    /// fills in the outputs only. Throws InvalidArgument.
    void (*infer)(Call& call);
    void (*compute)(const Call& call, const Buffers& buffers); // called by `run`
    /// Validates the values of inputs. Null if every value is valid. A front end must call this function before `run`,
    /// unless the values are results of an operation.
    void (*check)(const Call& call, const Buffers& buffers) = nullptr;

    /// Computes the outputs in the floating-point state of the kernels, and then restores the caller's state.
    FASTCONV_API void run(const Call& call, const Buffers& buffers) const;

    /// How many inputs the op in a graph has: the first ones of the operation.
    FASTCONV_API std::size_t graph_inputs() const;
};

FASTCONV_API const std::vector<Operation>& operations();
/// Null if no operation has this name.
FASTCONV_API const Operation* find_operation(std::string_view name);

FASTCONV_API const char* name_of(InputKind kind);
FASTCONV_API const char* name_of(OutputKind kind);
FASTCONV_API const char* name_of(DataType type); // NumPy's name

} // namespace fastconv
