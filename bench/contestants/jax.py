"""JAX: jitted functions; gradients as the transposed functions that jax.vjp gives, jitted as a whole."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from bench.cases import Case
from bench.contestants import Variant
from bench.reference import Array

NAMES = ("jax",)
FRAMEWORK = True


def setup(threads: int) -> str:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    return str(jax.__version__)  # its thread pool has one thread for each CPU that this process may use


def variants(name: str, case: Case, arrays: dict[str, Array]) -> list[Variant]:
    layer = case.layer
    pads = [(layer.pad, layer.pad)] * 2
    if layer.depthwise and "w" in arrays:
        arrays = {**arrays, "w": arrays["w"].reshape(layer.r, layer.s, 1, layer.k)}
    data = {key: jax.device_put(array) for key, array in arrays.items()}

    def convolve(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x,
            w,
            (layer.stride, layer.stride),
            pads,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=layer.groups,
        )

    def pool(x: Any) -> Any:
        window, steps = (1, layer.r, layer.s, 1), (1, layer.stride, layer.stride, 1)
        return jax.lax.reduce_window(x, -np.inf, jax.lax.max, window, steps, [(0, 0), *pads, (0, 0)])

    call, operands = {
        "forward": (convolve, ("x", "w")),
        "input-gradient": (lambda x, w, dy: jax.vjp(lambda x: convolve(x, w), x)[1](dy)[0], ("x", "w", "dy")),
        "filter-gradient": (lambda x, w, dy: jax.vjp(lambda w: convolve(x, w), w)[1](dy)[0], ("x", "w", "dy")),
        "max-pool": (pool, ("x",)),
        "max-pool-gradient": (lambda x, dy: jax.vjp(pool, x)[1](dy)[0], ("x", "dy")),
    }[case.direction]
    compiled = jax.jit(call)
    run = functools.partial(compiled, *[data[key] for key in operands])
    return [Variant("jit", lambda: run().block_until_ready(), lambda y: np.asarray(y).reshape(case.result_shape))]
