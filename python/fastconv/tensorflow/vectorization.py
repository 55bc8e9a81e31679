"""Vectorizes the ops in ``tf.vectorized_map`` and ``GradientTape.jacobian``: one call for all iterations of the loop.

TensorFlow replaces such a loop by ops on stacks. A stack is a tensor with the loop's axis, of length n, in front. This
module merges that axis into an axis of the op:

- into the batch, if all iterations share the filters. The input (n, N, H, W, C) becomes n*N images.
- into the filters, if all iterations share the input of a convolution. There are n*K filters then.
- into the channels otherwise. Input (N, H, W, n*C) and filters (R, S, C, n*K) form a convolution with n groups.

If none of these is possible, TensorFlow runs a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from fastconv.tensorflow._arguments import left_out, lent_shape
from fastconv.tensorflow._geometry_code import (
    counts_batch_in_argmax,
    decode,
    encode,
    has_relu,
    is_depthwise,
    is_nchw,
    names_algorithm,
    without_activation,
)
from fastconv.tensorflow._library import ops
from fastconv.tensorflow._loop_folding import BATCH, Loop, Operand, Size, sizes_of
from fastconv.tensorflow._tensorflow_internals import NotVectorizable, VectorizeOp, register_vectorization

_ROW_OF_CHANNELS = 0  # the axis of a bias


def _channel_axis(geometry: tf.Tensor) -> int:
    return 1 if is_nchw(geometry) else 3


def _given(bias: Operand) -> bool:
    return len(bias.sizes) == 1


# ---- Inputs that only lend their sizes ------------------------------------------------------------------------------


def _image_sizes(like: Operand, dy: Operand, filters: Operand, geometry: tf.Tensor) -> list[Size]:
    """The sizes of the output images of a transposed convolution, from its input `like`."""
    sizes = _lent_sizes(like)
    if len(sizes) == 4:
        return sizes
    batch, channels = dy.sizes[BATCH], filters.sizes[2]
    return [batch, channels, *sizes] if is_nchw(geometry) else [batch, *sizes, channels]


def _lent_sizes(like: Operand) -> list[Size]:
    """The sizes that `like` lends: its whole shape, or what follows the leading zero of `lent_shape`."""
    sizes = like.sizes
    return sizes if len(sizes) == 4 else sizes[1:]


# ---- Convolutions ---------------------------------------------------------------------------------------------------


class _Folding(NamedTuple):
    """The axes into which the loop's axis is merged if the iterations have different filters."""

    channels: int  # the axis of the channels of an image
    filters: int  # the axis of the filters, into which the loop's axis is merged
    shares_input: bool
    filter_groups: Size | None = None  # groups of the filter axis; each contains a part of every iteration
    output_groups: Size | None = None  # groups of the output's channels, likewise

    def input(self, loop: Loop, x: Operand) -> tf.Tensor:
        return x.tensor if self.shares_input else loop.fold(x, self.channels)


def _folding(x: Operand, filter_sizes: list[Size], geometry: tf.Tensor) -> _Folding:
    if names_algorithm(geometry):
        raise NotVectorizable(
            "the named algorithm might not support one convolution with the channels or groups of all iterations"
        )
    channels, depthwise = _channel_axis(geometry), is_depthwise(geometry)
    if x.stacked:
        return _Folding(channels, 2 if depthwise else 3, shares_input=False)
    if depthwise:
        return _Folding(channels, 3, shares_input=True, output_groups=filter_sizes[2])
    groups = x.sizes[channels] // filter_sizes[2]
    return _Folding(channels, 3, shares_input=True, filter_groups=groups, output_groups=groups)


def _output_channels(filter_sizes: list[Size], geometry: tf.Tensor) -> Size:
    return filter_sizes[2] * filter_sizes[3] if is_depthwise(geometry) else filter_sizes[3]


