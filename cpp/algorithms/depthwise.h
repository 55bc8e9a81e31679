// Depthwise convolution (groups = C) in all three directions, with its own kernels.
#pragma once

#include "fastconv/convolution.h"

namespace fastconv {

template <class T>
void depthwise_forward(const ConvProblem& problem, const T* input, const T* filters, const T* bias, bool relu,
                       T* output);
template <class T>
void depthwise_input_gradient(const ConvProblem& problem, const T* filters, const T* dy, T* dx);
template <class T>
void depthwise_filter_gradient(const ConvProblem& problem, const T* input, const T* dy, T* dw);

} // namespace fastconv
