"""Pooling layers."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from fastconv import tensorflow as ops
from fastconv.keras._serving import FORMATS, OnCPU, compute, image_sizes, in_float32, serves


class _Pooling(OnCPU):
    def call(self, inputs: Any) -> Any:
        if not serves(inputs, len(self.pool_size) + 2):
            return super().call(inputs)
        pool = ops.max_pool2d if self.pool_mode == "max" else ops.avg_pool2d
        window, strides, data_format = image_sizes(self.pool_size), image_sizes(self.strides), FORMATS[self.data_format]

        def pooled(x: tf.Tensor) -> tf.Tensor:
            return pool(in_float32(x), window, strides, self.padding, data_format, name=self.name)

        return compute(inputs, self.data_format, pooled)


@keras.saving.register_keras_serializable("fastconv")
class MaxPooling1D(_Pooling, keras.layers.MaxPooling1D):  # type: ignore[misc]
    """``keras.layers.MaxPooling1D`` on fastconv's kernels. A NaN in a window makes its output NaN."""


@keras.saving.register_keras_serializable("fastconv")
class MaxPooling2D(_Pooling, keras.layers.MaxPooling2D):  # type: ignore[misc]
    """``keras.layers.MaxPooling2D`` on fastconv's kernels. A NaN in a window makes its output NaN."""


@keras.saving.register_keras_serializable("fastconv")
class AveragePooling1D(_Pooling, keras.layers.AveragePooling1D):  # type: ignore[misc]
    """``keras.layers.AveragePooling1D`` on fastconv's kernels. The mean does not count padding."""


@keras.saving.register_keras_serializable("fastconv")
class AveragePooling2D(_Pooling, keras.layers.AveragePooling2D):  # type: ignore[misc]
    """``keras.layers.AveragePooling2D`` on fastconv's kernels. The mean does not count padding."""


# Global pooling is one reduction. In both data formats, TensorFlow's reduction is at least as fast as fastconv's
# pooling with a window of the input's size. TensorFlow's reduction also keeps NaN, sums half types in float32 and
# compiles with XLA. These layers therefore compute as Keras's own, except GlobalAveragePooling1D with a mask.


@keras.saving.register_keras_serializable("fastconv")
class GlobalMaxPooling1D(keras.layers.GlobalMaxPooling1D):  # type: ignore[misc]
    """Same as ``keras.layers.GlobalMaxPooling1D``, whose reduction is as fast as fastconv's kernels and keeps NaN."""


@keras.saving.register_keras_serializable("fastconv")
class GlobalMaxPooling2D(keras.layers.GlobalMaxPooling2D):  # type: ignore[misc]
    """Same as ``keras.layers.GlobalMaxPooling2D``, whose reduction is as fast as fastconv's kernels and keeps NaN.

    Equal maxima share the gradient. In `MaxPooling2D`, the first of them gets all of it.
    """


@keras.saving.register_keras_serializable("fastconv")
class GlobalAveragePooling1D(keras.layers.GlobalAveragePooling1D):  # type: ignore[misc]
    """Same as ``keras.layers.GlobalAveragePooling1D``, but half types with a mask are summed in float32, too."""

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None or not tf.is_tensor(inputs):
            return super().call(inputs, mask)
        return tf.cast(super().call(in_float32(inputs), mask), inputs.dtype)


@keras.saving.register_keras_serializable("fastconv")
class GlobalAveragePooling2D(keras.layers.GlobalAveragePooling2D):  # type: ignore[misc]
    """Same as ``keras.layers.GlobalAveragePooling2D``, whose reduction is as fast as fastconv's kernels."""
