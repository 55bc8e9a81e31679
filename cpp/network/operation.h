// What an operation of a network is: its inputs, its attributes, and a function that binds it to a step of a program.
//
// Work is done as early as possible. Binding reads the attributes and takes the constants, once per program. Preparing
// validates shapes and makes problems, once per set of input shapes. Running computes.
#pragma once

#include "network/attribute_reader.h"

#include <functional>

namespace fastconv::network {

/// Takes the pointers of the step's inputs in order. The pointer of an input that is left out is null.
using Run = std::function<void(const void* const* inputs, void* output)>;

/// A step for inputs of certain shapes.
struct PreparedStep {
    Dims output;
    Run run;
    /// May be empty. Makes the `run` for an input 0 whose rows along the last axis start `row` elements apart.
    std::function<Run(std::int64_t row)> reading_rows;
    /// May be empty. Makes the `run` for an output whose rows start `row` elements apart. That `run` skips inputs whose
    /// pointer is null, because they are in the output already. Only for concatenations along the last axis.
    std::function<Run(std::int64_t row)> writing_rows;
    /// The output is input 0 in another shape. `run` is never called.
    bool only_reshapes = false;
    /// Bit i: the output may overwrite input i, which has the same size.
    std::uint32_t may_overwrite = 0;
    /// Axis 0 counts images, and each image of the output is computed from the same image of the inputs alone.
    bool by_image = false;
    double operations = 0;
    std::function<std::string()> algorithm; // may be empty
    /// May be empty. Sets the number of images that may decide the algorithm. Called before the first run.
    std::function<void(std::int64_t images)> set_deciding_batch;
};

/// The shapes of a step's inputs. An input that is left out has an empty shape.
using Shapes = std::vector<Dims>;
using Prepare = std::function<PreparedStep(const Shapes& inputs)>;

struct BoundInput {
    bool given = true;
    const Constant* constant = nullptr; // null unless the input is a constant
};

/// What an operation reads when it is bound to a step of a program.
struct Binding {
    DataType dtype;
    std::vector<BoundInput> inputs;
    AttributeReader attributes;
    bool batch_invariant = false;
};

struct Operation : OperationSpec {
    Prepare (*bind)(const Binding& binding);
};

const std::vector<Operation>& operations();
/// Null if no operation has this name.
const Operation* find_operation(std::string_view name);

constexpr std::size_t most_dimensions = 8;

// ---- What operations share ----------------------------------------------------------------------------------------

/// The number of elements. Throws if the tensor has 2^63 bytes or more.
std::int64_t element_count(const Dims& dims, DataType dtype);
/// The product of dims[first], ..., dims[last - 1].
std::int64_t product(const Dims& dims, std::size_t first, std::size_t last);
/// Turns a negative axis, which counts from the end, into an index. Throws if there is no such axis.
std::size_t normal_axis(std::int64_t axis, std::size_t rank);
void check_rank_at_least(const char* name, const Dims& dims, std::size_t rank);

} // namespace fastconv::network
