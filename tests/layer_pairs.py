"""Shared by the tests of Keras's layers: pairs of our layer and the stock one, and a small network of either kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fastconv.keras as fk
import keras
import numpy as np
import pytest
import tensorflow as tf
from arrays import random
from fastconv.keras import _serving

STOCK = {ours.__name__: stock for stock, ours in fk.LAYERS.items()}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Reset layer names, random seeds and warnings before each test."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(7)
    _serving._warn_once.cache_clear()
    yield


def near(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def uses_our_op(layer: Any, x: Any) -> bool:
    graph = tf.function(lambda x: layer(x)).get_concrete_function(tf.TensorSpec(x.shape, x.dtype)).graph
    types = {op.type for op in graph.get_operations()}
    return any(name.startswith("Fastconv") for name in types)


def pair(name: str, x: np.ndarray, **arguments: Any) -> tuple[Any, Any]:
    """Our layer and the stock layer, built, with the same weights."""
    ours, stock = getattr(fk, name)(**arguments), STOCK[name](**arguments)
    ours.build(x.shape)
    stock.build(x.shape)
    for variable in stock.weights:
        variable.assign(random(*variable.shape, seed=1))
    ours.set_weights(stock.get_weights())
    return ours, stock


def value_and_gradients(layer: Any, x: np.ndarray) -> list[Any]:
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(tf.sin(y))
    return [y, *tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])]


def network(layers: Any, **arguments: Any) -> keras.Model:
    return keras.Sequential(
        [
            keras.layers.Input((12, 12, 1)),
            layers.Conv2D(4, 3, activation="relu", **arguments),
            layers.MaxPooling2D(),
            layers.Conv2D(6, 3, **arguments),
            layers.AveragePooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def compiled(model: keras.Model, **arguments: Any) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"], **arguments)
    return model


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Three kinds of noisy stripes, which a network of this size can learn."""
    kind = np.arange(96) % 3
    rows, columns = np.indices((12, 12))
    patterns = np.stack([rows % 4 < 2, columns % 4 < 2, (rows + columns) % 4 < 2]).astype(np.float32)
    return (patterns[kind] + 0.3 * random(96, 12, 12))[..., None], kind
