"""Convolution layers."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from fastconv import tensorflow as ops
from fastconv.keras._serving import (
    FORMATS,
    OnCPU,
    calls_stock,
    compute,
    image_filters,
    image_sizes,
    in_float32,
    serves,
)
from fastconv.tensorflow import fusion
from fastconv.tensorflow._geometry_code import conv_geometry


class _Convolution(OnCPU):
    """A layer whose op also adds the bias and applies a ReLU. Other activations follow the op, as in Keras."""

    def call(self, inputs: Any) -> Any:
        if not serves(inputs, self.rank + 2):
            return super().call(inputs)
        relu = self.activation is keras.activations.relu
        bias = in_float32(self.bias) if self.use_bias else None
        outputs = self._convolve(inputs, bias=bias, activation="relu" if relu else None)
        return outputs if relu or self.activation is None else self.activation(outputs)

    def _convolve(
        self, inputs: Any, bias: tf.Tensor | None = None, activation: str | None = None, **kernel: Any
    ) -> Any:
        """Convolve with fastconv's kernels (`_ours`) or, in some cases, with TensorFlow's bfloat16 op (`_stock`)."""

        def stock(x: tf.Tensor) -> tf.Tensor:
            return _finish(self._stock(x, **kernel), bias, activation)

        def ours(x: tf.Tensor) -> tf.Tensor:
            return self._ours(in_float32(x), bias, activation, **kernel)

        return compute(inputs, self.data_format, stock if calls_stock(self, inputs) else ours)

    def _geometry(self) -> dict[str, Any]:
        padding = self.padding
        if padding == "causal":
            padding = ((0, 0), ((self.kernel_size[0] - 1) * self.dilation_rate[0], 0))
        return {
            "strides": image_sizes(self.strides),
            "padding": padding,
            "data_format": FORMATS[self.data_format],
            "dilations": image_sizes(self.dilation_rate),
            "name": self.name,
        }


def is_small(layer: Any) -> bool:
    """Whether one op computes a `Conv2D` and a max-pooling after it. True if the sizes are not known yet."""
    if not (layer.built and hasattr(layer, "input")):
        return True
    geometry = _Convolution._geometry(layer)
    del geometry["name"]
    numbers = conv_geometry(**geometry, algorithm="auto")
    shapes = tf.TensorShape(layer.input.shape), tf.TensorShape(layer.kernel.shape)
    return fusion.is_small(numbers, *shapes, tf.as_dtype(layer.compute_dtype))


def _finish(y: tf.Tensor, bias: tf.Tensor | None, activation: str | None) -> tf.Tensor:
    """Bias and ReLU after TensorFlow's op in bfloat16."""
    if bias is not None:
        # tf.nn.bias_add is as fast, but its gradient is summed in bfloat16. The gradient of "+" is summed in float32.
        y = y + tf.cast(bias, y.dtype)
    return y if activation is None else tf.nn.relu(y)


class _Dense(_Convolution):
    """`Conv1D` and `Conv2D`."""

    def _ours(self, x: tf.Tensor, bias: tf.Tensor | None, activation: str | None, kernel: Any = None) -> tf.Tensor:
        filters = in_float32(image_filters(self.kernel if kernel is None else kernel))
        return ops.conv2d(x, filters, bias=bias, activation=activation, **self._geometry())

    def _stock(self, x: tf.Tensor, kernel: Any = None) -> tf.Tensor:
        # Padding and dilation have no effect on a 1 x 1 window.
        filters = image_filters(self.kernel if kernel is None else kernel)
        return tf.nn.conv2d(x, tf.cast(filters, x.dtype), 1, "VALID")