def _conv2d(loop: Loop, x: Operand, filters: Operand, bias: Operand, geometry: tf.Tensor) -> list[tf.Tensor]:
    if not (filters.stacked or bias.stacked):
        y = ops.fastconv_conv2d(input=loop.fold(x, BATCH), filters=filters.tensor, bias=bias.tensor, geometry=geometry)
        return [loop.unfold(y, BATCH, x.sizes[BATCH])]
    folding = _folding(x, filters.sizes, geometry)
    y = ops.fastconv_conv2d(
        input=folding.input(loop, x),
        filters=loop.fold(filters, folding.filters, folding.filter_groups),
        bias=_folded_bias(loop, bias, folding),
        geometry=geometry,
    )
    channels = _output_channels(filters.sizes, geometry)
    return [loop.unfold(y, folding.channels, channels, folding.output_groups)]


def _folded_bias(loop: Loop, bias: Operand, folding: _Folding) -> tf.Tensor:
    if not _given(bias):
        return left_out(bias.tensor.dtype)
    return loop.fold(bias, _ROW_OF_CHANNELS, folding.output_groups)


def _backprop_input(loop: Loop, like: Operand, filters: Operand, dy: Operand, geometry: tf.Tensor) -> list[tf.Tensor]:
    sizes = _image_sizes(like, dy, filters, geometry)
    if filters.stacked:
        folding = _folding(Operand(dy.tensor, True), filters.sizes, geometry)
        axis, packed = folding.channels, loop.fold(filters, folding.filters)
    else:
        axis, packed = BATCH, filters.tensor
    dx = ops.fastconv_conv2d_backprop_input(
        like=lent_shape("input_sizes", loop.folded_sizes(sizes, axis)),
        filters=packed,
        out_backprop=loop.fold(dy, axis),
        geometry=geometry,
    )
    return [loop.unfold(dx, axis, sizes[axis])]


def _transpose(loop: Loop, x: Operand, filters: Operand, like: Operand, geometry: tf.Tensor) -> list[tf.Tensor]:
    return _backprop_input(loop, like, filters, x, geometry)


def _backprop_filter(loop: Loop, x: Operand, like: Operand, dy: Operand, geometry: tf.Tensor) -> list[tf.Tensor]:
    folding, sizes, folded = _folded_filter_gradient(loop, x, like, dy, geometry)
    d_filters = ops.fastconv_conv2d_backprop_filter(**folded, geometry=geometry)
    return [_unfold_filters(loop, d_filters, folding, sizes)]


def _backprop_filter_bias(loop: Loop, x: Operand, like: Operand, dy: Operand, geometry: tf.Tensor) -> list[tf.Tensor]:
    folding, sizes, folded = _folded_filter_gradient(loop, x, like, dy, geometry)
    d_filters, d_bias = ops.fastconv_conv2d_backprop_filter_bias(**folded, geometry=geometry)
    channels = dy.sizes[folding.channels]
    return [
        _unfold_filters(loop, d_filters, folding, sizes),
        loop.unfold(d_bias, _ROW_OF_CHANNELS, channels, folding.output_groups),
    ]


def _folded_filter_gradient(
    loop: Loop, x: Operand, like: Operand, dy: Operand, geometry: tf.Tensor
) -> tuple[_Folding, list[Size], dict[str, tf.Tensor]]:
    """The folding, the sizes of the filters in one iteration, and the folded inputs of the op."""
    sizes = _lent_sizes(like)
    folding = _folding(x, sizes, geometry)
    folded = {
        "input": folding.input(loop, x),
        "like": lent_shape("filter_sizes", loop.folded_sizes(sizes, folding.filters)),
        "out_backprop": loop.fold(dy, folding.channels, folding.output_groups),
    }
    return folding, sizes, folded


def _unfold_filters(loop: Loop, d_filters: tf.Tensor, folding: _Folding, sizes: list[Size]) -> tf.Tensor:
    return loop.unfold(d_filters, folding.filters, sizes[folding.filters], folding.filter_groups)


def _bias_gradient(loop: Loop, dy: Operand, geometry: tf.Tensor) -> list[tf.Tensor]:
    axis = _channel_axis(geometry)
    d_bias = ops.fastconv_bias_gradient(out_backprop=loop.fold(dy, axis), geometry=geometry)
    return [loop.unfold(d_bias, _ROW_OF_CHANNELS, dy.sizes[axis])]


