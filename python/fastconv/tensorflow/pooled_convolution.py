"""A convolution and the max-pooling of its output in one, as functions of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from fastconv.tensorflow._arguments import byte_tensor, float_tensor, is_constant, left_out
from fastconv.tensorflow._geometry_code import conv_geometry, encode, pool_geometry
from fastconv.tensorflow._library import ops


def _reordered(taps: tf.Tensor, order: list[int]) -> tf.Tensor:
    """`taps`, with sizes in another order. For NCHW, ops store taps in NHWC order, but with shape (N, K, P, Q)."""
    if taps.shape.rank not in (None, 4):
        return taps  # the op refuses it
    sizes = tf.gather(tf.shape(taps, tf.int64), order)
    result = tf.reshape(taps, sizes)
    if taps.shape.rank == 4:
        result.set_shape([taps.shape[i] for i in order])
    return result


def conv2d_max_pool2d(
    input: Any,
    filters: Any,
    pool_size: Any,
    *,
    pool_strides: Any = None,
    pool_padding: Any = "VALID",
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = 1,
    bias: Any = None,
    activation: str | None = None,
    algorithm: str = "auto",
    name: str | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """2-D convolution and max-pooling of its output in one call. Equivalent to `fastconv.conv2d_max_pool2d`.

    Returns the pooled output, and the position of each maximum in its window: a uint8 tensor of shape (N, P, Q, K) in
    both data formats.
    """
    with tf.name_scope(name or "fastconv_conv2d_max_pool2d"):
        convolution = conv_geometry(strides, padding, data_format, dilations, algorithm, activation)
        pooling = pool_geometry(pool_size, pool_strides, pool_padding, data_format)
        x = float_tensor("input", input)
        w = float_tensor("filters", filters, ("input", x))
        output, taps = ops.fastconv_conv2d_max_pool2d(
            input=x,
            filters=w,
            bias=left_out(x.dtype) if bias is None else float_tensor("bias", bias, ("input", x)),
            geometry=encode(convolution),
            pool_geometry=encode(pooling),
            constant_filters=is_constant(w),
        )
        return output, taps if data_format == "NHWC" else _reordered(taps, [0, 2, 3, 1])


def conv2d_max_pool2d_backprop(
    input: Any,
    filters: Any,
    taps: Any,
    grad: Any,
    pool_size: Any,
    *,
    pool_strides: Any = None,
    pool_padding: Any = "VALID",
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = 1,
    activation: str | None = None,
    output: Any = None,
    algorithm: str = "auto",
    input_gradient: bool = True,
    name: str | None = None,
) -> tuple[tf.Tensor | None, tf.Tensor, tf.Tensor]:
    """Gradients of `conv2d_max_pool2d` with respect to its input, filters and bias.

    Equivalent to `fastconv.conv2d_max_pool2d_backprop`. With ``activation="relu"``, `output` must be the pooled output.
    With ``input_gradient=False``, the first result is None.
    """
    with tf.name_scope(name or "fastconv_conv2d_max_pool2d_backprop"):
        convolution = conv_geometry(strides, padding, data_format, dilations, algorithm, activation)
        pooling = pool_geometry(pool_size, pool_strides, pool_padding, data_format)
        if not isinstance(input_gradient, (bool, np.bool_)):
            raise TypeError(f"input_gradient must be True or False, got {input_gradient!r}")
        x = float_tensor("input", input)
        taps = byte_tensor("taps", taps)
        given = {
            "input": x,
            "filters": float_tensor("filters", filters, ("input", x)),
            "taps": taps if data_format == "NHWC" else _reordered(taps, [0, 3, 1, 2]),
            "grad": float_tensor("grad", grad, ("input", x)),
            "output": left_out(x.dtype) if output is None else float_tensor("output", output, ("input", x)),
            "geometry": encode(convolution),
            "pool_geometry": encode(pooling),
        }
        if input_gradient:
            d_input, d_filters, d_bias = ops.fastconv_conv2d_max_pool2d_backprop(**given)
            return d_input, d_filters, d_bias
        d_filters, d_bias = ops.fastconv_conv2d_max_pool2d_backprop_filter_bias(**given)
        return None, d_filters, d_bias
