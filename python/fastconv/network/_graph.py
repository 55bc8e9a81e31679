"""The graph of a frozen network: operations, values and constants.

Importers (Keras, ONNX) build a graph and passes simplify it. A `Network` runs the graph, and a file stores it. Channels
are the last dimension of a tensor, as in NHWC. Every operation has one output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Shape = tuple[int | None, ...]


def broadcast(*shapes: Sequence[int | None]) -> list[int | None]:
    """The shape of the result of an elementwise operation, by NumPy's rules."""
    rank = max(map(len, shapes))
    result: list[int | None] = []
    aligned = [(*(1,) * (rank - len(shape)), *shape) for shape in shapes]
    for sizes in zip(*aligned, strict=True):
        large = [size for size in sizes if size != 1]
        result.append(next((size for size in large if size is not None), None) if large else 1)
    return result


@dataclass
class Value:
    """A tensor of the graph.

    Attributes
    ----------
    shape : tuple of int or None
        None stands for a size that is known only when the network runs. The first dimension is the batch.
    array : ndarray or None
        The elements of a constant.
    """

    shape: Shape
    array: npt.NDArray[Any] | None = None


@dataclass
class Node:
    """One operation.

    Attributes
    ----------
    operation : str
        A name of ``_core.network_operations()``.
    inputs : list of int or None
        Indices of values. None stands for an optional input that is left out.
    attributes : dict
        Strings, numbers, booleans and lists of these, as in JSON.
    output : int
        Index of a value.
    name : str
        The name of the layer or node that the operation comes from.
    fused : list of str
        Names of the layers or nodes that were fused into the operation, in their order.
    """

    operation: str
    inputs: list[int | None]
    attributes: dict[str, Any]
    output: int
    name: str = ""
    fused: list[str] = field(default_factory=list)


@dataclass
class Graph:
    """Nodes in an order in which they can run, and their values."""

    dtype: np.dtype[Any]
    values: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    inputs: list[tuple[str, int]] = field(default_factory=list)
    outputs: list[tuple[str, int]] = field(default_factory=list)

    def value(self, shape: Sequence[int | None]) -> int:
        """Add a value that a node computes or the caller passes."""
        self.values.append(Value(tuple(shape)))
        return len(self.values) - 1

    def constant(self, array: npt.ArrayLike) -> int:
        """Add a constant. It is float64 until `round_constants`, so that several foldings round it only once."""
        elements = np.asarray(array, np.float64, order="C")
        self.values.append(Value(elements.shape, elements))
        return len(self.values) - 1

    def round_constants(self) -> None:
        """Convert the constants to the dtype of the graph."""
        for value in self.values:
            if value.array is not None:
                value.array = np.asarray(value.array, self.dtype, order="C")

    def input(self, name: str, shape: Sequence[int | None]) -> int:
        """Add an input of the network."""
        index = self.value(shape)
        self.inputs.append((name, index))
        return index

    def add(
        self,
        operation: str,
        inputs: Sequence[int | None],
        shape: Sequence[int | None],
        /,
        name: str = "",
        **attributes: Any,
    ) -> int:
        """Append a node whose output has this shape. Returns the index of the output.

        The first arguments are positional, because an attribute may be called ``shape``.
        """
        output = self.value(shape)
        self.nodes.append(Node(operation, list(inputs), attributes, output, name))
        return output

    def array(self, index: int | None) -> npt.NDArray[Any] | None:
        """The elements of a constant. None for any other value, and for an input that is left out."""
        return None if index is None else self.values[index].array

    def producers(self) -> dict[int, Node]:
        """For each value that a node computes, that node."""
        return {node.output: node for node in self.nodes}

    def users(self) -> dict[int, list[Node]]:
        """For each value, the nodes that read it."""
        result: dict[int, list[Node]] = {}
        for node in self.nodes:
            for index in node.inputs:
                if index is not None:
                    result.setdefault(index, []).append(node)
        return result
