"""Batch normalisation together with what surrounds it in a graph.

A normalisation also computes the addition and the activation after it. Outside of training, a convolution also pads
its input with zeros, and computes the normalisation and the activation after it.

`tensor.op` tells which op computes a tensor of a graph. If this op can do more, a second op of the same
input does that. The first op stays in the graph. If nothing else uses its output, TensorFlow does not run it. In
training, an op of its own finds the statistics, so that this work is not done twice.

The gradients of tapes still pass through the outputs of all layers. Those of `tf.gradients` follow the ops that run.
The gradient of a normalisation also computes that of the activation after it. The gradient of an addition is the same
for both terms, and is not fused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from fastconv._types import Activation
from fastconv.tensorflow._arguments import is_given, left_out
from fastconv.tensorflow._geometry_code import (
    activation_attributes,
    can_hold,
    is_depthwise,
    is_nchw,
    with_more_padding,
)
from fastconv.tensorflow._library import ops
from fastconv.tensorflow._tensorflow_internals import is_symbolic, may_be_differentiated, tapes
from fastconv.tensorflow.batch_norm import batch_norm_inference, batch_norm_statistics
from fastconv.tensorflow.batch_norm_gradients import IDEMPOTENT, around_activation, attributes_of
from fastconv.tensorflow.elementwise import activate, add
from fastconv.tensorflow.relu_fusion import activated_convolution, convolution_of

_NORMALIZATION, _ADDITION = "FastconvBatchNormInference", "FastconvAdd"
_FILTERS_PER_OUTPUT = 2  # the most elements of filters for each element of an image's output, if both are made anew
#: The ops that can compute what follows, and the names of their inputs.
_OPS: dict[str, tuple[Callable[..., tf.Tensor], tuple[str, ...]]] = {
    _NORMALIZATION: (
        ops.fastconv_batch_norm_inference,
        ("input", "mean", "variance", "scale", "offset", "residual"),
    ),
    _ADDITION: (ops.fastconv_add, ("a", "b")),
}


def batch_norm_in_two_ops(
    input: tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    epsilon: float,
    data_format: str,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor] | None:
    """`batch_norm` in a graph, in a form that the functions below can extend. None without a graph."""
    if not is_symbolic(input) or tapes is None:
        return None
    with tapes.stop_recording():
        mean, variance = batch_norm_statistics(input, data_format)
        output = batch_norm_inference(input, mean, variance, scale, offset, epsilon, data_format)

    def backward(grad: tf.Tensor, grad_mean: tf.Tensor, grad_variance: tf.Tensor) -> list[tf.Tensor]:
        grad, attributes = around_activation(output.op, grad)
        d_input, d_scale, d_offset, _ = ops.fastconv_batch_norm_grad(
            input=input, mean=mean, variance=variance, grad=grad, scale=output.op.inputs[3],
            offset=output.op.inputs[4], residual=left_out(input.dtype), grad_mean=grad_mean,
            grad_variance=grad_variance, **attributes,
        )  # fmt: skip
        return [d_input, *(d for x, d in ((scale, d_scale), (offset, d_offset)) if x is not None)]

    given = [input, *(x for x in (scale, offset) if x is not None)]
    tapes.record_operation("FastconvBatchNorm", [output, mean, variance], given, backward)
    return output, mean, variance


def folded_into_convolution(
    features: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    epsilon: float,
    data_format: str,
) -> tf.Tensor | None:
    """`batch_norm_inference`, computed by the convolution before it with other filters.

    None if no convolution of this graph is known to compute `features`, if that would not save time, or if a tape is
    recording. With gradients, the convolution would have to run twice.
    """
    conv = None if tapes is None or may_be_differentiated() else convolution_of(features)
    if conv is None or is_nchw(conv.inputs[3]) != (data_format == "NCHW") or _has_many_filters(conv):
        return None
    _, filters, bias, _ = conv.inputs
    input, geometry = _with_padding(conv)
    factor = tf.math.rsqrt(variance + epsilon)
    factor = factor if scale is None else factor * scale
    shift = (bias - mean if is_given(bias) else -mean) * factor
    # The filters of a depthwise convolution have their channels in two dimensions.
    per_channel = tf.reshape(factor, tf.shape(filters)[2:]) if is_depthwise(geometry) else factor
    return ops.fastconv_conv2d(
        input=input,
        filters=filters * per_channel,
        bias=shift if offset is None else shift + offset,
        geometry=geometry,
    )


def fused_addition(terms: Sequence[tf.Tensor]) -> tf.Tensor | None:
    """The sum of two tensors, or None if no op of this graph is known that computes one of them and can add the other.

    After a convolution, the sum is an op of its own, which can also compute the activation after it.
    """
    if not isinstance(terms, (list, tuple)) or len(terms) != 2 or tapes is None or not _have_one_shape(*terms):
        return None
    for term, other in (terms, reversed(terms)):
        op = _linear_op_of(term, _NORMALIZATION)
        if op is not None and not is_given(op.inputs[5]):
            with tapes.stop_recording():
                output = _again(op, {"residual": other})
            tapes.record_operation("FastconvAdd", [output], [term, other], lambda grad: [grad, grad])
            return output
    return None if all(convolution_of(term) is None for term in terms) else add(*terms)


def fused_activation(features: tf.Tensor, activation: Activation) -> tf.Tensor | None:
    """An activation of `features`, or None if no op of this graph is known that computes `features` and can do both.

    If a tape records, the activation after a convolution is an op of its own, because its gradient may need `features`.
    This op takes one pass, where TensorFlow's can take several.
    """
    if tapes is None:
        return None
    attributes = activation_attributes(activation)
    conv = convolution_of(features)
    if conv is not None and can_hold(attributes["activation"]) and not may_be_differentiated():
        return activated_convolution(conv, attributes["activation"])
    if conv is not None:
        return activate(features, activation)
    op = _linear_op_of(features, _NORMALIZATION, _ADDITION)
    if op is None:
        return None
    with tapes.stop_recording():
        output = _again(op, {}, attributes["activation"])

    def backward(grad: tf.Tensor) -> list[tf.Tensor]:
        # The output has the same derivative as `features`, which need not be computed then.
        kept = output if attributes["activation"].partition("(")[0] in IDEMPOTENT else features
        return [ops.fastconv_activate_grad(input=kept, grad=grad, **attributes)]

    tapes.record_operation("FastconvActivate", [output], [features], backward)
    return output


def _with_padding(conv: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The input and the geometry of a convolution, which also pads if an op before it pads images with zeros."""
    image, geometry = conv.inputs[0], conv.inputs[3]
    pad: Any = image.op  # both are in the graph being built
    sizes = tf.get_static_value(pad.inputs[1]) if pad.type == "Pad" else None
    if sizes is None:
        return image, geometry
    height = 2 if is_nchw(geometry) else 1
    spatial = sizes[height : height + 2]
    padded = with_more_padding(geometry, spatial.ravel().tolist()) if spatial.sum() == sizes.sum() else None
    return (image, geometry) if padded is None else (pad.inputs[0], padded)


