"""Normalisation, rescaling, and layers that do something in training only."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from fastconv.keras._freezing.registry import Unfreezable, converts, converts_named, public_class
from fastconv.keras._freezing.tensors import Array, Builder, Tensor, numbers

_layers = keras.layers


def scale_shift(builder: Builder, x: Tensor, axis: int, scale: Array | None, shift: Array | None) -> Tensor:
    """``x * scale + shift`` with one number for each position of `axis`."""
    last, back = builder.axis_last(x, axis)
    return builder.transpose(builder.add("scale_shift", [last, scale, shift], last.shape), back)


@converts(_layers.BatchNormalization)
def _batch_normalization(builder: Builder, layer: Any, x: Tensor, mask: Any = None) -> Tensor:
    scale = 1 / np.sqrt(numbers(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale = scale * numbers(layer.gamma)
    shift = -numbers(layer.moving_mean) * scale
    if layer.center:
        shift = shift + numbers(layer.beta)
    axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
    return scale_shift(builder, x, axis, scale, shift)


@converts(_layers.Normalization)
def _normalization(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    mean, variance = numbers(layer.mean), numbers(layer.variance)
    deviation = np.maximum(np.sqrt(variance), keras.backend.epsilon())
    scale, shift = (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
    return _affine(builder, x, scale, shift)


@converts(_layers.Rescaling)
def _rescaling(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    # Keras rounds the numbers to float32 first, also in a model of float64.
    scale, offset = (numbers(keras.ops.cast(value, layer.compute_dtype)) for value in (layer.scale, layer.offset))
    if keras.config.image_data_format() == "channels_first" and scale.ndim:
        scale = scale.reshape(scale.shape + (1,) * (3 - scale.ndim))
    return _affine(builder, x, scale, offset)


def _affine(builder: Builder, x: Tensor, scale: Array, shift: Array) -> Tensor:
    """``x * scale + shift``, where both broadcast to `x`."""
    channels = x.shape[-1]
    if channels is not None and all(
        value.size in (1, value.shape[-1]) and value.size in (1, channels)
        for value in (np.atleast_1d(scale), np.atleast_1d(shift))
    ):
        whole = [np.broadcast_to(value.ravel(), (channels,)) for value in (scale, shift)]
        return builder.add("scale_shift", [x, *whole], x.shape)
    return builder.add("add", [builder.add("multiply", [x, scale], x.shape), shift], x.shape)


@converts(_layers.LayerNormalization)
def _layer_normalization(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    axes = sorted(axis % x.rank for axis in (layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]))
    if getattr(layer, "rms_scaling", False):
        raise Unfreezable("rms_scaling=True is not supported")
    if axes != list(range(axes[0], x.rank)):
        raise Unfreezable(f"it normalises the axes {tuple(axes)}: only the last axes are supported")
    scale = numbers(layer.gamma) if layer.scale else None
    offset = numbers(layer.beta) if layer.center else None
    return builder.add("layer_normalization", [x, scale, offset], x.shape, axis=axes[0], epsilon=float(layer.epsilon))


@converts_named("keras.src.applications", "LayerScale")
def _layer_scale(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return builder.add("scale_shift", [x, numbers(layer.gamma), None], x.shape)


@converts(
    _layers.Identity,
    _layers.Dropout,
    _layers.SpatialDropout1D,
    _layers.SpatialDropout2D,
    _layers.AlphaDropout,
    _layers.GaussianDropout,
    _layers.GaussianNoise,
    _layers.ActivityRegularization,
    *(
        public_class(name)
        for name in (
            "RandomBrightness RandomColorJitter RandomContrast RandomErasing RandomFlip RandomGaussianBlur "
            "RandomGrayscale RandomHue RandomPerspective RandomPosterization RandomRotation RandomSaturation "
            "RandomSharpness RandomShear RandomTranslation RandomZoom MixUp CutMix AugMix RandAugment"
        ).split()
    ),
)
@converts_named("keras.src.applications", "StochasticDepth")
def _training_only(builder: Builder, layer: Any, x: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
    return x
