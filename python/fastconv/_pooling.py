"""Max- and average-pooling with their gradients, as functions of NumPy arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastconv import _core
from fastconv._types import Float, Ints, OutputSize, Padding


def given_size(output_size: OutputSize) -> OutputSize:
    """Return `output_size`, but refuse None, which the core would treat as a missing argument."""
    if output_size is None:
        raise TypeError("output_size must be an int or a pair, got None; None inside a pair keeps the input's size")
    return output_size


def max_pool2d(
    input: npt.NDArray[Float],
    ksize: Ints,
    strides: Ints | None = None,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    *,
    dilations: Ints = 1,
    ceil_mode: bool = False,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Maximum over windows of each channel.

    Parameters
    ----------
    input : ndarray of shape (N, H, W, C), float32 or float64
        (N, C, H, W) with ``data_format="NCHW"``.
    ksize : int, pair or four ints
        Height and width of the window. Four numbers are in the order of `data_format`; those of batch and channels
        must be 1.
    strides : int, pair or four ints, optional
        Steps along height and width. `ksize` if not given.
    padding : optional
        In the forms of `conv2d`. Explicit numbers must be smaller than the window with its dilations. A padded pixel is
        never the maximum.
    data_format : {"NHWC", "NCHW"}, optional
        The order of the dimensions of `input` and the result.
    dilations : int, pair or four ints, optional
        Distance between the pixels of a window along height and width. With 1, the pixels are neighbours.
    ceil_mode : bool, optional
        Whether the sizes of the output are rounded up instead of down. The last windows may then reach beyond the
        padding, where there are no pixels. A window that would start in the padding at the bottom or on the right, or
        beyond, is left out. No effect with "SAME", which rounds up anyway.
    out : ndarray of the result's shape and dtype, optional
        Array for the result. It must be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    ndarray of shape (N, P, Q, C), the dtype of `input`
        (N, C, P, Q) with ``data_format="NCHW"``; `out` if it was given. A window with a NaN gives NaN.

    Raises
    ------
    TypeError, ValueError
        As for `conv2d`. ValueError also if explicit padding is not smaller than the window, or if a dilated window has
        no pixel inside the input.

    Notes
    -----
    Equivalent to ``tf.nn.max_pool2d``, except for windows with a NaN and windows larger than the input. `dilations` and
    `ceil_mode` have the meaning of ``torch.nn.functional.max_pool2d``.

    See Also
    --------
    adaptive_max_pool2d : Windows that follow from the output's size.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    >>> fastconv.max_pool2d(x, 2)[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    return _core.max_pool2d(input, ksize, strides, padding, data_format, dilations, ceil_mode, None, out)


def max_pool2d_with_argmax(
    input: npt.NDArray[Float],
    ksize: Ints,
    strides: Ints | None = None,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    *,
    dilations: Ints = 1,
    include_batch_in_index: bool = False,
    ceil_mode: bool = False,
    out: tuple[npt.NDArray[Float], npt.NDArray[np.int64]] | None = None,
) -> tuple[npt.NDArray[Float], npt.NDArray[np.int64]]:
    """Maximum over windows of each channel, and its position.

    Parameters
    ----------
    input, ksize, strides, padding, data_format, dilations, ceil_mode
        See `max_pool2d`.
    include_batch_in_index : bool, optional
        Whether positions are counted from the start of the batch. By default, they are counted from the start of each
        image.
    out : tuple of two ndarrays, optional
        Arrays for `output` and `argmax`. They must have the shapes and dtypes of the results, be C-contiguous and
        writable, and must not overlap another argument.

    Returns
    -------
    output : ndarray, the dtype of `input`
        The result of `max_pool2d`.
    argmax : ndarray of int64, the shape of `output`
        ``(y*W + x)*C + c`` of the maximum in both data formats, plus ``n*H*W*C`` with `include_batch_in_index`. The
        first NaN in row-major window order counts as the maximum, if there is one; else the first of equal maxima.

    Raises
    ------
    TypeError, ValueError
        As for `max_pool2d`.

    Notes
    -----
    Equivalent to ``tf.nn.max_pool_with_argmax``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    >>> fastconv.max_pool2d_with_argmax(x, 2)[1][0, :, :, 0]
    array([[ 5,  7],
           [13, 15]])
    """
    return _core.max_pool2d_with_argmax(
        input, ksize, strides, padding, data_format, dilations, include_batch_in_index, ceil_mode, None, out
    )


def max_pool2d_grad(
    orig_input: npt.NDArray[Float],
    orig_output: npt.NDArray[Float],
    grad: npt.NDArray[Float],
    ksize: Ints,
    strides: Ints | None = None,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    *,
    dilations: Ints = 1,
    ceil_mode: bool = False,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Gradient of `max_pool2d` with respect to its input.

    Each number of `grad` goes to the maximum of its window: the first NaN in row-major window order, if there is one;
    else the first of equal maxima. Where windows overlap, the numbers add up.

    Parameters
    ----------
    orig_input : ndarray of shape (N, H, W, C), float32 or float64
        The pooling's input; (N, C, H, W) with ``data_format="NCHW"``.
    orig_output : ndarray of shape (N, P, Q, C), same dtype
        The pooling's output. Only its shape and dtype are used; the maxima are found again in `orig_input`.
    grad : ndarray, the shape and dtype of `orig_output`
        Gradient with respect to the pooling's output.
    ksize, strides, padding, data_format, dilations, ceil_mode
        As passed to `max_pool2d`.
    out : ndarray of the result's shape and dtype, optional
        Array for the result. It must be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    ndarray, the shape and dtype of `orig_input`
        `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As for `max_pool2d`. ValueError also if `orig_output` or `grad` does not have the shape of the pooling's output.

    Notes
    -----
    Equivalent to ``tf.raw_ops.MaxPoolGrad``.

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
    return _core.max_pool2d_grad(
        orig_input, orig_output, grad, ksize, strides, padding, data_format, dilations, ceil_mode, None, out
    )


def avg_pool2d(
    input: npt.NDArray[Float],
    ksize: Ints,
    strides: Ints | None = None,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    *,
    dilations: Ints = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Mean over windows of each channel, by default without the padded pixels.

    Parameters
    ----------
    input, ksize, strides, padding, data_format, dilations, ceil_mode, out
        See `max_pool2d`.
    count_include_pad : bool, optional
        Whether the mean counts the padded pixels, as zeros. The mean never counts the part of a window that lies beyond
        the padding because of `ceil_mode`.

    Returns
    -------
    ndarray of shape (N, P, Q, C), the dtype of `input`
        (N, C, P, Q) with ``data_format="NCHW"``; `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As for `max_pool2d`.

    Notes
    -----
    Equivalent to ``tf.nn.avg_pool2d``. `ceil_mode` and `count_include_pad` have the meaning of
    ``torch.nn.functional.avg_pool2d``, where the default is to count the padded pixels.

    See Also
    --------
    adaptive_avg_pool2d : Windows that follow from the output's size.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    >>> fastconv.avg_pool2d(x, 2)[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """
    return _core.avg_pool2d(
        input, ksize, strides, padding, data_format, dilations, ceil_mode, count_include_pad, None, out
    )