class _Depthwise(_Convolution):
    def _ours(self, x: tf.Tensor, bias: tf.Tensor | None, activation: str | None) -> tf.Tensor:
        filters = in_float32(image_filters(self.kernel))
        return ops.depthwise_conv2d(x, filters, bias=bias, activation=activation, **self._geometry())

    def _stock(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.depthwise_conv2d(x, image_filters(self.kernel), (1, 1, 1, 1), self.padding.upper())


class _Separable(_Convolution):
    def _ours(self, x: tf.Tensor, bias: tf.Tensor | None, activation: str | None) -> tf.Tensor:
        kernels = self.depthwise_kernel, self.pointwise_kernel
        depthwise, pointwise = (in_float32(image_filters(kernel)) for kernel in kernels)
        x = ops.depthwise_conv2d(x, depthwise, **self._geometry())
        data_format = FORMATS[self.data_format]
        return ops.conv2d(x, pointwise, 1, "VALID", data_format, bias=bias, activation=activation, name=self.name)

    def _stock(self, x: tf.Tensor) -> tf.Tensor:
        depthwise, pointwise = image_filters(self.depthwise_kernel), image_filters(self.pointwise_kernel)
        x = tf.nn.depthwise_conv2d(x, depthwise, (1, 1, 1, 1), self.padding.upper())
        return tf.nn.conv2d(x, pointwise, 1, "VALID")


class _Transposed(_Convolution):
    def _ours(self, x: tf.Tensor, bias: tf.Tensor | None, activation: str | None) -> tf.Tensor:
        filters = in_float32(image_filters(self.kernel))
        data_format = FORMATS[self.data_format]
        static = self._output_sizes(x.shape.as_list())
        sizes = static
        if None in static:  # Keras's rule also takes scalar tensors
            known = zip(x.shape.as_list(), tf.unstack(tf.shape(x)), strict=True)
            sizes = self._output_sizes([size if number is None else number for number, size in known])
        y = ops.conv2d_transpose(x, filters, sizes, **self._geometry())
        y = y if bias is None else tf.nn.bias_add(y, bias, data_format)
        y = y if activation is None else tf.nn.relu(y)
        y.set_shape(static)
        return y

    def _output_sizes(self, sizes: list[Any]) -> list[Any]:
        """The sizes of the output images. Keras's rule for signals has no height: it is removed and put back."""
        if self.rank == 2:
            return list(self.compute_output_shape(sizes))
        height = 1 if self.data_format == "channels_last" else 2
        result = self.compute_output_shape(sizes[:height] + sizes[height + 1 :])
        return [*result[:height], 1, *result[height:]]


@keras.saving.register_keras_serializable("fastconv")
class Conv1D(_Dense, keras.layers.Conv1D):  # type: ignore[misc]
    """``keras.layers.Conv1D`` on fastconv's kernels, with bias and ReLU fused. The arguments are the same."""


@keras.saving.register_keras_serializable("fastconv")
class Conv2D(_Dense, keras.layers.Conv2D):  # type: ignore[misc]
    """``keras.layers.Conv2D`` on fastconv's kernels, with bias and ReLU fused.

    All arguments, weights and errors are those of ``keras.layers.Conv2D``. ``data_format="channels_first"`` and groups
    also work, which TensorFlow's CPU kernels do not support. Activations other than ReLU are applied as in the stock
    layer. A subclass may override `convolution_op` or `call`, as with the stock layer.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        if not serves(inputs):
            return super().convolution_op(inputs, kernel)
        return self._convolve(inputs, kernel=kernel)

    def call(self, inputs: Any) -> Any:
        # A subclass or an instance may override convolution_op.
        own = getattr(self.convolution_op, "__func__", None) is Conv2D.convolution_op
        return super().call(inputs) if own else keras.layers.Conv2D.call(self, inputs)


@keras.saving.register_keras_serializable("fastconv")
class DepthwiseConv1D(_Depthwise, keras.layers.DepthwiseConv1D):  # type: ignore[misc]
    """``keras.layers.DepthwiseConv1D`` on fastconv's kernels, with bias and ReLU fused. The arguments are the same."""


@keras.saving.register_keras_serializable("fastconv")
class DepthwiseConv2D(_Depthwise, keras.layers.DepthwiseConv2D):  # type: ignore[misc]
    """``keras.layers.DepthwiseConv2D`` on fastconv's kernels, with bias and ReLU fused. The arguments are the same.

    The strides along height and width may differ. TensorFlow's kernels refuse that.
    """


@keras.saving.register_keras_serializable("fastconv")
class SeparableConv1D(_Separable, keras.layers.SeparableConv1D):  # type: ignore[misc]
    """``keras.layers.SeparableConv1D`` on fastconv's kernels, with bias and ReLU fused. The arguments are the same."""


@keras.saving.register_keras_serializable("fastconv")
class SeparableConv2D(_Separable, keras.layers.SeparableConv2D):  # type: ignore[misc]
    """``keras.layers.SeparableConv2D`` on fastconv's kernels, with bias and ReLU fused. The arguments are the same.

    The strides along height and width may differ. TensorFlow's kernels refuse that.
    """


@keras.saving.register_keras_serializable("fastconv")
class Conv1DTranspose(_Transposed, keras.layers.Conv1DTranspose):  # type: ignore[misc]
    """``keras.layers.Conv1DTranspose`` on fastconv's kernels. The arguments are the same."""


@keras.saving.register_keras_serializable("fastconv")
class Conv2DTranspose(_Transposed, keras.layers.Conv2DTranspose):  # type: ignore[misc]
    """``keras.layers.Conv2DTranspose`` on fastconv's kernels. The arguments are the same.

    As in Keras on TensorFlow, an `output_padding` is an error if a convolution of the output would not give the size of
    the input.
    """
