"""The result that every contestant is compared with: the tests' float64 reference, and a bound on rounding errors."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.layers import Layer

Array = npt.NDArray[np.floating[Any]]

# The largest error allowed, in units of eps times the bound. Rounding errors of float32 sums, Winograd's included, stay
# far below it. The error of a wrong element, row or channel exceeds it.
TOLERANCE = 256.0

# Loaded by its path, as an installed package may be called ``tests``.
reference = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "tests" / "reference.py")))


def _geometry(layer: Layer) -> Any:
    pads = ((layer.pad, layer.pad), (layer.pad, layer.pad))
    return reference.Geometry((layer.h, layer.w), (layer.r, layer.s), (layer.stride, layer.stride), pads, (1, 1))


def max_pool(layer: Layer, x: Array) -> Array:
    """The maximum of each window."""
    result: Array = reference.max_pool2d(x, _geometry(layer)).value
    return result


def reference_and_bound(layer: Layer, direction: str, arrays: dict[str, Array]) -> tuple[Array, Array]:
    """The result in float64, and sum(abs(x) * abs(w)) for each of its elements."""
    if direction == "max-pool":
        y = max_pool(layer, arrays["x"])
        return y, np.abs(y)
    name, first, second = {
        "forward": ("conv2d", "x", "w"),
        "input-gradient": ("conv2d_backprop_input", "w", "dy"),
        "filter-gradient": ("conv2d_backprop_filter", "x", "dy"),
        "max-pool-gradient": ("max_pool2d_grad", "x", "dy"),
    }[direction]
    function = getattr(reference, "depthwise_" * layer.depthwise + name)
    groups = (layer.groups,) if "backprop" in name and not layer.depthwise else ()
    found = function(arrays[first], arrays[second], _geometry(layer), *groups)
    return found.value, found.magnitude


def error_in_eps(result: Array, expected: Array, bound: Array) -> float:
    """The largest error, in units of eps of the result's precision times the bound; infinite if the shapes differ."""
    if result.shape != expected.shape:
        return float("inf")
    allowed = np.finfo(result.dtype).eps * bound + np.finfo(result.dtype).tiny
    return float(np.max(np.abs(result - expected) / allowed, initial=0.0))
