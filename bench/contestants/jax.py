"""JAX. Single layers are jitted functions, and their gradients the transposed functions of jax.vjp, jitted as a whole.

Of a network, the whole training step is one jitted function whose state is donated. Adam has Keras's form.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.cases import Case
from bench.contestants import Candidate, NotServed, fetched, steps_candidate
from bench.oracle import Array
from bench.tasks import BETAS, EPSILON, NETWORKS, OTHER_TASK, RATE, Conv, Dense, Pool, Task, batches_of, weights_of

FRAMEWORK = True


def setup(threads: int) -> str:
    jax.config.update("jax_platforms", "cpu")
    return str(jax.__version__)  # its thread pool has one thread for each CPU that this process may use


def candidates(task: Case | Task, arrays: dict[str, Array]) -> list[Candidate]:
    return _layer(task, arrays) if isinstance(task, Case) else _network(task, arrays)


def _layer(case: Case, arrays: dict[str, Array]) -> list[Candidate]:
    jax.config.update("jax_enable_x64", case.dtype == "float64")
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
    return [fetched("jit", lambda: run().block_until_ready(), lambda y: np.asarray(y).reshape(case.result_shape))]


def _network(task: Task, arrays: dict[str, Array]) -> list[Candidate]:
    if task.kind == "epoch":
        raise NotServed(OTHER_TASK)
    jax.config.update("jax_enable_x64", False)
    network = NETWORKS[task.network]
    convolve = functools.partial(
        jax.lax.conv_general_dilated, window_strides=(1, 1), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

    def logits(weights: list[Any], x: Any) -> Any:
        rest = iter(weights)
        for layer in network.layers:
            if isinstance(layer, Pool):
                x = jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
                continue
            kernel, bias = next(rest), next(rest)
            if isinstance(layer, Conv):
                x = convolve(x, kernel, padding="SAME" if layer.same else "VALID") + bias
            else:
                x = x.reshape(len(x), -1) @ kernel + bias
            x = jax.nn.relu(x) if layer.relu else x
        return x

    decays = [
        layer.decay if isinstance(layer, Dense) else 0.0 for layer in network.layers if not isinstance(layer, Pool)
    ]

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
        means = [m + (g - m) * (1 - BETAS[0]) for m, g in zip(means, gradients, strict=True)]
        squares = [v + (g * g - v) * (1 - BETAS[1]) for v, g in zip(squares, gradients, strict=True)]
        moved = zip(weights, means, squares, strict=True)
        return ([w - rate * m / (jnp.sqrt(v) + EPSILON) for w, m, v in moved], means, squares, count), value

    weights = [jnp.array(weight) for weight in weights_of(arrays)]
    if task.kind == "predict":
        forward, x = jax.jit(logits), jax.device_put(arrays["x"])

        def predict() -> Any:
            return forward(weights, x).block_until_ready()

        return [Candidate("jit", lambda: np.asarray(predict()), predict)]
    state = [(weights, [jnp.zeros_like(w) for w in weights], [jnp.zeros_like(w) for w in weights], jnp.float32(0))]

    def step(x: Any, y: Any) -> Any:
        state[0], value = train(state[0], x, y)
        return value.block_until_ready()

    batches = [(jax.device_put(x), jax.device_put(y)) for x, y in batches_of(task, arrays)]
    return [steps_candidate("jit", step, batches)]
