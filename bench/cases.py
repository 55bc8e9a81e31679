"""A case: one layer in one direction, with its arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.layers import Layer
from bench.oracle import TOLERANCE, Array, max_pool

CONVOLUTION = ("forward", "input-gradient", "filter-gradient")
POOLING = ("max-pool", "max-pool-gradient")
DIRECTIONS = CONVOLUTION + POOLING


@dataclass(frozen=True)
class Case:
    layer: Layer
    direction: str
    dtype: str = "float32"
    algorithm: str = "auto"

    # A sample is as many calls as fill a millisecond, after as many that are not timed.
    sample_seconds = warm_seconds = 1e-3
    tolerance = TOLERANCE

    @property
    def result_shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        if self.direction in ("forward", "max-pool"):
            return self.layer.output_shape
        return self.layer.filter_shape if self.direction == "filter-gradient" else self.layer.input_shape

    @property
    def bytes_moved(self) -> int:
        """The least that is read and written. A pool's gradient reads input and gradient."""
        shapes = {
            "forward": (self.layer.input_shape, self.layer.filter_shape),
            "input-gradient": (self.layer.output_shape, self.layer.filter_shape),
            "filter-gradient": (self.layer.input_shape, self.layer.output_shape),
            "max-pool": (self.layer.input_shape,),
            "max-pool-gradient": (self.layer.input_shape, self.layer.output_shape),
        }[self.direction]
        count = sum(int(np.prod(shape)) for shape in (*shapes, self.result_shape))
        return count * np.dtype(self.dtype).itemsize


def cases(layers: list[Layer], directions: list[str], dtype: str, algorithm: str) -> list[Case]:
    """Every layer in each of its directions. Those of the suite `extra` have the forward direction only."""
    found = []
    for layer in layers:
        for direction in POOLING if layer.pool else CONVOLUTION:
            if direction in directions and (layer.suite != "extra" or direction == "forward"):
                found.append(Case(layer, direction, dtype, algorithm))
    return found


def make_arrays(case: Case) -> dict[str, Array]:
    """Normal numbers: x (N,H,W,C), dy (N,P,Q,K), and w in `filter_shape`. Pools have their output y in place of w."""
    random = np.random.default_rng(0)
    layer = case.layer
    shapes = {"x": layer.input_shape, "dy": layer.output_shape}
    if not layer.pool:
        shapes["w"] = layer.filter_shape
    arrays: dict[str, Array] = {}
    for name, shape in shapes.items():
        arrays[name] = random.standard_normal(shape, dtype=np.float32).astype(case.dtype)
    if layer.pool:
        arrays["y"] = max_pool(layer, arrays["x"]).astype(case.dtype)
    return arrays
