"""Keras models for the tests of frozen networks, and functions to compare the models with the networks."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


def randomise(model: Any, seed: int = 0) -> None:
    """Give batch normalisations random statistics. Some gammas are negative and some are zero."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        count = layer.moving_mean.shape[0]
        layer.moving_mean.assign(rng.normal(0, 0.1, count))
        layer.moving_variance.assign(rng.uniform(0.5, 2, count))
        if layer.scale:
            signs = np.where(rng.random(count) < 0.1, -1, 1) * (rng.random(count) > 0.05)
            layer.gamma.assign(rng.uniform(0.5, 1.5, count) * signs)
        if layer.center:
            layer.beta.assign(rng.normal(0, 0.2, count))


def images(shape: tuple[int, ...], dtype: str = "float64", seed: int = 1) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def outputs_of(model: Any, *inputs: Any) -> list[Any]:
    result = model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)
    return [np.asarray(y) for y in keras.tree.flatten(result)]


def frozen_outputs(net: Any, *inputs: Any) -> list[Any]:
    result = net(inputs[0] if len(inputs) == 1 else list(inputs))
    return list(result) if isinstance(result, (list, tuple)) else [result]


def distance(ours: list[Any], theirs: list[Any]) -> float:
    """The largest relative difference of an output in the Euclidean norm."""
    assert [a.shape for a in ours] == [b.shape for b in theirs]
    return max(float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300)) for a, b in zip(ours, theirs, strict=True))


def _input(shape: tuple[int | None, ...]) -> Any:
    return keras.Input(shape, dtype=keras.config.dtype_policy().compute_dtype)


def unet(channels: int = 4, size: int | None = None) -> Any:
    """A small U-Net with free image sizes."""
    L = keras.layers
    x = inputs = _input((size, size, 3))
    skips = []
    for level in range(3):
        x = L.Conv2D(channels << level, 3, padding="same", use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization()(x))
        if level < 2:
            skips.append(x)
            x = L.MaxPooling2D()(x)
    for level in (1, 0):
        x = L.Conv2DTranspose(channels << level, 2, strides=2, padding="same")(x)
        x = L.Concatenate()([x, skips[level]])
        x = L.Conv2D(channels << level, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, L.Conv2D(1, 1, activation="sigmoid")(x))


def super_resolution(factor: int = 3) -> Any:
    """A network that enlarges images by a depth-to-space step (Shi et al., 2016)."""
    L = keras.layers
    inputs = _input((12, 10, 1))
    x = L.Conv2D(16, 5, padding="same", activation="tanh")(inputs)
    x = L.Conv2D(8, 3, padding="same", activation="tanh")(x)
    x = L.Conv2D(factor * factor, 3, padding="same")(x)
    x = L.Reshape((12, 10, factor, factor))(x)
    x = L.Permute((1, 3, 2, 4))(x)
    return keras.Model(inputs, L.Reshape((12 * factor, 10 * factor, 1))(x))
