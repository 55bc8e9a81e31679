#include "network/schedule.h"

#include "core/errors.h"
#include "core/numbers.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace fastconv::network {
namespace {

constexpr std::size_t kLine = 64;                                     // buffers start at cache lines
constexpr std::size_t kEnd = std::numeric_limits<std::size_t>::max(); // a step after the last one
constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

/// Memory for one value, or for several values if each overwrites the one before it.
struct Buffer {
    std::size_t bytes, first, last; // first: the first step that writes it; last: the last step that reads it
    std::size_t output = kNone;     // index of the program's output whose memory this is, or kNone
    std::size_t offset = 0;         // offset in the arena, unless it is an output
};

class Planner {
  public:
    Planner(const ProgramSource& source, const std::vector<Step>& steps, const Shapes& inputs)
        : source_(source), steps_(steps), inputs_(inputs.size()), shapes_(inputs) {}

    void prepare_steps(std::vector<ScheduledStep>& scheduled);
    void find_last_uses();
    void find_growing_values(const std::vector<ScheduledStep>& scheduled);
    void make_buffers(std::vector<ScheduledStep>& scheduled);
    void assign_outputs(Shapes& outputs, std::vector<OutputCopy>& copies);
    std::size_t place_buffers();
    Place place(Reference reference) const;
    void set_rows(std::size_t step, ScheduledStep& scheduled) const;

  private:
    const Dims& shape(Reference reference) const {
        static const Dims none;
        if (reference == left_out) return none;
        if (reference < 0) return source_.constants[static_cast<std::size_t>(-1 - reference)].dims;
        return shapes_[static_cast<std::size_t>(reference)];
    }
    std::size_t bytes(Reference reference) const {
        return static_cast<std::size_t>(element_count(shape(reference), source_.dtype) * size_of(source_.dtype));
    }
    /// The value whose memory this value shares, if only reshapes lie between the two. Otherwise the value itself.
    Reference root(Reference reference) const {
        return reference < 0 ? reference : roots_[static_cast<std::size_t>(reference)];
    }
    bool is_computed(Reference root) const { return root >= static_cast<Reference>(inputs_); }
    Reference output_of(std::size_t step) const { return static_cast<Reference>(inputs_ + step); }
    std::size_t input_to_overwrite(std::size_t step, const PreparedStep& prepared) const;
    std::size_t growth_of(std::size_t step, const std::vector<ScheduledStep>& scheduled) const;

    const ProgramSource& source_;
    const std::vector<Step>& steps_;
    const std::size_t inputs_;
    Shapes shapes_;                       // of all values
    std::vector<Reference> roots_;        // of all values
    std::vector<std::size_t> last_uses_;  // of all roots
    std::vector<std::size_t> buffer_of_;  // of all computed roots
    std::vector<std::size_t> grows_into_; // of all steps: the step whose output begins with this one's, or kNone
    std::vector<std::size_t> whole_;      // of all steps: the last step that the output grows into, or the step itself
    std::vector<Buffer> buffers_;
};

void Planner::prepare_steps(std::vector<ScheduledStep>& scheduled) {
    roots_.resize(inputs_);
    std::iota(roots_.begin(), roots_.end(), Reference{0});
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        const Step& step = steps_[i];
        Shapes inputs;
        for (const Reference input : step.inputs) inputs.push_back(shape(input));
        try {
            scheduled.push_back({step.prepare(inputs), {}, {}});
            const Dims& output = scheduled.back().prepared.output;
            element_count(output, source_.dtype); // throws if the output is too large
            if (output.size() > most_dimensions) fail("the output must have at most 8 dimensions, got ", output.size());
        } catch (const InvalidArgument& error) {
            fail(place_of(i, step.operation->name, step.name), error.what());
        }
        const PreparedStep& prepared = scheduled.back().prepared;
        shapes_.push_back(prepared.output);
        roots_.push_back(prepared.only_reshapes ? root(step.inputs[0]) : output_of(i));
    }
}

void Planner::find_last_uses() {
    last_uses_.assign(shapes_.size(), 0);
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        last_uses_[inputs_ + i] = i; // the output is written, even if nothing reads it
        for (const Reference input : steps_[i].inputs)
            if (root(input) >= 0) last_uses_[static_cast<std::size_t>(root(input))] = i;
    }
    for (const NamedReference& output : source_.outputs)
        if (root(output.value) >= 0) last_uses_[static_cast<std::size_t>(root(output.value))] = kEnd;
}

