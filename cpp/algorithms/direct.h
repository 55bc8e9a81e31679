// The direct algorithm: any gather, and any filter gradient.
#pragma once

#include "algorithms/correlation.h"
#include "algorithms/sketch.h"

namespace fastconv {

/// A tile of one image.
struct ImageTile {
    std::int64_t image;
    Tile tile;
};

/// Computes all of the output, or the given tiles only.
template <class T>
void run_direct(const Gather<T>& gather, const std::vector<ImageTile>* only = nullptr);

template <class T>
void direct_filter_gradient(const ConvProblem& problem, const T* input, const T* dy, T* dw);

template <class T>
Sketch sketch_direct(const Gather<T>& gather);
template <class T>
Sketch sketch_direct_filter_gradient(const ConvProblem& problem);

} // namespace fastconv
