"""Measures the time of each layer alone: forward, and backward (its gradients)."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from fastconv._console import print_table

_REPETITIONS = 30
_WARM_UP = 3


class LayerCost(NamedTuple):
    """One line of the table. GFLOP/s is None for layers that multiply nothing."""

    name: str
    output: str
    parameters: int
    forward_ms: float
    forward_gflops: float | None
    backward_ms: float
    backward_gflops: float | None


def profile(model: Any, images: np.ndarray, seed: int = 1) -> list[LayerCost]:
    """Time every layer of the model alone, on the inputs that it gets when the model is called with these images.

    Parameters
    ----------
    model : keras.Sequential
    images : numpy.ndarray, (batch, 28, 28, 1), float32
    seed : int, optional
        Seed of the random gradients with respect to the outputs.

    Returns
    -------
    list of LayerCost
        Medians. The backward pass computes what training needs: the gradients of the layer's weights, and of its input
        except in the first layer. Its time includes the part of the forward pass that the gradients need, such as a
        dense layer's ReLU.
    """
    random = np.random.default_rng(seed)
    x = tf.constant(images)
    costs = []
    for i, layer in enumerate(model.layers):
        costs.append(_measure(layer, i == 0, x, random))
        x = layer(x)
    return costs


def _measure(layer: Any, first: bool, x: Any, random: np.random.Generator) -> LayerCost:
    inside, outside = tuple(layer.input.shape[1:]), tuple(layer.output.shape[1:])
    batch_size = len(x)
    upstream = tf.constant(random.random((batch_size, *outside)), tf.float32)
    weights = [weight.value for weight in layer.trainable_weights]

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def forward(x: Any) -> Any:
        return layer(x)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def backward(x: Any, upstream: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.gradient(y, weights if first else [x, *weights], upstream)

    forward_seconds = _median_seconds(lambda: forward(x))
    backward_seconds = _median_seconds(lambda: backward(x, upstream))
    count = _flops(layer, inside, outside) * batch_size
    # Each of the two gradients does as many multiplications as the forward pass.
    return LayerCost(
        layer.name,
        _shape_formula(layer, inside, outside),
        layer.count_params(),
        forward_seconds * 1e3,
        count / forward_seconds / 1e9 if count else None,
        backward_seconds * 1e3,
        count * (1 if first else 2) / backward_seconds / 1e9 if count else None,
    )


def _median_seconds(call: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(_WARM_UP + _REPETITIONS):
        began = time.perf_counter()
        call()  # on CPUs, the call returns once the results are computed
        seconds.append(time.perf_counter() - began)
    return median(seconds[_WARM_UP:])


def _flops(layer: Any, inside: tuple[int, ...], outside: tuple[int, ...]) -> int:
    """Multiplications and additions for one image."""
    if isinstance(layer, keras.layers.Conv2D):
        return 2 * int(np.prod(layer.kernel_size)) * inside[-1] * int(np.prod(outside))
    if isinstance(layer, keras.layers.Dense):
        return 2 * int(inside[-1]) * int(outside[-1])
    return 0


def _shape_formula(layer: Any, inside: tuple[int, ...], outside: tuple[int, ...]) -> str:
    """The output shape. If the layer has windows, also the formula of its height, with the numbers filled in."""
    shape = f"({', '.join(map(str, outside))})" if len(outside) > 1 else str(outside[0])
    if isinstance(layer, keras.layers.Conv2D):
        window, stride = layer.kernel_size[0], layer.strides[0]
    elif isinstance(layer, keras.layers.MaxPooling2D):
        window, stride = layer.pool_size[0], layer.strides[0]
    elif isinstance(layer, keras.layers.Flatten):
        return f"{' x '.join(map(str, inside))} = {shape}"
    else:
        return shape
    return f"{shape}: floor(({inside[0]} + 0 - {window}) / {stride}) + 1 = {outside[0]}"


def print_costs(costs: list[LayerCost], batch_size: int) -> None:
    """Print the costs as a table."""

    def rate(gflops: float | None) -> str:
        return "-" if gflops is None else f"{gflops:.2f}"

    print_table(
        [
            "layer",
            "output shape (formula)",
            "parameters",
            "forward ms",
            "GFLOP/s",
            "backward ms",
            "GFLOP/s",
        ],
        [
            [
                cost.name,
                cost.output,
                f"{cost.parameters:,}",
                f"{cost.forward_ms:.3f}",
                rate(cost.forward_gflops),
                f"{cost.backward_ms:.3f}",
                rate(cost.backward_gflops),
            ]
            for cost in costs
        ],
        title=f"Each layer alone, batch {batch_size}, median of {_REPETITIONS}",
        text=2,
    )
