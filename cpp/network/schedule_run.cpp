// Runs a schedule, step by step, or part by part of its batch.
#include "core/numbers.h"
#include "core/threads/parallel_for.h"
#include "network/schedule.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>

namespace fastconv::network {

void Schedule::run(const void* const* inputs, void* const* to, std::vector<double>* seconds) const {
    parts.is_whole() ? run_steps(inputs, to, seconds) : run_parts(inputs, to, seconds);
}

void Schedule::run_steps(const void* const* inputs, void* const* to, std::vector<double>* seconds) const {
    const Arena arena(arenas, arena_bytes);
    const auto pointer = [&](const Place& place) -> void* {
        switch (place.base) {
        case Place::Base::arena:
            return static_cast<std::byte*>(arena.get()) + place.at;
        case Place::Base::input:
            return const_cast<void*>(inputs[place.at]); // steps only read their inputs
        case Place::Base::output:
            return to[place.at];
        default:
            return const_cast<void*>(place.constant);
        }
    };
    std::vector<const void*> step_inputs(most_inputs);
    for (std::size_t i = 0; i < steps.size(); ++i) {
        const ScheduledStep& step = steps[i];
        if (step.prepared.only_reshapes) continue;
        for (std::size_t j = 0; j < step.inputs.size(); ++j) step_inputs[j] = pointer(step.inputs[j]);
        if (seconds == nullptr) {
            step.prepared.run(step_inputs.data(), pointer(step.output));
            continue;
        }
        const auto start = std::chrono::steady_clock::now();
        step.prepared.run(step_inputs.data(), pointer(step.output));
        (*seconds)[i] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    for (const OutputCopy& copy : copies)
        if (copy.bytes > 0) std::memcpy(to[copy.output], pointer(copy.from), copy.bytes);
}

void Schedule::run_parts(const void* const* inputs, void* const* to, std::vector<double>* seconds) const {
    const auto count = static_cast<std::size_t>(parts.count);
    std::vector<std::vector<double>> times(seconds == nullptr ? 0 : count, std::vector<double>(steps.size()));
    const auto start = std::chrono::steady_clock::now();
    parallel_for(parts.count, parts.operations, [&](std::int64_t part) {
        const std::int64_t first = part_start(part, parts.count, parts.images),
                           size = part_start(part + 1, parts.count, parts.images) - first;
        std::vector<const void*> from;
        std::vector<void*> part_outputs;
        for (std::size_t i = 0; i < parts.input_bytes.size(); ++i)
            from.push_back(static_cast<const std::byte*>(inputs[i]) +
                           static_cast<std::size_t>(first) * parts.input_bytes[i]);
        for (std::size_t i = 0; i < parts.output_bytes.size(); ++i)
            part_outputs.push_back(static_cast<std::byte*>(to[i]) +
                                   static_cast<std::size_t>(first) * parts.output_bytes[i]);
        const Schedule& schedule = size == parts.images / parts.count ? *parts.smaller : *parts.larger;
        schedule.run_steps(from.data(), part_outputs.data(),
                           seconds == nullptr ? nullptr : &times[static_cast<std::size_t>(part)]);
    });
    if (seconds == nullptr) return;
    // Parts ran at the same time, so their times add up to more than the time of the call. Scale them down.
    const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    double sum = 0;
    for (const std::vector<double>& time : times) sum = std::accumulate(time.begin(), time.end(), sum);
    for (const std::vector<double>& time : times)
        for (std::size_t i = 0; i < steps.size(); ++i) (*seconds)[i] += time[i] * elapsed / std::max(sum, elapsed);
}

} // namespace fastconv::network
