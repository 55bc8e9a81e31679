"""Batch normalisation and its gradients, as functions of NumPy arrays."""

from __future__ import annotations

from typing import TypeAlias

import numpy.typing as npt

from fastconv import _core
from fastconv._types import Activation, Float

Two: TypeAlias = "tuple[npt.NDArray[Float] | None, npt.NDArray[Float] | None]"
Three: TypeAlias = "tuple[npt.NDArray[Float] | None, npt.NDArray[Float] | None, npt.NDArray[Float] | None]"
Four: TypeAlias = (
    "tuple[npt.NDArray[Float] | None, npt.NDArray[Float] | None, npt.NDArray[Float] | None, npt.NDArray[Float] | None]"
)


def batch_norm(
    input: npt.NDArray[Float],
    scale: npt.NDArray[Float] | None = None,
    offset: npt.NDArray[Float] | None = None,
    epsilon: float = 1e-3,
    data_format: str = "NHWC",
    *,
    residual: npt.NDArray[Float] | None = None,
    activation: Activation = None,
    out: Three[Float] | None = None,
) -> tuple[npt.NDArray[Float], npt.NDArray[Float], npt.NDArray[Float]]:
    """Batch normalisation with the statistics of the batch, with an optional residual and activation.

    For each channel::

        output = activation((input - mean) / sqrt(variance + epsilon) * scale + offset + residual)

    Parameters
    ----------
    input : ndarray of at least 2 dimensions, float32 or float64
        For example (N, H, W, C) or (N, C). The last dimension is the channels; with ``data_format="NCHW"``, the second
        one.
    scale, offset : ndarray of shape (C,), same dtype, optional
        1 and 0 if not given.
    epsilon : float, optional
        Added to the variance. At least 0.
    data_format : {"NHWC", "NCHW"}, optional
        Whether the channels come last or second, for inputs of any number of dimensions.
    residual : ndarray, the shape and dtype of `input`, optional
        Added before the activation, as at the end of a residual block.
    activation : None, str or tuple, optional
        Applied last, in the forms of `conv2d`.
    out : tuple of three ndarrays, optional
        Arrays for the results. None in place of one of them makes a new array. They must have the shapes and dtype of
        the results, be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    output : ndarray, the shape and dtype of `input`
    mean, variance : ndarray of shape (C,), same dtype
        Of the channels of this batch. The variance is that of the population: the mean of the squared deviations. NaN
        if the channels have no values.

    Raises
    ------
    TypeError
        If an array is not float32 or float64, the dtypes differ, or another argument has the wrong type.
    ValueError
        If the shapes do not match, `epsilon` is negative or not finite, or `out` does not match the results.

    See Also
    --------
    batch_norm_inference : With given statistics.
    batch_norm_grad : The gradients.

    Notes
    -----
    As ``tf.compat.v1.nn.fused_batch_norm``, whose variance, however, is the sample's. The results do not depend on the
    number of threads. `output` has the same bits as that of `batch_norm_inference` with this mean and variance.

    Let eps be the machine epsilon of the dtype. On random data, the error of the mean is at most eps times
    ``|mean| + 16*mean(|input - mean|)``, and that of the variance at most 32 eps times the variance, however large the
    mean is. A constant channel has variance 0. With z the result before the activation, the error of z for this mean
    and variance is at most 4 eps times ``|z - offset - residual| + |offset| + |residual|``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[1, 10], [3, 10], [5, 10]], np.float32)
    >>> output, mean, variance = fastconv.batch_norm(x, epsilon=0.1, activation="relu")
    >>> mean
    array([ 3., 10.], dtype=float32)
    >>> variance
    array([2.6666667, 0.       ], dtype=float32)
    >>> output.round(2)
    array([[0. , 0. ],
           [0. , 0. ],
           [1.2, 0. ]], dtype=float32)
    """
    return _core.batch_norm(input, scale, offset, residual, data_format, activation, epsilon, out)


def batch_norm_grad(
    input: npt.NDArray[Float],
    mean: npt.NDArray[Float],
    variance: npt.NDArray[Float],
    grad: npt.NDArray[Float],
    scale: npt.NDArray[Float] | None = None,
    offset: npt.NDArray[Float] | None = None,
    epsilon: float = 1e-3,
    data_format: str = "NHWC",
    *,
    residual: npt.NDArray[Float] | None = None,
    activation: Activation = None,
    grad_mean: npt.NDArray[Float] | None = None,
    grad_variance: npt.NDArray[Float] | None = None,
    out: Four[Float] | None = None,
) -> tuple[npt.NDArray[Float], npt.NDArray[Float], npt.NDArray[Float], npt.NDArray[Float] | None]:
    """Gradients of `batch_norm` with respect to its input, scale, offset and residual.

    Parameters
    ----------
    input, scale, offset, epsilon, data_format, residual, activation
        As passed to `batch_norm`.
    mean, variance : ndarray of shape (C,), same dtype
        The results of `batch_norm`.
    grad : ndarray, the shape and dtype of `input`
        Gradient with respect to the output of `batch_norm`.
    grad_mean, grad_variance : ndarray of shape (C,), same dtype, optional
        Gradients with respect to the mean and the variance, if these are used, too.
    out : tuple of four ndarrays, optional
        Arrays for the results. None in place of one of them makes a new array. They must have the shapes and dtype of
        the results, be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    grad_input : ndarray, the shape and dtype of `input`
    grad_scale, grad_offset : ndarray of shape (C,), same dtype
    grad_residual : ndarray, the shape and dtype of `input`
        None without a residual.

    Raises
    ------
    TypeError, ValueError
        As for `batch_norm`.

    Notes
    -----
    What the activation's gradient needs is computed again from the arguments, so no further results of `batch_norm`
    have to be kept. Where an activation has no derivative, `activate_grad` has the rule.

    Let d be the gradient before the activation and s be ``1/sqrt(variance + epsilon)``. On random data, the errors of
    the gradients of offset and scale are at most 16 eps times ``sum(|d|)`` and ``sum(|d*(input - mean)*s|)``. With f =
    ``|scale*s|`` and n values in a channel, that of the input is at most 16 eps times
    ``f*(|d| + sum(|d|)/n + |input - mean|*s*sum(|d*(input - mean)*s|)/n)``. To all of these, the error of d is added.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[1, 10], [3, 20], [5, 60]], np.float32)
    >>> output, mean, variance = fastconv.batch_norm(x)
    >>> grad = np.array([[1, 0], [0, 0], [0, 2]], np.float32)
    >>> grad_input, grad_scale, grad_offset, _ = fastconv.batch_norm_grad(x, mean, variance, grad)
    >>> grad_offset
    array([1., 2.], dtype=float32)
    >>> grad_scale.round(2)
    array([-1.22,  2.78], dtype=float32)
    """
    return _core.batch_norm_grad(
        input, mean, variance, grad, scale, offset, residual, grad_mean, grad_variance, data_format, activation,
        epsilon, out,
    )  # fmt: skip