def _relu_bias_grad(loop: Loop, gradients: Operand, features: Operand, geometry: tf.Tensor) -> list[tf.Tensor]:
    dy = tf.raw_ops.ReluGrad(gradients=loop.stack(gradients), features=loop.stack(features))
    return [dy, *_bias_gradient(loop, Operand(dy, True), geometry)]


# ---- Pools ----------------------------------------------------------------------------------------------------------


def _by_batch(op: Callable[..., Any], *names: str) -> Callable[..., list[tf.Tensor]]:
    """The vectorization of an op whose inputs all have a batch axis."""

    def vectorized(loop: Loop, *operands: Any) -> list[tf.Tensor]:
        *inputs, geometry = operands
        folded = {name: loop.fold(x, BATCH) for name, x in zip(names, inputs, strict=True)}
        outputs = op(**folded, geometry=geometry)
        batch = inputs[0].sizes[BATCH]
        return [loop.unfold(y, BATCH, batch) for y in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return vectorized


def _by_batch_like(op: Callable[..., Any], *names: str) -> Callable[..., list[tf.Tensor]]:
    """The vectorization of an op whose first input lends the shape of the output."""

    def vectorized(loop: Loop, like: Operand, *operands: Any) -> list[tf.Tensor]:
        *inputs, geometry = operands
        sizes = _lent_sizes(like)
        folded = {name: loop.fold(x, BATCH) for name, x in zip(names, inputs, strict=True)}
        y = op(like=lent_shape("input_sizes", loop.folded_sizes(sizes, BATCH)), **folded, geometry=geometry)
        return [loop.unfold(y, BATCH, sizes[BATCH])]

    return vectorized


_max_pool2d_scatter = _by_batch_like(ops.fastconv_max_pool2d_scatter, "taps", "grad")


def _max_pool2d_with_argmax(loop: Loop, x: Operand, geometry: tf.Tensor) -> list[tf.Tensor]:
    output, argmax = _by_batch(ops.fastconv_max_pool2d_with_argmax, "input")(loop, x, geometry)
    if counts_batch_in_argmax(geometry):  # the argmax also counts the images of earlier iterations
        argmax %= tf.reduce_prod(tf.cast(x.sizes, tf.int64))
    return [output, argmax]


# ---- A convolution and the max-pooling of its output ----------------------------------------------------------------


def _conv2d_max_pool2d(
    loop: Loop, x: Operand, filters: Operand, bias: Operand, geometry: tf.Tensor, pool_geometry: tf.Tensor
) -> list[tf.Tensor]:
    if filters.stacked or bias.stacked:
        return _conv2d_then_max_pool2d(loop, x, filters, bias, geometry, pool_geometry)
    outputs = ops.fastconv_conv2d_max_pool2d(
        input=loop.fold(x, BATCH),
        filters=filters.tensor,
        bias=bias.tensor,
        geometry=geometry,
        pool_geometry=pool_geometry,
    )
    return [loop.unfold(y, BATCH, x.sizes[BATCH]) for y in outputs]


def _conv2d_then_max_pool2d(
    loop: Loop, x: Operand, filters: Operand, bias: Operand, geometry: tf.Tensor, pool_geometry: tf.Tensor
) -> list[tf.Tensor]:
    (y,) = _conv2d(loop, x, filters, bias, geometry)
    return _by_batch(ops.fastconv_max_pool2d_with_taps, "input")(loop, Operand(y, True), pool_geometry)


def _conv2d_max_pool2d_backprop_filter_bias(
    loop: Loop,
    x: Operand,
    filters: Operand,
    taps: Operand,
    grad: Operand,
    output: Operand,
    geometry: tf.Tensor,
    pool_geometry: tf.Tensor,
) -> list[tf.Tensor]:
    dy = _scattered(loop, x, filters, taps, grad, output, geometry, pool_geometry)
    return _backprop_filter_bias(loop, x, filters, dy, geometry)


def _conv2d_max_pool2d_backprop(
    loop: Loop,
    x: Operand,
    filters: Operand,
    taps: Operand,
    grad: Operand,
    output: Operand,
    geometry: tf.Tensor,
    pool_geometry: tf.Tensor,
) -> list[tf.Tensor]:
    dy = _scattered(loop, x, filters, taps, grad, output, geometry, pool_geometry)
    dx = _backprop_input(loop, x, filters, dy, geometry)
    return dx + _backprop_filter_bias(loop, x, filters, dy, geometry)


def _scattered(
    loop: Loop,
    x: Operand,
    filters: Operand,
    taps: Operand,
    grad: Operand,
    output: Operand,
    geometry: tf.Tensor,
    pool_geometry: tf.Tensor,
) -> Operand:
    """The gradient with respect to the convolution's output."""
    if has_relu(geometry):
        grad = Operand(tf.raw_ops.ReluGrad(gradients=loop.stack(grad), features=loop.stack(output)), True)
    no_images = ops.fastconv_conv2d(  # costs nothing, and shows the size of the convolution's output
        input=tf.zeros([0, *x.sizes[1:]], x.tensor.dtype),
        filters=tf.zeros(filters.sizes, x.tensor.dtype),
        bias=left_out(x.tensor.dtype),
        geometry=without_activation(geometry),
    )
    like = Operand(lent_shape("input_sizes", [x.sizes[BATCH], *sizes_of(no_images)[1:]]), False)
    (dy,) = _max_pool2d_scatter(loop, like, taps, grad, pool_geometry)
    return Operand(dy, True)


# ---- Registration ---------------------------------------------------------------------------------------------------

_Vectorized = Callable[..., list[tf.Tensor]]

_WITH_ONE_GEOMETRY: dict[str, _Vectorized] = {
    "FastconvAvgPool2D": _by_batch(ops.fastconv_avg_pool2d, "input"),
    "FastconvAvgPool2DGrad": _by_batch_like(ops.fastconv_avg_pool2d_grad, "grad"),
    "FastconvBiasGradient": _bias_gradient,
    "FastconvConv2D": _conv2d,
    "FastconvConv2DBackpropFilter": _backprop_filter,
    "FastconvConv2DBackpropFilterBias": _backprop_filter_bias,
    "FastconvConv2DBackpropInput": _backprop_input,
    "FastconvConv2DTranspose": _transpose,
    "FastconvMaxPool2D": _by_batch(ops.fastconv_max_pool2d, "input"),
    "FastconvMaxPool2DGather": _by_batch(ops.fastconv_max_pool2d_gather, "values", "taps"),
    "FastconvMaxPool2DGrad": _by_batch(ops.fastconv_max_pool2d_grad, "orig_input", "orig_output", "grad"),
    "FastconvMaxPool2DScatter": _max_pool2d_scatter,
    "FastconvMaxPool2DWithArgmax": _max_pool2d_with_argmax,
    "FastconvMaxPool2DWithTaps": _by_batch(ops.fastconv_max_pool2d_with_taps, "input"),
    "FastconvReluBiasGrad": _relu_bias_grad,
}
_WITH_TWO_GEOMETRIES: dict[str, _Vectorized] = {
    "FastconvConv2DMaxPool2D": _conv2d_max_pool2d,
    "FastconvConv2DMaxPool2DBackprop": _conv2d_max_pool2d_backprop,
    "FastconvConv2DMaxPool2DBackpropFilterBias": _conv2d_max_pool2d_backprop_filter_bias,
}


def register() -> None:
    """Register the vectorization of each op."""
    for geometries, table in enumerate((_WITH_ONE_GEOMETRY, _WITH_TWO_GEOMETRIES), start=1):
        for op_type, vectorized in table.items():
            register_vectorization(op_type, _converter(vectorized, geometries))


def _converter(vectorized: _Vectorized, geometries: int) -> VectorizeOp:
    def convert(op: Any, inputs: list[tuple[tf.Tensor, bool]], length: Size) -> list[tf.Tensor]:
        codes = op.inputs[-geometries:]
        if not all(code.shape.is_fully_defined() for code in codes):
            raise NotVectorizable("the geometry is not known while the graph is built")
        operands = (Operand(*x) for x in inputs[:-geometries])
        return vectorized(Loop(length), *operands, *(encode(decode(code)) for code in codes))

    return convert
