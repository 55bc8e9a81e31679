// The direct algorithm for few filters: vectors along the flattened (pixel, filter) axis of an output row.
#pragma once

#include "algorithms/correlation.h"
#include "algorithms/sketch.h"

namespace fastconv {

/// Whether flat_rows can compute this gather, and is expected to need fewer steps than `steps`, counted per output
/// pixel in vectors that are multiplied.
template <class T>
bool flat_pays(const Gather<T>& gather, std::int64_t steps);
template <class T>
void run_flat(const Gather<T>& gather);

template <class T>
bool flat_filter_gradient_pays(const ConvProblem& problem);
template <class T>
void flat_filter_gradient(const ConvProblem& problem, const T* input, const T* dy, T* dw);

template <class T>
Sketch sketch_flat(const Gather<T>& gather);
template <class T>
Sketch sketch_flat_filter_gradient(const ConvProblem& problem);

} // namespace fastconv
