"""The gradients of a small convolution before a max-pooling, computed by one op.

A gradient function sees only its own op, here the convolution, and the gradient with respect to that op's output. If
the convolution's output went into a max-pooling, this gradient comes from an op that scatters the pooled gradient to
the maxima. The fused op then takes the inputs of that scattering op instead of its output.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

import fastconv._core as _core
from fastconv.tensorflow._arguments import left_out
from fastconv.tensorflow._geometry_code import decode, is_nchw, is_plain_pooling, without_activation
from fastconv.tensorflow._library import ops
from fastconv.tensorflow._tensorflow_internals import is_from_tape, is_skipped


def max_pool_scatter(op: Any, dy: tf.Tensor, features: tf.Tensor | None) -> Any:
    """The op that computes `dy` by scattering a pooled gradient, if a fused op can replace it. Otherwise None.

    The fused op also computes the gradients of the convolution. `dy` is the gradient of the output of the convolution
    `op`. `features` is the output of the ReLU between the convolution and the pooling, if there is one.
    """
    if tf.executing_eagerly() or hasattr(dy, "numpy"):  # eager tensors have no op, not even inside a graph
        return None
    if not is_from_tape(op):  # a graph cannot prune single outputs of the fused op
        return None
    if dy.op.type != "FastconvMaxPool2DScatter":
        return None
    input, filters, _, geometry = op.inputs
    _, taps, _, pool_geometry = dy.op.inputs
    if is_nchw(pool_geometry) != is_nchw(geometry) or not is_plain_pooling(pool_geometry):
        return None
    if not (input.shape[1:].is_fully_defined() and filters.shape.is_fully_defined()):
        return None
    # The choice must not depend on the batch size.
    sizes = [1, *input.shape[1:].as_list()], filters.shape.as_list()
    if not _core.conv2d_max_pool2d_backprop_serves(decode(geometry), *sizes, input.dtype == tf.float64):
        return None
    # The mask of a ReLU comes from the pooling's output, which must therefore be in this graph.
    pool = taps.op
    in_graph = pool.type == "FastconvMaxPool2DWithTaps" and pool.inputs[0] is features
    return dy.op if in_graph or features is None else None


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
