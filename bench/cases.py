"""A case: one layer in one direction, with its arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.layers import FORWARD_ONLY, Layer
from bench.oracle import TOLERANCE, Array, max_pool

OPERANDS = {  # direction -> the arrays that it needs
    "forward": ("x", "w"),
    "input-gradient": ("w", "dy"),
    "filter-gradient": ("x", "dy"),
    "max-pool": ("x",),
    "max-pool-gradient": ("x", "dy"),
}
DIRECTIONS = tuple(OPERANDS)
CONVOLUTION, POOLING = DIRECTIONS[:3], DIRECTIONS[3:]
RESULTS = dict(zip(DIRECTIONS, ("y", "x", "w", "y", "x"), strict=True))  # the array with the result's shape


@dataclass(frozen=True)
class Case:
    layer: Layer
    direction: str
    dtype: str = "float32"
    algorithm: str = "auto"

    # A sample is a millisecond of calls, after a millisecond of calls that are not timed.
    sample_seconds = warm_seconds = 1e-3
    tolerance = TOLERANCE

    @property
    def result_shape(self) -> tuple[int, ...]:
        return self.layer.shapes[RESULTS[self.direction]]

    @property
    def bytes_moved(self) -> int:
        """The least number of bytes that are read and written."""
        names = (*OPERANDS[self.direction], RESULTS[self.direction])
        return sum(int(np.prod(self.layer.shapes[name])) for name in names) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.layer.suite} {self.layer.name} {self.direction}"


def cases(layers: list[Layer], directions: list[str], dtype: str, algorithm: str) -> list[Case]:
    """Each layer in those of `directions` that it has."""
    return [
        Case(layer, direction, dtype, algorithm)
        for layer in layers
        for direction in (POOLING if layer.pool else CONVOLUTION)
        if direction in directions and (layer.suite not in FORWARD_ONLY or direction == "forward")
    ]


def make_arrays(case: Case) -> dict[str, Array]:
    """Normally distributed x (N,H,W,C), dy (N,P,Q,K), and w in `filter_shape`. For pools, the output y replaces w."""
    random = np.random.default_rng(0)
    layer = case.layer
    arrays: dict[str, Array] = {
        name: random.standard_normal(layer.shapes[name], dtype=np.float32).astype(case.dtype)
        for name in (("x", "dy") if layer.pool else ("x", "dy", "w"))
    }
    if layer.pool:
        arrays["y"] = max_pool(layer, arrays["x"]).astype(case.dtype)
    return arrays
