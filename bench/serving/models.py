"""The Keras models, with random weights: the same ones in each call."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

from typing import Any

import keras
import numpy as np

from bench.oracle import Array


def build(network: str) -> Any:
    """A network of keras.applications for images of 224 x 224, without its softmax, or LeNet."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    if network == "LeNet":
        from fastconv.lenet.model import build as lenet

        model = lenet("keras")
    else:
        model = getattr(keras.applications, network)(
            weights=None, input_shape=(224, 224, 3), classifier_activation=None
        )
    randomise(model)
    return model


def randomise(model: Any) -> None:
    """Random biases and statistics of batch normalisation, which are zeros and ones in a new model."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            count = layer.moving_mean.shape[0]
            layer.moving_mean.assign(random.normal(0, 0.1, count))
            layer.moving_variance.assign(random.uniform(0.5, 2, count))
            layer.beta.assign(random.normal(0, 0.2, count))
            if layer.scale:
                layer.gamma.assign(random.uniform(0.5, 1.5, count))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(random.normal(0, 0.1, layer.bias.shape))


def images(model: Any, batch: int) -> Array:
    """Numbers in the range of preprocessed images."""
    return np.random.default_rng(0).uniform(-1, 1, (batch, *model.input_shape[1:])).astype(np.float32)
