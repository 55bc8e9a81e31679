"""Checks that an accelerated network computes the same as the stock one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import fastconv.keras
import numpy as np
import tensorflow as tf

from bench.applications.choices import Choices
from bench.applications.networks import build, images, labels

AGREEMENT = 1e-9  # the largest relative difference of outputs and gradients that is allowed in float64
# The most that the float32 error of a tensor may be: a multiple of the stock network's error, or LEAST_ERROR.
TIMES_STOCK = 3
LEAST_ERROR = 1e-5
SEEDS = 4  # the number of batches; the error of a small gradient varies from batch to batch
# The gradient of a bias before a batch normalisation is zero up to rounding, so its relative error means nothing.
LEAST_NORM = 1e-4  # the least norm that counts, as a share of the largest


def outputs_and_gradients(model: Any, x: Any, y: Any) -> dict[str, Any]:
    """The outputs in inference, and the gradients of all weights in training, in float64."""
    result = {"outputs": model(x, training=False)}
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        predictions = tf.cast(model(x, training=True), tf.float64)
        loss = tf.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(y, predictions))
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    result.update({variable.path: gradient for variable, gradient in zip(variables, gradients, strict=True)})
    return {name: np.asarray(value, np.float64) for name, value in result.items()}


def errors(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, float]:
    """The error of each tensor, relative to its norm."""
    norms = {name: float(np.linalg.norm(value)) for name, value in expected.items()}
    least = LEAST_NORM * max(norm for name, norm in norms.items() if name != "outputs")
    return {
        name: float(np.linalg.norm(found[name] - expected[name]))
        / (norms[name] if name == "outputs" else max(norm, least))
        for name, norm in norms.items()
    }


def mean_errors(found: Iterable[dict[str, Any]], expected: list[dict[str, Any]]) -> dict[str, float]:
    """The root mean square of each tensor's errors."""
    apart = [errors(one, exact) for one, exact in zip(found, expected, strict=True)]
    return {name: float(np.sqrt(np.mean([one[name] ** 2 for one in apart]))) for name in apart[0]}


def disagreements_in_float64(network: str, size: int, batch: int) -> tuple[float, list[str]]:
    """The largest difference from stock, and a sentence for each tensor that differs too much."""
    stock = build(network, size, "float64")
    x, y = images(stock, batch), labels(batch)
    ours = fastconv.keras.accelerate(stock)
    apart = errors(outputs_and_gradients(ours, x, y), outputs_and_gradients(stock, x, y))
    wrong = [f"{name}: {error:.1e} from stock in float64" for name, error in apart.items() if not error <= AGREEMENT]
    return max(apart.values()), wrong


@dataclass(frozen=True)
class InFloat32:
    """Rounding errors of a network in stock layers and in ours. See choices.py for the meaning of "choices"."""

    theirs: float  # the largest error of a tensor; an error is the root mean square over several batches
    ours: float
    times_stock: float  # the largest ratio of our error to stock's; errors up to LEAST_ERROR do not count
    other_choices: tuple[int, int]  # how many choices of stock's layers and of ours differ from those in float64
    wrong: list[str]  # a sentence for each tensor with too large an error


def disagreements_in_float32(
    network: str,
    size: int,
    batch: int,
    seeds: int = SEEDS,
    accelerate: Callable[[Any], Any] = fastconv.keras.accelerate,
) -> InFloat32:
    """Compare rounding errors over batches. ReLUs and max pools are made to choose as in float64."""
    stock = build(network, size)
    accelerated = accelerate(stock)  # before training moves the means of batch normalisations
    batches, y = [images(stock, batch, seed) for seed in range(seeds)], labels(batch)
    double = build(network, size, "float64", stock.get_weights())
    choices = Choices()
    choices.record(double)
    exact = [outputs_and_gradients(double, x.astype(np.float64), y) for x in batches]
    others = [choices.impose(model) for model in (stock, accelerated)]
    theirs, ours = (
        mean_errors((outputs_and_gradients(model, x, y) for x in batches), exact) for model in (stock, accelerated)
    )
    wrong = [
        f"{name}: error {error:.1e} in float32, stock's {theirs[name]:.1e}"
        for name, error in ours.items()
        if not (error <= LEAST_ERROR or error <= TIMES_STOCK * theirs[name])
    ]
    counting = [error / max(theirs[name], 1e-30) for name, error in ours.items() if error > LEAST_ERROR]
    return InFloat32(
        theirs=max(theirs.values()),
        ours=max(ours.values()),
        times_stock=max(counting, default=0.0),
        other_choices=(sum(others[0]), sum(others[1])),
        wrong=wrong,
    )
