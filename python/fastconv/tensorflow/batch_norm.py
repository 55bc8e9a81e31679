"""Batch normalisation and its gradients, as functions of tensors."""

from __future__ import annotations

from typing import Any, TypeAlias

import tensorflow as tf

from fastconv._types import Activation
from fastconv.tensorflow._arguments import float_tensor, optional_tensor
from fastconv.tensorflow._geometry_code import batch_norm_attributes
from fastconv.tensorflow._library import ops

Gradients: TypeAlias = "tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor | None]"


def _inputs(input: Any, tensors: dict[str, Any], optional: dict[str, Any]) -> dict[str, tf.Tensor]:
    """All inputs of an op, which have one dtype."""
    x = float_tensor("input", input)
    return {
        "input": x,
        **{name: float_tensor(name, value, ("input", x)) for name, value in tensors.items()},
        **{name: optional_tensor(name, value, ("input", x)) for name, value in optional.items()},
    }


def _gradients(results: Any, residual: Any) -> Gradients:
    d_input, d_scale, d_offset, d_residual = results
    return d_input, d_scale, d_offset, None if residual is None else d_residual


def batch_norm(
    input: Any,
    scale: Any = None,
    offset: Any = None,
    epsilon: float = 1e-3,
    data_format: str = "NHWC",
    *,
    residual: Any = None,
    activation: Activation = None,
    name: str | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Batch normalisation with the statistics of the batch. Equivalent to `fastconv.batch_norm`.

    Returns the output, the mean and the variance of the population.
    """
    with tf.name_scope(name or "fastconv_batch_norm"):
        attributes = batch_norm_attributes(data_format, activation, epsilon)
        given = _inputs(input, {}, {"scale": scale, "offset": offset, "residual": residual})
        output, mean, variance = ops.fastconv_batch_norm(**given, **attributes)
        return output, mean, variance


def batch_norm_grad(
    input: Any,
    mean: Any,
    variance: Any,
    grad: Any,
    scale: Any = None,
    offset: Any = None,
    epsilon: float = 1e-3,
    data_format: str = "NHWC",
    *,
    residual: Any = None,
    activation: Activation = None,
    grad_mean: Any = None,
    grad_variance: Any = None,
    name: str | None = None,
) -> Gradients:
    """Gradients of `batch_norm` with respect to its input, scale, offset and residual.

    Equivalent to `fastconv.batch_norm_grad`. The last result is None without a residual.
    """
    with tf.name_scope(name or "fastconv_batch_norm_grad"):
        attributes = batch_norm_attributes(data_format, activation, epsilon)
        optional = {"scale": scale, "offset": offset, "residual": residual}
        optional |= {"grad_mean": grad_mean, "grad_variance": grad_variance}
        given = _inputs(input, {"mean": mean, "variance": variance, "grad": grad}, optional)
        return _gradients(ops.fastconv_batch_norm_grad(**given, **attributes), residual)


def batch_norm_statistics(
    input: Any, data_format: str = "NHWC", *, name: str | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and variance of each channel.

    Equivalent to `fastconv.batch_norm_statistics`, and to ``tf.nn.moments`` over all axes but that of the channels.
    """
    with tf.name_scope(name or "fastconv_batch_norm_statistics"):
        attributes = batch_norm_attributes(data_format, None, 0.0)
        mean, variance = ops.fastconv_batch_norm_statistics(input=float_tensor("input", input), **attributes)
        return mean, variance


def batch_norm_inference(
    input: Any,
    mean: Any,
    variance: Any,
    scale: Any = None,
    offset: Any = None,
    epsilon: float = 1e-3,
    data_format: str = "NHWC",
    *,
    residual: Any = None,
    activation: Activation = None,
    name: str | None = None,
) -> tf.Tensor:
    """Batch normalisation with given statistics.

    Equivalent to `fastconv.batch_norm_inference` and ``tf.nn.batch_normalization``.
    """
    with tf.name_scope(name or "fastconv_batch_norm_inference"):
        attributes = batch_norm_attributes(data_format, activation, epsilon)
        optional = {"scale": scale, "offset": offset, "residual": residual}
        given = _inputs(input, {"mean": mean, "variance": variance}, optional)
        return ops.fastconv_batch_norm_inference(**given, **attributes)


def batch_norm_inference_grad(
    input: Any,
    mean: Any,
    variance: Any,
    grad: Any,
    scale: Any = None,
    offset: Any = None,
    epsilon: float = 1e-3,
    data_format: str = "NHWC",
    *,
    residual: Any = None,
    activation: Activation = None,
    name: str | None = None,
) -> Gradients:
    """Gradients of `batch_norm_inference` with respect to its input, scale, offset and residual.

    Equivalent to `fastconv.batch_norm_inference_grad`. The last result is None without a residual.
    """
    with tf.name_scope(name or "fastconv_batch_norm_inference_grad"):
        attributes = batch_norm_attributes(data_format, activation, epsilon)
        optional = {"scale": scale, "offset": offset, "residual": residual}
        given = _inputs(input, {"mean": mean, "variance": variance, "grad": grad}, optional)
        return _gradients(ops.fastconv_batch_norm_inference_grad(**given, **attributes), residual)