def avg_pool2d_grad(
    orig_input_shape: Ints,
    grad: npt.NDArray[Float],
    ksize: Ints,
    strides: Ints | None = None,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    *,
    dilations: Ints = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Gradient of `avg_pool2d` with respect to its input.

    Parameters
    ----------
    orig_input_shape : four ints
        The shape of the pooling's input, in the order of `data_format`.
    grad : ndarray of shape (N, P, Q, C), float32 or float64
        Gradient with respect to the pooling's output; (N, C, P, Q) with ``data_format="NCHW"``.
    ksize, strides, padding, data_format, dilations, ceil_mode, count_include_pad
        As passed to `avg_pool2d`.
    out : ndarray of the result's shape and dtype, optional
        Array for the result. It must be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    ndarray of shape `orig_input_shape`, the dtype of `grad`
        `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As for `max_pool2d`. ValueError also if `grad` does not have the shape of the pooling's output.

    Notes
    -----
    Equivalent to ``tf.raw_ops.AvgPoolGrad``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.avg_pool2d_grad((1, 4, 4, 1), np.ones((1, 2, 2, 1), np.float32), 2)[0, 0, :, 0]
    array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    return _core.avg_pool2d_grad(
        orig_input_shape, grad, ksize, strides, padding, data_format, dilations, ceil_mode, count_include_pad, None, out
    )


def adaptive_max_pool2d(
    input: npt.NDArray[Float],
    output_size: OutputSize,
    data_format: str = "NHWC",
    *,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Maximum over windows of each channel, with windows that follow from the output's size.

    Parameters
    ----------
    input : ndarray of shape (N, H, W, C), float32 or float64
        (N, C, H, W) with ``data_format="NCHW"``.
    output_size : int or pair
        Height and width of the output, (P, Q). None in a pair keeps that size of the input. Window i of P covers the
        rows from ``floor(i*H/P)`` to ``ceil((i+1)*H/P) - 1``; columns likewise.
    data_format, out
        See `max_pool2d`.

    Returns
    -------
    ndarray of shape (N, P, Q, C), the dtype of `input`
        (N, C, P, Q) with ``data_format="NCHW"``; `out` if it was given. A window with a NaN gives NaN.

    Raises
    ------
    TypeError, ValueError
        As for `max_pool2d`.

    Notes
    -----
    Equivalent to ``torch.nn.functional.adaptive_max_pool2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(25, dtype=np.float32).reshape(1, 5, 5, 1)
    >>> fastconv.adaptive_max_pool2d(x, (2, 3))[0, :, :, 0]
    array([[11., 13., 14.],
           [21., 23., 24.]], dtype=float32)
    """
    return _core.max_pool2d(input, None, None, None, data_format, None, None, given_size(output_size), out)


def adaptive_max_pool2d_grad(
    orig_input: npt.NDArray[Float],
    orig_output: npt.NDArray[Float],
    grad: npt.NDArray[Float],
    output_size: OutputSize,
    data_format: str = "NHWC",
    *,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Gradient of `adaptive_max_pool2d` with respect to its input.

    Parameters
    ----------
    orig_input, orig_output, grad, out
        See `max_pool2d_grad`.
    output_size, data_format
        As passed to `adaptive_max_pool2d`.

    Returns
    -------
    ndarray, the shape and dtype of `orig_input`
        `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As for `max_pool2d_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    >>> y = fastconv.adaptive_max_pool2d(x, 2)
    >>> fastconv.adaptive_max_pool2d_grad(x, y, np.ones_like(y), 2)[0, :, :, 0]
    array([[0., 0., 0.],
           [0., 1., 1.],
           [0., 1., 1.]], dtype=float32)
    """
    return _core.max_pool2d_grad(
        orig_input, orig_output, grad, None, None, None, data_format, None, None, given_size(output_size), out
    )


def adaptive_avg_pool2d(
    input: npt.NDArray[Float],
    output_size: OutputSize,
    data_format: str = "NHWC",
    *,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Mean over windows of each channel, with windows that follow from the output's size.

    Parameters
    ----------
    input, output_size, data_format, out
        See `adaptive_max_pool2d`.

    Returns
    -------
    ndarray of shape (N, P, Q, C), the dtype of `input`
        (N, C, P, Q) with ``data_format="NCHW"``; `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As for `max_pool2d`.

    Notes
    -----
    Equivalent to ``torch.nn.functional.adaptive_avg_pool2d``. An `output_size` of 1 is the mean of the whole image.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(25, dtype=np.float32).reshape(1, 5, 5, 1)
    >>> fastconv.adaptive_avg_pool2d(x, (2, 3))[0, :, :, 0]
    array([[ 5.5,  7. ,  8.5],
           [15.5, 17. , 18.5]], dtype=float32)
    """
    return _core.avg_pool2d(input, None, None, None, data_format, None, None, None, given_size(output_size), out)


def adaptive_avg_pool2d_grad(
    orig_input_shape: Ints,
    grad: npt.NDArray[Float],
    output_size: OutputSize,
    data_format: str = "NHWC",
    *,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Gradient of `adaptive_avg_pool2d` with respect to its input.

    Parameters
    ----------
    orig_input_shape, grad, out
        See `avg_pool2d_grad`.
    output_size, data_format
        As passed to `adaptive_avg_pool2d`.

    Returns
    -------
    ndarray of shape `orig_input_shape`, the dtype of `grad`
        `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As for `avg_pool2d_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.adaptive_avg_pool2d_grad((1, 3, 3, 1), np.ones((1, 2, 2, 1), np.float32), 2)[0, :, :, 0]
    array([[0.25, 0.5 , 0.25],
           [0.5 , 1.  , 0.5 ],
           [0.25, 0.5 , 0.25]], dtype=float32)
    """
    return _core.avg_pool2d_grad(
        orig_input_shape, grad, None, None, None, data_format, None, None, None, given_size(output_size), out
    )
