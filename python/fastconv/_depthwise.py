"""Depthwise convolution and its gradients, as functions of NumPy arrays."""

from __future__ import annotations

import numpy.typing as npt

from fastconv import _core
from fastconv._core import PackedFilters
from fastconv._types import Activation, Float, Ints, Padding


def depthwise_conv2d(
    input: npt.NDArray[Float],
    filters: npt.NDArray[Float] | PackedFilters,
    strides: Ints = 1,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    dilations: Ints = 1,
    *,
    bias: npt.NDArray[Float] | None = None,
    activation: Activation = None,
    residual: npt.NDArray[Float] | None = None,
    algorithm: str = "auto",
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """2-D convolution of each channel with its own M filters.

    Output channel ``c*M + m`` is input channel ``c`` convolved with ``filters[:, :, c, m]``.

    Parameters
    ----------
    input : ndarray of shape (N, H, W, C), float32 or float64
        (N, C, H, W) with ``data_format="NCHW"``.
    filters : ndarray of shape (R, S, C, M), same dtype
        M is the channel multiplier.
    strides, padding, data_format, dilations, activation, algorithm
        See `conv2d`.
    bias : ndarray of shape (C*M,), same dtype, optional
        One number for each output channel.
    residual : ndarray of the result's shape, same dtype, optional
        Added before the activation.
    out : ndarray of the result's shape and dtype, optional
        Array for the result. It must be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    ndarray of shape (N, P, Q, C*M), the dtype of `input`
        (N, C*M, P, Q) with ``data_format="NCHW"``; `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As for `conv2d`.

    Notes
    -----
    Equivalent to ``tf.nn.depthwise_conv2d``, but the two strides may differ.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> image = np.ones((1, 8, 8, 3), np.float32)
    >>> fastconv.depthwise_conv2d(image, np.ones((3, 3, 3, 2), np.float32)).shape
    (1, 6, 6, 6)
    """
    return _core.conv2d(
        input, filters, bias, residual, strides, padding, data_format, dilations, algorithm, activation, True, out
    )


def depthwise_conv2d_backprop_input(
    input_sizes: Ints,
    filters: npt.NDArray[Float] | PackedFilters,
    out_backprop: npt.NDArray[Float],
    strides: Ints = 1,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    dilations: Ints = 1,
    *,
    algorithm: str = "auto",
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Gradient of `depthwise_conv2d` with respect to its input.

    Parameters
    ----------
    input_sizes, strides, padding, data_format, dilations, algorithm, out
        See `conv2d_backprop_input`.
    filters : ndarray of shape (R, S, C, M), float32 or float64
        The convolution's filters.
    out_backprop : ndarray of shape (N, P, Q, C*M), same dtype
        Gradient with respect to the convolution's output; (N, C*M, P, Q) with ``data_format="NCHW"``.

    Returns
    -------
    ndarray of the shape of the convolution's input, the dtype of `filters`
        `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As for `conv2d_backprop_input`.

    Notes
    -----
    Equivalent to ``tf.nn.depthwise_conv2d_backprop_input``, but the two strides may differ.
    """
    return _core.conv2d_backprop_input(
        input_sizes, filters, out_backprop, strides, padding, data_format, dilations, algorithm, True, out
    )


def depthwise_conv2d_backprop_filter(
    input: npt.NDArray[Float],
    filter_sizes: Ints,
    out_backprop: npt.NDArray[Float],
    strides: Ints = 1,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    dilations: Ints = 1,
    *,
    algorithm: str = "auto",
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Gradient of `depthwise_conv2d` with respect to its filters.

    Parameters
    ----------
    input, strides, padding, data_format, dilations, algorithm, out
        See `conv2d_backprop_filter`.
    filter_sizes : four ints
        The shape of the convolution's filters, (R, S, C, M).
    out_backprop : ndarray of shape (N, P, Q, C*M), the dtype of `input`
        Gradient with respect to the convolution's output; (N, C*M, P, Q) with ``data_format="NCHW"``.

    Returns
    -------
    ndarray of shape `filter_sizes`, the dtype of `input`
        `out` if it was given. Zeros for an empty batch.

    Raises
    ------
    TypeError, ValueError
        As for `conv2d_backprop_filter`.

    Notes
    -----
    Equivalent to ``tf.nn.depthwise_conv2d_backprop_filter``, but the two strides may differ.
    """
    return _core.conv2d_backprop_filter(
        input, filter_sizes, out_backprop, strides, padding, data_format, dilations, algorithm, True, out
    )
