"""What all layers share: whether our kernels can compute a call, and what to say where they can't."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import keras
import tensorflow as tf

FORMATS = {"channels_last": "NHWC", "channels_first": "NCHW"}


@cache
def _warn_once(reason: str) -> None:
    warnings.warn(f"fastconv.keras: {reason}, so Keras's own ops compute", stacklevel=5)


@cache
def _sees_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def serves(inputs: Any) -> bool:
    """Whether fastconv's kernels can compute a layer of these inputs."""
    if not tf.is_tensor(inputs) or not hasattr(inputs, "shape") or inputs.shape.rank != 4:
        return False
    if inputs.dtype not in (tf.float32, tf.float64):
        _warn_once(f"its kernels compute float32 and float64, not {inputs.dtype.name}")
        return False
    if _sees_gpu():
        _warn_once("TensorFlow sees a GPU")
        return False
    return True


def refuse_empty(inputs: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """As Keras: an input too small for the window is a mistake in a model, if not in mathematics."""
    if 0 in outputs.shape[1:] and 0 not in inputs.shape[1:]:
        raise ValueError(
            f"The layer's output would be empty: input shape {inputs.shape}, output shape {outputs.shape}. The input "
            "is too small for the window, the strides and the padding."
        )
    return outputs


class OnCPU(keras.Layer):  # type: ignore[misc]
    @property
    def supports_jit(self) -> bool:
        """No: XLA cannot compile the ops. "auto" then stays off it, True warns and goes on without."""
        return False

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        """Keras's constructor says yes for every layer."""
