"""Code that all layers share: whether fastconv's kernels can compute a call, and how to call them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from fastconv.tensorflow._tensorflow_internals import attribute_scope

FORMATS = {"channels_last": "NHWC", "channels_first": "NCHW"}
_HALF = (tf.float16, tf.bfloat16)


@cache
def _warn_once(reason: str) -> None:
    warnings.warn(f"fastconv.keras: {reason}, so the layers use Keras's own ops", stacklevel=5)


@cache
def _sees_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def serves(inputs: Any, rank: int = 4) -> bool:
    """Whether fastconv's kernels can compute a layer on these inputs."""
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
    """`value` as a tensor. A half type is cast to float32, other types are kept.

    fastconv's kernels sum half types in float32, and a layer rounds its result once. TensorFlow's own float16 ops
    always sum in the half type, and so do its bfloat16 ops, unless oneDNN computes them. Such sums take several times
    as long, and are off by several units in the last place. `why_stock` tells in which cases TensorFlow's op is used.
    """
    tensor = tf.convert_to_tensor(value)
    return tf.cast(tensor, tf.float32) if tensor.dtype in _HALF else tensor


def why_stock(layer: Any) -> str | None:
    """Why `layer` calls TensorFlow's own op, or None if it runs on fastconv's kernels.

    TensorFlow's op is used for the kinds of convolution for which it was measured to be faster (docs/keras.md has the
    figures). This applies to bfloat16 and channels_last, if oneDNN uses the CPU's instructions for bfloat16 and sums in
    float32. `layer` may be fastconv's or Keras's, built or not.
    """
    kind = _faster_in_bfloat16(layer)
    if kind is None or layer.compute_dtype != "bfloat16" or layer.data_format != "channels_last":
        return None
    return f"TensorFlow is faster in bfloat16 on this CPU: {kind}" if _onednn_has_bfloat16() else None


def calls_stock(layer: Any, inputs: tf.Tensor) -> bool:
    """Whether a layer of fastconv calls TensorFlow's op for these inputs."""
    # For an empty batch, oneDNN's output wrongly has as many channels as its input.
    return bool(inputs.dtype == tf.bfloat16 and inputs.shape[0] != 0 and why_stock(layer))


def _faster_in_bfloat16(layer: Any) -> str | None:
    """The kind of convolution, if TensorFlow's op may be faster in bfloat16. Otherwise None.

    These kinds are left out:

    - 1 x 1 convolutions with other strides. oneDNN's filter gradient writes beyond its memory (in TensorFlow 2.16 to
      2.21).
    - Depthwise convolutions with other windows or strides. oneDNN's gradients take up to five times as long as ours.
    - 3 x 3 convolutions. Ours are faster.
    - Max-pools. TensorFlow's take 0.7 times as long, but they lose every NaN and sum the gradients of overlapping
      windows in bfloat16.
    """
    layers = keras.layers
    if isinstance(layer, (layers.Conv1D, layers.Conv2D)):
        if layer.groups == 1 and {*layer.kernel_size, *layer.strides} == {1}:
            return "1 x 1 convolution of stride 1"
        return None
    if isinstance(layer, (layers.DepthwiseConv2D, layers.SeparableConv2D)):
        geometry = (layer.kernel_size, layer.strides, layer.dilation_rate, layer.depth_multiplier)
        if geometry == ((3, 3), (1, 1), (1, 1), 1):
            return "3 x 3 depthwise convolution of stride 1"
    return None


@cache
def _onednn_has_bfloat16() -> bool:
    """Whether TensorFlow uses the CPU's instructions for bfloat16, and sums in float32.

    On CPUs without these instructions, oneDNN emulates them and takes 1.4 to 2.3 times as long as our kernels. Without
    oneDNN, TensorFlow sums in bfloat16. Such sums are far slower, and too coarse: a sum of ones stops at 256.
    """
    if not _cpu_has_bfloat16():
        return False
    try:
        with tf.init_scope(), tf.device("CPU"):
            dense = tf.nn.conv2d(_ones(1, 1, 1, 4096), _ones(1, 1, 4096, 16), 1, "VALID")
            # There are nine windows. Each has 256 at a position of its own and 1 at the eight others. TensorFlow 2.16
            # crashes on larger windows.
            windows = tf.repeat(tf.reshape(1 + 255 * tf.eye(9, dtype=tf.bfloat16), (9, 3, 3, 1)), 16, axis=3)
            depthwise = tf.nn.depthwise_conv2d(windows, _ones(3, 3, 16, 1), (1, 1, 1, 1), "VALID")
            return bool(tf.reduce_all(dense == 4096)) and bool(tf.reduce_all(depthwise == 264))
    except tf.errors.OpError:  # for example if ONEDNN_MAX_CPU_ISA keeps oneDNN from using bfloat16
        return False


def _ones(*shape: int) -> tf.Tensor:
    return tf.ones(shape, tf.bfloat16)


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16. All CPUs with AMX have them."""
    try:
        return " avx512_bf16 " in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def remedy_for_converters() -> AbstractContextManager[Any]:
    """A scope that adds a remedy to the attributes of a layer's ops. Converters to LiteRT print it in their errors."""
    return attribute_scope("remedy", "export fastconv.keras.restore(model)")


def compute(inputs: tf.Tensor, data_format: str, op: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Apply `op` to images, and cast the result to the dtype of the layer's inputs. Signals are images of height 1."""
    with remedy_for_converters():
        if inputs.shape.rank == 3:
            height = 1 if data_format == "channels_last" else 2
            y = tf.squeeze(op(tf.expand_dims(inputs, height)), [height])
        else:
            y = op(inputs)
    return tf.cast(refuse_empty(inputs, y), inputs.dtype)


def image_filters(kernel: Any) -> tf.Tensor:
    """Filters for the images of `compute`. Filters of signals get height 1."""
    filters = tf.convert_to_tensor(kernel)
    return tf.expand_dims(filters, 0) if filters.shape.rank == 3 else filters


def image_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Strides, dilations and the like for the images of `compute`. For signals, they are 1 along the height."""
    return (1, *sizes) if len(sizes) == 1 else tuple(sizes)


def refuse_empty(inputs: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Refuse empty outputs, as Keras does. An input that is too small for the window is a mistake in the model."""
    if 0 in outputs.shape[1:] and 0 not in inputs.shape[1:]:
        raise ValueError(
            f"The layer's output would be empty: input shape {inputs.shape}, output shape {outputs.shape}. The input "
            "is too small for the window, the strides and the padding."
        )
    return outputs


class OnCPU(keras.Layer):  # type: ignore[misc]
    @property
    def supports_jit(self) -> bool:
        """False, because XLA cannot compile the ops. Keras then leaves XLA off, and warns if jit_compile is True."""
        return False

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        """Keep the value that Keras's constructor sets. It takes effect when `restore` makes this a stock layer."""
        self.__dict__["supports_jit"] = value
