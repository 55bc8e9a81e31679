"""A convolution and the max-pooling of its output in one call, as functions of NumPy arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastconv import _core
from fastconv._core import PackedFilters
from fastconv._types import Float, Ints, Padding


def conv2d_max_pool2d(
    input: npt.NDArray[Float],
    filters: npt.NDArray[Float] | PackedFilters,
    pool_size: Ints,
    *,
    pool_strides: Ints | None = None,
    pool_padding: Padding = "VALID",
    strides: Ints = 1,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    dilations: Ints = 1,
    bias: npt.NDArray[Float] | None = None,
    activation: str | None = None,
    algorithm: str = "auto",
    out: tuple[npt.NDArray[Float] | None, npt.NDArray[np.uint8] | None] | None = None,
) -> tuple[npt.NDArray[Float], npt.NDArray[np.uint8]]:
    """2-D convolution and max-pooling of its output in one call.

    A few images at a time are convolved and pooled, so that the convolution's output stays in the CPU's caches. For
    small layers this is faster than `conv2d` followed by `max_pool2d`; for large layers it takes the same time.

    Parameters
    ----------
    input, filters
        Input and filters of the convolution. See `conv2d`.
    pool_size : int, pair or four ints
        Height and width of the pooling window, as `ksize` of `max_pool2d`. It may have at most 255 pixels.
    pool_strides : int, pair or four ints, optional
        Steps of the pooling. `pool_size` if not given.
    pool_padding : optional
        Padding of the pooling, none by default. See `max_pool2d`.
    strides, padding, data_format, dilations, bias, activation, algorithm
        Options of the convolution. See `conv2d`.
    out : tuple of two ndarrays, optional
        Arrays for `output` and `taps`. None in place of one of them makes a new array. They must have the shapes and
        dtypes of the results, be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    output : ndarray of shape (N, P, Q, K), the dtype of `input`
        The result of ``max_pool2d(conv2d(input, filters, ...), pool_size, pool_strides, pool_padding)``; (N, K, P, Q)
        with ``data_format="NCHW"``.
    taps : ndarray of uint8, shape (N, P, Q, K) in both data formats
        Position of each maximum in its window: the pixels are counted row by row, without the padded ones.
        `conv2d_max_pool2d_backprop` needs the taps.

    Raises
    ------
    TypeError, ValueError
        As for `conv2d` and `max_pool2d`. ValueError also if a pooling window has more than 255 pixels.

    Notes
    -----
    Equivalent to ``tf.nn.conv2d`` followed by ``tf.nn.max_pool2d``. The results do not depend on the number of threads.

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
        input, filters, bias, pool_size, pool_strides, pool_padding, strides, padding, data_format, dilations,
        algorithm, activation, False, out,
    )  # fmt: skip


def conv2d_max_pool2d_backprop(
    input: npt.NDArray[Float],
    filters: npt.NDArray[Float],
    taps: npt.NDArray[np.uint8],
    grad: npt.NDArray[Float],
    pool_size: Ints,
    *,
    pool_strides: Ints | None = None,
    pool_padding: Padding = "VALID",
    strides: Ints = 1,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    dilations: Ints = 1,
    activation: str | None = None,
    output: npt.NDArray[Float] | None = None,
    algorithm: str = "auto",
    input_gradient: bool = True,
    out: tuple[npt.NDArray[Float] | None, npt.NDArray[Float] | None, npt.NDArray[Float] | None] | None = None,
) -> tuple[npt.NDArray[Float] | None, npt.NDArray[Float], npt.NDArray[Float]]:
    """Gradients of `conv2d_max_pool2d` with respect to its input, filters and bias.

    Only one pixel of each pooling window has a gradient. For small layers, this function therefore does a fraction of
    the multiplications of `conv2d_backprop_input` and `conv2d_backprop_filter`, and never stores the whole gradient of
    the convolution's output. For large layers, it does the same as `max_pool2d_grad` and these two functions.

    Parameters
    ----------
    input : ndarray of shape (N, H, W, C), float32 or float64
        The convolution's input; (N, C, H, W) with ``data_format="NCHW"``.
    filters : ndarray of shape (R, S, C/groups, K), same dtype
        The convolution's filters.
    taps : ndarray of uint8, shape (N, P, Q, K) in both data formats
        The second result of `conv2d_max_pool2d`.
    grad : ndarray of shape (N, P, Q, K), same dtype as `input`
        Gradient with respect to the pooled output; (N, K, P, Q) with ``data_format="NCHW"``.
    pool_size, pool_strides, pool_padding, strides, padding, data_format, dilations, activation, algorithm
        As passed to `conv2d_max_pool2d`.
    output : ndarray, the shape and dtype of `grad`, optional
        The first result of `conv2d_max_pool2d`. Required with ``activation="relu"``, whose gradient is 0 where `output`
        is 0; otherwise not used.
    input_gradient : bool, optional
        False skips the gradient with respect to the input, which the first layer of a network does not need.
    out : tuple of three ndarrays, optional
        Arrays for the results. None in place of one of them makes a new array. They must have the shapes and dtypes of
        the results, be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    input_backprop : ndarray, the shape and dtype of `input`
        None with ``input_gradient=False``.
    filter_backprop : ndarray, the shape and dtype of `filters`
    bias_backprop : ndarray of shape (K,), same dtype

    Raises
    ------
    TypeError, ValueError
        As for `conv2d_max_pool2d`. ValueError also if `taps`, `grad` or `output` does not have the shape of the pooled
        output, if `output` is missing with ``activation="relu"``, or if a number in `taps` is not the position of a
        pixel in its window.

    Notes
    -----
    Equivalent to ``tf.raw_ops.MaxPoolGrad`` and ``ReluGrad``, followed by ``Conv2DBackpropInput``,
    ``Conv2DBackpropFilter`` and ``BiasAddGrad``.

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
        input, filters, taps, grad, output, pool_size, pool_strides, pool_padding, strides, padding, data_format,
        dilations, algorithm, activation, False, input_gradient, out,
    )  # fmt: skip
