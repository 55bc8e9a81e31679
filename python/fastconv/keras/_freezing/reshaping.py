"""Layers that move, pad, cut or repeat values without computing new ones, and layers that resize images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from fastconv.keras._freezing.registry import Unfreezable, converts
from fastconv.keras._freezing.tensors import Builder, Tensor, product

_layers = keras.layers


@converts(_layers.Flatten)
def _flatten(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    x = builder.channels_last(x, layer.data_format)
    size = 1 if x.rank == 1 else product(x.shape[1:])
    return builder.add("reshape", [x], [x.shape[0], size], shape=[0, -1 if size is None else size])


@converts(_layers.Reshape)
def _reshape(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    shape = layer.compute_output_shape(x.shape)
    sizes = [0, *(-1 if size is None else size for size in shape[1:])]
    if sizes.count(-1) > 1:
        raise Unfreezable(f"its target_shape {layer.target_shape} leaves more than one size open")
    return builder.add("reshape", [x], shape, shape=sizes)


@converts(_layers.Permute)
def _permute(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return builder.transpose(x, [0, *layer.dims])


@converts(_layers.RepeatVector)
def _repeat(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    once = builder.reshape(x, [x.shape[0], 1, x.shape[1]])
    shape = [x.shape[0], layer.n, x.shape[1]]
    return builder.add("multiply", [once, np.ones((1, layer.n, 1))], shape)


def _pairs(values: Any) -> list[list[int]]:
    """One pair (before, after) for each spatial dimension."""
    return [list(pair) for pair in (values if isinstance(values[0], (tuple, list)) else [values])]


def _data_format(layer: Any) -> str:
    """The layer's data format. One-dimensional layers without this argument have their channels last."""
    return getattr(layer, "data_format", "channels_last")


@converts(_layers.ZeroPadding1D, _layers.ZeroPadding2D)
def _pad(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    x = builder.channels_last(x, _data_format(layer))
    pads = [[0, 0], *_pairs(layer.padding), [0, 0]]
    shape = [None if size is None else size + sum(pair) for size, pair in zip(x.shape, pads, strict=True)]
    return builder.channels_back(builder.add("pad", [x], shape, paddings=pads), _data_format(layer))


def cut(builder: Builder, x: Tensor, begin: Sequence[int | None], end: Sequence[int | None]) -> Tensor:
    """Cut out a part. A negative number counts from the end. None cuts nothing off on that side."""
    shape = [
        size if first in (0, None) and last is None else None if size is None else len(range(size)[first:last])
        for size, first, last in zip(x.shape, begin, end, strict=True)
    ]
    begin = [first or 0 for first in begin]
    return builder.add("slice", [x], shape, begin=begin, end=list(end), strides=[1] * x.rank)


@converts(_layers.Cropping1D, _layers.Cropping2D)
def _crop(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    x = builder.channels_last(x, _data_format(layer))
    pairs = [[0, 0], *_pairs(layer.cropping), [0, 0]]
    y = cut(builder, x, [first for first, _ in pairs], [-last if last else None for _, last in pairs])
    return builder.channels_back(y, _data_format(layer))


@converts(_layers.CenterCrop)
def _center_crop(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    x = builder.channels_last(x, layer.data_format)
    height, width = x.shape[-3:-1]
    if height is None or width is None or height < layer.height or width < layer.width or x.rank != 4:
        raise Unfreezable("the size of its images must be known and at least that of the crop")
    top, left = (height - layer.height) // 2, (width - layer.width) // 2
    y = cut(builder, x, [0, top, left, 0], [None, top + layer.height, left + layer.width, None])
    return builder.channels_back(y, layer.data_format)


_METHODS = {"nearest": {"rounding": "round_prefer_ceil"}, "bilinear": {}}


@converts(_layers.UpSampling1D, _layers.UpSampling2D)
def _up_sampling(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    one_dimensional = isinstance(layer.size, int)
    factors = [1, layer.size] if one_dimensional else list(layer.size)
    data_format = "channels_last" if one_dimensional else layer.data_format
    method = "nearest" if one_dimensional else layer.interpolation
    if method not in _METHODS:
        raise Unfreezable(f"its interpolation is {method!r}: only 'nearest' and 'bilinear' are supported")
    y = builder.channels_last(x, data_format)
    images = builder.reshape(y, [y.shape[0], 1, *y.shape[1:]]) if one_dimensional else y
    sizes = [None if size is None else size * factor for size, factor in zip(images.shape[1:3], factors, strict=True)]
    resized = builder.add(
        "resize",
        [images],
        [images.shape[0], *sizes, images.shape[3]],
        scales=[float(factor) for factor in factors],
        method=method,
        coordinates="half_pixel",
        **_METHODS[method],
    )
    if one_dimensional:
        return builder.reshape(resized, [resized.shape[0], *resized.shape[2:]])
    return builder.channels_back(resized, data_format)


@converts(_layers.Resizing)
def _resizing(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    if layer.interpolation not in _METHODS or x.rank != 4:
        raise Unfreezable(
            f"its interpolation is {layer.interpolation!r} on an input of shape {x.shape}: only 'nearest' and "
            "'bilinear' on batches of images are supported"
        )
    for option in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        if getattr(layer, option, False):
            raise Unfreezable(f"{option}=True is not supported")
    y = builder.channels_last(x, layer.data_format)
    size = [layer.height, layer.width]
    resized = builder.add(
        "resize",
        [y],
        [y.shape[0], *size, y.shape[3]],
        size=size,
        method=layer.interpolation,
        coordinates="half_pixel",
        **_METHODS[layer.interpolation],
    )
    return builder.channels_back(resized, layer.data_format)
