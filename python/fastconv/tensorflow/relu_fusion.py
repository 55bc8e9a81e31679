"""A ReLU after a convolution, computed by the convolution.

Each tensor of a graph has an attribute for the op that computes it. If this op is a convolution, a second convolution
of the same inputs computes the ReLU as well. The first convolution stays in the graph. If nothing else uses its output,
TensorFlow does not run it. The gradients of tapes still pass through the output of the first convolution, as if the
ReLU were an op of its own.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fastconv.tensorflow._arguments import is_constant
from fastconv.tensorflow._geometry_code import activation_of, has_relu, with_activation
from fastconv.tensorflow._library import ops
from fastconv.tensorflow._tensorflow_internals import is_symbolic, tapes

_HALF = (tf.float16, tf.bfloat16)


def fused_relu(features: Any) -> tf.Tensor | None:
    """The ReLU of `features`, or None if no convolution of this graph is known to compute `features`."""
    conv = convolution_of(features, through_casts=True)
    if conv is None or tapes is None:
        return None
    with tapes.stop_recording():
        outputs = tf.cast(activated_convolution(conv, "relu"), features.dtype)

    def backward(gradients: tf.Tensor) -> list[tf.Tensor]:
        return [tf.raw_ops.ReluGrad(gradients=gradients, features=outputs)]

    tapes.record_operation("FastconvRelu", [outputs], [features], backward)
    return outputs


def activated_convolution(conv: Any, activation: str) -> tf.Tensor:
    """The output of the same convolution, but with an activation."""
    input, filters, bias, geometry = conv.inputs
    return ops.fastconv_conv2d(
        input=input,
        filters=filters,
        bias=bias,
        geometry=with_activation(geometry, activation),
        constant_filters=is_constant(filters),
    )


def around_relu(conv: Any, dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
    """The gradient and the output of the ReLU after a convolution, or `dy` and None if there is no ReLU."""
    if has_relu(conv.inputs[3]):
        return dy, conv.outputs[0]
    if is_symbolic(dy) and dy.op.type == "ReluGrad":
        gradients, features = dy.op.inputs
        fused = features.op
        if fused.type == conv.type and has_relu(fused.inputs[3]) and fused.inputs[0] is conv.inputs[0]:
            return gradients, features
    return dy, None


def convolution_of(features: Any, through_casts: bool = False, with_relu: bool = False) -> Any:
    """The convolution without an activation that computes a tensor of the graph being built, or None.

    With `with_relu`, it may have a ReLU. With `through_casts`, its output may have been rounded to a half type.
    """
    if not is_symbolic(features) or features.graph is not tf.compat.v1.get_default_graph():
        return None
    op = features.op
    if through_casts and op.type == "Cast" and features.dtype in _HALF and is_symbolic(op.inputs[0]):
        op = op.inputs[0].op  # rounding and ReLU commute
    if op.type != "FastconvConv2D":
        return None
    return op if activation_of(op.inputs[3]) in (("linear", "relu") if with_relu else ("linear",)) else None
