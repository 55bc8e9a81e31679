"""JAX. Single layers are jitted functions. Their gradients are those of jax.vjp, also jitted.

The training step of a network is one jitted function whose state is donated. Adam has Keras's form.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.cases import OPERANDS, Case
from bench.contestants import Candidate, NotServed, fetched, steps_candidate
from bench.oracle import Array
from bench.tasks import BETAS, EPSILON, NETWORKS, OTHER_TASK, RATE, Conv, Pool, Task, batches_of, weights_of

FRAMEWORK = True
convolution = functools.partial(jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def max_pool(x: Any, window: tuple[int, int], stride: int, pads: Any) -> Any:
    return jax.lax.reduce_window(
        x, -np.inf, jax.lax.max, (1, *window, 1), (1, stride, stride, 1), [(0, 0), *pads, (0, 0)]
    )


def setup(threads: int) -> str:
    jax.config.update("jax_platforms", "cpu")
    return str(jax.__version__)  # its thread pool has one thread for each CPU that this process may use


def candidates(task: Case | Task, arrays: dict[str, Array]) -> list[Candidate]:
    return _layer(task, arrays) if isinstance(task, Case) else _network(task, arrays)


def _layer(case: Case, arrays: dict[str, Array]) -> list[Candidate]:
    jax.config.update("jax_enable_x64", case.dtype == "float64")
    layer = case.layer
    pads = [(layer.pad, layer.pad)] * 2
    if "w" in arrays:
        arrays = {**arrays, "w": arrays["w"].reshape(layer.r, layer.s, -1, layer.k)}

    def forward(x: Any, w: Any = None) -> Any:
        if layer.pool:
            return max_pool(x, (layer.r, layer.s), layer.stride, pads)
        return convolution(x, w, (layer.stride,) * 2, pads, feature_group_count=layer.groups)

    def gradient(x: Any, w: Any, dy: Any) -> Any:
        if case.direction == "filter-gradient":
            return jax.vjp(lambda w: forward(x, w), w)[1](dy)[0]
        return jax.vjp(lambda x: forward(x, w), x)[1](dy)[0]

    x, w, dy = (jax.device_put(arrays[name]) if name in arrays else None for name in ("x", "w", "dy"))
    if "dy" in OPERANDS[case.direction]:
        run = functools.partial(jax.jit(gradient), x, w, dy)
    else:
        run = functools.partial(jax.jit(forward), x, w)
    return [fetched("jit", lambda: run().block_until_ready(), lambda y: np.asarray(y).reshape(case.result_shape))]


def _network(task: Task, arrays: dict[str, Array]) -> list[Candidate]:
    if task.kind == "epoch":
        raise NotServed(OTHER_TASK)
    jax.config.update("jax_enable_x64", False)
    layers = NETWORKS[task.network].layers

    def logits(weights: list[Any], x: Any) -> Any:
        rest = iter(weights)
        for layer in layers:
            if isinstance(layer, Pool):
                x = max_pool(x, (2, 2), 2, [(0, 0)] * 2)
                continue
            kernel, bias = next(rest), next(rest)
            if isinstance(layer, Conv):
                x = convolution(x, kernel, (1, 1), "SAME" if layer.same else "VALID") + bias
            else:
                x = x.reshape(len(x), -1) @ kernel + bias
            x = jax.nn.relu(x) if layer.relu else x
        return x

    decays = [layer.decay for layer in layers if not isinstance(layer, Pool)]

    def loss(weights: list[Any], x: Any, y: Any) -> Any:
        cross_entropy = -jnp.mean(jnp.sum(jax.nn.log_softmax(logits(weights, x)) * y, axis=1))
        kernels = zip(decays, weights[::2], strict=True)
        return cross_entropy + sum(decay * jnp.sum(kernel**2) for decay, kernel in kernels if decay)

    @functools.partial(jax.jit, donate_argnums=0)
    def train(state: Any, x: Any, y: Any) -> Any:
        weights, means, squares, count = state
        value, gradients = jax.value_and_grad(loss)(weights, x, y)
        count = count + 1
        rate = RATE * jnp.sqrt(1 - BETAS[1] ** count) / (1 - BETAS[0] ** count)
        means = jax.tree.map(lambda m, g: m + (g - m) * (1 - BETAS[0]), means, gradients)
        squares = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - BETAS[1]), squares, gradients)
        moved = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + EPSILON), weights, means, squares)
        return (moved, means, squares, count), value

    weights = [jnp.array(weight) for weight in weights_of(arrays)]
    if task.kind == "predict":
        forward, x = jax.jit(logits), jax.device_put(arrays["x"])
        return [fetched("jit", lambda: forward(weights, x).block_until_ready())]
    state = (weights, *([jnp.zeros_like(w) for w in weights] for _ in range(2)), jnp.float32(0))

    def step(x: Any, y: Any) -> Any:
        nonlocal state
        state, value = train(state, x, y)
        return value.block_until_ready()

    return [steps_candidate("jit", step, [jax.device_put(batch) for batch in batches_of(task, arrays)])]