def _has_many_filters(conv: Any) -> bool:
    """Whether other filters are more work than a pass over the output. A batch of several images is taken for granted.

    Each call makes the filters anew, because the weights may have changed.
    """
    filters, output = conv.inputs[1].shape, conv.outputs[0].shape[1:]
    known = filters.is_fully_defined() and output.is_fully_defined()
    return bool(known and filters.num_elements() > _FILTERS_PER_OUTPUT * output.num_elements())


def _linear_op_of(tensor: tf.Tensor, *types: str) -> Any:
    """The op that computes the tensor. None if it is of another type, has an activation or is not in this graph."""
    if not is_symbolic(tensor) or tensor.graph is not tf.compat.v1.get_default_graph():
        return None
    op = tensor.op
    return op if op.type in types and op.get_attr("activation") == b"linear" else None


def _again(op: Any, changes: dict[str, tf.Tensor], activation: str = "linear") -> tf.Tensor:
    """The output of the same op with some other inputs, and with an activation."""
    create, names = _OPS[op.type]
    inputs = dict(zip(names, op.inputs, strict=False)) | changes
    return create(**inputs, **attributes_of(op) | {"activation": activation})


def _have_one_shape(a: tf.Tensor, b: tf.Tensor) -> bool:
    """Whether two tensors have the same known sizes, except that of the batch. If that differs, the op reports it."""
    if not (is_symbolic(a) and is_symbolic(b)) or a.shape.rank is None or a.dtype != b.dtype:
        return False
    return a.shape.as_list() == b.shape.as_list() and None not in a.shape.as_list()[1:]
