"""Symbolic tensors, on which a Keras model computes while it is frozen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from fastconv.network._graph import Graph, Shape

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tensor:
    """A value of the graph."""

    index: int
    shape: Shape

    @property
    def rank(self) -> int:
        return len(self.shape)


class Builder:
    """Appends the operations of one layer to a graph."""

    def __init__(self, graph: Graph, layer: str) -> None:
        self.graph = graph
        self.layer = layer

    def add(
        self,
        operation: str,
        inputs: Sequence[Tensor | npt.NDArray[Any] | None],
        shape: Sequence[int | None],
        /,
        **attributes: Any,
    ) -> Tensor:
        """Append an operation. Arrays become constants."""
        indices = [
            value.index if isinstance(value, Tensor) else None if value is None else self.graph.constant(value)
            for value in inputs
        ]
        return Tensor(self.graph.add(operation, indices, shape, self.layer, **attributes), tuple(shape))

    def reshape(self, x: Tensor, shape: Sequence[int | None]) -> Tensor:
        """Reshape to `shape`, where None is an unknown size.

        The result takes an unknown size from the same dimension of `x`, or else from the number of elements.
        """
        if tuple(shape) == x.shape and shape.count(None) <= 1:
            return x
        sizes: list[int] = []
        free = [axis for axis, size in enumerate(shape) if size is None]
        for axis, size in enumerate(shape):
            kept = (
                size is None
                and axis < x.rank
                and x.shape[axis] is None
                and all(a is None or a == b for a, b in zip(x.shape[:axis], shape[:axis], strict=False))
            )
            if size is not None:
                sizes.append(size)
            elif kept and (axis != free[-1] or axis == 0):
                sizes.append(0)
            else:
                sizes.append(-1)
        if sizes.count(-1) > 1:
            raise ValueError(
                f"several sizes are not known in the reshape from {x.shape} to {tuple(shape)}: give them in the "
                "model's Input"
            )
        return self.add("reshape", [x], shape, shape=sizes)

    def transpose(self, x: Tensor, perm: Sequence[int]) -> Tensor:
        if list(perm) == list(range(x.rank)):
            return x
        return self.add("transpose", [x], [x.shape[axis] for axis in perm], perm=list(perm))

    def channels_last(self, x: Tensor, data_format: str) -> Tensor:
        """Move the channels to the end, if they are the first dimension after the batch."""
        if data_format != "channels_first" or x.rank < 3:
            return x
        return self.transpose(x, [0, *range(2, x.rank), 1])

    def channels_back(self, x: Tensor, data_format: str) -> Tensor:
        """Undo `channels_last`."""
        if data_format != "channels_first" or x.rank < 3:
            return x
        return self.transpose(x, [0, x.rank - 1, *range(1, x.rank - 1)])

    def axis_last(self, x: Tensor, axis: int) -> tuple[Tensor, list[int]]:
        """Move one axis to the end. Also returns the permutation that moves it back."""
        axis %= x.rank
        forward = [a for a in range(x.rank) if a != axis] + [axis]
        return self.transpose(x, forward), [forward.index(a) for a in range(x.rank)]


def numbers(variable: Any) -> Array:
    """The values of a variable or a tensor, in float64."""
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)


def product(sizes: Sequence[int | None]) -> int | None:
    """The number of elements, or None if a size is not known."""
    return None if None in sizes else math.prod(size for size in sizes if size is not None)