/// The step that appends channels to this step's output in place, or kNone. This step then writes its output to the
/// first channels of the other step's output. All other readers must be able to read these channels there.
std::size_t Planner::growth_of(std::size_t step, const std::vector<ScheduledStep>& scheduled) const {
    const Reference value = output_of(step);
    if (!scheduled[step].prepared.writing_rows || last_uses_[static_cast<std::size_t>(value)] == kEnd) return kNone;
    std::size_t growth = kNone;
    for (std::size_t i = step + 1; i < steps_.size(); ++i) {
        const std::vector<Reference>& inputs = steps_[i].inputs;
        const auto reads = [&](Reference input) { return root(input) == value; };
        const auto count = std::count_if(inputs.begin(), inputs.end(), reads);
        if (count == 0) continue;
        if (count > 1 || inputs[0] != value) return kNone;
        if (scheduled[i].prepared.writing_rows) {
            if (growth != kNone) return kNone;
            growth = i;
        } else if (!scheduled[i].prepared.reading_rows) {
            return kNone;
        }
    }
    return growth;
}

/// Networks such as DenseNet append channels to a growing value again and again. All parts of this value are written
/// directly to their place in it.
void Planner::find_growing_values(const std::vector<ScheduledStep>& scheduled) {
    for (std::size_t i = 0; i < steps_.size(); ++i) grows_into_.push_back(growth_of(i, scheduled));
    whole_.resize(steps_.size());
    for (std::size_t i = steps_.size(); i-- > 0;) whole_[i] = grows_into_[i] == kNone ? i : whole_[grows_into_[i]];
}

/// Replaces `run` if the step reads or writes part of the channels of a growing value.
void Planner::set_rows(std::size_t step, ScheduledStep& scheduled) const {
    PreparedStep& prepared = scheduled.prepared;
    const Reference input = steps_[step].inputs.empty() ? left_out : steps_[step].inputs[0];
    const bool computed = input != left_out && root(input) == input && is_computed(input);
    const std::size_t source = computed ? static_cast<std::size_t>(input) - inputs_ : kNone;
    if (source != kNone && grows_into_[source] != kNone && prepared.reading_rows)
        prepared.run = prepared.reading_rows(shape(output_of(whole_[source])).back());
    if (prepared.writing_rows && (whole_[step] != step || (source != kNone && grows_into_[source] == step))) {
        prepared.run = prepared.writing_rows(shape(output_of(whole_[step])).back());
        scheduled.in_place = source != kNone && grows_into_[source] == step;
        if (scheduled.in_place) scheduled.inputs[0] = {}; // the output holds it already
    }
}

/// The index of the input whose memory the step's output takes over, or kNone.
std::size_t Planner::input_to_overwrite(std::size_t step, const PreparedStep& prepared) const {
    const std::vector<Reference>& inputs = steps_[step].inputs;
    for (std::size_t i = 0; i < inputs.size() && i < 32; ++i) {
        if ((prepared.may_overwrite >> i & 1) == 0 || inputs[i] == left_out) continue;
        const Reference value = root(inputs[i]);
        if (!is_computed(value)) continue;
        if (bytes(inputs[i]) != bytes(output_of(step))) continue;
        const std::size_t buffer = buffer_of_[static_cast<std::size_t>(value)];
        const bool grows = grows_into_[static_cast<std::size_t>(value) - inputs_] != kNone;
        if (grows || buffers_[buffer].last > step) continue; // it is part of a larger value, or will be read again
        // If another input shares this memory, it would be read after it was overwritten.
        const auto shares = [&](Reference other) { return root(other) == value; };
        if (std::count_if(inputs.begin(), inputs.end(), shares) == 1) return i;
    }
    return kNone;
}

void Planner::make_buffers(std::vector<ScheduledStep>& scheduled) {
    buffer_of_.assign(shapes_.size(), kNone);
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        const PreparedStep& prepared = scheduled[i].prepared;
        if (prepared.only_reshapes) continue;
        const std::size_t value = inputs_ + i, last = last_uses_[value], input = input_to_overwrite(i, prepared);
        if (whole_[i] != i || (buffer_of_[value] != kNone)) { // a growing value
            if (buffer_of_[value] == kNone) {
                std::size_t longest = 0;
                for (std::size_t part = i; part != kNone; part = grows_into_[part]) {
                    longest = std::max(longest, last_uses_[inputs_ + part]);
                    buffer_of_[inputs_ + part] = buffers_.size();
                }
                buffers_.push_back({bytes(output_of(whole_[i])), i, longest});
            }
            continue;
        }
        if (input == kNone) {
            buffer_of_[value] = buffers_.size();
            buffers_.push_back({bytes(output_of(i)), i, last});
            continue;
        }
        const std::size_t buffer = buffer_of_[static_cast<std::size_t>(root(steps_[i].inputs[input]))];
        buffer_of_[value] = buffer;
        buffers_[buffer].last = last;
        scheduled[i].in_place = true;
    }
}

