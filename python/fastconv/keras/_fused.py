"""ReLU layers that, in a graph, leave their work to the convolution right before them.

They have the names, weights and configs of the layers that they replace.
"""

from __future__ import annotations

from typing import Any

import keras

from fastconv.keras._serving import remedy_for_converters
from fastconv.tensorflow.relu_fusion import fused_relu


class _Fused(keras.Layer):  # type: ignore[misc]
    """A layer that was a ReLU when it was fused. Its attributes may have changed since then."""

    def call(self, inputs: Any) -> Any:
        with remedy_for_converters():
            outputs = fused_relu(inputs) if is_relu(self) else None
        return super().call(inputs) if outputs is None else outputs


@keras.saving.register_keras_serializable("fastconv", "FusedReLU")
class ReLU(_Fused, keras.layers.ReLU):  # type: ignore[misc]
    """A ``keras.layers.ReLU`` that the convolution before it can compute."""


@keras.saving.register_keras_serializable("fastconv", "FusedActivation")
class Activation(_Fused, keras.layers.Activation):  # type: ignore[misc]
    """A ``keras.layers.Activation("relu")`` that the convolution before it can compute."""


#: Maps each of Keras's classes to the class that replaces it.
FUSED: dict[type[keras.Layer], type[keras.Layer]] = {
    keras.layers.Activation: Activation,
    keras.layers.ReLU: ReLU,
}


def is_relu(layer: Any) -> bool:
    """Whether an `Activation` or `ReLU` is the ReLU that a convolution can compute."""
    if isinstance(layer, keras.layers.Activation):
        return layer.activation is keras.activations.relu
    return (layer.max_value, layer.negative_slope, layer.threshold) == (None, 0, 0)
