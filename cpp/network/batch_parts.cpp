// Cuts a batch into parts of whole images.
//
// Each part runs through all steps on one thread, and the threads run parts at the same time. So the values of a part
// stay in the cache of one CPU from step to step, and threads wait for each other once per call, not once per step. The
// smaller the part, the better its values fit into the cache. But each part reads all constants, so its values should
// have about as many bytes as the constants.
#include "core/errors.h"
#include "core/numbers.h"
#include "network/schedule.h"

#include <algorithm>

namespace fastconv::network {
namespace {

constexpr double kLeastBusy = 0.85;            // the smallest share of the threads' time in which they must be busy
constexpr std::int64_t kLeastBytes = 32 << 10; // of the values of a part, since starting a part takes about 1 us

std::int64_t constant_bytes(const ProgramSource& source) {
    std::int64_t bytes = 0;
    for (const Constant& constant : source.constants)
        bytes += element_count(constant.dims, source.dtype) * size_of(source.dtype);
    return bytes;
}

/// The number of images whose values have as many bytes as all constants. A part should have about this many images.
std::int64_t balanced_images(const ProgramSource& source, const Schedule& whole, std::int64_t images) {
    double values = 0;
    for (const ScheduledStep& step : whole.steps)
        if (!step.prepared.only_reshapes)
            values += static_cast<double>(element_count(step.prepared.output, source.dtype) * size_of(source.dtype));
    const auto all = static_cast<double>(images);
    const auto wanted = static_cast<double>(std::max(constant_bytes(source), kLeastBytes));
    if (values == 0) return images;
    return static_cast<std::int64_t>(std::min(all, wanted * all / values + 1));
}

/// The number of parts. A multiple of the number of threads if there are enough images, but 1 if threads would be idle
/// too long.
std::int64_t count_parts(std::int64_t images, std::int64_t balanced, std::int64_t threads) {
    if (balanced >= images && threads == 1) return 1;
    const std::int64_t rounds = ceil_div(images, threads * std::min(balanced, ceil_div(images, threads)));
    const std::int64_t count = std::min(images, threads * rounds);
    const std::int64_t longest = ceil_div(count, threads) * ceil_div(images, count); // the most images of a thread
    return static_cast<double>(images) >= kLeastBusy * static_cast<double>(threads * longest) ? count : 1;
}

/// Whether each step computes an image of its output from the same image of its inputs and constants alone.
bool runs_by_image(const ProgramSource& source, const std::vector<Step>& steps, const Shapes& inputs,
                   const Schedule& whole, std::int64_t images) {
    const auto batched = [&](const Dims& dims) { return !dims.empty() && dims[0] == images; };
    if (!std::all_of(inputs.begin(), inputs.end(), batched) ||
        !std::all_of(whole.outputs.begin(), whole.outputs.end(), batched))
        return false;
    for (const NamedReference& output : source.outputs)
        if (output.value < 0) return false; // a constant, whatever its shape
    for (std::size_t i = 0; i < steps.size(); ++i) {
        const PreparedStep& step = whole.steps[i].prepared;
        const std::vector<Reference>& from = steps[i].inputs;
        if (!step.by_image || !batched(step.output)) return false;
        if (std::all_of(from.begin(), from.end(), [](Reference input) { return input < 0; })) return false;
        for (const Reference input : from) {
            if (input < 0) continue;
            const auto at = static_cast<std::size_t>(input);
            if (!batched(at < inputs.size() ? inputs[at] : whole.steps[at - inputs.size()].prepared.output))
                return false;
        }
    }
    return true;
}

Dims with_images(Dims dims, std::int64_t images) {
    dims[0] = images;
    return dims;
}

/// The schedule for a part of this size. Null if the program cannot run a part.
std::shared_ptr<Schedule> schedule_part(const ProgramSource& source, const std::vector<Step>& steps,
                                        const Shapes& inputs, const Schedule& whole, std::int64_t images) {
    Shapes shapes;
    for (const Dims& dims : inputs) shapes.push_back(with_images(dims, images));
    try {
        auto part = std::make_shared<Schedule>(source, steps, shapes);
        for (std::size_t i = 0; i < steps.size(); ++i)
            if (part->steps[i].prepared.output != with_images(whole.steps[i].prepared.output, images)) return nullptr;
        return part;
    } catch (const InvalidArgument&) { // such as a reshape to a fixed number of images
        return nullptr;
    }
}

std::vector<std::size_t> image_bytes(const Shapes& shapes, DataType dtype) {
    std::vector<std::size_t> bytes;
    for (const Dims& dims : shapes)
        bytes.push_back(static_cast<std::size_t>(element_count(dims, dtype) / dims[0] * size_of(dtype)));
    return bytes;
}

void set_deciding_batch(Schedule& schedule, std::int64_t images) {
    for (const ScheduledStep& step : schedule.steps)
        if (step.prepared.set_deciding_batch) step.prepared.set_deciding_batch(images);
}

} // namespace

std::shared_ptr<const Schedule> make_schedule(const ProgramSource& source, const std::vector<Step>& steps,
                                              const Shapes& inputs, std::int64_t threads) {
    auto whole = std::make_shared<Schedule>(source, steps, inputs);
    const std::int64_t images = inputs.empty() || inputs[0].empty() ? 0 : inputs[0][0];
    if (images == 0) return whole;
    set_deciding_batch(*whole, images);
    if (!runs_by_image(source, steps, inputs, *whole, images)) return whole;
    // The size of the parts depends on the number of threads, but algorithms must not. Therefore `balanced`, which does
    // not depend on it, decides the algorithms.
    const std::int64_t balanced = balanced_images(source, *whole, images);
    set_deciding_batch(*whole, balanced);
    BatchParts parts;
    parts.images = images;
    parts.count = count_parts(images, balanced, threads);
    if (parts.is_whole()) return whole;
    parts.threads = std::min(threads, parts.count);
    for (const ScheduledStep& step : whole->steps) parts.operations += step.prepared.operations;
    for (const bool more : {false, true}) {
        if (more && images % parts.count == 0) break;
        const std::shared_ptr<Schedule> part =
            schedule_part(source, steps, inputs, *whole, images / parts.count + (more ? 1 : 0));
        if (part == nullptr) return whole;
        set_deciding_batch(*part, balanced);
        (more ? parts.larger : parts.smaller) = part;
    }
    parts.input_bytes = image_bytes(inputs, source.dtype);
    parts.output_bytes = image_bytes(whole->outputs, source.dtype);
    whole->parts = std::move(parts);
    return whole;
}

} // namespace fastconv::network
