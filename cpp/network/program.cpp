// Validates programs, and runs them.
#include "core/cpu_state.h"
#include "core/errors.h"
#include "core/numbers.h"
#include "core/threads/parallel_for.h"
#include "fastconv/operations.h"
#include "fastconv/threads.h"
#include "network/schedule_cache.h"

#include <utility>

namespace fastconv::network {

struct Program::Parts {
    ProgramSource source;
    std::vector<Step> steps;
    ScheduleCache schedules;
};

namespace {

void check_shape(const std::string& name, const Dims& dims, DataType dtype, std::int64_t least) {
    if (dims.size() > most_dimensions) fail(name, " must have at most 8 dimensions, got ", dims.size());
    for (const std::int64_t size : dims)
        if (size < least) fail(name, " must not have a negative size, got shape ", show(dims));
    if (least == 0) element_count(dims, dtype);
}

/// Throws unless the reference is to a constant or to one of the `values` values so far.
void check_reference(const ProgramSource& source, std::size_t values, Reference reference, const std::string& who) {
    if (reference < -static_cast<Reference>(source.constants.size()) || reference >= static_cast<Reference>(values))
        fail(who, "there is no value ", reference, " (values so far: ", values,
             ", constants: ", source.constants.size(), ")");
}

/// The inputs of a step. Throws unless the operation takes this number of inputs, and inputs of these kinds.
std::vector<BoundInput> bind_inputs(const ProgramSource& source, const OperationSpec& operation,
                                    const std::vector<Reference>& references) {
    const std::vector<InputSpec>& specs = operation.inputs;
    const bool any_number = !specs.empty() && specs.back().kind == InputKind::tensors;
    if (any_number ? references.size() < specs.size() : references.size() != specs.size())
        fail("the number of inputs must be ", specs.size(), any_number ? " or more" : "", ", got ", references.size());
    std::vector<BoundInput> inputs;
    for (std::size_t i = 0; i < references.size(); ++i) {
        const InputSpec& spec = specs[std::min(i, specs.size() - 1)];
        const bool given = references[i] != left_out, constant = given && references[i] < 0;
        const bool optional = spec.kind == InputKind::optional_tensor || spec.kind == InputKind::optional_constant;
        const bool must_be_constant = spec.kind == InputKind::constant || spec.kind == InputKind::optional_constant;
        if (!given && !optional) fail("input '", spec.name, "' is missing");
        if (given && must_be_constant && !constant) fail("input '", spec.name, "' must be a constant");
        inputs.push_back({given, constant ? &source.constants[static_cast<std::size_t>(-1 - references[i])] : nullptr});
    }
    return inputs;
}

Step make_step(const ProgramSource& source, std::size_t index) {
    const StepSource& from = source.steps[index];
    const std::string who = place_of(index, from.operation, from.name);
    const Operation* operation = find_operation(from.operation);
    if (operation == nullptr) fail(who, "there is no operation of this name");
    for (const Reference reference : from.inputs)
        if (reference != left_out) check_reference(source, source.inputs.size() + index, reference, who);
    try {
        std::vector<BoundInput> inputs = bind_inputs(source, *operation, from.inputs);
        const Binding binding{source.dtype, std::move(inputs), AttributeReader(*operation, from.attributes),
                              source.batch_invariant};
        return {from.name, operation, from.inputs, operation->bind(binding)};
    } catch (const InvalidArgument& error) {
        fail(who, error.what());
    }
}

/// The declared shapes, with this batch size. Empty if any other size is unknown. A tensor with a single axis has no
/// batch.
Shapes with_batch(const ProgramSource& source, std::int64_t batch) {
    Shapes shapes;
    for (const NamedShape& input : source.inputs) {
        shapes.push_back(input.dims);
        for (std::size_t i = 0; i < input.dims.size(); ++i) {
            if (input.dims[i] != unknown_size) continue;
            if (i > 0 || input.dims.size() == 1) return {};
            shapes.back()[i] = batch;
        }
    }
    return shapes;
}

/// Validates the shapes of all steps if no size but the batch size is unknown. A program may refuse some batch sizes,
/// for example because a step reshapes pairs of images. It must accept a batch of 1 or of 12 images.
void try_a_batch(const ProgramSource& source, const std::vector<Step>& steps) {
    const Shapes one = with_batch(source, 1), dozen = with_batch(source, 12);
    if (one.empty()) return;
    try {
        const Schedule valid(source, steps, one);
    } catch (const InvalidArgument&) {
        try {
            const Schedule valid(source, steps, dozen);
            return;
        } catch (const InvalidArgument&) {
        }
        throw;
    }
}

void check_input(const NamedShape& input, const Dims& dims) {
    bool fits = dims.size() == input.dims.size();
    for (std::size_t i = 0; fits && i < dims.size(); ++i)
        fits = input.dims[i] == unknown_size || input.dims[i] == dims[i];
    if (fits) return;
    std::string expected;
    for (const std::int64_t size : input.dims)
        expected += (expected.empty() ? "" : ", ") + (size == unknown_size ? "None" : std::to_string(size));
    if (input.dims.size() == 1) expected += ",";
    std::string remedy;
    if (dims.size() + 1 == input.dims.size() && input.dims[0] == unknown_size)
        remedy = "; " + input.name + "[None] makes it a batch of one";
    fail(input.name, " must have shape (", expected, "), got ", show(dims), remedy);
}

} // namespace

Program::Program(ProgramSource source) : parts_(std::make_unique<Parts>()) {
    parts_->source = std::move(source);
    const ProgramSource& from = parts_->source;
    for (const NamedShape& input : from.inputs) check_shape("input '" + input.name + "'", input.dims, from.dtype, -1);
    for (std::size_t i = 0; i < from.constants.size(); ++i)
        check_shape("constant " + std::to_string(i), from.constants[i].dims, from.dtype, 0);
    for (std::size_t i = 0; i < from.steps.size(); ++i) parts_->steps.push_back(make_step(from, i));
    for (const NamedReference& output : from.outputs)
        check_reference(from, from.inputs.size() + from.steps.size(), output.value, "output '" + output.name + "': ");
    try_a_batch(from, parts_->steps);
}

Program::~Program() = default;

DataType Program::dtype() const { return parts_->source.dtype; }
const std::vector<NamedShape>& Program::inputs() const { return parts_->source.inputs; }

std::shared_ptr<const Schedule> Program::schedule(const std::vector<Dims>& inputs) const {
    const std::int64_t threads = threads_for_tasks();
    if (std::shared_ptr<const Schedule> kept = parts_->schedules.find(inputs, threads)) return kept;
    const std::vector<NamedShape>& declared = parts_->source.inputs;
    if (inputs.size() != declared.size())
        fail("the number of the network's inputs must be ", declared.size(), ", got ", inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        check_input(declared[i], inputs[i]);
        check_shape(declared[i].name, inputs[i], dtype(), 0);
    }
    std::shared_ptr<const Schedule> schedule = make_schedule(parts_->source, parts_->steps, inputs, threads);
    parts_->schedules.keep(inputs, threads, schedule);
    return schedule;
}

const std::vector<Dims>& Program::output_dims(const Schedule& schedule) const { return schedule.outputs; }

void Program::run(const Schedule& schedule, const void* const* inputs, void* const* outputs,
                  std::vector<double>* seconds) const {
    const FloatingPointState state;
    // Servers call from many threads, while other work runs. OpenMP would start threads for each caller.
    const PreferBackend pool(ThreadingBackend::pool);
    schedule.run(inputs, outputs, seconds);
}

std::vector<StepReport> Program::describe(const Schedule& schedule) const {
    std::vector<StepReport> reports;
    for (const ScheduledStep& step : schedule.steps) {
        const PreparedStep& prepared = step.prepared;
        reports.push_back({prepared.algorithm ? prepared.algorithm() : "", prepared.output, prepared.operations,
                           !prepared.only_reshapes, step.in_place});
    }
    return reports;
}

std::int64_t Program::arena_bytes(const Schedule& schedule) const {
    const BatchParts& parts = schedule.parts;
    if (parts.is_whole()) return static_cast<std::int64_t>(schedule.arena_bytes);
    return parts.threads * static_cast<std::int64_t>((parts.larger ? parts.larger : parts.smaller)->arena_bytes);
}

} // namespace fastconv::network
