"""Activations, as layers and as the argument of other layers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from fastconv.keras._freezing.registry import Unfreezable, converter_of, converts
from fastconv.keras._freezing.tensors import Builder, Tensor, numbers

_functions = keras.activations


def _float32(slope: float) -> float:
    """TensorFlow holds the slope of a leaky ReLU in float32."""
    return float(np.float32(slope))


# Activations that a frozen network can compute together with the layer before.
_NAMES: dict[Any, list[Any]] = {
    None: ["linear"],
    _functions.linear: ["linear"],
    _functions.relu: ["relu"],
    _functions.relu6: ["relu6"],
    _functions.leaky_relu: ["leaky_relu", _float32(0.2)],
    _functions.elu: ["elu", 1.0],
    _functions.gelu: ["gelu"],
    _functions.silu: ["silu"],
    _functions.sigmoid: ["sigmoid"],
    _functions.hard_sigmoid: ["hard_sigmoid", 1 / 6, 0.5],
    _functions.hard_silu: ["hard_swish"],
    _functions.tanh: ["tanh"],
}


def known(activation: Any) -> list[Any] | None:
    """The attribute `activation` for a function of Keras, or None if a frozen network has no such activation."""
    try:
        return _NAMES.get(activation)
    except TypeError:  # not hashable
        return None


def activate(builder: Builder, x: Tensor, activation: Any) -> Tensor:
    """Apply a function of ``keras.activations``, or a layer that is used as an activation."""
    attribute = known(activation)
    if attribute is not None:
        return x if attribute == ["linear"] else builder.add("activate", [x], x.shape, activation=attribute)
    if activation in (_functions.softmax, _functions.log_softmax):
        return builder.add(activation.__name__, [x], x.shape, axis=x.rank - 1)
    convert = converter_of(activation) if isinstance(activation, keras.Layer) else None
    if convert is None:
        name = getattr(activation, "__name__", type(activation).__name__)
        raise Unfreezable(f"its activation {name!r} is not supported")
    result: Tensor = convert(builder, activation, x)
    return result


@converts(keras.layers.Activation)
def _activation(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return activate(builder, x, layer.activation)


@converts(keras.layers.ReLU)
def _relu(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    if layer.threshold:
        raise Unfreezable(f"its threshold is {layer.threshold}: only 0 is supported")
    most, slope = layer.max_value, _float32(layer.negative_slope or 0)
    if slope:
        y = builder.add("activate", [x], x.shape, activation=["leaky_relu", slope])
        return y if most is None else builder.add("minimum", [y, numbers(most)], x.shape)
    attribute = ["relu"] if most is None else ["relu6"] if most == 6 else ["clip", 0.0, float(most)]
    return builder.add("activate", [x], x.shape, activation=attribute)


@converts(keras.layers.LeakyReLU)
def _leaky_relu(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return builder.add("activate", [x], x.shape, activation=["leaky_relu", _float32(layer.negative_slope)])


@converts(keras.layers.ELU)
def _elu(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return builder.add("activate", [x], x.shape, activation=["elu", float(layer.alpha)])


@converts(keras.layers.PReLU)
def _prelu(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    positive = builder.add("activate", [x], x.shape, activation=["relu"])
    negative = builder.add("minimum", [x, numbers(0.0)], x.shape)
    scaled = builder.add("multiply", [negative, numbers(layer.alpha)], x.shape)
    return builder.add("add", [positive, scaled], x.shape)


@converts(keras.layers.Softmax)
def _softmax(builder: Builder, layer: Any, x: Tensor, mask: Any = None) -> Tensor:
    axis = layer.axis
    if isinstance(axis, (list, tuple)):
        if len(axis) > 1:
            raise Unfreezable(f"its axis is {tuple(axis)}: only one axis is supported")
        axis = axis[0]
    if mask is not None:
        raise Unfreezable("it is called with a mask, which is not supported")
    return builder.add("softmax", [x], x.shape, axis=axis % x.rank)
