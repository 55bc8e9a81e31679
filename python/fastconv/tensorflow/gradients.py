"""The gradients of the ops, registered with TensorFlow."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fastconv.tensorflow import batch_norm_gradients
from fastconv.tensorflow._arguments import is_constant, left_out
from fastconv.tensorflow._geometry_code import (
    activation_attributes,
    activation_of,
    has_relu,
    is_nchw,
    with_batch_in_argmax,
    without_activation,
)
from fastconv.tensorflow._library import ops
from fastconv.tensorflow._tensorflow_internals import is_skipped
from fastconv.tensorflow.fusion import max_pool_scatter, pooled_conv2d_gradient
from fastconv.tensorflow.relu_fusion import activated_convolution, around_relu


def _conv2d_gradient(op: Any, dy: tf.Tensor) -> list[tf.Tensor | None]:
    input, filters, bias, geometry = op.inputs
    d_input = d_filters = d_bias = None
    with_filters = not is_skipped(op, 1)
    with_bias = bias.shape.rank in (None, 1) and not is_skipped(op, 2)
    if activation_of(geometry) not in ("linear", "relu"):
        dy = _before_activation(op, dy)
    dy, features = around_relu(op, dy)
    if with_filters and (scatter := max_pool_scatter(op, dy, features)) is not None:
        return pooled_conv2d_gradient(op, scatter, features is not None)
    geometry = without_activation(geometry)
    if features is not None and with_bias:
        dy, d_bias = ops.fastconv_relu_bias_grad(gradients=dy, features=features, geometry=geometry)
    elif features is not None:
        dy = tf.raw_ops.ReluGrad(gradients=dy, features=features)
    elif with_bias and with_filters:
        d_filters, d_bias = ops.fastconv_conv2d_backprop_filter_bias(
            input=input, like=filters, out_backprop=dy, geometry=geometry
        )
    elif with_bias:
        d_bias = tf.raw_ops.BiasAddGrad(out_backprop=dy, data_format="NCHW" if is_nchw(geometry) else "NHWC")
    if with_filters and d_filters is None:
        d_filters = ops.fastconv_conv2d_backprop_filter(input=input, like=filters, out_backprop=dy, geometry=geometry)
    if not is_skipped(op, 0):
        d_input = ops.fastconv_conv2d_backprop_input(
            like=input, filters=filters, out_backprop=dy, geometry=geometry, constant_filters=is_constant(filters)
        )
    return [d_input, d_filters, d_bias, None]


def _before_activation(op: Any, dy: tf.Tensor) -> tf.Tensor:
    """The gradient with respect to the sums of a convolution, which are computed again."""
    sums = activated_convolution(op, "linear")
    return ops.fastconv_activate_grad(input=sums, grad=dy, **activation_attributes(activation_of(op.inputs[3])))


def _relu_bias_gradient(op: Any, grad: tf.Tensor, grad_bias: tf.Tensor) -> list[tf.Tensor | None]:
    """Each gradient that passes the ReLU is an element of the first output, and a term of its channel's sum."""
    _, features, geometry = op.inputs
    if is_nchw(geometry):
        grad_bias = tf.reshape(grad_bias, [-1, 1, 1])
    return [tf.raw_ops.ReluGrad(gradients=grad + grad_bias, features=features), None, None]


def _backprop_input_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    _, filters, dy, geometry = op.inputs
    bias = left_out(grad.dtype)
    return [
        None,
        ops.fastconv_conv2d_backprop_filter(input=grad, like=filters, out_backprop=dy, geometry=geometry),
        ops.fastconv_conv2d(input=grad, filters=filters, bias=bias, geometry=geometry),
        None,
    ]


def _backprop_filter_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    input, _, dy, geometry = op.inputs
    bias = left_out(grad.dtype)
    return [
        ops.fastconv_conv2d_backprop_input(like=input, filters=grad, out_backprop=dy, geometry=geometry),
        None,
        ops.fastconv_conv2d(input=input, filters=grad, bias=bias, geometry=geometry),
        None,
    ]


def _backprop_filter_bias_gradient(op: Any, grad: tf.Tensor, grad_bias: tf.Tensor) -> list[tf.Tensor | None]:
    input, _, dy, geometry = op.inputs
    return [
        ops.fastconv_conv2d_backprop_input(like=input, filters=grad, out_backprop=dy, geometry=geometry),
        None,
        ops.fastconv_conv2d(input=input, filters=grad, bias=grad_bias, geometry=geometry),
        None,
    ]


def _conv2d_max_pool2d_backprop_gradient(op: Any, *grads: tf.Tensor) -> list[tf.Tensor | None]:
    """The results are linear in the scattered gradient `dy`. `scattered` is the gradient with respect to `dy`."""
    grad_input = grads[0] if len(grads) == 3 else None
    grad, grad_bias = grads[-2:]
    input, filters, taps, pooled, output, geometry, pool_geometry = op.inputs
    relu = has_relu(geometry)
    geometry = without_activation(geometry)
    if relu:
        pooled = tf.raw_ops.ReluGrad(gradients=pooled, features=output)
    scattered = ops.fastconv_conv2d(input=input, filters=grad, bias=grad_bias, geometry=geometry)
    if grad_input is not None:
        bias = left_out(grad.dtype)
        scattered += ops.fastconv_conv2d(input=grad_input, filters=filters, bias=bias, geometry=geometry)
    dy = ops.fastconv_max_pool2d_scatter(like=scattered, taps=taps, grad=pooled, geometry=pool_geometry)
    d_filters = None
    if grad_input is not None:
        d_filters = ops.fastconv_conv2d_backprop_filter(
            input=grad_input, like=filters, out_backprop=dy, geometry=geometry
        )
    d_pooled = ops.fastconv_max_pool2d_gather(values=scattered, taps=taps, geometry=pool_geometry)
    if relu:
        d_pooled = tf.raw_ops.ReluGrad(gradients=d_pooled, features=output)
    return [
        ops.fastconv_conv2d_backprop_input(like=input, filters=grad, out_backprop=dy, geometry=geometry),
        d_filters,
        None,
        d_pooled,
        None,
        None,
        None,
    ]


