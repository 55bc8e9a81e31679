"""The batch normalisation layer."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from fastconv import tensorflow as ops
from fastconv.keras._serving import OnCPU, in_float32, remedy_for_converters, serves


@keras.saving.register_keras_serializable("fastconv")
class BatchNormalization(OnCPU, keras.layers.BatchNormalization):  # type: ignore[misc]
    """``keras.layers.BatchNormalization`` on fastconv's kernels, for channels that come last or second.

    Keras's own call computes other axes, `renorm`, `synchronized`, masks, a negative `epsilon`, and inputs of fewer
    than two dimensions or of unknown rank.
    """

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        data_format = _data_format(self, inputs) if mask is None else None
        if data_format is None:
            return super().call(inputs, training=training, mask=mask)
        x = in_float32(inputs)
        moving_mean, moving_variance, gamma, beta = (
            None if weight is None else keras.ops.cast(weight, x.dtype)
            for weight in (
                self.moving_mean,
                self.moving_variance,
                self.gamma if self.scale else None,
                self.beta if self.center else None,
            )
        )
        affine = (gamma, beta, self.epsilon, data_format)
        if training and self.trainable:
            with remedy_for_converters():
                y, mean, variance = self._of_batch(x, *affine)
            # As in Keras, in the dtype of the computation, which may be wider than that of the variables.
            old, new = self.momentum, 1.0 - self.momentum
            self.moving_mean.assign(moving_mean * old + mean * new)
            self.moving_variance.assign(moving_variance * old + variance * new)
        else:
            with remedy_for_converters():
                y = self._of_moving_averages(x, moving_mean, moving_variance, *affine)
        return keras.ops.cast(y, self.compute_dtype)

    def _of_batch(self, x: tf.Tensor, *arguments: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return ops.batch_norm(x, *arguments, name=self.name)

    def _of_moving_averages(self, x: tf.Tensor, *arguments: Any) -> tf.Tensor:
        return ops.batch_norm_inference(x, *arguments, name=self.name)


def why_keras(layer: Any) -> str | None:
    """The argument for which Keras's own call computes a batch normalisation of any inputs, or None.

    `layer` may be fastconv's or Keras's, built or not.
    """
    for option in ("renorm", "synchronized"):
        if getattr(layer, option, False):  # earlier versions of Keras lack some of them
            return f"{option}=True"
    if layer.epsilon < 0:
        return f"epsilon={layer.epsilon}"
    rank = layer.input_spec.ndim if layer.built else None
    return f"axis={layer.axis}" if rank is not None and _format_of(layer.axis, rank) is None else None


def _data_format(layer: Any, inputs: Any) -> str | None:
    """The data format in which fastconv's kernels compute `layer`, or None if they cannot."""
    if not isinstance(inputs, tf.Tensor) or inputs.shape.rank is None or why_keras(layer):
        return None
    rank = inputs.shape.rank
    return _format_of(layer.axis, rank) if serves(inputs, rank) else None


def _format_of(axis: Any, rank: int) -> str | None:
    if rank < 2:
        return None
    formats = {1: "NCHW", 1 - rank: "NCHW", rank - 1: "NHWC", -1: "NHWC"}  # of two dimensions, the second is the last
    return formats.get(axis)