def batch_norm_statistics(
    input: npt.NDArray[Float], data_format: str = "NHWC", *, out: Two[Float] | None = None
) -> tuple[npt.NDArray[Float], npt.NDArray[Float]]:
    """Mean and variance of each channel.

    Parameters
    ----------
    input, data_format
        See `batch_norm`.
    out : tuple of two ndarrays, optional
        Arrays for the results. None in place of one of them makes a new array. They must have the shapes and dtype of
        the results, be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    mean, variance : ndarray of shape (C,), the dtype of `input`
        With the bits of those that `batch_norm` returns.

    Raises
    ------
    TypeError, ValueError
        As for `batch_norm`.

    See Also
    --------
    batch_norm : Normalises with these statistics.

    Notes
    -----
    As ``tf.nn.moments`` over all axes but that of the channels.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.batch_norm_statistics(np.array([[1, 10], [3, 10]], np.float32))
    (array([ 2., 10.], dtype=float32), array([1., 0.], dtype=float32))
    """
    return _core.batch_norm_statistics(input, data_format, out)


def batch_norm_inference(
    input: npt.NDArray[Float],
    mean: npt.NDArray[Float],
    variance: npt.NDArray[Float],
    scale: npt.NDArray[Float] | None = None,
    offset: npt.NDArray[Float] | None = None,
    epsilon: float = 1e-3,
    data_format: str = "NHWC",
    *,
    residual: npt.NDArray[Float] | None = None,
    activation: Activation = None,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Batch normalisation with given statistics, with an optional residual and activation.

    Parameters
    ----------
    input, scale, offset, epsilon, data_format, residual, activation
        See `batch_norm`.
    mean, variance : ndarray of shape (C,), same dtype
        For example the moving averages of those that `batch_norm` returned in training.
    out : ndarray of the result's shape and dtype, optional
        Array for the result. It must be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    ndarray, the shape and dtype of `input`
        `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As for `batch_norm`.

    Notes
    -----
    As ``tf.nn.batch_normalization``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[1, 10], [3, 20]], np.float32)
    >>> mean, variance = np.array([1, 10], np.float32), np.array([4, 25], np.float32)
    >>> fastconv.batch_norm_inference(x, mean, variance, epsilon=0)
    array([[0., 0.],
           [1., 2.]], dtype=float32)
    """
    return _core.batch_norm_inference(
        input, mean, variance, scale, offset, residual, data_format, activation, epsilon, out
    )


def batch_norm_inference_grad(
    input: npt.NDArray[Float],
    mean: npt.NDArray[Float],
    variance: npt.NDArray[Float],
    grad: npt.NDArray[Float],
    scale: npt.NDArray[Float] | None = None,
    offset: npt.NDArray[Float] | None = None,
    epsilon: float = 1e-3,
    data_format: str = "NHWC",
    *,
    residual: npt.NDArray[Float] | None = None,
    activation: Activation = None,
    out: Four[Float] | None = None,
) -> tuple[npt.NDArray[Float], npt.NDArray[Float], npt.NDArray[Float], npt.NDArray[Float] | None]:
    """Gradients of `batch_norm_inference` with respect to its input, scale, offset and residual.

    Parameters
    ----------
    input, mean, variance, scale, offset, epsilon, data_format, residual, activation
        As passed to `batch_norm_inference`.
    grad : ndarray, the shape and dtype of `input`
        Gradient with respect to the output of `batch_norm_inference`.
    out : tuple of four ndarrays, optional
        As for `batch_norm_grad`.

    Returns
    -------
    grad_input, grad_scale, grad_offset, grad_residual
        As from `batch_norm_grad`, but with a mean and a variance that do not depend on the input.

    Raises
    ------
    TypeError, ValueError
        As for `batch_norm`.

    Notes
    -----
    With s = ``1/sqrt(variance + epsilon)``, the gradient with respect to the mean is ``-scale*s*grad_offset``, and that
    with respect to the variance is ``-scale*s**2*grad_scale/2``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[1, 10], [3, 20]], np.float32)
    >>> mean, variance = np.array([1, 10], np.float32), np.array([4, 25], np.float32)
    >>> fastconv.batch_norm_inference_grad(x, mean, variance, np.ones_like(x), epsilon=0)[0]
    array([[0.5, 0.2],
           [0.5, 0.2]], dtype=float32)
    """
    return _core.batch_norm_inference_grad(
        input, mean, variance, grad, scale, offset, residual, data_format, activation, epsilon, out
    )
