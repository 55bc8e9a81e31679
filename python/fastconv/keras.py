"""Drop-in Keras layers on fastconv's kernels.

`Conv2D`, `MaxPooling2D` and `AveragePooling2D` subclass those of ``keras.layers``: same arguments, weights, config,
summary and saving. Replace ``keras.layers.Conv2D`` by ``fastconv.keras.Conv2D`` and nothing else changes but the time;
a saved model loads where `fastconv.keras` was imported before. They need Keras 3 on TensorFlow.

What the kernels do not serve runs on Keras's own ops, as it would in the stock layer: inputs that are not float32 or
float64 (mixed precision), and everything on a machine where TensorFlow sees a GPU. A warning says so once.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import keras
import tensorflow as tf

from fastconv import tensorflow as ops

__all__ = ["AveragePooling2D", "Conv2D", "MaxPooling2D"]

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"fastconv.keras needs Keras on TensorFlow, but Keras runs on {keras.backend.backend()}; set the environment "
        "variable KERAS_BACKEND=tensorflow before Keras is imported"
    )

_FORMATS = {"channels_last": "NHWC", "channels_first": "NCHW"}


@cache
def _warn_once(reason: str) -> None:
    warnings.warn(f"fastconv.keras: {reason}, so Keras's own ops compute", stacklevel=5)


@cache
def _sees_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def _serves(inputs: Any) -> bool:
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


def _refuse_empty(inputs: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """As Keras: an input too small for the window is a mistake in a model, if not in mathematics."""
    if 0 in outputs.shape[1:] and 0 not in inputs.shape[1:]:
        raise ValueError(
            f"The layer's output would be empty: input shape {inputs.shape}, output shape {outputs.shape}. The input "
            "is too small for the window, the strides and the padding."
        )
    return outputs


class _OnCPU(keras.Layer):  # type: ignore[misc]
    @property
    def supports_jit(self) -> bool:
        """No: XLA cannot compile the ops. "auto" then stays off it, True warns and goes on without."""
        return False

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        """Keras's constructor says yes for every layer."""


@keras.saving.register_keras_serializable("fastconv")
class Conv2D(_OnCPU, keras.layers.Conv2D):  # type: ignore[misc]
    """``keras.layers.Conv2D`` on fastconv's kernels, with bias and ReLU fused.

    All arguments, weights and errors are those of ``keras.layers.Conv2D``, ``data_format="channels_first"`` and groups
    included, which TensorFlow's CPU kernels lack. Other activations than ReLU are applied as in the stock layer. A
    subclass may override `convolution_op` or `call`, as with the stock layer.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        if not _serves(inputs):
            return super().convolution_op(inputs, kernel)
        return self._convolve(inputs, kernel)

    def call(self, inputs: Any) -> Any:
        # A subclass, or an instance, may have a convolution_op of its own.
        own = getattr(self.convolution_op, "__func__", None) is Conv2D.convolution_op
        if not own or not _serves(inputs):
            return super().call(inputs)
        relu = self.activation is keras.activations.relu
        outputs = self._convolve(
            inputs, self.kernel, bias=self.bias if self.use_bias else None, activation="relu" if relu else None
        )
        return outputs if relu or self.activation is None else self.activation(outputs)

    def _convolve(self, inputs: Any, kernel: Any, **fused: Any) -> Any:
        outputs = ops.conv2d(
            inputs,
            kernel,
            self.strides,
            self.padding,
            _FORMATS[self.data_format],
            self.dilation_rate,
            name=self.name,
            **fused,
        )
        return _refuse_empty(inputs, outputs)


class _Pooling2D(_OnCPU):
    def call(self, inputs: Any) -> Any:
        if not _serves(inputs):
            return super().call(inputs)
        pool = ops.max_pool2d if self.pool_mode == "max" else ops.avg_pool2d
        outputs = pool(inputs, self.pool_size, self.strides, self.padding, _FORMATS[self.data_format], name=self.name)
        return _refuse_empty(inputs, outputs)


@keras.saving.register_keras_serializable("fastconv")
class MaxPooling2D(_Pooling2D, keras.layers.MaxPooling2D):  # type: ignore[misc]
    """``keras.layers.MaxPooling2D`` on fastconv's kernels; same arguments. A NaN in a window makes its output NaN."""


@keras.saving.register_keras_serializable("fastconv")
class AveragePooling2D(_Pooling2D, keras.layers.AveragePooling2D):  # type: ignore[misc]
    """``keras.layers.AveragePooling2D`` on fastconv's kernels; same arguments. The mean does not count padding."""
