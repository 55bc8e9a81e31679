"""Layers that, in a graph, leave their work to the layer right before them, or do the work of the layer after them.

They have the names, weights and configs of the layers that they replace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from fastconv.keras import elementwise, normalization, pooling
from fastconv.keras._activations import trainable_layer
from fastconv.keras._serving import FORMATS, refuse_empty, remedy_for_converters
from fastconv.tensorflow import batch_norm_fusion
from fastconv.tensorflow.fusion import fused_max_pool
from fastconv.tensorflow.relu_fusion import fused_relu

_register: Callable[[str], Any] = lambda name: keras.saving.register_keras_serializable("fastconv", name)  # noqa: E731


class _Fused(keras.Layer):  # type: ignore[misc]
    """A layer that was an activation when it was fused. Its attributes may have changed since then."""

    def call(self, inputs: Any) -> Any:
        with remedy_for_converters():
            outputs = _activated(self, inputs)
        return super().call(inputs) if outputs is None else outputs


def _activated(layer: Any, inputs: Any) -> tf.Tensor | None:
    activation = trainable_layer(layer)
    outputs = fused_relu(inputs) if activation == "relu" else None
    if outputs is None and activation is not None:
        outputs = batch_norm_fusion.fused_activation(inputs, activation)
    return outputs


@_register("FusedReLU")
class ReLU(_Fused, keras.layers.ReLU):  # type: ignore[misc]
    """A ``keras.layers.ReLU`` that the layer before it can compute."""


@_register("FusedLeakyReLU")
class LeakyReLU(_Fused, keras.layers.LeakyReLU):  # type: ignore[misc]
    """A ``keras.layers.LeakyReLU`` that the layer before it can compute."""


@_register("FusedActivation")
class Activation(_Fused, elementwise.Activation):
    """A ``keras.layers.Activation`` that the layer before it can compute."""


@_register("FusedAdd")
class Add(keras.layers.Add):  # type: ignore[misc]
    """A ``keras.layers.Add`` that the batch normalisation before it can compute."""

    def call(self, inputs: Any) -> Any:
        with remedy_for_converters():
            outputs = batch_norm_fusion.fused_addition(inputs)
        return super().call(inputs) if outputs is None else outputs


@_register("FusedMaxPooling2D")
class MaxPooling2D(pooling.MaxPooling2D):
    """A max-pooling that computes the small convolution before it."""

    def call(self, inputs: Any) -> Any:
        with remedy_for_converters():
            outputs = fused_max_pool(inputs, self.pool_size, self.strides, self.padding, FORMATS[self.data_format])
        return super().call(inputs) if outputs is None else refuse_empty(inputs, outputs)


@_register("FusedBatchNormalization")
class BatchNormalization(normalization.BatchNormalization):
    """A batch normalisation that can compute the layers after it."""

    def _of_batch(self, x: tf.Tensor, *arguments: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        outputs = batch_norm_fusion.batch_norm_in_two_ops(x, *arguments)
        return super()._of_batch(x, *arguments) if outputs is None else outputs


#: Maps each of Keras's activations to the class that replaces it.
ACTIVATIONS: dict[type[keras.Layer], type[keras.Layer]] = {
    keras.layers.Activation: Activation,
    keras.layers.LeakyReLU: LeakyReLU,
    keras.layers.ReLU: ReLU,
}
#: Maps each of Keras's classes to the class that replaces it.
FUSED: dict[type[keras.Layer], type[keras.Layer]] = {
    **ACTIVATIONS,
    keras.layers.Add: Add,
    keras.layers.BatchNormalization: BatchNormalization,
    keras.layers.MaxPooling2D: MaxPooling2D,
}


def is_relu(layer: Any) -> bool:
    """Whether an activation is the ReLU that a convolution can compute."""
    return bool(trainable_layer(layer) == "relu")
