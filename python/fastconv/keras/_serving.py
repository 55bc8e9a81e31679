"""What all layers share: whether our kernels can compute a call, how they do, and what to say where they can't."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import keras
import tensorflow as tf

FORMATS = {"channels_last": "NHWC", "channels_first": "NCHW"}
_HALF = (tf.float16, tf.bfloat16)


@cache
def _warn_once(reason: str) -> None:
    warnings.warn(f"fastconv.keras: {reason}, so Keras's own ops compute", stacklevel=5)


@cache
def _sees_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def serves(inputs: Any, rank: int = 4) -> bool:
    """Whether fastconv's kernels can compute a layer of these inputs."""
    if not tf.is_tensor(inputs) or not hasattr(inputs, "shape") or inputs.shape.rank != rank:
        return False
    if inputs.dtype not in (tf.float32, tf.float64, *_HALF):
        _warn_once(f"its kernels compute floating-point numbers, not {inputs.dtype.name}")
        return False
    if _sees_gpu():
        _warn_once("TensorFlow sees a GPU")
        return False
    return True


def in_float32(value: Any) -> tf.Tensor:
    """A tensor whose half type is widened; others stay.

    Every layer sums half types in float32 and rounds its result once. TensorFlow's own ops sum float16, and bfloat16
    where oneDNN has no instructions for it, in the half type itself: several times as slow, and off by several units
    of the last place.
    """
    tensor = tf.convert_to_tensor(value)
    return tf.cast(tensor, tf.float32) if tensor.dtype in _HALF else tensor


def compute(inputs: tf.Tensor, data_format: str, op: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """`op` of images in float32 or float64, of a layer's inputs: signals are images of height 1."""
    x = in_float32(inputs)
    if x.shape.rank == 3:
        height = 1 if data_format == "channels_last" else 2
        y = tf.squeeze(op(tf.expand_dims(x, height)), [height])
    else:
        y = op(x)
    return tf.cast(_refuse_empty(inputs, y), inputs.dtype)


def image_filters(kernel: Any) -> tf.Tensor:
    """Filters for `compute`'s images: those of signals get height 1."""
    filters = in_float32(kernel)
    return tf.expand_dims(filters, 0) if filters.shape.rank == 3 else filters


def image_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Strides, dilations, ... for `compute`'s images: those of signals are 1 along the height."""
    return (1, *sizes) if len(sizes) == 1 else tuple(sizes)


def _refuse_empty(inputs: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
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
        """Keras's constructor says yes for every layer. It is kept for `restore`, which makes a stock layer of this."""
        self.__dict__["supports_jit"] = value
