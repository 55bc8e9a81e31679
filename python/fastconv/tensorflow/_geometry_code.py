"""Encodes geometries as numbers. An op reads them from the shape of a tensor (cpp/include/fastconv/attributes.h)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import tensorflow as tf

import fastconv._core as _core
from fastconv._pooling import given_size

# The positions of numbers in a geometry.
_DATA_FORMAT = 1
_CONV_DEPTHWISE = 2
_CONV_ACTIVATION = 3
_CONV_ALGORITHM = 4
_CONV_PADDING_MODE = 5
_CONV_STRIDES = slice(6, 8)
_CONV_PADS = slice(10, 14)  # top, bottom, left, right
_POOL_BATCH_IN_ARGMAX = 2
_POOL_HEIGHT, _POOL_WIDTH = 4, 5
_POOL_OPTIONS = slice(12, None)  # missing in graphs of older versions
_POOL_ADAPTIVE = 16
# The numbers that stand for NCHW, linear, ReLU, auto and a pooling without options.
_NCHW = 1
_LINEAR, _RELU = 0, 1
#: The activations that a geometry can hold: those that take no numbers.
_ACTIVATIONS = {
    "linear": _LINEAR, "relu": _RELU, "relu6": 2, "gelu": 5, "gelu_tanh": 6, "silu": 7, "sigmoid": 8, "hard_swish": 10,
    "tanh": 11,
}  # fmt: skip
_AUTO = 0
_SAME, _EXPLICIT = 1, 2
_NO_POOL_OPTIONS = [1, 1, 0, 0, 0, 0, 0]


@cache
def _eager_zeros(shape: tuple[int, ...], dtype: tf.DType) -> tf.Tensor:
    return tf.fill(shape, tf.zeros((), dtype))


def no_elements(shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
    """A tensor of this shape without elements. tf.fill also makes shapes that NumPy refuses."""
    if tf.executing_eagerly():
        return _eager_zeros(tuple(shape), dtype)
    return tf.fill(tf.constant(shape, tf.int64), tf.zeros((), dtype))


def conv_geometry(
    strides: Any,
    padding: Any,
    data_format: str,
    dilations: Any,
    algorithm: str,
    activation: str | None = None,
    depthwise: bool = False,
) -> list[int]:
    """The numbers of a convolution."""
    return _core.conv_geometry(strides, padding, data_format, dilations, algorithm, activation, depthwise)


def pool_geometry(
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str,
    dilations: Any = 1,
    ceil_mode: bool = False,
    include_batch_in_index: bool = False,
) -> list[int]:
    """The numbers of a max-pooling."""
    return _core.pool_geometry(ksize, strides, padding, data_format, dilations, include_batch_in_index, ceil_mode, None)


def avg_pool_geometry(
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str,
    dilations: Any,
    ceil_mode: bool,
    count_include_pad: bool,
) -> list[int]:
    """The numbers of an average-pooling."""
    return _core.avg_pool_geometry(ksize, strides, padding, data_format, dilations, ceil_mode, count_include_pad, None)


def adaptive_pool_geometry(output_size: Any, data_format: str) -> list[int]:
    """The numbers of an adaptive pooling."""
    return _core.pool_geometry(None, None, None, data_format, None, False, None, given_size(output_size))


def activation_attributes(activation: Any) -> dict[str, Any]:
    """The geometry and the attributes of an op that is only an activation, or ends with one."""
    return _elementwise(*_core.activation_attributes(activation))


def batch_norm_attributes(data_format: str, activation: Any, epsilon: float) -> dict[str, Any]:
    """The geometry and the attributes of an op of batch normalisation."""
    return _elementwise(*_core.batch_norm_attributes(data_format, activation, epsilon))


def _elementwise(code: list[int], activation: str, epsilon: str) -> dict[str, Any]:
    return {"geometry": encode(code), "activation": activation, "epsilon": epsilon}


def encode(numbers: Sequence[int]) -> tf.Tensor:
    """The input `geometry` of an op, from the numbers of a convolution or a pooling."""
    return no_elements(numbers, tf.uint8)


def decode(geometry: tf.Tensor) -> list[int]:
    numbers: list[int] = geometry.shape.as_list()
    return numbers


def is_nchw(geometry: tf.Tensor) -> bool:
    return decode(geometry)[_DATA_FORMAT] == _NCHW


def is_depthwise(geometry: tf.Tensor) -> bool:
    return bool(decode(geometry)[_CONV_DEPTHWISE])


def conv_strides(geometry: tf.Tensor) -> tuple[int, int]:
    vertical, horizontal = decode(geometry)[_CONV_STRIDES]
    return vertical, horizontal


def names_algorithm(geometry: tf.Tensor) -> bool:
    """Whether the caller of a convolution named an algorithm."""
    return decode(geometry)[_CONV_ALGORITHM] != _AUTO


def has_relu(geometry: tf.Tensor) -> bool:
    """Whether a convolution applies a ReLU."""
    return decode(geometry)[_CONV_ACTIVATION] == _RELU


def activation_of(geometry: tf.Tensor) -> str:
    """The name of the activation that a convolution applies."""
    number = decode(geometry)[_CONV_ACTIVATION]
    return next(name for name, known in _ACTIVATIONS.items() if known == number)


def can_hold(activation: str) -> bool:
    """Whether a convolution in a graph can apply the activation. It is written as for the ops that take its text."""
    return activation in _ACTIVATIONS


def with_activation(geometry: tf.Tensor, activation: str) -> tf.Tensor:
    return _with(geometry, _CONV_ACTIVATION, _ACTIVATIONS[activation])


def without_activation(geometry: tf.Tensor) -> tf.Tensor:
    return with_activation(geometry, "linear")


def with_more_padding(geometry: tf.Tensor, pads: Sequence[int]) -> tf.Tensor | None:
    """A convolution with these pads (top, bottom, left, right) around its own. None if its own depend on the image."""
    numbers = decode(geometry)
    if numbers[_CONV_PADDING_MODE] == _SAME:
        return None
    numbers[_CONV_PADDING_MODE] = _EXPLICIT
    numbers[_CONV_PADS] = [own + more for own, more in zip(numbers[_CONV_PADS], pads, strict=True)]
    return encode(numbers)


def counts_batch_in_argmax(geometry: tf.Tensor) -> bool:
    return bool(decode(geometry)[_POOL_BATCH_IN_ARGMAX])


def with_batch_in_argmax(geometry: tf.Tensor, included: bool) -> tf.Tensor:
    """The same geometry, but with an argmax that counts from the start of the batch, or from that of each image."""
    return _with(geometry, _POOL_BATCH_IN_ARGMAX, int(included))


def is_plain_pooling(geometry: tf.Tensor) -> bool:
    """Whether a pooling has no dilations, ceil_mode or output_size. Only such a pooling can be fused."""
    return decode(geometry)[_POOL_OPTIONS] in ([], _NO_POOL_OPTIONS)


def is_adaptive(pooling: Sequence[int]) -> bool:
    """Whether the windows of a pooling follow from its output's size. `pooling` has the numbers of its geometry."""
    return len(pooling) > _POOL_ADAPTIVE and pooling[_POOL_ADAPTIVE] == 1


def fits_taps(pooling: Sequence[int]) -> bool:
    """Whether an op can store the taps of a pooling: the positions in a window, in a byte each."""
    return window_elements(pooling) <= 255


def window_elements(pooling: Sequence[int]) -> int:
    """The number of elements of a window. `pooling` has the numbers of a geometry that is not adaptive."""
    return pooling[_POOL_HEIGHT] * pooling[_POOL_WIDTH]


def _with(geometry: tf.Tensor, index: int, value: int) -> tf.Tensor:
    numbers = decode(geometry)
    if numbers[index] == value:
        return geometry
    return encode([*numbers[:index], value, *numbers[index + 1 :]])
