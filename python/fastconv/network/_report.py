"""Tables that describe a network, and the times of its steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv import PackedFilters, conv2d
from fastconv._console import columns
from fastconv.network._graph import Graph, Node


class StepProfile(NamedTuple):
    """The time of one step.

    Attributes
    ----------
    name : str
        The layer or node that the step comes from.
    operation : str
    fused : tuple of str
        Layers or nodes that the step also computes.
    shape : tuple of int
        The shape of the output.
    algorithm : str
        The algorithm of a convolution; empty for other operations.
    operations : float
        Number of additions and multiplications in the definition of the operation.
    seconds : float
    """

    name: str
    operation: str
    fused: tuple[str, ...]
    shape: tuple[int, ...]
    algorithm: str
    operations: float
    seconds: float


class Profile:
    """The times of the steps of a network.

    Attributes
    ----------
    steps : list of StepProfile
    seconds : float
        The time of all steps together.
    peak : float
        Operations per second of a convolution that suits this CPU, measured with the current number of threads. The
        speed of each step is shown as a share of it. Steps with Winograd's algorithm may exceed it, because they need
        fewer multiplications.
    """

    def __init__(self, steps: list[StepProfile], dtype: np.dtype[Any]) -> None:
        self.steps = steps
        self.seconds = sum(step.seconds for step in steps)
        self.peak = measured_peak(dtype)

    def __str__(self) -> str:
        rows = [("operation", "name", "output", "algorithm", "us", "time", "GFLOP/s", "of peak")]
        for step in self.steps:
            share = step.seconds / self.seconds if self.seconds else 0.0
            speed = step.operations / step.seconds if step.seconds else 0.0
            rows.append(
                (
                    step.operation,
                    step.name,
                    _shape(step.shape),
                    step.algorithm,
                    f"{step.seconds * 1e6:.1f}",
                    f"{share:.1%}",
                    f"{speed / 1e9:.1f}",
                    f"{speed / self.peak:.0%}",
                )
            )
        return f"{columns(rows, text=4)}\n{self.seconds * 1e6:.1f} us in all"


def measured_peak(dtype: np.dtype[Any]) -> float:
    """Operations per second of a convolution whose data stay in the caches. Measuring takes a few milliseconds."""
    images, filters = np.ones((4, 28, 28, 64), dtype), PackedFilters(np.ones((3, 3, 64, 64), dtype))
    output = conv2d(images, filters, padding="SAME", algorithm="direct")
    fastest = np.inf
    for _ in range(5):
        start = time.perf_counter()
        conv2d(images, filters, padding="SAME", algorithm="direct", out=output)
        fastest = min(fastest, time.perf_counter() - start)
    return float(2 * output.size * 3 * 3 * 64 / fastest)


def table(graph: Graph, shapes: Sequence[Sequence[int | None]], found: Sequence[dict[str, Any]]) -> str:
    """The operations of a graph: what was fused, output shape, algorithm, work for one image, and parameters."""
    rows = [("operation", "name", "fused", "output", "algorithm", "MFLOPs", "parameters")]
    for node, shape, step in zip(graph.nodes, shapes, found, strict=True):
        operations = step["operations"]
        rows.append(
            (
                node.operation,
                node.name,
                ", ".join([*_activation(node), *node.fused]),
                _shape(shape),
                step["algorithm"],
                "" if operations is None else f"{operations / 1e6:.2f}",
                f"{_parameters(graph, node):,}",
            )
        )
    total = sum(value.array.size for value in graph.values if value.array is not None)
    return f"{columns(rows, text=5)}\n{total:,} parameters of {np.dtype(graph.dtype)}"


def _parameters(graph: Graph, node: Node) -> int:
    arrays = [graph.values[index].array for index in node.inputs if index is not None]
    return sum(array.size for array in arrays if array is not None)


def _activation(node: Node) -> list[str]:
    name, *parameters = node.attributes.get("activation", ["linear"])
    if name == "linear":
        return []
    return [f"{name}({', '.join(map(str, parameters))})" if parameters else name]


def _shape(shape: Sequence[int | None]) -> str:
    return " x ".join("N" if size is None else str(size) for size in shape)
