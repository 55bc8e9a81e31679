"""Records what ReLUs pass and max pools pick in one network, and imposes it on others with the same layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Choices:
    """The choices of a network, in every call of it.

    Where a value is close to zero, or two values are close to each other, rounding chooses. Then an error of 1e-7 in
    the value becomes one of 1e-3 in the gradients. With the same choices imposed, networks differ by the rounding
    errors of their kernels alone.
    """

    def __init__(self) -> None:
        self._made: dict[str, list[Any]] = {}

    def record(self, model: Any) -> None:
        """Record what the layers of a model choose, in each call from now on."""
        self._made = {layer.name: [] for layer in model.layers if _chooses(layer)}

        def record(name: str, own: Any) -> Any:
            self._made[name].append(own)
            return own

        _choose_by(model, lambda name: lambda own: record(name, own))

    def impose(self, model: Any) -> list[int]:
        """Make the layers of a model choose, call by call, what was recorded.

        Returns
        -------
        list of int
            Each call of a layer appends the number of its own choices that differ from the imposed ones.
        """
        others: list[int] = []

        def impose(made: Iterator[Any], own: Any) -> Any:
            imposed = next(made)
            others.append(int(np.count_nonzero(own != imposed)))
            return imposed

        def choice(name: str) -> Callable[[Any], Any]:
            made = iter(self._made[name])
            return lambda own: impose(made, own)

        _choose_by(model, choice)
        return others


def _is_relu(layer: Any) -> bool:
    return isinstance(layer, keras.layers.ReLU) or getattr(layer, "activation", None) is keras.activations.relu


def _chooses(layer: Any) -> bool:
    return _is_relu(layer) or isinstance(layer, keras.layers.MaxPooling2D)


def _choose_by(model: Any, choice: Callable[[str], Callable[[Any], Any]]) -> None:
    """Give each choosing layer a function that maps its own choice to the one it uses. The model runs eagerly."""
    for layer in filter(_chooses, model.layers):
        if isinstance(layer, keras.layers.MaxPooling2D):
            layer.call = _pool(layer, choice(layer.name))
        elif isinstance(layer, keras.layers.ReLU | keras.layers.Activation):
            layer.call = _relu(getattr(layer, "max_value", None), choice(layer.name))
        else:
            layer.activation = _relu(None, choice(layer.name))


def _relu(largest: float | None, choice: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def relu(x: Any) -> Any:
        values = x.numpy()
        own = np.where(values > 0, 1, 0)
        if largest is not None:
            own[values > largest] = 2
        chosen = choice(own)
        y = tf.where(chosen == 1, x, tf.zeros_like(x))
        return y if largest is None else tf.where(chosen == 2, tf.fill(x.shape, tf.cast(largest, x.dtype)), y)

    return relu


def _pool(layer: Any, choice: Callable[[Any], Any]) -> Callable[[Any], Any]:
    window, strides, padding = (1, *layer.pool_size, 1), (1, *layer.strides, 1), layer.padding.upper()

    def pool(x: Any) -> Any:
        _, own = tf.nn.max_pool_with_argmax(x, window, strides, padding, include_batch_in_index=True)
        return tf.gather(tf.reshape(x, [-1]), choice(own.numpy()))

    return pool
