// Shared by direct_grouped and its filter gradient: which groups have so few channels that a vector takes several.
#pragma once

#include "core/isa.h"
#include "core/numbers.h"

#include <algorithm>
#include <cstdint>

namespace fastconv {

/// Groups of `inputs` input channels and `outputs` output channels each. A vector takes whole groups.
struct GroupVectors {
    std::int64_t groups, inputs, outputs;
    std::int64_t of_vector; // groups of a vector

    std::int64_t vectors() const { return ceil_div(groups, of_vector); }
    /// The first group of part `part` of `parts` nearly equal parts of the vectors.
    std::int64_t first_group(std::int64_t part, std::int64_t parts) const {
        return std::min(groups, part_start(part, parts, vectors()) * of_vector);
    }
};

template <class T>
GroupVectors group_vectors(std::int64_t groups, std::int64_t inputs, std::int64_t outputs) {
    return {groups, inputs, outputs, kernels<T>().width / std::max(inputs, outputs)};
}

/// Whether the kernels pay: a vector takes several groups.
template <class T>
bool takes_several_groups(const GroupVectors& vectors) {
    return kernels<T>().spreads && vectors.groups > 1 && vectors.of_vector > 1;
}

/// The share of one group in `steps` multiplications of each vector.
inline double steps_of_group(const GroupVectors& vectors, std::int64_t steps) {
    return static_cast<double>(steps * vectors.vectors()) / static_cast<double>(vectors.groups);
}

} // namespace fastconv
