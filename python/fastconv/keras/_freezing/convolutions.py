"""Convolutions and dense layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from fastconv.keras._freezing.activations import activate
from fastconv.keras._freezing.registry import Unfreezable, converter_of, converts
from fastconv.keras._freezing.tensors import Array, Builder, Tensor, numbers


def two(values: Sequence[int]) -> list[int]:
    """Height and width. One-dimensional layers have a height of 1."""
    return [1, *values] if len(values) == 1 else list(values)


def _padding(layer: Any) -> Any:
    """The attribute `padding`. "causal" pads on the left only, so that no output sees later inputs."""
    if layer.padding == "causal":
        return [0, 0, (layer.kernel_size[0] - 1) * layer.dilation_rate[0], 0]
    return layer.padding.upper()


def as_images(builder: Builder, layer: Any, x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Call `compute` with images (N, H, W, C), whatever the layer's rank and data format are."""
    y = builder.channels_last(x, layer.data_format)
    if y.rank == 4:
        return builder.channels_back(compute(y), layer.data_format)
    batch, length, channels = y.shape
    z = compute(builder.reshape(y, [batch, 1, length, channels]))
    return builder.channels_back(builder.reshape(z, [z.shape[0], *z.shape[2:]]), layer.data_format)


def _output_shape(layer: Any, x: Tensor, channels: int) -> list[int | None]:
    """The shape of a convolution's output for an input (N, H, W, C)."""
    result: list[int | None] = [x.shape[0]]
    kernel, strides, dilations = map(two, (layer.kernel_size, layer.strides, layer.dilation_rate))
    for size, k, stride, dilation in zip(x.shape[1:3], kernel, strides, dilations, strict=True):
        same = layer.padding in ("same", "causal")
        window = 1 if same else (k - 1) * dilation + 1
        result.append(None if size is None else (size - window) // stride + 1)
    return [*result, channels]


def _filters(kernel: Any) -> Array:
    values = numbers(kernel)
    return values[np.newaxis] if values.ndim == 3 else values


def _bias(layer: Any) -> Array | None:
    return numbers(layer.bias) if layer.use_bias else None


def _check_kernel(layer: Any) -> None:
    if getattr(layer, "quantization_mode", None) is not None:
        raise Unfreezable(f"it is quantised ({layer.quantization_mode}): freeze the model before quantising it")


@converts(keras.layers.Conv1D, keras.layers.Conv2D)
def _convolution(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    _check_kernel(layer)

    def compute(images: Tensor) -> Tensor:
        return builder.add(
            "conv2d",
            [images, _filters(layer.kernel), _bias(layer), None],
            _output_shape(layer, images, layer.filters),
            strides=two(layer.strides),
            padding=_padding(layer),
            dilations=two(layer.dilation_rate),
        )

    return activate(builder, as_images(builder, layer, x, compute), layer.activation)


@converts(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
def _depthwise(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    def compute(images: Tensor) -> Tensor:
        return _depthwise_images(builder, layer, images, layer.kernel, _bias(layer))

    return activate(builder, as_images(builder, layer, x, compute), layer.activation)


def _depthwise_images(builder: Builder, layer: Any, images: Tensor, kernel: Any, bias: Array | None) -> Tensor:
    filters = _filters(kernel)
    return builder.add(
        "depthwise_conv2d",
        [images, filters, bias, None],
        _output_shape(layer, images, filters.shape[2] * filters.shape[3]),
        strides=two(layer.strides),
        padding=_padding(layer),
        dilations=two(layer.dilation_rate),
    )


@converts(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
def _separable(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    def compute(images: Tensor) -> Tensor:
        middle = _depthwise_images(builder, layer, images, layer.depthwise_kernel, None)
        filters = _filters(layer.pointwise_kernel)
        ones = {"strides": [1, 1], "dilations": [1, 1], "padding": "VALID"}
        shape = [*middle.shape[:3], filters.shape[3]]
        return builder.add("conv2d", [middle, filters, _bias(layer), None], shape, **ones)

    return activate(builder, as_images(builder, layer, x, compute), layer.activation)


@converts(keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose)
def _transposed(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    pads: list[int] = []
    extra: list[int] = []
    probe = 8  # any size will do: each further pixel of the input adds `stride` pixels to the output
    channels = x.shape[1 if layer.data_format == "channels_first" else -1]
    sizes = [probe] * len(layer.kernel_size)
    shape = [1, channels, *sizes] if layer.data_format == "channels_first" else [1, *sizes, channels]
    probed = [size for size in layer.compute_output_shape(shape)]
    probed = probed[2:] if layer.data_format == "channels_first" else probed[1:-1]
    for k, stride, dilation, size in zip(
        two(layer.kernel_size),
        two(layer.strides),
        two(layer.dilation_rate),
        [1, *probed] if len(probed) == 1 else probed,
        strict=True,
    ):
        count = 1 if len(probed) == 1 and not pads else probe
        window, rest = (k - 1) * dilation + 1, size - (count - 1) * stride
        total = max(window - rest, 0) if layer.padding == "same" else 0
        pads += [total // 2, total - total // 2]
        extra.append(rest - window + total)

    def grown(images: Tensor) -> list[int | None]:
        sizes: list[int | None] = []
        for axis in range(2):
            size = images.shape[1 + axis]
            window = (two(layer.kernel_size)[axis] - 1) * two(layer.dilation_rate)[axis] + 1
            added = window - sum(pads[2 * axis : 2 * axis + 2]) + extra[axis]
            sizes.append(None if size is None else (size - 1) * two(layer.strides)[axis] + added)
        return [images.shape[0], *sizes, layer.filters]

    def compute(images: Tensor) -> Tensor:
        return builder.add(
            "conv2d_transpose",
            [images, _filters(layer.kernel), _bias(layer), None],
            grown(images),
            strides=two(layer.strides),
            padding=pads,
            output_padding=extra,
            dilations=two(layer.dilation_rate),
        )

    return activate(builder, as_images(builder, layer, x, compute), layer.activation)


@converts(keras.layers.Dense)
def _dense(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    _check_kernel(layer)
    shape = [*x.shape[:-1], layer.units]
    y = builder.add("dense", [x, numbers(layer.kernel), _bias(layer), None], shape)
    return activate(builder, y, layer.activation)


@converts(keras.layers.TimeDistributed)
def _time_distributed(builder: Builder, layer: Any, x: Tensor, mask: Any = None) -> Tensor:
    convert = converter_of(layer.layer)
    if convert is None or mask is not None:
        raise Unfreezable(
            f"its layer {layer.layer.name!r} ({type(layer.layer).__name__}) is not supported"
            f"{' with a mask' if convert else ''}"
        )
    if x.shape[1] is None:
        raise Unfreezable("the number of its steps is not known: give it in the model's Input")
    folded = builder.add("reshape", [x], [None, *x.shape[2:]], shape=[-1, *_known(x.shape[2:])])
    y: Tensor = convert(builder, layer.layer, folded)
    return builder.add(
        "reshape", [y], [x.shape[0], x.shape[1], *y.shape[1:]], shape=[-1, x.shape[1], *_known(y.shape[1:])]
    )


def _known(sizes: Sequence[int | None]) -> list[int]:
    if None in sizes:
        raise Unfreezable("the sizes of its images are not known: give them in the model's Input")
    return [size for size in sizes if size is not None]
