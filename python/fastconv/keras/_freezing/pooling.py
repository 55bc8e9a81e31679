"""Pools."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fastconv.keras._freezing.convolutions import as_images, two
from fastconv.keras._freezing.registry import converts, public_class
from fastconv.keras._freezing.tensors import Builder, Tensor


def _pool(operation: str, builder: Builder, layer: Any, x: Tensor) -> Tensor:
    ksize, strides = two(layer.pool_size), two(layer.strides)

    def compute(images: Tensor) -> Tensor:
        same = layer.padding == "same"
        sizes = [
            None if size is None else (size - (1 if same else window)) // stride + 1
            for size, window, stride in zip(images.shape[1:3], ksize, strides, strict=True)
        ]
        shape = [images.shape[0], *sizes, images.shape[3]]
        return builder.add(operation, [images], shape, ksize=ksize, strides=strides, padding=layer.padding.upper())

    return as_images(builder, layer, x, compute)


def _global_pool(method: str, builder: Builder, layer: Any, x: Tensor) -> Tensor:
    first = 2 if layer.data_format == "channels_first" else 1
    axes = list(range(first, first + x.rank - 2))
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape) if layer.keepdims or axis not in axes]
    return builder.add("reduce", [x], shape, method=method, axes=axes, keepdims=bool(layer.keepdims))


def _adaptive_pool(operation: str, builder: Builder, layer: Any, x: Tensor) -> Tensor:
    size = two([layer.output_size] if isinstance(layer.output_size, int) else layer.output_size)

    def compute(images: Tensor) -> Tensor:
        return builder.add(operation, [images], [images.shape[0], *size, images.shape[3]], output_size=size)

    return as_images(builder, layer, x, compute)


def _register(kind: str, convert: Callable[..., Tensor], what: str) -> None:
    """Register the one- and two-dimensional layers of a kind. `what` is the first argument of `convert`."""
    converts(*(public_class(f"{kind}{rank}D") for rank in (1, 2)))(partial(convert, what))


_register("MaxPooling", _pool, "max_pool2d")
_register("AveragePooling", _pool, "avg_pool2d")
_register("GlobalMaxPooling", _global_pool, "max")
_register("GlobalAveragePooling", _global_pool, "mean")
_register("AdaptiveMaxPooling", _adaptive_pool, "adaptive_max_pool2d")
_register("AdaptiveAveragePooling", _adaptive_pool, "adaptive_avg_pool2d")
