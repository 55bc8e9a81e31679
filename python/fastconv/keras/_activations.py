"""Keras's activations by fastconv's names."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

_functions = keras.activations


def in_float32(slope: float) -> float:
    """TensorFlow holds the slope of a leaky ReLU in float32."""
    return float(np.float32(slope))


_NAMES: dict[Any, list[Any]] = {
    None: ["linear"],
    _functions.linear: ["linear"],
    _functions.relu: ["relu"],
    _functions.relu6: ["relu6"],
    _functions.leaky_relu: ["leaky_relu", in_float32(0.2)],
    _functions.elu: ["elu", 1.0],
    _functions.gelu: ["gelu"],
    _functions.silu: ["silu"],
    _functions.sigmoid: ["sigmoid"],
    _functions.hard_sigmoid: ["hard_sigmoid", 1 / 6, 0.5],
    _functions.hard_silu: ["hard_swish"],
    _functions.tanh: ["tanh"],
}


def known(activation: Any) -> list[Any] | None:
    """fastconv's name and parameters of one of Keras's functions, or None if fastconv has no such activation."""
    try:
        return _NAMES.get(activation)
    except TypeError:  # not hashable
        return None


def known_layer(layer: Any) -> list[Any] | None:
    """The name and the numbers for an `Activation`, `ReLU` or `LeakyReLU`, or None."""
    if isinstance(layer, keras.layers.Activation):
        return known(layer.activation)
    if isinstance(layer, keras.layers.LeakyReLU):
        return ["leaky_relu", in_float32(layer.negative_slope)]
    most, slope = layer.max_value, in_float32(layer.negative_slope or 0)
    if layer.threshold or (slope and most is not None):
        return None
    if slope:
        return ["leaky_relu", slope]
    return ["relu"] if most is None else ["relu6"] if most == 6 else ["clip", 0.0, float(most)]


#: The activations whose gradients are those of TensorFlow everywhere. Where others have none, it chooses differently.
_SAME_GRADIENT = ("relu", "relu6", "leaky_relu", "gelu", "silu", "sigmoid", "tanh")


def trainable_layer(layer: Any) -> Any:
    """The argument `activation` of fastconv's functions for such a layer, or None if Keras should compute the layer."""
    attribute = known_layer(layer)
    if attribute is None or attribute[0] not in _SAME_GRADIENT:
        return None
    return attribute[0] if len(attribute) == 1 else tuple(attribute)