void Planner::assign_outputs(Shapes& outputs, std::vector<OutputCopy>& copies) {
    std::vector<std::size_t> copied;
    for (std::size_t i = 0; i < source_.outputs.size(); ++i) {
        const Reference value = source_.outputs[i].value, memory = root(value);
        outputs.push_back(shape(value));
        if (is_computed(memory)) {
            Buffer& buffer = buffers_[buffer_of_[static_cast<std::size_t>(memory)]];
            if (buffer.output == kNone) {
                buffer.output = i;
                continue;
            }
        }
        copied.push_back(i);
    }
    for (const std::size_t i : copied) {
        const Reference value = source_.outputs[i].value;
        copies.push_back({place(value), i, bytes(value)});
    }
}

/// Places the buffers in the arena, the largest first. Each gets the lowest offset at which it overlaps no buffer that
/// is needed at the same time. Returns the size of the arena.
std::size_t Planner::place_buffers() {
    std::vector<Buffer*> order, placed;
    for (Buffer& buffer : buffers_)
        if (buffer.output == kNone && buffer.bytes > 0) order.push_back(&buffer);
    std::stable_sort(order.begin(), order.end(), [](const Buffer* a, const Buffer* b) { return a->bytes > b->bytes; });
    std::size_t arena = 0;
    for (Buffer* buffer : order) {
        std::size_t offset = 0;
        for (const Buffer* other : placed) { // in the order of their offsets
            if (other->last < buffer->first || buffer->last < other->first) continue;
            if (offset + buffer->bytes <= other->offset) break;
            offset = std::max(offset, (other->offset + other->bytes + kLine - 1) / kLine * kLine);
        }
        if (buffer->bytes > kEnd / 2 - offset)
            fail("the values of the network do not fit in memory; use a smaller batch");
        buffer->offset = offset;
        arena = std::max(arena, offset + buffer->bytes);
        const auto lower = [](const Buffer* a, const Buffer* b) { return a->offset < b->offset; };
        placed.insert(std::upper_bound(placed.begin(), placed.end(), buffer, lower), buffer);
    }
    return arena;
}

Place Planner::place(Reference reference) const {
    if (reference == left_out) return {};
    const Reference memory = root(reference);
    if (memory < 0) return {Place::Base::constant, 0, source_.constants[static_cast<std::size_t>(-1 - memory)].data};
    if (!is_computed(memory)) return {Place::Base::input, static_cast<std::size_t>(memory)};
    const Buffer& buffer = buffers_[buffer_of_[static_cast<std::size_t>(memory)]];
    if (buffer.output != kNone) return {Place::Base::output, buffer.output};
    return {Place::Base::arena, buffer.offset};
}

} // namespace

Schedule::Schedule(const ProgramSource& source, const std::vector<Step>& program_steps, const Shapes& inputs) {
    Planner planner(source, program_steps, inputs);
    planner.prepare_steps(steps);
    planner.find_last_uses();
    planner.find_growing_values(steps);
    planner.make_buffers(steps);
    planner.assign_outputs(outputs, copies);
    arena_bytes = planner.place_buffers();
    for (std::size_t i = 0; i < steps.size(); ++i) {
        most_inputs = std::max(most_inputs, program_steps[i].inputs.size());
        for (const Reference input : program_steps[i].inputs) steps[i].inputs.push_back(planner.place(input));
        planner.set_rows(i, steps[i]);
        if (!steps[i].prepared.only_reshapes)
            steps[i].output = planner.place(static_cast<Reference>(inputs.size() + i));
    }
}

std::string place_of(std::size_t step, std::string_view operation, std::string_view name) {
    std::string text = "step " + std::to_string(step) + ", " + std::string(operation);
    if (!name.empty()) text += " '" + std::string(name) + "'";
    return text + ": ";
}

} // namespace fastconv::network
