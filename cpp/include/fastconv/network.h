// Programs: frozen networks as plain data, that is operations, constants and the values between them.
//
// A front end constructs a Program from a ProgramSource. The constructor validates everything that does not depend on
// the sizes of inputs. For the sizes of a call, the front end asks for a Schedule, allocates the outputs and runs the
// schedule. Any number of threads may do so at once.
#pragma once

#include "fastconv/types.h"

#include <memory>
#include <variant>

namespace fastconv::network {

/// A value of JSON: null, true or false, a number, a text or a list. (No attribute is an object.)
struct Json {
    using List = std::vector<Json>;
    std::variant<std::monostate, bool, std::int64_t, double, std::string, List> held;
};
struct NamedJson {
    std::string name;
    Json value;
};

// ---- The operations ----------------------------------------------------------------------------------------------

enum class InputKind : std::uint8_t { tensor, constant, optional_tensor, optional_constant, tensors };

/// The inputs of an operation. Inputs of kind `tensors`, of which there may be any number, come last.
struct InputSpec {
    const char* name;
    InputKind kind = InputKind::tensor;
};

enum class AttributeKind : std::uint8_t {
    integer,
    integers,
    optional_integers, // null stands for "to the end"
    pair,
    optional_pair,
    optional_numbers, // two numbers, or null
    pairs,
    number,
    boolean,
    word,
    padding,
    activation,
};

struct AttributeSpec {
    const char* name;
    AttributeKind kind;
    bool required = false;
    Json otherwise{};                 // the default, unless required
    std::vector<const char*> words{}; // what an attribute of kind `word` may be
};

struct OperationSpec {
    const char* name;
    std::vector<InputSpec> inputs;
    std::vector<AttributeSpec> attributes;
};

FASTCONV_API std::vector<OperationSpec> operation_specs();
FASTCONV_API const char* name_of(InputKind kind);
FASTCONV_API const char* name_of(AttributeKind kind);

// ---- Programs ----------------------------------------------------------------------------------------------------

struct NamedShape {
    std::string name;
    Dims dims; // a size may be unknown_size (operations.h)
};

/// The memory belongs to the caller. It must outlive the program and never change.
struct Constant {
    Dims dims;
    const void* data;
};

/// A reference to a value or a constant. Values are counted from 0: the inputs of the program, then the outputs of its
/// steps in order. The reference to constant i is -1 - i.
using Reference = std::int64_t;
constexpr Reference left_out = INT64_MIN; // in place of an optional input

struct StepSource {
    std::string operation;
    std::vector<Reference> inputs;
    std::vector<NamedJson> attributes;
    std::string name; // for error messages and reports
};

struct NamedReference {
    std::string name;
    Reference value;
};

struct ProgramSource {
    DataType dtype = DataType::float32;
    std::vector<NamedShape> inputs;
    std::vector<Constant> constants;
    std::vector<StepSource> steps;
    std::vector<NamedReference> outputs;
    bool batch_invariant = false; // if not, the number of images may decide the algorithm of a convolution
};

/// Everything that follows from the shapes of the inputs: the other shapes, the problems, and the place of each value
/// in memory. A schedule never changes.
class Schedule;

struct StepReport {
    std::string algorithm; // empty unless the step is a convolution
    Dims output;
    double operations;     // additions and multiplications by the definition of the operation
    bool copies = true;    // false if the step only gives a value another shape
    bool in_place = false; // whether the output overwrites an input
};

class FASTCONV_API Program {
  public:
    /// Throws InvalidArgument.
    explicit Program(ProgramSource source);
    ~Program();
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;

    DataType dtype() const;
    const std::vector<NamedShape>& inputs() const;

    /// The schedule for inputs of these shapes. Throws InvalidArgument. The last few schedules are kept.
    std::shared_ptr<const Schedule> schedule(const std::vector<Dims>& inputs) const;
    const std::vector<Dims>& output_dims(const Schedule& schedule) const;
    /// Inputs and outputs must be dense, and no output may overlap another buffer. Adds the time of each step to
    /// `seconds`, unless that is null.
    void run(const Schedule& schedule, const void* const* inputs, void* const* outputs,
             std::vector<double>* seconds = nullptr) const;

    std::vector<StepReport> describe(const Schedule& schedule) const;
    /// The bytes that each call in flight takes for the values between inputs and outputs.
    std::int64_t arena_bytes(const Schedule& schedule) const;

  private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

} // namespace fastconv::network
