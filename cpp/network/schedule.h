// A program for inputs of certain shapes: its prepared steps, and where each value is in memory.
//
// Values between inputs and outputs share one block of memory, the arena. Two values may have the same place if no step
// needs both. A value that a step only reshapes stays where it is. An elementwise step overwrites an input that no
// later step needs.
#pragma once

#include "network/arena_pool.h"
#include "network/operation.h"

namespace fastconv::network {

struct Step {
    std::string name;
    const Operation* operation;
    std::vector<Reference> inputs;
    Prepare prepare;
};

struct Place {
    enum class Base : std::uint8_t { none, arena, input, output, constant };
    Base base = Base::none;
    std::size_t at = 0;             // offset in the arena, or index of the input or output
    const void* constant = nullptr; // its memory
};

struct ScheduledStep {
    PreparedStep prepared;
    std::vector<Place> inputs;
    Place output;
    bool in_place = false;
};

/// An output that no step writes: it is an input, a constant, or the same value as an earlier output.
struct OutputCopy {
    Place from;
    std::size_t output;
    std::size_t bytes;
};

class Schedule;

/// A batch in parts of whole images. Part i has images [part_start(i, count, images), part_start(i + 1, count,
/// images)).
struct BatchParts {
    std::int64_t images = 0, count = 1;
    std::int64_t threads = 1;                           // how many parts run at the same time
    double operations = 0;                              // of all images
    std::shared_ptr<const Schedule> smaller, larger;    // for parts of images / count images, and of one image more
    std::vector<std::size_t> input_bytes, output_bytes; // of one image

    bool is_whole() const { return count == 1; }
};

class Schedule {
  public:
    /// Throws InvalidArgument, with the step's name, if a step refuses the shapes of its inputs.
    Schedule(const ProgramSource& source, const std::vector<Step>& steps, const Shapes& inputs);

    /// Runs the parts of the batch, or all steps at once if it is whole. Adds the time of each step to `seconds`,
    /// unless it is null.
    void run(const void* const* inputs, void* const* outputs, std::vector<double>* seconds) const;

    BatchParts parts;
    std::vector<ScheduledStep> steps;
    std::vector<OutputCopy> copies;
    Shapes outputs;
    std::size_t most_inputs = 0; // the largest number of inputs of a step
    std::size_t arena_bytes = 0;
    mutable ArenaPool arenas;

  private:
    void run_steps(const void* const* inputs, void* const* outputs, std::vector<double>* seconds) const;
    void run_parts(const void* const* inputs, void* const* outputs, std::vector<double>* seconds) const;
};

/// A schedule that cuts the batch into parts if that is worthwhile with this number of threads. Throws InvalidArgument.
std::shared_ptr<const Schedule> make_schedule(const ProgramSource& source, const std::vector<Step>& steps,
                                              const Shapes& inputs, std::int64_t threads);

/// "step 3, conv2d 'block1_conv1': ", for error messages.
std::string place_of(std::size_t step, std::string_view operation, std::string_view name);

} // namespace fastconv::network
