"""Counts the floating-point operations of the ops for TensorFlow's profiler.

The count is that of TensorFlow's ops for the same task. A fused op counts as the sum of its parts. A gradient of
max-pooling includes the search for the maxima, although fastconv has already done it in the forward pass. A depthwise
gradient counts as the forward pass, because TensorFlow does not count it. Batch normalisation counts as `tf.nn.moments`
and `tf.nn.batch_normalization`. ReLU counts as zero, as in TensorFlow, and so does any other activation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fastconv.tensorflow._arguments import is_given
from fastconv.tensorflow._geometry_code import (
    conv_strides,
    decode,
    encode,
    is_adaptive,
    is_depthwise,
    is_nchw,
    window_elements,
)
from fastconv.tensorflow._library import ops
from fastconv.tensorflow._tensorflow_internals import register_flops


def _shape(tensor: tf.Tensor) -> list[int]:
    """The static shape. If it is not known, raises ValueError, and the profiler leaves the op out."""
    tensor.shape.assert_is_fully_defined()
    sizes: list[int] = tensor.shape.as_list()
    return sizes


def _elements(shape: list[int]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result


def _channels(image: list[int], geometry: tf.Tensor) -> int:
    return image[1 if is_nchw(geometry) else 3]


# ---- Convolutions ---------------------------------------------------------------------------------------------------


def _forward(output: list[int], filters: list[int], geometry: tf.Tensor) -> int:
    height, width, channels, _ = filters
    return 2 * _elements(output) * height * width * (1 if is_depthwise(geometry) else channels)


def _backward(image: list[int], filters: list[int], output: list[int], geometry: tf.Tensor) -> int:
    """TensorFlow's estimate for the gradient of the input or of the filters. It ignores the borders of the image."""
    if is_depthwise(geometry):
        return _forward(output, filters, geometry)
    vertical, horizontal = conv_strides(geometry)
    pixels = _elements(image) // _channels(image, geometry)
    return 2 * pixels * _elements(filters) // (vertical * horizontal)


def _bias(bias: tf.Tensor, output: list[int]) -> int:
    return _elements(output) if bias.shape.rank == 1 else 0  # with any other rank, there is no bias


def _bias_gradient(output: list[int], geometry: tf.Tensor) -> int:
    return _elements(output) - _channels(output, geometry)


def _conv2d(op: Any) -> int:
    _, filters, bias, geometry = op.inputs
    output = _shape(op.outputs[0])
    return _forward(output, _shape(filters), geometry) + _bias(bias, output)


def _backprop_input(op: Any) -> int:
    _, filters, dy, geometry = op.inputs
    return _backward(_shape(op.outputs[0]), _shape(filters), _shape(dy), geometry)


def _transpose(op: Any) -> int:
    x, filters, _, geometry = op.inputs
    return _backward(_shape(op.outputs[0]), _shape(filters), _shape(x), geometry)


def _backprop_filter(op: Any) -> int:
    x, _, dy, geometry = op.inputs
    return _backward(_shape(x), _shape(op.outputs[0]), _shape(dy), geometry)


def _backprop_filter_bias(op: Any) -> int:
    return _backprop_filter(op) + _bias_gradient(_shape(op.inputs[2]), op.inputs[3])


def _bias_gradient_alone(op: Any) -> int:
    return _bias_gradient(_shape(op.inputs[0]), op.inputs[-1])


# ---- Pools ----------------------------------------------------------------------------------------------------------


def _pool(pooled: tf.Tensor, geometry: tf.Tensor, image: tf.Tensor | None = None) -> int:
    """`image` is the input of the pooling. It counts only for adaptive poolings, whose windows cover it about once."""
    numbers = decode(geometry)
    if image is not None and is_adaptive(numbers):
        return max(_elements(_shape(image)), _elements(_shape(pooled)))
    return window_elements(numbers) * _elements(_shape(pooled))


def _max_pool_gradient(grad: tf.Tensor, geometry: tf.Tensor, image: tf.Tensor | None = None) -> int:
    return _pool(grad, geometry, image) + _elements(_shape(grad))


def _pool2d(op: Any) -> int:
    return _pool(op.outputs[0], op.inputs[-1], op.inputs[0])


def _max_pool2d_grad(op: Any) -> int:
    return _max_pool_gradient(op.inputs[2], op.inputs[3], op.outputs[0])


def _max_pool2d_scatter(op: Any) -> int:
    """Zero if a fused op replaces the op. The op's output then has no consumer, and TensorFlow does not run it."""
    return _max_pool2d_grad(op) if op.outputs[0].consumers() else 0


def _avg_pool2d_grad(op: Any) -> int:
    return 2 * _pool(op.inputs[1], op.inputs[2], op.outputs[0])


