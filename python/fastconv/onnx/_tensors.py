"""Tensors of an ONNX model while it is imported.

ONNX has images as (N, C, H, W), and fastconv has them as (N, H, W, C). A tensor remembers how its values are stored,
and an operation asks for the order that it needs. An image is therefore transposed once, at the model's input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.network._graph import Graph, Shape

Array = npt.NDArray[Any]


class Unsupported(Exception):
    """Why one node cannot be converted."""


@dataclass(frozen=True)
class Tensor:
    """A value of the graph, with the shape that it has in ONNX.

    Attributes
    ----------
    index : int
        The value of the graph.
    shape : tuple
        The shape in ONNX's order.
    channels_last : bool
        Whether the value has the channels, ONNX's second dimension, at the end.
    image : tuple or None
        (C, H, W) if the value is a flattened image in the order (H, W, C).
    """

    index: int
    shape: Shape
    channels_last: bool = False
    image: tuple[int, ...] | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    def axis(self, axis: int) -> int:
        """The dimension of the stored value that is the dimension `axis` in ONNX."""
        axis %= self.rank
        if not self.channels_last or axis == 0:
            return axis
        return self.rank - 1 if axis == 1 else axis - 1


def moved(values: Sequence[Any]) -> list[Any]:
    """One item for each dimension, from ONNX's order to channels last."""
    return [values[0], *values[2:], values[1]]


class Builder:
    """Appends the operations of one node to the graph."""

    def __init__(self, graph: Graph, node: str) -> None:
        self.graph = graph
        self.node = node

    def add(
        self,
        operation: str,
        inputs: Sequence[Tensor | Array | None],
        shape: Sequence[int | None],
        /,
        *,
        last: bool = False,
        **attributes: Any,
    ) -> Tensor:
        """Append an operation. `shape` is in ONNX's order; with `last`, the result has the channels at the end."""
        indices = [
            value.index if isinstance(value, Tensor) else None if value is None else self.graph.constant(value)
            for value in inputs
        ]
        stored = moved(shape) if last else list(shape)
        index = self.graph.add(operation, indices, stored, self.node, **attributes)
        return Tensor(index, tuple(shape), last)

    def plain(self, x: Tensor) -> Tensor:
        """The tensor in ONNX's order."""
        if x.image is not None:
            channels, *sizes = x.image
            images = self.add("reshape", [x], [x.shape[0], *x.image], last=True, shape=[0, *sizes, channels])
            back = self.plain(images)
            return self.add("reshape", [back], x.shape, shape=[0, math.prod(x.image)])
        if not x.channels_last:
            return x
        return self.add("transpose", [x], x.shape, perm=[0, x.rank - 1, *range(1, x.rank - 1)])

    def last(self, x: Tensor) -> Tensor:
        """The tensor with its channels at the end."""
        x = x if x.image is None else self.plain(x)
        if x.channels_last:
            return x
        if x.rank < 3:
            return Tensor(x.index, x.shape, True) if x.rank == 2 else x
        return self.add("transpose", [x], x.shape, last=True, perm=[0, *range(2, x.rank), 1])

    def like(self, x: Tensor, layout: Tensor) -> Tensor:
        """`x` in the order of the tensor `layout`."""
        if layout.image is not None:
            return x if x.image == layout.image else self.plain(x)
        return self.last(x) if layout.channels_last and x.rank == layout.rank else self.plain(x)

    def same(self, x: Tensor, operation: str, *constants: Array | None, **attributes: Any) -> Tensor:
        """An elementwise operation. It works in any order of the values, and keeps this order."""
        indices = [x.index, *(None if value is None else self.graph.constant(value) for value in constants)]
        index = self.graph.add(operation, indices, self.graph.values[x.index].shape, self.node, **attributes)
        return Tensor(index, x.shape, x.channels_last, x.image)


def known_sizes(sizes: Sequence[int | None]) -> list[int]:
    """The sizes, which must all be known."""
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        raise Unsupported("the sizes of its input are not known: give the model's inputs fixed sizes")
    return known


def floats(value: Any) -> npt.NDArray[np.float64]:
    dtype = np.asarray(value).dtype
    if not np.issubdtype(dtype, np.floating):
        raise Unsupported(f"it computes with a constant of type {dtype}: only floating-point types are supported")
    return np.asarray(value, np.float64)
