"""Times of networks and of single layers, stock and ours in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastconv.keras
import keras
import numpy as np
import tensorflow as tf

from bench.applications.networks import images, labels, served
from bench.measure import in_turn, ratio

# name -> batch
TASKS = {"predict 1": 1, "predict 8": 8, "step 8": 8}


def compare(calls: dict[str, Callable[[], Any]], rounds: int, seconds: float) -> dict[str, Any]:
    """The times of both calls, which have run twice before, and their ratio."""
    for call in calls.values():
        call()
        call()
    result = in_turn(calls, rounds, seconds)
    return {**result, "ratio": ratio(result, "stock", "fastconv")}


def measure(models: dict[str, Any], task: str, rounds: int, seconds: float) -> dict[str, Any]:
    """A task of two compiled models; `ratio` is how much faster ours is."""
    batch = TASKS[task]
    x, y = images(models["stock"], batch), labels(batch)

    def call(model: Any) -> Callable[[], Any]:
        return (lambda: model.train_on_batch(x, y)) if task.startswith("step") else lambda: model.predict_on_batch(x)

    return compare({name: call(model) for name, model in models.items()}, rounds, seconds)


def measure_layers(stock: Any, batch: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Each kind of layer that is ours, forward and with gradients; the smallest gain comes first."""
    ours = fastconv.keras.accelerate(stock)
    kinds: dict[str, list[Any]] = {}
    for layer in served(ours):
        config = {key: value for key, value in layer.get_config().items() if key != "name"}
        kinds.setdefault(str((type(layer).__name__, layer.input.shape, config)), []).append(layer)
    results = []
    for layers in kinds.values():
        layer = layers[0]
        x = tf.constant(np.random.default_rng(0).uniform(-1, 1, (batch, *layer.input.shape[1:])), layer.compute_dtype)
        pair = {"stock": stock.get_layer(layer.name), "fastconv": layer}
        entry: dict[str, Any] = {"layer": layer.name, "kind": type(layer).__name__, "count": len(layers)}
        entry["shape"] = _shape(layer)
        for direction, function in (("forward", _forward), ("with gradients", _with_gradients)):
            entry[direction] = compare({name: function(one, x) for name, one in pair.items()}, rounds, seconds)
        results.append(entry)
    return sorted(results, key=_gain)


def _gain(entry: dict[str, Any]) -> float:
    times = entry["with gradients"]
    return float(entry["count"] * (times["stock"]["median_us"] - times["fastconv"]["median_us"]))


def _shape(layer: Any) -> str:
    window = "x".join(map(str, getattr(layer, "kernel_size", getattr(layer, "pool_size", ()))))
    to = "x".join(map(str, layer.output.shape[1:]))
    return f"{'x'.join(map(str, layer.input.shape[1:]))} -> {to} {window} s={layer.strides[0]} {layer.padding}"


def _forward(layer: Any, x: tf.Tensor) -> Callable[[], Any]:
    return tf.function(lambda: layer(x))


def _with_gradients(layer: Any, x: tf.Tensor) -> Callable[[], Any]:
    @tf.function
    def run() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.gradient(y, [x, *(variable.value for variable in layer.trainable_variables)])

    return run


def compiled(model: Any) -> Any:
    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    return model
