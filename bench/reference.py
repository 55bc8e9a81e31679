"""What every contestant is compared with: plain float64 NumPy, and a bound that rounding errors are measured by.

Both come from the same sums: the reference from the arrays, the bound from their absolute values, so that it is
sum(|x||w|) for each element of the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.layers import Layer

Array = npt.NDArray[np.floating[Any]]
Float64 = npt.NDArray[np.float64]

# Rounding errors of float32 sums, Winograd's included, stay far below this many eps of the bound; a wrong element,
# row or channel does not.
TOLERANCE = 256.0


class Disagreement(ValueError):
    """A contestant's result is not the reference."""


def error_in_eps(result: Array, reference: Float64, bound: Float64) -> float:
    """Largest error, in units of eps of the result's precision times the bound; Disagreement above TOLERANCE."""
    if result.shape != reference.shape:
        raise Disagreement(f"the result has shape {result.shape}, the reference {reference.shape}")
    allowed = np.finfo(result.dtype).eps * bound + np.finfo(result.dtype).tiny
    error = float(np.max(np.abs(result - reference) / allowed, initial=0.0))
    if not error <= TOLERANCE:  # not NaN either
        raise Disagreement(f"the result is off by {error:.3g} eps of its bound, over {TOLERANCE:.0f}")
    return error


def _padded(layer: Layer, x: Array, fill: float = 0.0) -> Float64:
    pads = ((0, 0), (layer.pad, layer.pad), (layer.pad, layer.pad), (0, 0))
    return np.pad(x.astype(np.float64), pads, constant_values=fill)


def _window(layer: Layer, x: Float64, r: int, s: int) -> Float64:
    """The input elements (N,P,Q,C), a view, that meet tap (r, s)."""
    step = layer.stride
    return x[:, r : r + step * (layer.p - 1) + 1 : step, s : s + step * (layer.q - 1) + 1 : step]


def _groups(layer: Layer) -> list[tuple[slice, slice]]:
    c, k = layer.c // layer.groups, layer.k // layer.groups
    return [(slice(g * c, g * c + c), slice(g * k, g * k + k)) for g in range(layer.groups)]


def _convolution(layer: Layer, direction: str, x: Array, filters: Array, dy: Array) -> Float64:
    padded = _padded(layer, x)
    # The (R,S,C,M) filters of a depthwise convolution are those of one with C groups. Its groups go all at once.
    w = filters.reshape(layer.r, layer.s, -1, layer.k).astype(np.float64)
    dy = dy.astype(np.float64)
    y, dx, dw = np.zeros(layer.output_shape), np.zeros_like(padded), np.zeros_like(w)
    each_channel = layer.depthwise and layer.k == layer.c
    for r in range(layer.r):
        for s in range(layer.s):
            taps = _window(layer, padded, r, s)
            if each_channel:
                if direction == "forward":
                    y += taps * w[r, s, 0]
                elif direction == "input-gradient":
                    _window(layer, dx, r, s)[...] += dy * w[r, s, 0]
                else:
                    dw[r, s, 0] = np.einsum("npqc,npqc->c", taps, dy)
                continue
            for cs, ks in _groups(layer):
                if direction == "forward":
                    y[..., ks] += taps[..., cs] @ w[r, s][:, ks]
                elif direction == "input-gradient":
                    _window(layer, dx, r, s)[..., cs] += dy[..., ks] @ w[r, s][:, ks].T
                else:
                    dw[r, s][:, ks] = np.tensordot(taps[..., cs], dy[..., ks], axes=([0, 1, 2], [0, 1, 2]))
    if direction == "forward":
        return y
    if direction == "input-gradient":
        return dx[:, layer.pad : layer.pad + layer.h, layer.pad : layer.pad + layer.w]
    return dw.reshape(layer.filter_shape)


def max_pool(layer: Layer, x: Array) -> Float64:
    """Maximum over the windows."""
    padded = _padded(layer, x, -np.inf)
    taps = [_window(layer, padded, r, s) for r in range(layer.r) for s in range(layer.s)]
    result: Float64 = np.maximum.reduce(taps)
    return result


def _max_pool_gradient(layer: Layer, x: Array, dy: Array) -> Float64:
    padded = _padded(layer, x, -np.inf)
    y = max_pool(layer, x)
    dx = np.zeros_like(padded)
    rest = dy.astype(np.float64)  # what the first maximum has not taken yet
    for r in range(layer.r):
        for s in range(layer.s):
            taken = np.where(_window(layer, padded, r, s) == y, rest, 0.0)
            rest -= taken
            _window(layer, dx, r, s)[...] += taken
    return dx[:, layer.pad : layer.pad + layer.h, layer.pad : layer.pad + layer.w]


def reference_and_bound(layer: Layer, direction: str, arrays: dict[str, Array]) -> tuple[Float64, Float64]:
    """The right result of a direction, and sum(|x||w|) for each of its elements."""
    if direction == "max-pool":
        y = max_pool(layer, arrays["x"])
        return y, np.abs(y)
    if direction == "max-pool-gradient":
        return (
            _max_pool_gradient(layer, arrays["x"], arrays["dy"]),
            _max_pool_gradient(layer, arrays["x"], np.abs(arrays["dy"])),
        )
    x, w, dy = arrays["x"], arrays["w"], arrays["dy"]
    return (
        _convolution(layer, direction, x, w, dy),
        _convolution(layer, direction, np.abs(x), np.abs(w), np.abs(dy)),
    )
