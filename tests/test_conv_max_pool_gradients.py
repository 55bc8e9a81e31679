"""Gradients of a convolution and the max pooling of its output: computed together if both are in one graph."""

from __future__ import annotations

from typing import Any

import fastconv
import fastconv.tensorflow as fc
import numpy as np
import pytest
import tensorflow as tf
from arrays import random
from graph_ops import ops_of


def conv_max_pool_gradients(
    x: tf.Tensor, w: tf.Tensor, b: tf.Tensor | None, activation: str | None, wanted: list[int]
) -> Any:
    """The gradients of sum(y**3), where y is the max pooling of a convolution."""
    sources = [tensor for i, tensor in enumerate((x, w, b)) if i in wanted]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        y = fc.max_pool2d(fc.conv2d(x, w, bias=b, activation=activation), 2)
        loss = tf.reduce_sum(y * y * y)
    return tape.gradient(loss, sources)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("wanted", [[0, 1, 2], [1, 2], [0, 1], [1], [0], [2]], ids=str)
def test_gradients_of_a_convolution_and_its_max_pool_in_a_graph(
    wanted: list[int], activation: str | None, dtype: tf.DType
) -> None:
    values = [tf.constant(random(*shape), dtype) for shape in ((6, 12, 13, 3), (3, 3, 3, 4), (4,))]
    if 2 not in wanted:
        values[2] = None
    expected = conv_max_pool_gradients(*values, activation, wanted)  # eagerly, op by op

    specs = [None if value is None else tf.TensorSpec((None, *value.shape[1:]), dtype) for value in values]
    specs[1:] = [None if value is None else tf.TensorSpec(value.shape, dtype) for value in values[1:]]
    in_graph = tf.function(lambda *given: conv_max_pool_gradients(*given, activation, wanted)).get_concrete_function(
        *specs
    )
    together = {op.type for op in in_graph.graph.get_operations() if "MaxPool2DBackprop" in op.type}
    assert together == (
        {"FastconvConv2DMaxPool2DBackprop"} if {0, 1} <= set(wanted)
        else {"FastconvConv2DMaxPool2DBackpropFilterBias"} if 1 in wanted
        else set()
    )  # fmt: skip
    assert [output.shape.as_list() for output in in_graph.outputs] == [
        [None if i == 0 else d for d in values[i].shape[:1]] + values[i].shape[1:].as_list() for i in wanted
    ]
    got = in_graph(*(value for value in values if value is not None))
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3 if dtype == tf.float32 else 1e-9)


def test_a_convolution_whose_output_is_used_twice_is_not_fused() -> None:
    x, w = tf.constant(random(2, 8, 8, 3)), tf.constant(random(3, 3, 3, 4))

    @tf.function
    def gradient(w: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(w)
            y = fc.conv2d(x, w)
            loss = tf.reduce_sum(fc.max_pool2d(y, 2)) + tf.reduce_sum(y * y)
        return tape.gradient(loss, w)

    y = fastconv.conv2d(x.numpy(), w.numpy())
    pooled = fastconv.max_pool2d(y, 2)
    dy = fastconv.max_pool2d_grad(y, pooled, np.ones_like(pooled), 2) + 2 * y
    np.testing.assert_allclose(
        gradient(w), fastconv.conv2d_backprop_filter(x.numpy(), w.shape.as_list(), dy), rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("wanted", [[0, 1, 2], [1, 2]], ids=str)
def test_second_order_gradients_of_a_convolution_and_its_max_pool(wanted: list[int]) -> None:
    values = [tf.constant(random(*shape), tf.float64) for shape in ((2, 6, 6, 2), (3, 3, 2, 3), (3,))]

    def second(*values: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(values)
            first = conv_max_pool_gradients(*values, None, wanted)
            loss = tf.add_n([tf.reduce_sum(tf.sin(part)) for part in first])
        return tape.gradient(loss, values)

    for ours, theirs in zip(tf.function(second)(*values), second(*values), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_pool_of_another_data_format_is_not_fused() -> None:
    x, w, b = (tf.constant(random(*shape)) for shape in ((2, 202, 12, 3), (3, 3, 3, 1), (1,)))

    def gradients(x: tf.Tensor, w: tf.Tensor, b: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, w, b])
            y = fc.max_pool2d(fc.conv2d(x, w, bias=b), (2, 1), data_format="NCHW")
            loss = tf.reduce_sum(y * y)
        return tape.gradient(loss, [x, w, b])

    for ours, theirs in zip(tf.function(gradients)(x, w, b), gradients(x, w, b), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-2)
    geometry = fc._geometry(fastconv._core.conv_geometry(1, "VALID", "NHWC", 1, "auto", None, False))
    windows = fc._geometry(fastconv._core.pool_geometry((2, 1), None, "VALID", "NCHW", 1, False, False, None))
    taps, grad = tf.zeros((2, 200, 5, 1), tf.uint8), tf.zeros((2, 200, 5, 1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="format"):
        fc._ops.fastconv_conv2d_max_pool2d_backprop(
            input=x, filters=w, taps=taps, grad=grad, output=tf.zeros((0, 0)), geometry=geometry, pool_geometry=windows
        )


def test_max_pool_windows_of_more_than_255_pixels_are_refused() -> None:
    geometry = fc._geometry(fastconv._core.conv_geometry(1, "VALID", "NHWC", 1, "auto", None, False))
    windows = fc._geometry(fastconv._core.pool_geometry(24, None, "VALID", "NHWC", 1, False, False, None))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at most 255 pixels, .*; got 24 x 24"):
        fc._ops.fastconv_conv2d_max_pool2d_backprop_filter_bias(
            input=tf.zeros((1, 24, 24, 4)), filters=tf.zeros((1, 1, 4, 16)), taps=tf.zeros((1, 1, 1, 16), tf.uint8),
            grad=tf.zeros((1, 1, 1, 16)), output=tf.zeros((0, 0)), geometry=geometry, pool_geometry=windows,
        )  # fmt: skip


def test_large_layers_keep_their_own_gradients() -> None:
    specs = [tf.TensorSpec(shape) for shape in ((2, 32, 32, 16), (3, 3, 16, 32), (32,))]
    assert "FastconvMaxPool2DScatter" in ops_of(lambda *given: conv_max_pool_gradients(*given, None, [0, 1, 2]), *specs)


@pytest.mark.parametrize("wrong", ["taps", "grad", "filters"])
def test_wrong_shapes_are_refused(wrong: str) -> None:
    given = {
        "input": tf.zeros((2, 8, 8, 3)),
        "filters": tf.zeros((3, 3, 3, 4)),
        "taps": tf.zeros((2, 3, 3, 4), tf.uint8),
        "grad": tf.zeros((2, 3, 3, 4)),
        "output": tf.zeros((0, 0)),
    }
    given[wrong] = given[wrong][:, :, :2]
    geometry = fc._geometry(fastconv._core.conv_geometry(1, "VALID", "NHWC", 1, "auto", None, False))
    windows = fc._geometry(fastconv._core.pool_geometry(2, None, "VALID", "NHWC", 1, False, False, None))
    with pytest.raises(tf.errors.InvalidArgumentError):
        fc._ops.fastconv_conv2d_max_pool2d_backprop(**given, geometry=geometry, pool_geometry=windows)
