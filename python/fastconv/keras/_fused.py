"""Convolutions that do the work of the ReLU layer after them, and what such a layer then is.

Their names, weights and configs are those of the layers that they stand for, and so are their places in a file of
weights, which go by the names of classes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
from keras.src.models.functional import Functional

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


def fusible(model: Any) -> list[tuple[Any, Any]]:
    """Convolutions and the ReLU layers after them, both used once in all of the model, of which nobody sees between."""
    pairs = []
    uses: Counter[int] = Counter()
    for part in model._flatten_layers():
        if type(part) is keras.Sequential:
            uses.update(map(id, part.layers))
            pairs += list(zip(part.layers, part.layers[1:], strict=False))
        elif isinstance(part, Functional) and type(part).call is Functional.call:
            nodes = [node for depth in part._nodes_by_depth.values() for node in depth]
            uses.update(id(node.operation) for node in nodes)
            seen = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
            seen.update(id(tensor) for tensor in part.outputs)
            for node in nodes:
                if len(node.input_tensors) == 1 and seen[id(node.input_tensors[0])] == 1:
                    pairs.append((node.input_tensors[0]._keras_history.operation, node.operation))
    return [
        (conv, relu)
        for conv, relu in pairs
        if _is_linear(conv) and _is_relu(relu) and conv.compute_dtype == relu.compute_dtype
        if uses[id(conv)] == uses[id(relu)] == 1
    ]


def _is_linear(layer: Any) -> bool:
    """Whether it is a convolution whose outputs nobody has changed, nor looks at for a loss."""
    return (
        type(layer) in (keras.layers.Conv2D, convolutional.Conv2D)
        and layer.activation is keras.activations.linear
        and layer.activity_regularizer is None
    )


def _is_relu(layer: Any) -> bool:
    if type(layer) is keras.layers.Activation:
        return layer.activation is keras.activations.relu
    return type(layer) is keras.layers.ReLU and (layer.max_value, layer.negative_slope, layer.threshold) == (None, 0, 0)
