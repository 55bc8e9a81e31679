"""A small convolution and the max-pooling after it, computed by one op, and their gradients, computed by another.

The forward op takes the inputs of the convolution, which stays in the graph. If nothing else uses the convolution's
output, TensorFlow does not run it (see relu_fusion.py).

A gradient function sees only its own op, here the convolution, and the gradient with respect to that op's output. If
the convolution's output went into a max-pooling, this gradient comes from an op that scatters the pooled gradient to
the maxima. The fused op then takes the inputs of that scattering op instead of its output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

import fastconv._core as _core
from fastconv.tensorflow._arguments import is_constant, left_out
from fastconv.tensorflow._geometry_code import (
    decode,
    encode,
    fits_taps,
    is_nchw,
    is_plain_pooling,
    pool_geometry,
    without_activation,
)
from fastconv.tensorflow._library import ops
from fastconv.tensorflow._tensorflow_internals import is_from_tape, is_skipped, is_symbolic, tapes
from fastconv.tensorflow.relu_fusion import convolution_of


def fused_max_pool(features: Any, ksize: Any, strides: Any, padding: Any, data_format: str) -> tf.Tensor | None:
    """The max-pooling of `features`, or None if no small convolution of this graph is known to compute `features`."""
    conv = convolution_of(features, with_relu=True)
    if conv is None or tapes is None:
        return None
    input, filters, bias, geometry = conv.inputs
    windows = encode(pool_geometry(ksize, strides, padding, data_format))
    if not _is_fusible(conv, windows):
        return None
    with tapes.stop_recording():
        outputs, taps = ops.fastconv_conv2d_max_pool2d(
            input=input,
            filters=filters,
            bias=bias,
            geometry=geometry,
            pool_geometry=windows,
            constant_filters=is_constant(filters),
        )

    def backward(grad: tf.Tensor) -> list[tf.Tensor]:
        return [ops.fastconv_max_pool2d_scatter(like=features, taps=taps, grad=grad, geometry=windows)]

    tapes.record_operation("FastconvMaxPool", [outputs], [features], backward)
    return outputs


def _is_fusible(conv: Any, windows: tf.Tensor) -> bool:
    """Whether one op computes the convolution `conv` and a pooling of its output, and another op their gradients."""
    input, filters, _, geometry = conv.inputs
    if is_nchw(windows) != is_nchw(geometry) or not is_plain_pooling(windows) or not fits_taps(decode(windows)):
        return False
    return is_small(decode(geometry), input.shape, filters.shape, input.dtype)


def is_small(geometry: Sequence[int], input: tf.TensorShape, filters: tf.TensorShape, dtype: tf.DType) -> bool:
    """Whether a convolution and a pooling of its output are faster in one op. The batch size makes no difference.

    `geometry` has the numbers of the convolution; `input` and `filters` are shapes.
    """
    if not (input[1:].is_fully_defined() and filters.is_fully_defined()):
        return False
    sizes = [1, *input[1:].as_list()], filters.as_list()
    return bool(_core.conv2d_max_pool2d_backprop_serves(geometry, *sizes, dtype == tf.float64))


def max_pool_scatter(op: Any, dy: tf.Tensor, features: tf.Tensor | None) -> Any:
    """The op that computes `dy` by scattering a pooled gradient, if a fused op can replace it. Otherwise None.

    The fused op also computes the gradients of the convolution. `dy` is the gradient of the output of the convolution
    `op`. `features` is the output of the ReLU between the convolution and the pooling, if there is one.
    """
    if not is_symbolic(dy):
        return None
    if not is_from_tape(op):  # a graph cannot prune single outputs of the fused op
        return None
    if dy.op.type != "FastconvMaxPool2DScatter":
        return None
    _, taps, _, windows = dy.op.inputs
    if not _is_fusible(op, windows):
        return None
    # The mask of a ReLU comes from the pooling's output, which must therefore be in this graph.
    return dy.op if features is None or _is_pool_of(taps.op, features) else None


def _is_pool_of(pool: Any, features: tf.Tensor) -> bool:
    """Whether the op `pool` computes the max-pooling of `features`."""
    if pool.type == "FastconvConv2DMaxPool2D":
        return all(ours is theirs for ours, theirs in zip(pool.inputs, features.op.inputs, strict=False))
    return bool(pool.type == "FastconvMaxPool2DWithTaps" and pool.inputs[0] is features)


def pooled_conv2d_gradient(op: Any, scatter: Any, relu: bool) -> list[tf.Tensor | None]:
    """The gradients of all inputs of the convolution `op`, computed from the inputs of `scatter`."""
    input, filters, bias, geometry = op.inputs
    _, taps, grad, pool_geometry = scatter.inputs
    if relu:
        grad = tf.raw_ops.ReluGrad(gradients=grad, features=taps.op.outputs[0])
    given = {
        "input": input,
        "filters": filters,
        "taps": taps,
        "grad": grad,
        "output": left_out(grad.dtype),
        "geometry": without_activation(geometry),
        "pool_geometry": pool_geometry,
        "check_inputs": False,
    }
    d_bias = d_input = None
    if is_skipped(op, 0):
        d_filters, d_bias = ops.fastconv_conv2d_max_pool2d_backprop_filter_bias(**given)
    else:
        d_input, d_filters, d_bias = ops.fastconv_conv2d_max_pool2d_backprop(**given)
    return [d_input, d_filters, d_bias if bias.shape.rank in (None, 1) else None, None]
