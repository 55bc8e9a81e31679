"""Networks of `keras.applications` train as in Keras: gradients, losses, weights and moving statistics, in float64."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fastconv.keras as fk
import keras
import keras_models
import numpy as np
import pytest
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parent.parent))  # the benchmark is not installed, but run from the repository

from bench.applications.networks import LEAST_SIZE, NETWORKS, build, images, labels

fresh = keras_models.fresh  # before each test
STEPS, BATCH = 20, 8
# With smaller images, the last layers would normalise a few values. With larger steps, the losses jump. In both cases,
# differences grow by one or two digits in each step.
SIZE, RATE = 64, 1e-6
AGREEMENT = 1e-9  # the largest difference, relative to the norm


def trained(model: Any, x: Any, y: Any) -> tuple[list[Any], list[float], list[Any]]:
    """The gradients of the first step, the losses of all steps, and all weights after them."""
    variables = [variable.value for variable in model.trainable_variables]

    @tf.function(autograph=False)
    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(y, model(x, training=True)))
        gradients = tape.gradient(loss, variables)
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.assign_sub(RATE * gradient)
        return loss, gradients

    losses, first = [], None
    for _ in range(STEPS):
        loss, gradients = step()
        losses.append(float(loss))
        first = gradients if first is None else first
    return first or [], losses, model.get_weights()


def differences(found: list[Any], expected: list[Any]) -> list[float]:
    """Relative to the norms. A tensor that is tiny beside the largest is zero up to rounding, and counts as that."""
    norms = [float(np.linalg.norm(value)) for value in expected]
    least = 1e-4 * max(norms)
    return [
        float(np.linalg.norm(np.subtract(a, b))) / max(norm, least)
        for a, b, norm in zip(found, expected, norms, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_twenty_steps_are_those_of_keras(network: str, tmp_path: Path) -> None:
    size = max(SIZE, LEAST_SIZE.get(network, 0))
    stock = build(network, size, "float64")
    x, y = images(stock, BATCH), labels(BATCH)
    fast = {fuse: fk.accelerate(stock, fuse=fuse) for fuse in (False, True)}
    expected = trained(stock, x, y)
    for fuse, model in fast.items():
        gradients, losses, weights = trained(model, x, y)
        assert max(differences(gradients, expected[0])) <= AGREEMENT, fuse
        np.testing.assert_allclose(losses, expected[1], rtol=AGREEMENT, atol=0)
        for found, wanted in zip(weights, expected[2], strict=True):
            assert np.linalg.norm(found - wanted) <= AGREEMENT * max(1e-3, np.linalg.norm(wanted)), fuse
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        y_hat = model.predict_on_batch(x)
        np.testing.assert_array_equal(loaded.predict_on_batch(x), y_hat)
        np.testing.assert_allclose(fk.restore(loaded).predict_on_batch(x), y_hat, rtol=1e-9, atol=1e-9)
