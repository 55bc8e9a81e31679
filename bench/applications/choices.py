"""What ReLUs let pass and max-pools pick: taken down from one network, imposed on others of the same layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Choices:
    """The choices of a network, in every call of it.

    A value next to zero, or two next to each other, make rounding choose: then an error of 1e-7 in the value is one of
    1e-3 in the gradients. Networks with the same choices imposed differ by rounding itself, which is what kernels are
    to blame for.
    """

    def __init__(self) -> None:
        self._made: dict[str, list[Any]] = {}

    def record(self, model: Any) -> None:
        """Have a model take down what its layers choose in each call from now on, anew."""
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
            To which each layer adds in a call how many choices it would have made otherwise.
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
    """Give each layer that chooses a function from its own choice to the one it acts on; models run eagerly then."""
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
