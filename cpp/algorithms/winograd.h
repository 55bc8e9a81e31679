// Winograd's algorithm for dense 3x3 and 5x5 windows of stride 1, in all three directions.
#pragma once

#include "algorithms/correlation.h"
#include "algorithms/sketch.h"

namespace fastconv {

/// Whether the algorithm can compute this at all: the window, and scratch memory within bounds.
template <class T>
bool winograd_serves(const ConvProblem& problem);

/// One group, 3x3 or 5x5 windows, stride and dilation 1.
template <class T>
void run_winograd(const Gather<T>& gather);

template <class T>
void winograd_filter_gradient(const ConvProblem& problem, const T* input, const T* dy, T* dw);

template <class T>
Sketch sketch_winograd(const Gather<T>& gather);
template <class T>
Sketch sketch_winograd_filter_gradient(const ConvProblem& problem);

} // namespace fastconv
