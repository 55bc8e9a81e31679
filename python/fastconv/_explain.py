"""Reports the algorithm that a convolution would use, and its cost."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv import _core
from fastconv._types import Ints, Padding

Direction = Literal["forward", "input gradient", "filter gradient"]


class Explanation(NamedTuple):
    """How a convolution would be computed on this machine with the current number of threads.

    Attributes
    ----------
    direction : str
        "forward", "input gradient" or "filter gradient".
    algorithm : str
        "direct", "winograd" or "depthwise".
    isa : str
        Instruction set of the kernel.
    kernel : str
        Name of the kernel in ``cpp/kernels``. Empty if there is nothing to compute.
    tile : tuple of two ints
        Size of the register tile: (output pixels, filters), or in a filter gradient (window elements, filters).
    tasks : int
        Number of tasks into which the work is divided.
    threads : int
        Number of threads that may share the tasks. Small calls run on the calling thread.
    scratch_bytes : int
        Upper bound of the scratch memory, including packed filters.
    multiplications : float
        Number of multiplications that the algorithm needs.
    """

    direction: str
    algorithm: str
    isa: str
    kernel: str
    tile: tuple[int, int]
    tasks: int
    threads: int
    scratch_bytes: int
    multiplications: float

    def __str__(self) -> str:
        if not self.kernel:
            return f"{self.direction}: nothing to compute"
        pixels = "window elements" if self.direction == "filter gradient" else "pixels"
        return (
            f"{self.direction}: {self.algorithm} ({self.kernel}, {self.isa}), register tile {self.tile[0]} {pixels} x "
            f"{self.tile[1]} filters, {self.multiplications / 1e6:.3g} million multiplications in {self.tasks} tasks "
            f"for {self.threads} threads, scratch memory up to {readable_bytes(self.scratch_bytes)}"
        )


def explain(
    input_sizes: Ints,
    filter_sizes: Ints,
    strides: Ints = 1,
    padding: Padding = "VALID",
    data_format: str = "NHWC",
    dilations: Ints = 1,
    *,
    direction: Direction = "forward",
    depthwise: bool = False,
    algorithm: str = "auto",
    dtype: npt.DTypeLike = np.float32,
) -> Explanation:
    """Report which algorithm, register tile and scratch memory a convolution would use, without running it.

    Parameters
    ----------
    input_sizes : two or four ints
        The height and width of the convolution's input, or its whole shape in the order of `data_format`. Height and
        width alone stand for one image. A convolution with groups needs all four numbers.
    filter_sizes : four ints
        The shape of the filters.
    strides, padding, data_format, dilations, algorithm
        See `conv2d`.
    direction : {"forward", "input gradient", "filter gradient"}, optional
        Which of `conv2d`, `conv2d_backprop_input` and `conv2d_backprop_filter` to explain.
    depthwise : bool, optional
        True for `depthwise_conv2d`, whose filters are (R, S, C, M).
    dtype : {float32, float64}, optional
        The dtype of the arrays.

    Returns
    -------
    Explanation
        ``print`` shows it as a sentence.

    Raises
    ------
    TypeError, ValueError
        As for `conv2d`. ValueError also if `direction` is unknown.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.explain((1, 56, 56, 64), (3, 3, 64, 64), padding="SAME").algorithm
    'winograd'
    """
    kind = np.dtype(dtype)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype must be float32 or float64, got {kind}")
    found: dict[str, Any] = _core.explain(
        input_sizes,
        filter_sizes,
        strides,
        padding,
        data_format,
        dilations,
        algorithm,
        kind == np.dtype(np.float64),
        direction,
        depthwise,
    )
    return Explanation(direction=direction, **found)


def with_prefix(number: float, base: int, units: tuple[str, ...]) -> str:
    """A number in the unit in which it is below the base, with all digits of base - 1. Each unit is `base` times the
    one before it.
    """
    step = 0
    while number >= base - 0.5 and step < len(units) - 1:
        number /= base
        step += 1
    return f"{number:.{len(str(base - 1))}g} {units[step]}"


def readable_bytes(size: float) -> str:
    """A number of bytes with four digits and a binary prefix, such as 6.125 MiB."""
    return with_prefix(size, 1024, ("bytes", "KiB", "MiB", "GiB", "TiB"))