def _conv2d_max_pool2d_gradient(op: Any, grad: tf.Tensor, _: Any) -> list[tf.Tensor | None]:
    input, filters, bias, geometry, pool_geometry = op.inputs
    output, taps = op.outputs
    given = {
        "input": input,
        "filters": filters,
        "taps": taps,
        "grad": grad,
        "output": output if has_relu(geometry) else left_out(grad.dtype),
        "geometry": geometry,
        "pool_geometry": pool_geometry,
        "check_inputs": False,
    }
    d_input = None
    if is_skipped(op, 0):
        d_filters, d_bias = ops.fastconv_conv2d_max_pool2d_backprop_filter_bias(**given)
    else:
        d_input, d_filters, d_bias = ops.fastconv_conv2d_max_pool2d_backprop(**given)
    return [d_input, d_filters, d_bias if bias.shape.rank in (None, 1) else None, None, None]


def _bias_gradient_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    """Each element of a channel gets the gradient of the channel's sum."""
    out_backprop, geometry = op.inputs
    if is_nchw(geometry):
        grad = tf.reshape(grad, [-1, 1, 1])
    return [tf.broadcast_to(grad, tf.shape(out_backprop, tf.int64)), None]


def _max_pool2d_with_taps_gradient(op: Any, grad: tf.Tensor, _: Any) -> list[tf.Tensor | None]:
    input, geometry = op.inputs
    return [ops.fastconv_max_pool2d_scatter(like=input, taps=op.outputs[1], grad=grad, geometry=geometry), None]


def _max_pool2d_scatter_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    _, taps, _, geometry = op.inputs
    return [None, None, ops.fastconv_max_pool2d_gather(values=grad, taps=taps, geometry=geometry), None]


def _max_pool2d_gather_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    values, taps, geometry = op.inputs
    return [ops.fastconv_max_pool2d_scatter(like=values, taps=taps, grad=grad, geometry=geometry), None, None]


def _max_pool2d_gradient(op: Any, grad: tf.Tensor, *_: Any) -> list[tf.Tensor | None]:
    input, geometry = op.inputs
    result = ops.fastconv_max_pool2d_grad(
        orig_input=input, orig_output=op.outputs[0], grad=grad, geometry=with_batch_in_argmax(geometry, False)
    )
    return [result, None]


def _max_pool2d_grad_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    """Scattering to the maxima is linear. Its transpose gathers from the maxima."""
    input, geometry = op.inputs[0], op.inputs[3]
    where = ops.fastconv_max_pool2d_with_argmax(input=input, geometry=with_batch_in_argmax(geometry, True)).argmax
    values = tf.transpose(grad, [0, 2, 3, 1]) if is_nchw(geometry) else grad  # argmax numbers the elements of NHWC
    return [None, None, tf.gather(tf.reshape(values, [-1]), where), None]


def _avg_pool2d_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    input, geometry = op.inputs
    return [ops.fastconv_avg_pool2d_grad(like=input, grad=grad, geometry=geometry), None]


def _avg_pool2d_grad_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    return [None, ops.fastconv_avg_pool2d(input=grad, geometry=op.inputs[2]), None]


def register() -> None:
    """Register the gradient of each op."""
    for op, gradient in {
        "FastconvConv2D": _conv2d_gradient,
        "FastconvConv2DBackpropInput": _backprop_input_gradient,
        "FastconvConv2DBackpropFilter": _backprop_filter_gradient,
        "FastconvConv2DBackpropFilterBias": _backprop_filter_bias_gradient,
        "FastconvConv2DMaxPool2D": _conv2d_max_pool2d_gradient,
        "FastconvConv2DMaxPool2DBackprop": _conv2d_max_pool2d_backprop_gradient,
        "FastconvConv2DMaxPool2DBackpropFilterBias": _conv2d_max_pool2d_backprop_gradient,
        "FastconvBiasGradient": _bias_gradient_gradient,
        "FastconvReluBiasGrad": _relu_bias_gradient,
        "FastconvMaxPool2D": _max_pool2d_gradient,
        "FastconvMaxPool2DWithTaps": _max_pool2d_with_taps_gradient,
        "FastconvMaxPool2DScatter": _max_pool2d_scatter_gradient,
        "FastconvMaxPool2DGather": _max_pool2d_gather_gradient,
        "FastconvMaxPool2DWithArgmax": _max_pool2d_gradient,
        "FastconvMaxPool2DGrad": _max_pool2d_grad_gradient,
        "FastconvAvgPool2D": _avg_pool2d_gradient,
        "FastconvAvgPool2DGrad": _avg_pool2d_grad_gradient,
        **batch_norm_gradients.GRADIENTS,
    }.items():
        try:
            tf.RegisterGradient(op)(gradient)
        except KeyError:  # already registered, because this module was imported before
            return
