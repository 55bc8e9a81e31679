"""Convolution layers."""

from __future__ import annotations

from typing import Any

import keras

from fastconv import tensorflow as ops
from fastconv.keras._serving import FORMATS, OnCPU, refuse_empty, serves


@keras.saving.register_keras_serializable("fastconv")
class Conv2D(OnCPU, keras.layers.Conv2D):  # type: ignore[misc]
    """``keras.layers.Conv2D`` on fastconv's kernels, with bias and ReLU fused.

    All arguments, weights and errors are those of ``keras.layers.Conv2D``, ``data_format="channels_first"`` and groups
    included, which TensorFlow's CPU kernels lack. Other activations than ReLU are applied as in the stock layer. A
    subclass may override `convolution_op` or `call`, as with the stock layer.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        if not serves(inputs):
            return super().convolution_op(inputs, kernel)
        return self._convolve(inputs, kernel)

    def call(self, inputs: Any) -> Any:
        # A subclass, or an instance, may have a convolution_op of its own.
        own = getattr(self.convolution_op, "__func__", None) is Conv2D.convolution_op
        if not own or not serves(inputs):
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
            FORMATS[self.data_format],
            self.dilation_rate,
            name=self.name,
            **fused,
        )
        return refuse_empty(inputs, outputs)
