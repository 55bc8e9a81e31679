"""What a convolution would do: the planner's choice in words."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv import _core
from fastconv._functions import Ints, Padding

Direction = Literal["forward", "input gradient", "filter gradient"]
_DIRECTIONS = ("forward", "input gradient", "filter gradient")


class Explanation(NamedTuple):
    """How a convolution would be computed, on this machine with the current number of threads.

    Attributes
    ----------
    direction : str
    algorithm : str
        "direct", "winograd" or "depthwise".
    isa : str
        The instruction set of the kernel.
    kernel : str
        The kernel that does the work, as its source in ``cpp/kernels`` calls it; empty if there is nothing to compute.
    tile : tuple of two ints
        What a register tile computes: (output pixels, filters), in a filter gradient (window elements, filters).
    tasks, threads : int
        Pieces of work, and the threads that may share them; small work stays on the calling thread.
    scratch_bytes : int
        Upper bound of the scratch memory, packed filters included.
    multiplications : float
        Of the algorithm; Winograd's has fewer than the direct sum.
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
            f"for {self.threads} threads, scratch memory up to {self.scratch_bytes / 1024:.0f} KB"
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
    """Tell which algorithm, register tile and scratch memory a convolution would use, without computing it.

    Parameters
    ----------
    input_sizes : four ints
        The shape of the convolution's input.
    filter_sizes : four ints
        The shape of its filters.
    strides, padding, data_format, dilations, algorithm
        As of `conv2d`.
    direction : {"forward", "input gradient", "filter gradient"}, optional
    depthwise : bool, optional
        As `depthwise_conv2d`, with filters (R, S, C, M).
    dtype : {float32, float64}, optional

    Returns
    -------
    Explanation
        Its ``str`` is a sentence.

    Raises
    ------
    TypeError, ValueError
        As `conv2d`; ValueError also for an unknown direction.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.explain((1, 56, 56, 64), (3, 3, 64, 64), padding="SAME").algorithm
    'winograd'
    """
    if direction not in _DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(map(repr, _DIRECTIONS))}, got {direction!r}")
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
        bool(depthwise),
    )
    return Explanation(direction=direction, **found)
