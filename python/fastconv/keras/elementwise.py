"""Layers that compute each element for itself."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from fastconv import tensorflow as ops
from fastconv.keras._activations import trainable_layer
from fastconv.keras._serving import OnCPU, remedy_for_converters, serves

# The activations for which fastconv's kernels were measured to be faster than TensorFlow's ops.
_FASTER = ("gelu", "silu")


class _Activation(OnCPU):
    """An activation with a name of fastconv's."""

    def call(self, inputs: Any) -> Any:
        activation = trainable_layer(self)
        if activation is None or not _has_kernel(inputs):
            return super().call(inputs)
        with remedy_for_converters():
            return ops.activate(inputs, activation, name=self.name)


@keras.saving.register_keras_serializable("fastconv")
class Activation(_Activation, keras.layers.Activation):  # type: ignore[misc]
    """``keras.layers.Activation`` on fastconv's kernels.

    Keras's own call computes half types, and functions that are not in this list of ``keras.activations``: relu, relu6,
    leaky_relu, gelu, silu, sigmoid, tanh.
    """


@keras.saving.register_keras_serializable("fastconv")
class ReLU(_Activation, keras.layers.ReLU):  # type: ignore[misc]
    """``keras.layers.ReLU`` on fastconv's kernels.

    Keras's own call computes half types, a threshold, a `max_value` other than 6, and `max_value` together with
    `negative_slope`.
    """


@keras.saving.register_keras_serializable("fastconv")
class Add(OnCPU, keras.layers.Add):  # type: ignore[misc]
    """``keras.layers.Add`` on fastconv's kernels, for two inputs of one shape.

    Keras's own call computes half types, more inputs, and inputs whose shapes differ or are not fully known, such as a
    batch of unknown size in a graph.
    """

    def call(self, inputs: Any) -> Any:
        if not (isinstance(inputs, (list, tuple)) and len(inputs) == 2 and all(map(_has_kernel, inputs))):
            return super().call(inputs)
        a, b = inputs
        if a.dtype != b.dtype or a.shape.as_list() != b.shape.as_list() or not a.shape.is_fully_defined():
            return super().call(inputs)
        with remedy_for_converters():
            return ops.add(a, b, name=self.name)


def gains(layer: Any) -> bool:
    """Whether fastconv's kernels are faster for one of Keras's layers of these kinds."""
    if isinstance(layer, keras.layers.Add) or layer.compute_dtype not in ("float32", "float64"):
        return False
    return trainable_layer(layer) in _FASTER


def _has_kernel(inputs: Any) -> bool:
    return (
        isinstance(inputs, tf.Tensor)
        and inputs.shape.rank is not None
        and inputs.dtype in (tf.float32, tf.float64)
        and serves(inputs, inputs.shape.rank)
    )
