"""The result that every contestant is compared with: the tests' float64 reference, and a bound on rounding errors."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.layers import Layer

Array = npt.NDArray[np.floating[Any]]

# Rounding errors of float32 sums, Winograd's included, stay far below this many eps of the bound. A wrong element,
# row or channel does not.
TOLERANCE = 256.0


def _load() -> ModuleType:
    """tests/reference.py; an installed package may be called ``tests``, so it is loaded by its path."""
    path = Path(__file__).parents[1] / "tests" / "reference.py"
    spec = importlib.util.spec_from_file_location("fastconv_reference", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _load()


def _geometry(layer: Layer) -> Any:
    pads = ((layer.pad, layer.pad), (layer.pad, layer.pad))
    return reference.Geometry((layer.h, layer.w), (layer.r, layer.s), (layer.stride, layer.stride), pads, (1, 1))


def max_pool(layer: Layer, x: Array) -> Array:
    """The maximum of each window."""
    result: Array = reference.max_pool2d(x, _geometry(layer)).value
    return result


def reference_and_bound(layer: Layer, direction: str, arrays: dict[str, Array]) -> tuple[Array, Array]:
    """The result in float64, and sum(abs(x) * abs(w)) for each of its elements."""
    x, dy, geometry = arrays["x"], arrays["dy"], _geometry(layer)
    if direction == "max-pool":
        y = max_pool(layer, x)
        return y, np.abs(y)
    if direction == "max-pool-gradient":
        found = reference.max_pool2d_grad(x, dy, geometry)
        return found.value, found.magnitude
    w, groups = arrays["w"], () if layer.depthwise else (layer.groups,)
    prefix = "depthwise_conv2d" if layer.depthwise else "conv2d"
    if direction == "forward":
        found = getattr(reference, prefix)(x, w, geometry)
    elif direction == "input-gradient":
        found = getattr(reference, f"{prefix}_backprop_input")(w, dy, geometry, *groups)
    else:
        found = getattr(reference, f"{prefix}_backprop_filter")(x, dy, geometry, *groups)
    return found.value, found.magnitude


def error_in_eps(result: Array, expected: Array, bound: Array) -> float:
    """The largest error, in units of eps of the result's precision times the bound; infinite if the shapes differ."""
    if result.shape != expected.shape:
        return float("inf")
    allowed = np.finfo(result.dtype).eps * bound + np.finfo(result.dtype).tiny
    return float(np.max(np.abs(result - expected) / allowed, initial=0.0))
