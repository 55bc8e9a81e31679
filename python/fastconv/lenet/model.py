"""The LeNet-5 that the command trains, on fastconv's layers or on Keras's own."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np

CLASSES = 10


def build(layers: Literal["fastconv", "keras"] = "fastconv", seed: int = 1) -> Any:
    """Build the model without compiling it: two convolutions, two max-pools, three dense layers.

    Parameters
    ----------
    layers : {"fastconv", "keras"}, optional
        The source of the convolution and pooling layers. The names of the layers and the weights do not depend on it.
    seed : int, optional
        Seed of the initial weights, at least 0.

    Returns
    -------
    keras.Sequential
        Its input has shape (N, 28, 28, 1). Its output has shape (N, 10) and holds logits.

    Raises
    ------
    ValueError
        If `layers` is neither "fastconv" nor "keras".

    Notes
    -----
    The model follows LeCun et al., "Gradient-Based Learning Applied to Document Recognition" (1998), but with 3x3
    windows, max-pooling and ReLU, as in today's tutorials. There is no activation after the convolutions.
    """
    if layers == "fastconv":
        import fastconv.keras as source
    elif layers == "keras":
        source = keras.layers
    else:
        raise ValueError(f"layers must be 'fastconv' or 'keras', got {layers!r}")
    # Each layer has an explicit seed, so the weights do not depend on random numbers drawn before.
    seeds = [int(state) for state in np.random.SeedSequence(seed).generate_state(5)]

    def weights(index: int) -> Any:
        return keras.initializers.GlorotUniform(seed=seeds[index])

    def decay() -> Any:
        return keras.regularizers.L2(0.001)

    dense = keras.layers.Dense
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            source.Conv2D(6, 3, kernel_initializer=weights(0), name="conv1"),
            source.MaxPooling2D(2, 2, name="pool1"),
            source.Conv2D(16, 3, kernel_initializer=weights(1), name="conv2"),
            source.MaxPooling2D(2, 2, name="pool2"),
            keras.layers.Flatten(name="flatten"),
            dense(120, "relu", kernel_initializer=weights(2), kernel_regularizer=decay(), name="dense1"),
            dense(84, "relu", kernel_initializer=weights(3), kernel_regularizer=decay(), name="dense2"),
            dense(CLASSES, kernel_initializer=weights(4), name="logits"),
        ],
        name="lenet",
    )


def compile_model(model: Any, learning_rate: float) -> None:
    """Set Adam, categorical cross-entropy on logits, and accuracy."""
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
