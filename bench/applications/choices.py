"""Records what ReLUs pass and max pools pick in one network, and imposes it on others with the same layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Choice = Callable[[str, Any], Any]  # takes a layer's name and its own choice, returns the choice to use


class Choices:
    """The choices of a network's layers, in every call of the network.

    Where a value is close to zero, or two values are close to each other, rounding chooses. Then an error of 1e-7 in
    the value becomes one of 1e-3 in the gradients. With the same choices imposed, networks differ by the rounding
    errors of their kernels alone.
    """

    def __init__(self) -> None:
        self._made: dict[str, list[Any]] = {}

    def record(self, model: Any) -> None:
        """Record what the layers of a model choose, in each call from now on."""

        def record(name: str, own: Any) -> Any:
            self._made.setdefault(name, []).append(own)
            return own

        _choose_by(model, record)

    def impose(self, model: Any) -> list[int]:
        """Make the layers of a model choose, call by call, what was recorded.

        Returns
        -------
        list of int
            Each call of a layer appends the number of its own choices that differ from the imposed ones.
        """
        others: list[int] = []
        rest = {name: iter(made) for name, made in self._made.items()}

        def impose(name: str, own: Any) -> Any:
            imposed = next(rest[name])
            others.append(int(np.count_nonzero(own != imposed)))
            return imposed

        _choose_by(model, impose)
        return others


def _choose_by(model: Any, choice: Choice) -> None:
    """Let `choice` decide for each ReLU and max pool. The model must run eagerly."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.MaxPooling2D):
            layer.call = _pool(layer, choice)
        elif isinstance(layer, keras.layers.ReLU):
            layer.call = _relu(layer.name, layer.max_value, choice)
        elif getattr(layer, "activation", None) is keras.activations.relu:
            name = "call" if isinstance(layer, keras.layers.Activation) else "activation"
            setattr(layer, name, _relu(layer.name, None, choice))


def _relu(name: str, largest: float | None, choice: Choice) -> Callable[[Any], Any]:
    limit = np.inf if largest is None else largest

    def relu(x: Any) -> Any:
        values = x.numpy()
        chosen = choice(name, np.where(values > limit, 2, np.where(values > 0, 1, 0)))
        return tf.where(chosen == 1, x, tf.where(chosen == 2, tf.cast(limit, x.dtype), tf.zeros_like(x)))

    return relu


def _pool(layer: Any, choice: Choice) -> Callable[[Any], Any]:
    window, strides, padding = (1, *layer.pool_size, 1), (1, *layer.strides, 1), layer.padding.upper()

    def pool(x: Any) -> Any:
        _, own = tf.nn.max_pool_with_argmax(x, window, strides, padding, include_batch_in_index=True)
        return tf.gather(tf.reshape(x, [-1]), choice(layer.name, own.numpy()))

    return pool
