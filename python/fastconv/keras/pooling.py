"""Pooling layers."""

from __future__ import annotations

from typing import Any

import keras

from fastconv import tensorflow as ops
from fastconv.keras._serving import FORMATS, OnCPU, refuse_empty, serves


class _Pooling2D(OnCPU):
    def call(self, inputs: Any) -> Any:
        if not serves(inputs):
            return super().call(inputs)
        pool = ops.max_pool2d if self.pool_mode == "max" else ops.avg_pool2d
        outputs = pool(inputs, self.pool_size, self.strides, self.padding, FORMATS[self.data_format], name=self.name)
        return refuse_empty(inputs, outputs)


@keras.saving.register_keras_serializable("fastconv")
class MaxPooling2D(_Pooling2D, keras.layers.MaxPooling2D):  # type: ignore[misc]
    """``keras.layers.MaxPooling2D`` on fastconv's kernels; same arguments. A NaN in a window makes its output NaN."""


@keras.saving.register_keras_serializable("fastconv")
class AveragePooling2D(_Pooling2D, keras.layers.AveragePooling2D):  # type: ignore[misc]
    """``keras.layers.AveragePooling2D`` on fastconv's kernels; same arguments. The mean does not count padding."""
