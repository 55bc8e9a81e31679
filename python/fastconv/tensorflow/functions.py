"""Convolution and pooling with their gradients, as functions of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fastconv.tensorflow._arguments import float_tensor, is_constant, left_out, lent_shape
from fastconv.tensorflow._geometry_code import (
    adaptive_pool_geometry,
    avg_pool_geometry,
    conv_geometry,
    encode,
    fits_taps,
    pool_geometry,
)
from fastconv.tensorflow._library import ops
from fastconv.tensorflow._tensorflow_internals import may_be_differentiated


def _conv2d(input: Any, filters: Any, geometry: Sequence[int], bias: Any) -> tf.Tensor:
    input = float_tensor("input", input)
    filters = float_tensor("filters", filters, ("input", input))
    bias = left_out(input.dtype) if bias is None else float_tensor("bias", bias, ("input", input))
    return ops.fastconv_conv2d(
        input=input, filters=filters, bias=bias, geometry=encode(geometry), constant_filters=is_constant(filters)
    )


def _backprop_input(
    name: str, input_sizes: Any, filters: Any, gradient: str, dy: Any, geometry: Sequence[int]
) -> tf.Tensor:
    dy = float_tensor(gradient, dy)
    filters = float_tensor("filters", filters, (gradient, dy))
    return ops.fastconv_conv2d_backprop_input(
        like=lent_shape(name, input_sizes, spatial=True),
        filters=filters,
        out_backprop=dy,
        geometry=encode(geometry),
        constant_filters=is_constant(filters),
    )


def _backprop_filter(input: Any, filter_sizes: Any, out_backprop: Any, geometry: Sequence[int]) -> tf.Tensor:
    input = float_tensor("input", input)
    dy = float_tensor("out_backprop", out_backprop, ("input", input))
    return ops.fastconv_conv2d_backprop_filter(
        input=input, like=lent_shape("filter_sizes", filter_sizes), out_backprop=dy, geometry=encode(geometry)
    )


def _max_pool2d_grad(orig_input: Any, orig_output: Any, grad: Any, geometry: Sequence[int]) -> tf.Tensor:
    x = float_tensor("orig_input", orig_input)
    y = float_tensor("orig_output", orig_output, ("orig_input", x))
    dy = float_tensor("grad", grad, ("orig_input", x))
    return ops.fastconv_max_pool2d_grad(orig_input=x, orig_output=y, grad=dy, geometry=encode(geometry))


def _avg_pool2d_grad(orig_input_shape: Any, grad: Any, geometry: Sequence[int]) -> tf.Tensor:
    return ops.fastconv_avg_pool2d_grad(
        like=lent_shape("orig_input_shape", orig_input_shape),
        grad=float_tensor("grad", grad),
        geometry=encode(geometry),
    )


def conv2d(
    input: Any,
    filters: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = 1,
    *,
    bias: Any = None,
    activation: str | None = None,
    algorithm: str = "auto",
    name: str | None = None,
) -> tf.Tensor:
    """2-D convolution, with an optional bias and ReLU in the same pass over memory.

    Equivalent to `fastconv.conv2d` and ``tf.nn.conv2d``.

    Parameters
    ----------
    input : tensor of shape (N, H, W, C), float32 or float64
        (N, C, H, W) with ``data_format="NCHW"``, which TensorFlow's own CPU kernels do not support.
    filters : tensor of shape (R, S, C/groups, K), same dtype
        In a ``tf.function``, a NumPy array or a ``tf.constant`` that is made in the function is a constant of the
        graph. Such filters are packed once, not in every call.
    strides, padding, data_format, dilations, activation, algorithm
        See `fastconv.conv2d`.
    bias : tensor of shape (K,), same dtype, optional
        One number for each output channel.
    name : str, optional
        Name of the scope of the ops.

    Returns
    -------
    tensor of shape (N, P, Q, K), the dtype of `input`

    Raises
    ------
    TypeError, ValueError, tf.errors.InvalidArgumentError
        If an argument has the wrong type or does not match the others.
    """
    with tf.name_scope(name or "fastconv_conv2d"):
        numbers = conv_geometry(strides, padding, data_format, dilations, algorithm, activation)
        return _conv2d(input, filters, numbers, bias)


def conv2d_backprop_input(
    input_sizes: Any,
    filters: Any,
    out_backprop: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = 1,
    *,
    algorithm: str = "auto",
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `conv2d` with respect to its input. Equivalent to `fastconv.conv2d_backprop_input`.

    `input_sizes` is the height and width or the whole shape of the input: integers, or an integer tensor of shape (2,)
    or (4,).
    """
    with tf.name_scope(name or "fastconv_conv2d_backprop_input"):
        numbers = conv_geometry(strides, padding, data_format, dilations, algorithm)
        return _backprop_input("input_sizes", input_sizes, filters, "out_backprop", out_backprop, numbers)


def conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = 1,
    *,
    algorithm: str = "auto",
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `conv2d` with respect to its filters. Equivalent to `fastconv.conv2d_backprop_filter`.

    `filter_sizes` is four integers or an integer tensor of shape (4,).
    """
    with tf.name_scope(name or "fastconv_conv2d_backprop_filter"):
        numbers = conv_geometry(strides, padding, data_format, dilations, algorithm)
        return _backprop_filter(input, filter_sizes, out_backprop, numbers)


def bias_gradient(out_backprop: Any, data_format: str = "NHWC", *, name: str | None = None) -> tf.Tensor:
    """Gradient of `conv2d` with respect to its bias: the sum of `out_backprop` over all dimensions but the channels.

    Equivalent to `fastconv.bias_gradient` and ``tf.raw_ops.BiasAddGrad``.
    """
    with tf.name_scope(name or "fastconv_bias_gradient"):
        numbers = conv_geometry(1, "VALID", data_format, 1, "auto")
        return ops.fastconv_bias_gradient(
            out_backprop=float_tensor("out_backprop", out_backprop), geometry=encode(numbers)
        )


def depthwise_conv2d(
    input: Any,
    filters: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = 1,
    *,
    bias: Any = None,
    activation: str | None = None,
    algorithm: str = "auto",
    name: str | None = None,
) -> tf.Tensor:
    """2-D convolution of each channel with its own M filters.

    Equivalent to `fastconv.depthwise_conv2d` and ``tf.nn.depthwise_conv2d``. The filters have shape (R, S, C, M), the
    output has C*M channels. Output channel ``c*M + m`` belongs to input channel ``c``.
    """
    with tf.name_scope(name or "fastconv_depthwise_conv2d"):
        numbers = conv_geometry(strides, padding, data_format, dilations, algorithm, activation, depthwise=True)
        return _conv2d(input, filters, numbers, bias)


def depthwise_conv2d_backprop_input(
    input_sizes: Any,
    filters: Any,
    out_backprop: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = 1,
    *,
    algorithm: str = "auto",
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `depthwise_conv2d` with respect to its input. See `conv2d_backprop_input`."""
    with tf.name_scope(name or "fastconv_depthwise_conv2d_backprop_input"):
        numbers = conv_geometry(strides, padding, data_format, dilations, algorithm, depthwise=True)
        return _backprop_input("input_sizes", input_sizes, filters, "out_backprop", out_backprop, numbers)


def depthwise_conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = 1,
    *,
    algorithm: str = "auto",
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `depthwise_conv2d` with respect to its filters. See `conv2d_backprop_filter`."""
    with tf.name_scope(name or "fastconv_depthwise_conv2d_backprop_filter"):
        numbers = conv_geometry(strides, padding, data_format, dilations, algorithm, depthwise=True)
        return _backprop_filter(input, filter_sizes, out_backprop, numbers)


def conv2d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NHWC",
    dilations: Any = 1,
    *,
    algorithm: str = "auto",
    name: str | None = None,
) -> tf.Tensor:
    """Transposed 2-D convolution. Equivalent to `fastconv.conv2d_transpose` and ``tf.nn.conv2d_transpose``.

    The filters have shape (R, S, output channels, input channels). `output_shape` is the height and width or the whole
    shape of the result: integers, or an integer tensor of shape (2,) or (4,).
    """
    with tf.name_scope(name or "fastconv_conv2d_transpose"):
        numbers = conv_geometry(strides, padding, data_format, dilations, algorithm)
        return _backprop_input("output_shape", output_shape, filters, "input", input, numbers)


def max_pool2d(
    input: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    *,
    dilations: Any = 1,
    ceil_mode: bool = False,
    name: str | None = None,
) -> tf.Tensor:
    """Maximum over windows of each channel. Equivalent to `fastconv.max_pool2d` and ``tf.nn.max_pool2d``.

    `strides` is `ksize` if not given.
    """
    with tf.name_scope(name or "fastconv_max_pool2d"):
        numbers = pool_geometry(ksize, strides, padding, data_format, dilations, ceil_mode)
        x, geometry = float_tensor("input", input), encode(numbers)
        if may_be_differentiated() and fits_taps(numbers):
            return ops.fastconv_max_pool2d_with_taps(input=x, geometry=geometry).output
        return ops.fastconv_max_pool2d(input=x, geometry=geometry)


def max_pool2d_with_argmax(
    input: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    *,
    dilations: Any = 1,
    include_batch_in_index: bool = False,
    ceil_mode: bool = False,
    name: str | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Maximum over windows of each channel, and its position.

    Equivalent to `fastconv.max_pool2d_with_argmax` and ``tf.nn.max_pool_with_argmax``. The position is
    ``(y*W + x)*C + c`` as int64.
    """
    with tf.name_scope(name or "fastconv_max_pool2d_with_argmax"):
        numbers = pool_geometry(ksize, strides, padding, data_format, dilations, ceil_mode, include_batch_in_index)
        result = ops.fastconv_max_pool2d_with_argmax(input=float_tensor("input", input), geometry=encode(numbers))
        return result.output, result.argmax


