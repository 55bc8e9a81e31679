"""Activations, as layers and as the argument of other layers."""

from __future__ import annotations

from typing import Any

import keras

from fastconv.keras._activations import in_float32, known, known_layer
from fastconv.keras._freezing.registry import Unfreezable, converter_of, converts
from fastconv.keras._freezing.tensors import Builder, Tensor, numbers

_functions = keras.activations


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
    attribute = known_layer(layer)
    if attribute is None:
        slope = in_float32(layer.negative_slope)
        y = builder.add("activate", [x], x.shape, activation=["leaky_relu", slope])
        return builder.add("minimum", [y, numbers(layer.max_value)], x.shape)
    return builder.add("activate", [x], x.shape, activation=attribute)


@converts(keras.layers.LeakyReLU)
def _leaky_relu(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return builder.add("activate", [x], x.shape, activation=known_layer(layer))


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
