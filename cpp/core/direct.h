// The direct algorithm: forward and input gradient as one "gather" form, and the filter gradient.
#pragma once

#include "fastconv/fastconv.h"

namespace fastconv {

template <class T>
void direct_forward(const ConvProblem& problem, const T* input, const T* filters, const T* bias, bool relu, T* output);
template <class T>
void direct_input_gradient(const ConvProblem& problem, const T* filters, const T* dy, T* dx);
template <class T>
void direct_filter_gradient(const ConvProblem& problem, const T* input, const T* dy, T* dw);

} // namespace fastconv
