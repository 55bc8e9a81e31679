"""Convolution and its gradients, as functions of NumPy arrays."""

from __future__ import annotations

from typing import SupportsIndex

import numpy.typing as npt

from fastconv import _core
from fastconv._core import PackedFilters
from fastconv._types import Activation, Float, Ints, Padding


def conv2d(
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
    """2-D convolution, with an optional bias, residual and activation in the same pass over memory.

    Like all deep-learning libraries, this computes the cross-correlation: unlike in signal processing, the filters are
    not flipped. ::

        output[n, p, q, k] = activation(residual[n, p, q, k] + bias[k] + sum over r, s, c of
            input[n, p*stride_h + r*dilation_h - top, q*stride_w + s*dilation_w - left, c] * filters[r, s, c, k])

    Parameters
    ----------
    input : ndarray of shape (N, H, W, C), float32 or float64
        (N, C, H, W) with ``data_format="NCHW"``.
    filters : ndarray of shape (R, S, C/groups, K), same dtype
        An array or `PackedFilters`. The number of groups follows from the channels: if the filters have a third of
        the input's channels, there are 3 groups. K must be a multiple of the number of groups.
    strides : int, pair or four ints, optional
        Steps along height and width. Four numbers are in the order of `data_format`; those of batch and channels must
        be 1.
    padding : optional
        One of

        - ``"VALID"``, in upper or lower case: no padding;
        - ``"SAME"``, in upper or lower case: ``ceil(size/stride)`` outputs. As in TensorFlow, the extra row or column
          of an odd padding is at the bottom or on the right;
        - an int for all four sides;
        - ``(ph, pw)``: `ph` at the top and the bottom, `pw` on the left and the right;
        - ``((top, bottom), (left, right))``;
        - four pairs in the order of `data_format`, for example ``[[0, 0], [top, bottom], [left, right], [0, 0]]``.
    data_format : {"NHWC", "NCHW"}, optional
        The order of the dimensions of `input` and the result. NCHW arrays are converted to NHWC and back.
    dilations : int, pair or four ints, optional
        Distance between neighbouring elements of a filter window, in the forms of `strides`.
    bias : ndarray of shape (K,), same dtype, optional
        One number for each output channel.
    activation : None, str or tuple, optional
        Applied last. One of the names in the notes, or a tuple of a name and its numbers, such as
        ``("leaky_relu", 0.2)``. None means "linear".
    residual : ndarray of the result's shape, same dtype, optional
        Added before the activation, as at the end of a residual block.
    algorithm : {"auto", "direct", "winograd", "depthwise"}, optional
        "auto" chooses the algorithm; `explain` reports the choice. "direct" sums the products one by one and supports
        every convolution. "winograd" needs fewer multiplications and has slightly larger rounding errors (Lavin and
        Gray, "Fast algorithms for convolutional neural networks", 2016). It supports 3x3 and 5x5 filters with strides
        and dilations of 1 and one group. "depthwise" supports convolutions with one filter for each input channel, and
        is faster than "direct" for these.
    out : ndarray of the result's shape and dtype, optional
        Array for the result. It must be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    ndarray of shape (N, P, Q, K), the dtype of `input`
        (N, K, P, Q) with ``data_format="NCHW"``; `out` if it was given. `conv_output_size` computes P and Q. N, P and Q
        may be 0.

    Raises
    ------
    TypeError
        If an array is not float32 or float64, the dtypes differ, or another argument has the wrong type.
    ValueError
        If the shapes do not match, a number is out of range, the output size would be negative, or `out` does not
        match the result.

    See Also
    --------
    conv2d_backprop_input, conv2d_backprop_filter : The gradients.
    depthwise_conv2d : Convolves each channel with its own filters.

    Notes
    -----
    Equivalent to ``tf.nn.conv2d``. The result does not depend on the number of threads.

    Let eps be the machine epsilon of the dtype. With "direct" on random data, the error of an output is at most 16 eps
    times ``sum(|input||filters|)``. If all products are equal, all rounding errors have the same sign, and the error is
    at most 90 eps times that sum. With Winograd's algorithm, the error is at most 64 eps times the largest such sum in
    the output's tile of 4x4 if "auto" chose it, and at most 128 eps if the call names it.

    The activations of x, with their default numbers, and the largest error of each, in units in the last place of the
    exact result:

    ======================== ============================================================ ==========================
    activation               value                                                        error
    ======================== ============================================================ ==========================
    "linear"                 x                                                            0
    "relu", "relu6"          max(x, 0), and min(max(x, 0), 6)                             0
    ("leaky_relu", 0.2)      x if x >= 0, else 0.2*x                                      0.5
    ("elu", 1.0)             x if x >= 0, else 1.0*(exp(x) - 1)                           1.5
    "gelu"                   x*Phi(x), with the normal distribution function Phi          5
    "gelu_tanh"              x*(1 + tanh(sqrt(2/pi)*(x + 0.044715*x**3)))/2               3
    "silu"                   x*sigmoid(x), also called swish                              3
    "sigmoid"                1/(1 + exp(-x))                                              3
    ("hard_sigmoid", a, b)   a*x + b, limited to 0 to 1. As in Keras 3, a=1/6, b=0.5      1 ulp of abs(a*x) + b
    "hard_swish"             x*hard_sigmoid(x), also called hard_silu                     2 ulp of x*(abs(x)/6 + 0.5)
    "tanh"                   tanh(x)                                                      3
    ("clip", low, high)      x, at least low and at most high                             0
    ======================== ============================================================ ==========================

    NaN stays NaN. At minus infinity, "gelu", "gelu_tanh", "silu" and "hard_swish" are NaN, as in TensorFlow: they are
    the product of minus infinity and 0. Results below the smallest normal number may be 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> image = np.ones((1, 28, 28, 1), np.float32)
    >>> filters = np.ones((3, 3, 1, 6), np.float32)
    >>> fastconv.conv2d(image, filters).shape
    (1, 26, 26, 6)
    >>> fastconv.conv2d(image, filters, padding="SAME")[0, 0, :3, 0]
    array([4., 6., 6.], dtype=float32)
    """
    return _core.conv2d(
        input, filters, bias, residual, strides, padding, data_format, dilations, algorithm, activation, False, out
    )


def conv2d_backprop_input(
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
    """Gradient of `conv2d` with respect to its input.

    Parameters
    ----------
    input_sizes : two or four ints
        The height and width of the convolution's input, or its whole shape in the order of `data_format`. A convolution
        with groups needs all four numbers.
    filters : ndarray of shape (R, S, C/groups, K), float32 or float64
        The convolution's filters.
    out_backprop : ndarray of shape (N, P, Q, K), same dtype
        Gradient with respect to the convolution's output; (N, K, P, Q) with ``data_format="NCHW"``.
    strides, padding, data_format, dilations, algorithm
        As passed to `conv2d`.
    out : ndarray of the result's shape and dtype, optional
        Array for the result. It must be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    ndarray of the shape of the convolution's input, the dtype of `filters`
        `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As for `conv2d`. ValueError also if `out_backprop` does not have the shape of the convolution's output.

    See Also
    --------
    conv2d_transpose : The same computation with the arguments of a transposed convolution.

    Notes
    -----
    Equivalent to ``tf.raw_ops.Conv2DBackpropInput``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> filters = np.ones((3, 3, 1, 6), np.float32)
    >>> gradient = np.ones((1, 26, 26, 6), np.float32)
    >>> fastconv.conv2d_backprop_input((1, 28, 28, 1), filters, gradient)[0, 0, :4, 0]
    array([ 6., 12., 18., 18.], dtype=float32)
    """
    return _core.conv2d_backprop_input(
        input_sizes, filters, out_backprop, strides, padding, data_format, dilations, algorithm, False, out
    )


def conv2d_backprop_filter(
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
    """Gradient of `conv2d` with respect to its filters.

    Parameters
    ----------
    input : ndarray of shape (N, H, W, C), float32 or float64
        The convolution's input; (N, C, H, W) with ``data_format="NCHW"``.
    filter_sizes : four ints
        The shape of the convolution's filters, (R, S, C/groups, K).
    out_backprop : ndarray of shape (N, P, Q, K), same dtype
        Gradient with respect to the convolution's output; (N, K, P, Q) with ``data_format="NCHW"``.
    strides, padding, data_format, dilations, algorithm
        As passed to `conv2d`.
    out : ndarray of the result's shape and dtype, optional
        Array for the result. It must be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    ndarray of shape `filter_sizes`, the dtype of `input`
        `out` if it was given. Zeros for an empty batch.

    Raises
    ------
    TypeError, ValueError
        As for `conv2d`. ValueError also if `out_backprop` does not have the shape of the convolution's output.

    Notes
    -----
    Equivalent to ``tf.raw_ops.Conv2DBackpropFilter``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> image = np.ones((1, 28, 28, 1), np.float32)
    >>> gradient = np.ones((1, 26, 26, 6), np.float32)
    >>> fastconv.conv2d_backprop_filter(image, (3, 3, 1, 6), gradient)[0, 0, 0, :2]
    array([676., 676.], dtype=float32)
    """
    return _core.conv2d_backprop_filter(
        input, filter_sizes, out_backprop, strides, padding, data_format, dilations, algorithm, False, out
    )


def bias_gradient(
    out_backprop: npt.NDArray[Float],
    data_format: str = "NHWC",
    *,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Gradient of `conv2d` with respect to its bias: the sum of `out_backprop` over all dimensions but the channels.

    Parameters
    ----------
    out_backprop : ndarray of shape (N, P, Q, K), float32 or float64
        Gradient with respect to the convolution's output; (N, K, P, Q) with ``data_format="NCHW"``.
    data_format : {"NHWC", "NCHW"}, optional
        The order of the dimensions of `out_backprop`.
    out : ndarray of the result's shape and dtype, optional
        Array for the result. It must be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    ndarray of shape (K,), the dtype of `out_backprop`
        `out` if it was given.

    Raises
    ------
    TypeError
        If `out_backprop` is not float32 or float64, or another argument has the wrong type.
    ValueError
        If `out_backprop` does not have four dimensions, or `out` does not match the result.

    Notes
    -----
    Equivalent to ``tf.raw_ops.BiasAddGrad``. The result does not depend on the number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.bias_gradient(np.ones((2, 4, 4, 3), np.float32))
    array([32., 32., 32.], dtype=float32)
    """
    return _core.bias_gradient(out_backprop, data_format, out)


def conv2d_transpose(
    input: npt.NDArray[Float],
    filters: npt.NDArray[Float] | PackedFilters,
    output_shape: Ints | None,
    strides: Ints,
    padding: Padding = "SAME",
    data_format: str = "NHWC",
    dilations: Ints = 1,
    *,
    output_padding: Ints | None = None,
    bias: npt.NDArray[Float] | None = None,
    activation: Activation = None,
    residual: npt.NDArray[Float] | None = None,
    algorithm: str = "auto",
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Transposed 2-D convolution: the input gradient of a convolution, used for upsampling.

    Parameters
    ----------
    input : ndarray of shape (N, P, Q, in_channels), float32 or float64
        (N, in_channels, P, Q) with ``data_format="NCHW"``.
    filters : ndarray of shape (R, S, out_channels, in_channels), same dtype
        An array or `PackedFilters`. Output channels come before input channels, unlike in `conv2d`.
    output_shape : two or four ints, or None
        The height and width of the result, or its whole shape in the order of `data_format`. A strided convolution
        gives the same output size for several input sizes, so the size of the result must be stated. A transposed
        convolution with groups needs all four numbers. It must be None if `output_padding` is given.
    strides, data_format, dilations, algorithm
        Those of the convolution that is transposed. See `conv2d`.
    padding : optional
        That of the convolution that is transposed, in the forms of `conv2d`. "SAME" by default.
    output_padding : int or pair, optional
        States the size of the result in place of `output_shape`, as in PyTorch and Keras. The size is
        ``(size - 1)*stride + (kernel - 1)*dilation + 1 - padding + output_padding``, where "SAME" stands for a padding
        of half the window on both sides. `output_padding` must be smaller than the stride or the dilation.
    bias : ndarray of shape (out_channels,), same dtype, optional
        One number for each output channel.
    activation : None, str or tuple, optional
        Applied last. See `conv2d`.
    residual : ndarray of the result's shape, same dtype, optional
        Added before the activation.
    out : ndarray of the result's shape and dtype, optional
        Array for the result. It must be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    ndarray of height and width `output_shape`, the dtype of `input`
        `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As for `conv2d`. ValueError also if a convolution of `output_shape` does not give the shape of `input`.

    Notes
    -----
    Equivalent to ``tf.nn.conv2d_transpose``. With `output_padding`, equivalent to
    ``torch.nn.functional.conv_transpose2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> maps = np.ones((1, 5, 5, 16), np.float32)
    >>> fastconv.conv2d_transpose(maps, np.ones((3, 3, 6, 16), np.float32), (10, 10), strides=2).shape
    (1, 10, 10, 6)
    >>> fastconv.conv2d_transpose(maps, np.ones((3, 3, 6, 16), np.float32), None, 2, 1, output_padding=1).shape
    (1, 10, 10, 6)
    """
    return _core.conv2d_transpose(
        input, filters, output_shape, bias, residual, strides, padding, data_format, dilations, algorithm, activation,
        output_padding, False, out,
    )  # fmt: skip


def conv_output_size(
    size: SupportsIndex,
    kernel: SupportsIndex,
    stride: SupportsIndex = 1,
    padding: str | Ints = "VALID",
    dilation: SupportsIndex = 1,
) -> int:
    """Output size of a convolution or pooling along one axis.

    ``floor((size + 2*p - k) / stride) + 1`` with ``k = (kernel - 1)*dilation + 1``. With "SAME" padding,
    ``ceil(size / stride)``.

    Parameters
    ----------
    size : int
        Input size, at least 0.
    kernel : int
        Size of the filter or the window, at least 1.
    stride, dilation : int, optional
        At least 1.
    padding : optional
        "VALID" (p = 0), "SAME", an int p for both sides, or ``(before, after)``.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If a number is out of range or the output size would be negative.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.conv_output_size(28, 3)
    26
    >>> fastconv.conv_output_size(28, 5, padding=2)
    28
    >>> fastconv.conv_output_size(26, 2, stride=2)
    13
    """
    return _core.conv_output_size(size, kernel, stride, padding, dilation)