# ---- A convolution and the max-pooling of its output ----------------------------------------------------------------


def _convolved(image: tf.Tensor, filters: tf.Tensor, geometry: tf.Tensor) -> list[int]:
    """The shape of the convolution's output in an op that also pools it."""
    with tf.Graph().as_default():
        placeholders = [
            tf.compat.v1.placeholder(tf.float32, shape) for shape in (_shape(image), _shape(filters), [0, 0])
        ]
        x, w, bias = placeholders
        return _shape(ops.fastconv_conv2d(input=x, filters=w, bias=bias, geometry=encode(decode(geometry))))


def _conv2d_max_pool2d(op: Any) -> int:
    x, filters, bias, geometry, pool_geometry = op.inputs
    output = _convolved(x, filters, geometry)
    return _forward(output, _shape(filters), geometry) + _bias(bias, output) + _pool(op.outputs[0], pool_geometry)


def _conv2d_max_pool2d_backprop_filter_bias(op: Any) -> int:
    x, filters, _, grad, _, geometry, pool_geometry = op.inputs
    output = _convolved(x, filters, geometry)
    return (
        _max_pool_gradient(grad, pool_geometry)
        + _backward(_shape(x), _shape(filters), output, geometry)
        + _bias_gradient(output, geometry)
    )


def _conv2d_max_pool2d_backprop(op: Any) -> int:
    x, filters, _, _, _, geometry, _ = op.inputs
    of_input = _backward(_shape(x), _shape(filters), _convolved(x, filters, geometry), geometry)
    return _conv2d_max_pool2d_backprop_filter_bias(op) + of_input


# ---- Batch normalisation and addition -------------------------------------------------------------------------------


def _per_element_and_channel(image: tf.Tensor, elements: int, channel: tf.Tensor, channels: int) -> int:
    return elements * _elements(_shape(image)) + channels * _elements(_shape(channel))


def _add(op: Any) -> int:
    return _elements(_shape(op.outputs[0]))


def _residual(op: Any, residual: tf.Tensor) -> int:
    return _add(op) if is_given(residual) else 0


def _batch_norm(op: Any) -> int:
    image, _, _, residual, _ = op.inputs
    return _per_element_and_channel(image, 6, op.outputs[1], 6) + _residual(op, residual)


def _batch_norm_statistics(op: Any) -> int:
    return _per_element_and_channel(op.inputs[0], 4, op.outputs[0], 0)


def _batch_norm_grad(op: Any) -> int:
    image, mean, *_ = op.inputs
    return _per_element_and_channel(image, 11, mean, 8) + 4  # 4 for the numbers of values in the means


def _batch_norm_inference(op: Any) -> int:
    image, mean, _, _, _, residual, _ = op.inputs
    return _per_element_and_channel(image, 2, mean, 6) + _residual(op, residual)


def _batch_norm_inference_grad(op: Any) -> int:
    image, mean, *_ = op.inputs
    return _per_element_and_channel(image, 4, mean, 4)


_COUNTS: dict[str, Callable[[Any], int]] = {
    "FastconvAdd": _add,
    "FastconvAvgPool2D": _pool2d,
    "FastconvAvgPool2DGrad": _avg_pool2d_grad,
    "FastconvBatchNorm": _batch_norm,
    "FastconvBatchNormGrad": _batch_norm_grad,
    "FastconvBatchNormInference": _batch_norm_inference,
    "FastconvBatchNormInferenceGrad": _batch_norm_inference_grad,
    "FastconvBatchNormStatistics": _batch_norm_statistics,
    "FastconvBiasGradient": _bias_gradient_alone,
    "FastconvConv2D": _conv2d,
    "FastconvConv2DBackpropFilter": _backprop_filter,
    "FastconvConv2DBackpropFilterBias": _backprop_filter_bias,
    "FastconvConv2DBackpropInput": _backprop_input,
    "FastconvConv2DMaxPool2D": _conv2d_max_pool2d,
    "FastconvConv2DMaxPool2DBackprop": _conv2d_max_pool2d_backprop,
    "FastconvConv2DMaxPool2DBackpropFilterBias": _conv2d_max_pool2d_backprop_filter_bias,
    "FastconvConv2DTranspose": _transpose,
    "FastconvMaxPool2D": _pool2d,
    "FastconvMaxPool2DGrad": _max_pool2d_grad,
    "FastconvMaxPool2DScatter": _max_pool2d_scatter,
    "FastconvMaxPool2DWithArgmax": _pool2d,
    "FastconvMaxPool2DWithTaps": _pool2d,
    "FastconvReluBiasGrad": _bias_gradient_alone,
}


def register() -> None:
    """Register the counts. Activations, and ops that only gather elements, have no count."""
    for op_type, count in _COUNTS.items():
        register_flops(op_type, count)
