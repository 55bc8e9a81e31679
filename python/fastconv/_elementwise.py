"""Activations, additions and their gradients, as functions of NumPy arrays."""

from __future__ import annotations

import numpy.typing as npt

from fastconv import _core
from fastconv._types import Activation, Float


def activate(
    input: npt.NDArray[Float], activation: Activation, *, out: npt.NDArray[Float] | None = None
) -> npt.NDArray[Float]:
    """An activation of each element.

    Parameters
    ----------
    input : ndarray, float32 or float64
    activation : None, str or tuple
        The activation, in the forms of `conv2d`, which lists them with their errors.
    out : ndarray of the result's shape and dtype, optional
        Array for the result. It must be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    ndarray, the shape and dtype of `input`
        `out` if it was given.

    Raises
    ------
    TypeError
        If an array is not float32 or float64, or another argument has the wrong type.
    ValueError
        If the activation is not known or has wrong numbers, or `out` does not match the result.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.activate(np.array([-2, -1, 4], np.float32), ("leaky_relu", 0.25))
    array([-0.5 , -0.25,  4.  ], dtype=float32)
    """
    return _core.activate(input, activation, out)


def activate_grad(
    input: npt.NDArray[Float],
    grad: npt.NDArray[Float],
    activation: Activation,
    *,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Gradient of `activate` with respect to its input: `grad` times the activation's derivative.

    Parameters
    ----------
    input : ndarray, float32 or float64
        The input of the activation. For "linear", "relu", "relu6" and "clip", its output will do as well, and gives the
        same bits.
    grad : ndarray, the shape and dtype of `input`
        Gradient with respect to the output of `activate`.
    activation : None, str or tuple
        As passed to `activate`.
    out : ndarray of the result's shape and dtype, optional
        Array for the result. It must be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    ndarray, the shape and dtype of `input`
        `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As for `activate`. ValueError also if `grad` does not have the shape of `input`.

    Notes
    -----
    Where an activation has no derivative, this takes the slope on the side where the activation is constant, as
    TensorFlow: 0 for "relu" at 0, for "relu6", "clip" and "hard_sigmoid" at both bounds, and for "hard_swish" at the
    lower one. "leaky_relu" and "elu" have the slope of the negative side at 0, and "hard_swish" has 1 at the upper
    bound. An element with slope 0 there has gradient 0, whatever `grad` is.

    Let eps be the machine epsilon of the dtype. The error of the derivative is at most 8 eps for "gelu", "gelu_tanh"
    and "silu", at most 8 eps times the derivative for "elu", "sigmoid" and "tanh", and at most 4 eps times
    ``|input| + 1`` for "hard_swish". The others are exact. A result below 5 times the smallest normal number
    may be 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([-2, -1, 4], np.float32)
    >>> fastconv.activate_grad(x, np.ones_like(x), ("leaky_relu", 0.25))
    array([0.25, 0.25, 1.  ], dtype=float32)
    """
    return _core.activate_grad(input, grad, activation, out)


def add(
    a: npt.NDArray[Float],
    b: npt.NDArray[Float],
    activation: Activation = None,
    *,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Sum of two arrays of one shape, with an optional activation in the same pass over memory.

    Parameters
    ----------
    a : ndarray, float32 or float64
    b : ndarray, the shape and dtype of `a`
    activation : None, str or tuple, optional
        Applied to the sum, in the forms of `conv2d`.
    out : ndarray of the result's shape and dtype, optional
        Array for the result. It must be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    ndarray, the shape and dtype of `a`
        `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As for `activate`. ValueError also if the shapes differ: they are not broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.add(np.array([1.0, 2.0]), np.array([3.0, -5.0]), "relu")
    array([4., 0.])
    """
    return _core.add(a, b, activation, out)


def add_grad(
    a: npt.NDArray[Float],
    b: npt.NDArray[Float],
    grad: npt.NDArray[Float],
    activation: Activation = None,
    *,
    out: npt.NDArray[Float] | None = None,
) -> npt.NDArray[Float]:
    """Gradient of `add` with respect to each of its arrays. It is the same for both.

    If the activation is "linear", "relu", "relu6" or "clip", `activate_grad` gives the same bits from the output of
    `add`, and reads less memory.

    Parameters
    ----------
    a, b, activation
        As passed to `add`.
    grad : ndarray, the shape and dtype of `a`
        Gradient with respect to the output of `add`.
    out : ndarray of the result's shape and dtype, optional
        Array for the result. It must be C-contiguous and writable, and must not overlap another argument.

    Returns
    -------
    ndarray, the shape and dtype of `a`
        `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As for `add`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> a, b = np.array([1.0, 2.0]), np.array([3.0, -5.0])
    >>> fastconv.add_grad(a, b, np.ones(2), "relu")
    array([1., 0.])
    """
    return _core.add_grad(a, b, grad, activation, out)
