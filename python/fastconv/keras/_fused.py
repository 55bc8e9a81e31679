"""Convolutions that do the work of the ReLU layer after them, and what such a layer then is.

Their names, weights and configs are those of the layers that they stand for, and so are their places in a file of
weights, which go by the names of classes.
"""

from __future__ import annotations

from typing import Any

import keras

from fastconv.keras import convolutional


@keras.saving.register_keras_serializable("fastconv", "Conv2DWithReLU")
class Conv2D(convolutional.Conv2D):
    """A `Conv2D` without activation, but for the ReLU of the layer that follows."""

    @property
    def activation(self) -> Any:
        return keras.activations.relu

    @activation.setter
    def activation(self, value: Any) -> None:
        """Keras's constructor says which it was, for `restore`."""
        self.__dict__["activation"] = value

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": "linear"}


@keras.saving.register_keras_serializable("fastconv", "FusedReLU")
class ReLU(keras.layers.ReLU):  # type: ignore[misc]
    """What is left of a ``keras.layers.ReLU``: its inputs went through it already."""

    def call(self, inputs: Any) -> Any:
        return inputs


@keras.saving.register_keras_serializable("fastconv", "FusedActivation")
class Activation(keras.layers.Activation):  # type: ignore[misc]
    """What is left of a ``keras.layers.Activation("relu")``: its inputs went through it already."""

    def call(self, inputs: Any) -> Any:
        return inputs


#: Keras's classes and what they become.
FUSED: dict[type[keras.Layer], type[keras.Layer]] = {
    keras.layers.Activation: Activation,
    keras.layers.Conv2D: Conv2D,
    keras.layers.ReLU: ReLU,
}