def max_pool2d_grad(
    orig_input: Any,
    orig_output: Any,
    grad: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    *,
    dilations: Any = 1,
    ceil_mode: bool = False,
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `max_pool2d` with respect to its input. Equivalent to `fastconv.max_pool2d_grad`."""
    with tf.name_scope(name or "fastconv_max_pool2d_grad"):
        numbers = pool_geometry(ksize, strides, padding, data_format, dilations, ceil_mode)
        return _max_pool2d_grad(orig_input, orig_output, grad, numbers)


def avg_pool2d(
    input: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    *,
    dilations: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    name: str | None = None,
) -> tf.Tensor:
    """Mean over windows of each channel, by default without the padded pixels.

    Equivalent to `fastconv.avg_pool2d` and ``tf.nn.avg_pool2d``.
    """
    with tf.name_scope(name or "fastconv_avg_pool2d"):
        numbers = avg_pool_geometry(ksize, strides, padding, data_format, dilations, ceil_mode, count_include_pad)
        return ops.fastconv_avg_pool2d(input=float_tensor("input", input), geometry=encode(numbers))


def avg_pool2d_grad(
    orig_input_shape: Any,
    grad: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    *,
    dilations: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `avg_pool2d` with respect to its input. Equivalent to `fastconv.avg_pool2d_grad`."""
    with tf.name_scope(name or "fastconv_avg_pool2d_grad"):
        numbers = avg_pool_geometry(ksize, strides, padding, data_format, dilations, ceil_mode, count_include_pad)
        return _avg_pool2d_grad(orig_input_shape, grad, numbers)


def adaptive_max_pool2d(
    input: Any, output_size: Any, data_format: str = "NHWC", *, name: str | None = None
) -> tf.Tensor:
    """Maximum over windows that follow from the output's size. Equivalent to `fastconv.adaptive_max_pool2d`.

    `output_size` is an int or a pair. None in a pair keeps the input's size.
    """
    with tf.name_scope(name or "fastconv_adaptive_max_pool2d"):
        numbers = adaptive_pool_geometry(output_size, data_format)
        return ops.fastconv_max_pool2d(input=float_tensor("input", input), geometry=encode(numbers))


def adaptive_max_pool2d_grad(
    orig_input: Any,
    orig_output: Any,
    grad: Any,
    output_size: Any,
    data_format: str = "NHWC",
    *,
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `adaptive_max_pool2d`. Equivalent to `fastconv.adaptive_max_pool2d_grad`."""
    with tf.name_scope(name or "fastconv_adaptive_max_pool2d_grad"):
        numbers = adaptive_pool_geometry(output_size, data_format)
        return _max_pool2d_grad(orig_input, orig_output, grad, numbers)


def adaptive_avg_pool2d(
    input: Any, output_size: Any, data_format: str = "NHWC", *, name: str | None = None
) -> tf.Tensor:
    """Mean over windows that follow from the output's size. Equivalent to `fastconv.adaptive_avg_pool2d`."""
    with tf.name_scope(name or "fastconv_adaptive_avg_pool2d"):
        numbers = adaptive_pool_geometry(output_size, data_format)
        return ops.fastconv_avg_pool2d(input=float_tensor("input", input), geometry=encode(numbers))


def adaptive_avg_pool2d_grad(
    orig_input_shape: Any, grad: Any, output_size: Any, data_format: str = "NHWC", *, name: str | None = None
) -> tf.Tensor:
    """Gradient of `adaptive_avg_pool2d`. Equivalent to `fastconv.adaptive_avg_pool2d_grad`."""
    with tf.name_scope(name or "fastconv_adaptive_avg_pool2d_grad"):
        numbers = adaptive_pool_geometry(output_size, data_format)
        return _avg_pool2d_grad(orig_input_shape, grad, numbers)
