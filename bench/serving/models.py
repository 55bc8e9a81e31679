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
    """Random biases, gammas and betas; the statistics of batch normalisation are those of random images.

    With other statistics, the outputs of deep networks hardly depend on the images, and wrong outputs would look right.
    """
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            count = layer.moving_mean.shape[0]
            layer.beta.assign(random.normal(0, 0.2, count))
            if layer.scale:
                layer.gamma.assign(random.uniform(0.5, 1.5, count))
        elif isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(random.normal(0, 0.1, layer.bias.shape))
    model(images(model, 4), training=True)


def images(model: Any, batch: int) -> Array:
    """Numbers in the range of preprocessed images."""
    return np.random.default_rng(0).uniform(-1, 1, (batch, *model.input_shape[1:])).astype(np.float32)
