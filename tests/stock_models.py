"""Keras models of several kinds, whose layers the tests replace by ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastconv.keras as fk
import keras
import numpy as np
from fastconv.keras._serving import OnCPU
from keras_models import images

NO_FASTER = (fk.Activation, fk.Add, fk.ReLU)  # with the functions of these models
SERVING = {stock: own for stock, own in fk.LAYERS.items() if issubclass(own, OnCPU) and own not in NO_FASTER}
layers = keras.layers


def sequential() -> Any:
    return keras.Sequential(
        [
            layers.Input((16, 16, 3), name="pictures"),
            layers.Conv2D(6, 3, activation="relu", name="first"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Dropout(0.3, seed=1),
            layers.Conv2D(8, 3, padding="same"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(3),
        ],
        name="chain",
    )


def functional() -> Any:
    """Two inputs and outputs, a shared layer, a nested model used twice, operations that are not layers."""
    block = keras.Sequential([layers.Input((14, 14, 4)), layers.Conv2D(4, 3, padding="same"), layers.ReLU()], name="b")
    a, b = layers.Input((16, 16, 3), name="left"), layers.Input((16, 16, 3), name="right")
    shared = layers.Conv2D(4, 3, activation="tanh", name="shared")
    x, y = shared(a), shared(b)
    x = block(x) + keras.ops.multiply(block(y), 0.5)
    x = layers.Identity(name="map")(layers.MaxPooling2D()(x)[:, 1:])
    z = layers.GlobalAveragePooling2D()(keras.ops.pad(x, [[0, 0], [1, 1], [0, 0], [0, 0]]))
    model = keras.Model({"left": a, "right": b}, {"map": x, "class": layers.Dense(3, name="class")(z)}, name="two")
    model.get_layer("shared").trainable = False
    return model


def nested() -> Any:
    inner = keras.Sequential([layers.Conv2D(4, 3), layers.Lambda(lambda x: np.float32(2) * x)], name="inner")
    middle_in = layers.Input((14, 14, 5))
    middle = keras.Model(middle_in, layers.Activation("relu")(inner(middle_in)), name="middle")
    inputs = layers.Input((16, 16, 3))
    outputs = layers.Dense(3)(layers.Flatten()(middle(layers.Conv2D(5, 3)(inputs))))
    model = keras.Model(inputs, outputs, name="outer")
    middle.trainable = False
    inner.layers[0].trainable = True
    return model


class Block(layers.Layer):
    """A user's layer with layers in attributes, lists and dicts."""

    def __init__(self, filters: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.filters = filters
        self.first = layers.Conv2D(filters, 3, padding="same", activation=leaky)
        self.more = [layers.Conv2D(filters, 1), {"pool": layers.MaxPooling2D()}]

    def build(self, shape: Any) -> None:
        self.first.build(shape)
        self.more[0].build((*shape[:-1], self.filters))

    def call(self, inputs: Any) -> Any:
        return self.more[1]["pool"](self.more[0](self.first(inputs)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters}


def leaky(x: Any) -> Any:
    return keras.ops.maximum(x, 0.1 * x)


class Net(keras.Model):
    """A user's model, which Keras can recreate from its config."""

    def __init__(self, filters: int = 4, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.filters = filters
        self.block = Block(filters)
        self.stack = [layers.Conv2D(filters, 3), layers.Flatten()]
        self.heads = {"a": layers.Dense(3)}

    def call(self, inputs: Any) -> Any:
        x = self.block(inputs)
        for layer in self.stack:
            x = layer(x)
        return self.heads["a"](x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters}


def subclassed() -> Any:
    model = Net()
    model(images())
    return model


class Steps(keras.Model):
    """A functional model with its own train_step."""

    def train_step(self, data: Any) -> Any:
        return {**super().train_step(data), "steps": 1.0}


def functional_class() -> Any:
    inputs = layers.Input((16, 16, 3))
    return Steps(inputs, layers.Dense(3)(layers.Flatten()(Block(4, name="mine")(layers.Conv2D(3, 3)(inputs)))))


MODELS: dict[str, Callable[[], Any]] = {
    "sequential": sequential,
    "functional": functional,
    "nested": nested,
    "subclassed": subclassed,
    "functional class": functional_class,
}
# For each model, the least number of layers that become ours.
# Only convolution, pooling and batch normalisation layers do.
SERVED = {
    "sequential": 5,
    "functional": 3,
    "nested": 2,
    "subclassed": 4,
    "functional class": 4,
}


def data(model: Any) -> tuple[Any, Any]:
    """Inputs and targets."""
    x = images()
    if model.name == "two":
        x = {"left": x, "right": x[::-1].copy()}
    return x, keras.tree.map_structure(lambda y: np.ones_like(y), model(x))


def compiled(model: Any, **arguments: Any) -> Any:
    def squares(y: Any, prediction: Any) -> Any:
        """A loss that is not registered with Keras."""
        return keras.ops.mean((y - prediction) ** 2, axis=-1)

    several = model.name == "two"
    loss = {"map": squares, "class": "mse"} if several else squares
    metrics = {"class": ["mae", keras.metrics.MeanSquaredError(name="m")]} if several else ["mae"]
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=metrics, **arguments)
    return model
