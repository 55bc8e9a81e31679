// The operands of a filter gradient in NCHW that is computed in NHWC.
#pragma once

#include "algorithms/algorithm.h"
#include "core/layout.h"
#include "core/workspace.h"

namespace fastconv {

/// NHWC copies of the input and the output gradient.
template <class T>
class NhwcGradientOperands {
  public:
    NhwcGradientOperands(const ConvProblem& o, const Operands<T>& planes)
        : x_(o.n * o.h * o.w * o.c), dy_(o.n * o.p * o.q * o.k), operands_(planes) {
        transpose_images(o.n, o.c, o.h * o.w, planes.input, x_.get());
        transpose_images(o.n, o.k, o.p * o.q, planes.out_backprop, dy_.get());
        operands_.input = x_.get();
        operands_.out_backprop = dy_.get();
    }

    const Operands<T>& get() const { return operands_; }

  private:
    const Scratch<T> x_, dy_;
    Operands<T> operands_;
};

} // namespace fastconv
