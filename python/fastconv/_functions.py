"""The NumPy face: 2-D convolution and pooling with their gradients, as functions of arrays.

Names and meaning follow ``tf.nn``. Every function takes float32 or float64 arrays (all of one call the same) and
computes in that precision; every other dtype, and everything that is no array, is refused with a ``TypeError`` that
says what to cast. C-contiguous arrays are used in place, others are packed once. All argument checks are in the
compiled core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from fastconv import _core
from fastconv._core import PackedFilters

Float = TypeVar("Float", bound=np.floating[Any])
Ints: TypeAlias = SupportsIndex | Sequence[SupportsIndex] | npt.NDArray[np.integer[Any]]
Padding: TypeAlias = str | Ints | Sequence[Sequence[SupportsIndex]]


def conv2d(
    input: npt.NDArray[Float],
    filters: npt.NDArray[Float] | PackedFilters,
    strides: Ints = 1,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    dilations: Ints = 1,
    *,
    bias: npt.NDArray[Float] | None = None,
    activation: str | None = None,
    algorithm: str = "auto",
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """2-D convolution, with bias and ReLU in the same pass over memory.

    Cross-correlation, as every deep-learning library computes it: the filters are not flipped, as they would be in
    signal processing. ::

        output[n, p, q, k] = activation(bias[k] + sum over r, s, c of
            input[n, p*stride_h + r*dilation_h - top, q*stride_w + s*dilation_w - left, c] * filters[r, s, c, k])

    Parameters
    ----------
    input : ndarray of shape (N, H, W, C), float32 or float64
        (N, C, H, W) with ``data_format="NCHW"``.
    filters : ndarray of shape (R, S, C/groups, K), same dtype
        Or `PackedFilters` of them. The number of groups follows from the channel counts: filters with a third of the
        input's channels make a convolution of 3 groups. K must be a multiple of it.
    strides : int, pair or four ints, optional
        Steps along the height and the width. Four numbers are in the order of `data_format`; those of batch and
        channels must be 1.
    padding : optional
        One of

        - ``"VALID"`` (none) or ``"SAME"`` (``ceil(size/stride)`` outputs; an odd row or column goes to the bottom or
          the right, as in TensorFlow), in upper or lower case;
        - an int, for all four sides;
        - ``(ph, pw)``, for both sides of the height and of the width;
        - ``((top, bottom), (left, right))``;
        - four pairs in the order of `data_format`, for example ``[[0, 0], [top, bottom], [left, right], [0, 0]]``.
    data_format : {"NHWC", "NCHW"}, optional
        The order of the dimensions of `input` and of the result. NHWC is computed as it is, NCHW costs a conversion.
    dilations : int, pair or four ints, optional
        Distance between neighbouring taps of a filter; given as `strides` are.
    bias : ndarray of shape (K,), same dtype, optional
        Added to each output channel.
    activation : {None, "linear", "relu"}, optional
        Applied last. None is "linear".
    algorithm : {"auto", "direct", "winograd", "depthwise"}, optional
        "auto" picks one of the others; `explain` tells which. An algorithm that is named runs, and no other. "direct"
        sums the products in plain order and serves everything. "winograd" needs fewer multiplications and rounds a
        little more (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016); it serves 3x3 and 5x5
        filters with strides and dilations of 1 and one group. "depthwise" serves one filter for each input channel
        (as many groups and filters as channels), faster than "direct".
    out : ndarray of the result's shape and dtype, optional
        Receives the result. Must be C-contiguous and writable and overlap no other argument.

    Returns
    -------
    ndarray of shape (N, P, Q, K), the dtype of `input`
        (N, K, P, Q) with ``data_format="NCHW"``; `out` if that was given. P and Q are what `conv_output_size` says.
        They may be 0, as may be N.

    Raises
    ------
    TypeError
        If an array is not float32 or float64, the dtypes differ, or another argument is of the wrong kind.
    ValueError
        If shapes do not fit each other, a number is out of range, the output size would be negative, `algorithm` does
        not serve the call, or `out` does not fit.

    See Also
    --------
    conv2d_backprop_input, conv2d_backprop_filter : The gradients.
    depthwise_conv2d : Each channel with filters of its own.

    Notes
    -----
    Defined as ``tf.nn.conv2d``. The result does not depend on the number of threads. With eps that of the dtype, no
    output is off by more than 16 eps of ``sum(|input||filters|)`` with "direct" on random data (a constant image under
    constant filters, whose rounding errors all have one sign, by 90 eps); where "auto" takes Winograd, than 64 eps of
    the largest such sum in the 4x4 outputs of its tile.

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
        input, filters, bias, strides, padding, data_format, dilations, algorithm, activation, False, out
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
    input_sizes : four ints
        The shape of the convolution's input, in the order of `data_format`.
    filters : ndarray of shape (R, S, C/groups, K), float32 or float64
        The convolution's filters.
    out_backprop : ndarray of shape (N, P, Q, K), same dtype
        The gradient with respect to the convolution's output; (N, K, P, Q) with ``data_format="NCHW"``.
    strides, padding, data_format, dilations, algorithm
        Those of the convolution, see `conv2d`.
    out : ndarray of the result's shape and dtype, optional
        Receives the result. Must be C-contiguous and writable and overlap no other argument.

    Returns
    -------
    ndarray of shape `input_sizes`, the dtype of `filters`

    Raises
    ------
    TypeError, ValueError
        As `conv2d`; ValueError also if `out_backprop` does not have the shape of the convolution's output.

    See Also
    --------
    conv2d_transpose : The same computation with a transposed convolution's arguments.

    Notes
    -----
    Defined as ``tf.raw_ops.Conv2DBackpropInput``.

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
        The shape (R, S, C/groups, K) of the convolution's filters.
    out_backprop : ndarray of shape (N, P, Q, K), same dtype
        The gradient with respect to the convolution's output; (N, K, P, Q) with ``data_format="NCHW"``.
    strides, padding, data_format, dilations, algorithm
        Those of the convolution, see `conv2d`.
    out : ndarray of the result's shape and dtype, optional
        Receives the result. Must be C-contiguous and writable and overlap no other argument.

    Returns
    -------
    ndarray of shape `filter_sizes`, the dtype of `input`
        Zeros for an empty batch.

    Raises
    ------
    TypeError, ValueError
        As `conv2d`; ValueError also if `out_backprop` does not have the shape of the convolution's output.

    Notes
    -----
    Defined as ``tf.raw_ops.Conv2DBackpropFilter``.

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


