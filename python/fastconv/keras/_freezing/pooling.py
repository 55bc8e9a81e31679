"""Pools."""

from __future__ import annotations

from typing import Any

import keras

from fastconv.keras._freezing.convolutions import _two, as_images
from fastconv.keras._freezing.registry import converts
from fastconv.keras._freezing.tensors import Builder, Tensor

_layers = keras.layers


def _class(name: str) -> type | None:
    return getattr(keras.layers, name, None)


def _pool(operation: str, builder: Builder, layer: Any, x: Tensor) -> Tensor:
    ksize, strides = _two(layer.pool_size), _two(layer.strides)

    def compute(images: Tensor) -> Tensor:
        same = layer.padding == "same"
        sizes = [
            None if size is None else (size - (1 if same else window)) // stride + 1
            for size, window, stride in zip(images.shape[1:3], ksize, strides, strict=True)
        ]
        shape = [images.shape[0], *sizes, images.shape[3]]
        return builder.add(operation, [images], shape, ksize=ksize, strides=strides, padding=layer.padding.upper())

    return as_images(builder, layer, x, compute)


@converts(_layers.MaxPooling1D, _layers.MaxPooling2D)
def _max_pool(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return _pool("max_pool2d", builder, layer, x)


@converts(_layers.AveragePooling1D, _layers.AveragePooling2D)
def _average_pool(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return _pool("avg_pool2d", builder, layer, x)


def _global_pool(method: str, builder: Builder, layer: Any, x: Tensor) -> Tensor:
    first = 2 if layer.data_format == "channels_first" else 1
    axes = list(range(first, first + x.rank - 2))
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape) if layer.keepdims or axis not in axes]
    return builder.add("reduce", [x], shape, method=method, axes=axes, keepdims=bool(layer.keepdims))


@converts(_layers.GlobalMaxPooling1D, _layers.GlobalMaxPooling2D)
def _global_max_pool(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return _global_pool("max", builder, layer, x)


@converts(_layers.GlobalAveragePooling1D, _layers.GlobalAveragePooling2D)
def _global_average_pool(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return _global_pool("mean", builder, layer, x)


def _adaptive_pool(operation: str, builder: Builder, layer: Any, x: Tensor) -> Tensor:
    size = _two([layer.output_size] if isinstance(layer.output_size, int) else layer.output_size)

    def compute(images: Tensor) -> Tensor:
        return builder.add(operation, [images], [images.shape[0], *size, images.shape[3]], output_size=size)

    return as_images(builder, layer, x, compute)


@converts(_class("AdaptiveMaxPooling1D"), _class("AdaptiveMaxPooling2D"))
def _adaptive_max_pool(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return _adaptive_pool("adaptive_max_pool2d", builder, layer, x)


@converts(_class("AdaptiveAveragePooling1D"), _class("AdaptiveAveragePooling2D"))
def _adaptive_average_pool(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return _adaptive_pool("adaptive_avg_pool2d", builder, layer, x)
