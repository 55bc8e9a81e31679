"""The networks, with random weights; nothing else in them is random."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

NETWORKS = ("ResNet50", "MobileNetV2", "EfficientNetB0", "VGG16", "DenseNet121", "Xception")
LEAST_SIZE = {"Xception": 71}  # the least image size of a network, if it is not 32


def build(network: str, size: int, dtype: str = "float32", weights: list[Any] | None = None) -> Any:
    """A network for images of a size, with the given weights or with the same random ones in each call."""
    policy = keras.config.dtype_policy()
    keras.utils.clear_session()  # makes the names of layers repeatable; it also resets the policy
    keras.config.set_dtype_policy(dtype)
    keras.utils.set_random_seed(0)
    try:
        shape = (max(size, LEAST_SIZE.get(network, 32)),) * 2 + (3,)
        model = getattr(keras.applications, network)(weights=None, input_shape=shape, classes=100)
    finally:
        keras.config.set_dtype_policy(policy)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0  # its random numbers differ between dtypes
    if weights is not None:
        model.set_weights(weights)
    return model


def images(model: Any, batch: int, seed: int = 0) -> Any:
    """Numbers in the range of preprocessed images, in the model's dtype."""
    shape = (batch, *model.input_shape[1:])
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(model.dtype)


def labels(batch: int) -> Any:
    return np.arange(batch) % 100


def served(model: Any) -> list[Any]:
    """The layers that are fastconv's."""
    return [layer for layer in model.layers if type(layer).__module__.startswith("fastconv.")]