def depthwise_conv2d(
    input: npt.NDArray[Float],
    filters: npt.NDArray[Float] | PackedFilters,
    strides: Ints = 1,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    dilations: Ints = 1,
    *,
    bias: npt.NDArray[Float] | None = None,
    activation: str | None = None,
    algorithm: str = "auto",
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """2-D convolution of each channel with M filters of its own.

    Output channel ``c*M + m`` is input channel ``c`` convolved with ``filters[:, :, c, m]``.

    Parameters
    ----------
    input : ndarray of shape (N, H, W, C), float32 or float64
        (N, C, H, W) with ``data_format="NCHW"``.
    filters : ndarray of shape (R, S, C, M), same dtype
        M is the channel multiplier.
    strides, padding, data_format, dilations, activation, algorithm
        As in `conv2d`.
    bias : ndarray of shape (C*M,), same dtype, optional
        Added to each output channel.
    out : ndarray of the result's shape and dtype, optional
        Receives the result. Must be C-contiguous and writable and overlap no other argument.

    Returns
    -------
    ndarray of shape (N, P, Q, C*M), the dtype of `input`
        (N, C*M, P, Q) with ``data_format="NCHW"``; `out` if that was given.

    Raises
    ------
    TypeError, ValueError
        As `conv2d`.

    Notes
    -----
    Defined as ``tf.nn.depthwise_conv2d``, except that strides along the height and the width may differ.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> image = np.ones((1, 8, 8, 3), np.float32)
    >>> fastconv.depthwise_conv2d(image, np.ones((3, 3, 3, 2), np.float32)).shape
    (1, 6, 6, 6)
    """
    return _core.conv2d(
        input, filters, bias, strides, padding, data_format, dilations, algorithm, activation, True, out
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
        As of `conv2d_backprop_input`.
    filters : ndarray of shape (R, S, C, M), float32 or float64
        The convolution's filters.
    out_backprop : ndarray of shape (N, P, Q, C*M), same dtype
        The gradient with respect to the convolution's output; (N, C*M, P, Q) with ``data_format="NCHW"``.

    Returns
    -------
    ndarray of shape `input_sizes`, the dtype of `filters`

    Raises
    ------
    TypeError, ValueError
        As `conv2d_backprop_input`.

    Notes
    -----
    Defined as ``tf.nn.depthwise_conv2d_backprop_input``, except that strides along the height and the width may differ.
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
        As of `conv2d_backprop_filter`.
    filter_sizes : four ints
        The shape (R, S, C, M) of the convolution's filters.
    out_backprop : ndarray of shape (N, P, Q, C*M), the dtype of `input`
        The gradient with respect to the convolution's output; (N, C*M, P, Q) with ``data_format="NCHW"``.

    Returns
    -------
    ndarray of shape `filter_sizes`, the dtype of `input`

    Raises
    ------
    TypeError, ValueError
        As `conv2d_backprop_filter`.

    Notes
    -----
    Defined as ``tf.nn.depthwise_conv2d_backprop_filter``, except that strides along the height and the width may
    differ.
    """
    return _core.conv2d_backprop_filter(
        input, filter_sizes, out_backprop, strides, padding, data_format, dilations, algorithm, True, out
    )


def conv2d_transpose(
    input: npt.NDArray[Float],
    filters: npt.NDArray[Float] | PackedFilters,
    output_shape: Ints,
    strides: Ints,
    padding: Padding = "SAME",
    data_format: str = "NHWC",
    dilations: Ints = 1,
    *,
    algorithm: str = "auto",
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Transposed 2-D convolution: the input gradient of a convolution, used as an upsampling layer.

    Parameters
    ----------
    input : ndarray of shape (N, P, Q, in_channels), float32 or float64
        (N, in_channels, P, Q) with ``data_format="NCHW"``.
    filters : ndarray of shape (R, S, out_channels, in_channels), same dtype
        The channels stand the other way round than in `conv2d`.
    output_shape : two or four ints
        The height and the width of the result, or its whole shape in the order of `data_format`. Several input sizes of
        a strided convolution give the same output size; this number says which one is meant.
    strides, data_format, dilations, algorithm
        Those of the convolution that is transposed, see `conv2d`.
    padding : optional
        That of the convolution that is transposed, "SAME" by default; see `conv2d` for its forms.
    out : ndarray of the result's shape and dtype, optional
        Receives the result. Must be C-contiguous and writable and overlap no other argument.

    Returns
    -------
    ndarray of shape `output_shape`, the dtype of `input`

    Raises
    ------
    TypeError, ValueError
        As `conv2d`; ValueError also if a convolution of `output_shape` does not give the shape of `input`.

    Notes
    -----
    Defined as ``tf.nn.conv2d_transpose``. For one with groups, give `output_shape` with all four numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> maps = np.ones((1, 5, 5, 16), np.float32)
    >>> fastconv.conv2d_transpose(maps, np.ones((3, 3, 6, 16), np.float32), (10, 10), strides=2).shape
    (1, 10, 10, 6)
    """
    return _core.conv2d_transpose(
        input, filters, output_shape, strides, padding, data_format, dilations, algorithm, False, out
    )


def max_pool2d(
    input: npt.NDArray[Float],
    ksize: Ints,
    strides: Ints | None = None,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    *,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Maximum over windows of each channel.

    Parameters
    ----------
    input : ndarray of shape (N, H, W, C), float32 or float64
        (N, C, H, W) with ``data_format="NCHW"``.
    ksize : int, pair or four ints
        Height and width of the window. Four numbers are in the order of `data_format`; those of batch and channels must
        be 1.
    strides : int, pair or four ints, optional
        Steps along the height and the width; `ksize` if not given.
    padding : optional
        As in `conv2d`; explicit numbers must be smaller than the window. Padding never is the maximum.
    data_format : {"NHWC", "NCHW"}, optional
        The order of the dimensions of `input` and of the result.
    out : ndarray of the result's shape and dtype, optional
        Receives the result. Must be C-contiguous and writable and overlap no other argument.

    Returns
    -------
    ndarray of shape (N, P, Q, C), the dtype of `input`
        (N, C, P, Q) with ``data_format="NCHW"``; `out` if that was given. A window that holds a NaN gives NaN.

    Raises
    ------
    TypeError, ValueError
        As `conv2d`; ValueError also if explicit padding is not smaller than the window.

    Notes
    -----
    Defined as ``tf.nn.max_pool2d``, except for windows with a NaN and windows larger than the input.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    >>> fastconv.max_pool2d(x, 2)[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    return _core.max_pool2d(input, ksize, strides, padding, data_format, out)


def max_pool2d_with_argmax(
    input: npt.NDArray[Float],
    ksize: Ints,
    strides: Ints | None = None,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    *,
    include_batch_in_index: bool = False,
    out: tuple[npt.NDArray[Float], npt.NDArray[np.int64]] | None = None,
) -> tuple[npt.NDArray[Float], npt.NDArray[np.int64]]:
    """Maximum over windows of each channel, and where it was found.

    Parameters
    ----------
    input, ksize, strides, padding, data_format
        As in `max_pool2d`.
    include_batch_in_index : bool, optional
        Whether an index counts from the start of the whole array instead of from its image.
    out : tuple of two ndarrays, optional
        Receive output and argmax. Must have their shapes and dtypes, be C-contiguous and writable and overlap no other
        argument.

    Returns
    -------
    output : ndarray, the dtype of `input`
        As `max_pool2d` returns it.
    argmax : ndarray of int64, the shape of `output`
        ``(y*W + x)*C + c`` of the maximum, plus ``n*H*W*C`` with `include_batch_in_index`; the same in both data
        formats. Of equal maxima, the first in row-major window order; of NaNs, the first.

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d`.

    Notes
    -----
    Defined as ``tf.nn.max_pool_with_argmax``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    >>> fastconv.max_pool2d_with_argmax(x, 2)[1][0, :, :, 0]
    array([[ 5,  7],
           [13, 15]])
    """
    return _core.max_pool2d_with_argmax(input, ksize, strides, padding, data_format, include_batch_in_index, out)


def max_pool2d_grad(
    orig_input: npt.NDArray[Float],
    orig_output: npt.NDArray[Float],
    grad: npt.NDArray[Float],
    ksize: Ints,
    strides: Ints | None = None,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    *,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Gradient of `max_pool2d` with respect to its input.

    Each number of `grad` goes to its window's maximum: the first one in row-major window order, or the first NaN. Where
    windows overlap, the numbers add up.

    Parameters
    ----------
    orig_input : ndarray of shape (N, H, W, C), float32 or float64
        The pooling's input; (N, C, H, W) with ``data_format="NCHW"``.
    orig_output : ndarray of shape (N, P, Q, C), same dtype
        The pooling's output. Only its shape and dtype are looked at; the maxima are found again in `orig_input`.
    grad : ndarray of the shape and dtype of `orig_output`
        The gradient with respect to the pooling's output.
    ksize, strides, padding, data_format
        Those of the pooling, see `max_pool2d`.
    out : ndarray of the result's shape and dtype, optional
        Receives the result. Must be C-contiguous and writable and overlap no other argument.

    Returns
    -------
    ndarray of the shape and dtype of `orig_input`

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d`; ValueError also if `orig_output` or `grad` does not have the shape of the pooling's output.

    Notes
    -----
    Defined as ``tf.raw_ops.MaxPoolGrad``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    >>> y = fastconv.max_pool2d(x, 2)
    >>> fastconv.max_pool2d_grad(x, y, np.ones_like(y), 2)[0, :2, :, 0]
    array([[0., 0., 0., 0.],
           [0., 1., 0., 1.]], dtype=float32)
    """
    return _core.max_pool2d_grad(orig_input, orig_output, grad, ksize, strides, padding, data_format, out)


def avg_pool2d(
    input: npt.NDArray[Float],
    ksize: Ints,
    strides: Ints | None = None,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    *,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Mean over windows of each channel. Padding does not count, neither in the sum nor in the number of elements.

    Parameters
    ----------
    input, ksize, strides, padding, data_format, out
        As in `max_pool2d`.

    Returns
    -------
    ndarray of shape (N, P, Q, C), the dtype of `input`
        (N, C, P, Q) with ``data_format="NCHW"``; `out` if that was given.

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d`.

    Notes
    -----
    Defined as ``tf.nn.avg_pool2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    >>> fastconv.avg_pool2d(x, 2)[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """
    return _core.avg_pool2d(input, ksize, strides, padding, data_format, out)


def avg_pool2d_grad(
    orig_input_shape: Ints,
    grad: npt.NDArray[Float],
    ksize: Ints,
    strides: Ints | None = None,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    *,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Gradient of `avg_pool2d` with respect to its input.

    Parameters
    ----------
    orig_input_shape : four ints
        The shape of the pooling's input, in the order of `data_format`.
    grad : ndarray of shape (N, P, Q, C), float32 or float64
        The gradient with respect to the pooling's output; (N, C, P, Q) with ``data_format="NCHW"``.
    ksize, strides, padding, data_format
        Those of the pooling, see `max_pool2d`.
    out : ndarray of the result's shape and dtype, optional
        Receives the result. Must be C-contiguous and writable and overlap no other argument.

    Returns
    -------
    ndarray of shape `orig_input_shape`, the dtype of `grad`

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d`; ValueError also if `grad` does not have the shape of the pooling's output.

    Notes
    -----
    Defined as ``tf.raw_ops.AvgPoolGrad``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.avg_pool2d_grad((1, 4, 4, 1), np.ones((1, 2, 2, 1), np.float32), 2)[0, 0, :, 0]
    array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    return _core.avg_pool2d_grad(orig_input_shape, grad, ksize, strides, padding, data_format, out)


def conv2d_max_pool2d(
    input: npt.NDArray[Float],
    filters: npt.NDArray[Float] | PackedFilters,
    ksize: Ints,
    strides: Ints = 1,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    dilations: Ints = 1,
    *,
    pool_strides: Ints | None = None,
    pool_padding: Padding = "VALID",
    bias: npt.NDArray[Float] | None = None,
    activation: str | None = None,
    algorithm: str = "auto",
    out: tuple[npt.NDArray[Float] | None, npt.NDArray[np.uint8] | None] | None = None,
) -> tuple[npt.NDArray[Float], npt.NDArray[np.uint8]]:
    """`conv2d` and `max_pool2d` in one, a few images at a time, so that the caches keep what lies between them.

    Where layers are small, writing the convolution's output to memory and reading it again takes longer than the sums.
    Where they are large, this is as fast as the two functions.

    Parameters
    ----------
    input, filters, strides, padding, data_format, dilations, bias, activation, algorithm
        Those of the convolution, see `conv2d`.
    ksize : int, pair or four ints
        Height and width of the pooling window, at most 255 pixels; see `max_pool2d`.
    pool_strides : int, pair or four ints, optional
        Steps of the pooling; `ksize` if not given.
    pool_padding : optional
        Padding of the pooling, none by default; see `max_pool2d`.
    out : tuple of two ndarrays, optional
        Receive output and taps; None for one allocates it. Must have their shapes and dtypes, be C-contiguous and
        writable and overlap no other argument.

    Returns
    -------
    output : ndarray of shape (N, P, Q, K), the dtype of `input`
        As ``max_pool2d(conv2d(input, filters, ...), ksize, pool_strides, pool_padding)`` returns it; (N, K, P, Q) with
        ``data_format="NCHW"``.
    taps : ndarray of uint8, of shape (N, P, Q, K) in both data formats
        Where each maximum was: its number among the pixels of its window, row by row, those in the padding left out.
        For `conv2d_max_pool2d_backprop`.

    Raises
    ------
    TypeError, ValueError
        As `conv2d` and `max_pool2d`; ValueError also if a pooling window has more than 255 pixels.

    Notes
    -----
    The outputs are those of ``tf.nn.conv2d`` and ``tf.nn.max_pool2d`` one after the other. Bits do not depend on the
    number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> image = np.arange(36, dtype=np.float32).reshape(1, 6, 6, 1)
    >>> pooled, taps = fastconv.conv2d_max_pool2d(image, np.ones((3, 3, 1, 1), np.float32), 2)
    >>> pooled[0, :, :, 0]
    array([[126., 144.],
           [234., 252.]], dtype=float32)
    >>> taps[0, :, :, 0]
    array([[3, 3],
           [3, 3]], dtype=uint8)
    """
    return _core.conv2d_max_pool2d(
        input, filters, bias, ksize, strides, padding, data_format, dilations, pool_strides, pool_padding, algorithm,
        activation, False, out,
    )  # fmt: skip


def conv2d_max_pool2d_backprop(
    input: npt.NDArray[Float],
    filters: npt.NDArray[Float],
    taps: npt.NDArray[np.uint8],
    grad: npt.NDArray[Float],
    ksize: Ints,
    strides: Ints = 1,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    dilations: Ints = 1,
    *,
    pool_strides: Ints | None = None,
    pool_padding: Padding = "VALID",
    algorithm: str = "auto",
    input_gradient: bool = True,
    out: tuple[npt.NDArray[Float] | None, npt.NDArray[Float] | None, npt.NDArray[Float] | None] | None = None,
) -> tuple[npt.NDArray[Float] | None, npt.NDArray[Float], npt.NDArray[Float]]:
    """All gradients of `conv2d_max_pool2d`.

    Of each pooling window one pixel only has a gradient. Small layers therefore need a fraction of the multiplications
    of `conv2d_backprop_input` and `conv2d_backprop_filter`, and the gradient of the convolution's output, which
    `max_pool2d_grad` would write, is never in memory as a whole. Large layers go through these three functions.

    Parameters
    ----------
    input : ndarray of shape (N, H, W, C), float32 or float64
        The convolution's input; (N, C, H, W) with ``data_format="NCHW"``.
    filters : ndarray of shape (R, S, C/groups, K), same dtype
        The convolution's filters.
    taps : ndarray of uint8, of shape (N, P, Q, K) in both data formats
        As `conv2d_max_pool2d` returned them.
    grad : ndarray of shape (N, P, Q, K), the dtype of `input`
        The gradient with respect to the pooled output; (N, K, P, Q) with ``data_format="NCHW"``. Behind a ReLU, that is
        with ``activation="relu"``, give ``grad * (output > 0)``.
    ksize, strides, padding, data_format, dilations, pool_strides, pool_padding, algorithm
        As `conv2d_max_pool2d` had them.
    input_gradient : bool, optional
        False leaves out the gradient of the input, which a network's first layer does not need.
    out : tuple of three ndarrays, optional
        Receive the results; None for one allocates it. Must have their shapes and dtypes, be C-contiguous and writable
        and overlap no other argument.

    Returns
    -------
    input_backprop : ndarray of the shape and dtype of `input`
        None with ``input_gradient=False``.
    filter_backprop : ndarray of the shape and dtype of `filters`
    bias_backprop : ndarray of shape (K,), the dtype of `input`

    Raises
    ------
    TypeError, ValueError
        As `conv2d_max_pool2d`; ValueError also if `taps` or `grad` does not have the shape of the pooled output, or if
        a number in `taps` names no pixel of its window.

    Notes
    -----
    Defined as the chain of ``tf.raw_ops.MaxPoolGrad`` and ``Conv2DBackpropInput``, ``Conv2DBackpropFilter`` and
    ``BiasAddGrad``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> image = np.arange(36, dtype=np.float32).reshape(1, 6, 6, 1)
    >>> filters = np.ones((3, 3, 1, 1), np.float32)
    >>> pooled, taps = fastconv.conv2d_max_pool2d(image, filters, 2)
    >>> _, d_filters, d_bias = fastconv.conv2d_max_pool2d_backprop(image, filters, taps, np.ones_like(pooled), 2)
    >>> d_filters[:, :, 0, 0]
    array([[ 56.,  60.,  64.],
           [ 80.,  84.,  88.],
           [104., 108., 112.]], dtype=float32)
    >>> d_bias
    array([4.], dtype=float32)
    """
    return _core.conv2d_max_pool2d_backprop(
        input, filters, taps, grad, ksize, strides, padding, data_format, dilations, pool_strides, pool_padding,
        algorithm, False, input_gradient, out,
    )  # fmt: skip


def conv_output_size(
    size: SupportsIndex,
    kernel: SupportsIndex,
    stride: SupportsIndex = 1,
    padding: str | Ints = "VALID",
    dilation: SupportsIndex = 1,
) -> int:
    """Output size of a convolution or pooling along one axis.

    ``floor((size + 2*p - k) / stride) + 1`` with ``k = (kernel - 1)*dilation + 1``; ``ceil(size / stride)`` for "SAME".

    Parameters
    ----------
    size : int
        Input size, at least 0.
    kernel : int
        Size of the filter or the window, at least 1.
    stride, dilation : int, optional
        At least 1.
    padding : optional
        "VALID" (p = 0), "SAME", p for both sides, or ``(before, after)``.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If an argument is not of the kinds above.
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
