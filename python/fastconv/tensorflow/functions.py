"""The public functions: from arguments to ops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

import fastconv._core as _core
from fastconv.tensorflow._arguments import float_tensor, lent_shape, no_bias
from fastconv.tensorflow._geometry_code import encode, window_elements
from fastconv.tensorflow._library import ops
from fastconv.tensorflow._tensorflow_internals import may_be_differentiated

_MOST_TAPS = 255  # of a window, for FastconvMaxPool2DWithTaps, which numbers them in a byte


def _conv_geometry(
    strides: Any,
    padding: Any,
    data_format: str,
    dilations: Any,
    algorithm: str,
    activation: str | None = None,
    depthwise: bool = False,
) -> list[int]:
    return _core.conv_geometry(strides, padding, data_format, dilations, algorithm, activation, depthwise)


def _pool_geometry(
    ksize: Any, strides: Any, padding: Any, data_format: str, include_batch_in_index: bool = False
) -> list[int]:
    return _core.pool_geometry(ksize, strides, padding, data_format, include_batch_in_index)


def _conv2d(input: Any, filters: Any, geometry: Sequence[int], bias: Any) -> tf.Tensor:
    input = float_tensor("input", input)
    filters = float_tensor("filters", filters, ("input", input))
    bias = no_bias(input.dtype) if bias is None else float_tensor("bias", bias, ("input", input))
    return ops.fastconv_conv2d(input=input, filters=filters, bias=bias, geometry=encode(geometry))


def _backprop_input(
    name: str, input_sizes: Any, filters: Any, gradient: str, dy: Any, geometry: Sequence[int]
) -> tf.Tensor:
    dy = float_tensor(gradient, dy)
    filters = float_tensor("filters", filters, (gradient, dy))
    return ops.fastconv_conv2d_backprop_input(
        like=lent_shape(name, input_sizes), filters=filters, out_backprop=dy, geometry=encode(geometry)
    )


def _backprop_filter(input: Any, filter_sizes: Any, out_backprop: Any, geometry: Sequence[int]) -> tf.Tensor:
    input = float_tensor("input", input)
    dy = float_tensor("out_backprop", out_backprop, ("input", input))
    return ops.fastconv_conv2d_backprop_filter(
        input=input, like=lent_shape("filter_sizes", filter_sizes), out_backprop=dy, geometry=encode(geometry)
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
    """2-D convolution, with bias and ReLU in the same pass over memory; as `fastconv.conv2d` and ``tf.nn.conv2d``.

    Parameters
    ----------
    input : tensor of shape (N, H, W, C), float32 or float64
        (N, C, H, W) with ``data_format="NCHW"``, which TensorFlow's own CPU kernels lack.
    filters : tensor of shape (R, S, C/groups, K), same dtype
    strides, padding, data_format, dilations, activation, algorithm
        As in `fastconv.conv2d`.
    bias : tensor of shape (K,), same dtype, optional
    name : str, optional
        Of the scope of the ops.

    Returns
    -------
    tensor of shape (N, P, Q, K), the dtype of `input`

    Raises
    ------
    TypeError, ValueError, tf.errors.InvalidArgumentError
        If an argument is of a wrong kind or does not fit.
    """
    with tf.name_scope(name or "fastconv_conv2d"):
        numbers = _conv_geometry(strides, padding, data_format, dilations, algorithm, activation)
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
    """Gradient of `conv2d` with respect to its input; as `fastconv.conv2d_backprop_input`.

    `input_sizes` is four integers or an integer tensor of shape (4,).
    """
    with tf.name_scope(name or "fastconv_conv2d_backprop_input"):
        numbers = _conv_geometry(strides, padding, data_format, dilations, algorithm)
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
    """Gradient of `conv2d` with respect to its filters; as `fastconv.conv2d_backprop_filter`.

    `filter_sizes` is four integers or an integer tensor of shape (4,).
    """
    with tf.name_scope(name or "fastconv_conv2d_backprop_filter"):
        numbers = _conv_geometry(strides, padding, data_format, dilations, algorithm)
        return _backprop_filter(input, filter_sizes, out_backprop, numbers)


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
    """Convolution of each channel with filters (R, S, C, M) of its own; as `fastconv.depthwise_conv2d`.

    The output has C*M channels, those of input channel c from c*M on, as in ``tf.nn.depthwise_conv2d``.
    """
    with tf.name_scope(name or "fastconv_depthwise_conv2d"):
        numbers = _conv_geometry(strides, padding, data_format, dilations, algorithm, activation, depthwise=True)
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
    """Gradient of `depthwise_conv2d` with respect to its input."""
    with tf.name_scope(name or "fastconv_depthwise_conv2d_backprop_input"):
        numbers = _conv_geometry(strides, padding, data_format, dilations, algorithm, depthwise=True)
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
    """Gradient of `depthwise_conv2d` with respect to its filters."""
    with tf.name_scope(name or "fastconv_depthwise_conv2d_backprop_filter"):
        numbers = _conv_geometry(strides, padding, data_format, dilations, algorithm, depthwise=True)
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
    """The transpose of `conv2d`, with filters (R, S, output channels, input channels); as ``tf.nn.conv2d_transpose``.

    `output_shape` is four integers or an integer tensor of shape (4,).
    """
    with tf.name_scope(name or "fastconv_conv2d_transpose"):
        numbers = _conv_geometry(strides, padding, data_format, dilations, algorithm)
        return _backprop_input("output_shape", output_shape, filters, "input", input, numbers)


def max_pool2d(
    input: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    *,
    name: str | None = None,
) -> tf.Tensor:
    """Maximum over each window; as `fastconv.max_pool2d` and ``tf.nn.max_pool2d``. `strides` default to `ksize`."""
    with tf.name_scope(name or "fastconv_max_pool2d"):
        numbers = _pool_geometry(ksize, strides, padding, data_format)
        x, geometry = float_tensor("input", input), encode(numbers)
        if may_be_differentiated() and window_elements(numbers) <= _MOST_TAPS:
            return ops.fastconv_max_pool2d_with_taps(input=x, geometry=geometry).output
        return ops.fastconv_max_pool2d(input=x, geometry=geometry)


def max_pool2d_with_argmax(
    input: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    include_batch_in_index: bool = False,
    *,
    name: str | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Maximum over each window, and where it was: ``(y*W + x)*C + c`` as int64, as ``tf.nn.max_pool_with_argmax``."""
    with tf.name_scope(name or "fastconv_max_pool2d_with_argmax"):
        numbers = _pool_geometry(ksize, strides, padding, data_format, include_batch_in_index)
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
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `max_pool2d`; as `fastconv.max_pool2d_grad`."""
    with tf.name_scope(name or "fastconv_max_pool2d_grad"):
        numbers = _pool_geometry(ksize, strides, padding, data_format)
        x = float_tensor("orig_input", orig_input)
        y = float_tensor("orig_output", orig_output, ("orig_input", x))
        dy = float_tensor("grad", grad, ("orig_input", x))
        return ops.fastconv_max_pool2d_grad(orig_input=x, orig_output=y, grad=dy, geometry=encode(numbers))


def avg_pool2d(
    input: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    *,
    name: str | None = None,
) -> tf.Tensor:
    """Mean over the part of each window inside the input; as `fastconv.avg_pool2d` and ``tf.nn.avg_pool2d``."""
    with tf.name_scope(name or "fastconv_avg_pool2d"):
        numbers = _pool_geometry(ksize, strides, padding, data_format)
        return ops.fastconv_avg_pool2d(input=float_tensor("input", input), geometry=encode(numbers))


def avg_pool2d_grad(
    orig_input_shape: Any,
    grad: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    *,
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `avg_pool2d`; as `fastconv.avg_pool2d_grad`."""
    with tf.name_scope(name or "fastconv_avg_pool2d_grad"):
        numbers = _pool_geometry(ksize, strides, padding, data_format)
        return ops.fastconv_avg_pool2d_grad(
            like=lent_shape("orig_input_shape", orig_input_shape),
            grad=float_tensor("grad", grad),
            geometry=encode(numbers),
        )
