"""Options of pools in TensorFlow: encoded geometries of older graphs, fused ops and vectorization."""

from __future__ import annotations

from typing import Any

import fastconv
import fastconv.tensorflow as fc
import numpy as np
import pytest
import tensorflow as tf

X = np.random.default_rng(0).standard_normal((2, 9, 8, 3)).astype(np.float32)
OLD = [0, 0, 0, 2, 3, 2, 2, 1, 1, 0, 1, 1]  # the encoded geometry in a graph that was saved before pools had options


def test_geometries_of_older_graphs_work() -> None:
    geometry = fc._geometry(OLD)
    window: dict[str, Any] = {"ksize": (3, 2), "strides": (2, 1), "padding": ((1, 0), (1, 1))}

    @tf.function
    def pooled(x: Any) -> Any:
        outputs = [fc._ops.fastconv_max_pool2d(input=x, geometry=geometry)]
        outputs += fc._ops.fastconv_max_pool2d_with_taps(input=x, geometry=geometry)[:1]
        return [*outputs, fc._ops.fastconv_avg_pool2d(input=x, geometry=geometry)]

    results = pooled(tf.constant(X))
    most, mean = fastconv.max_pool2d(X, **window), fastconv.avg_pool2d(X, **window)
    for ours, expected in zip(results, (most, most, mean), strict=True):
        np.testing.assert_array_equal(ours, expected)
    inferred = pooled.get_concrete_function(tf.TensorSpec([None, 9, 8, 3])).outputs
    assert {tuple(output.shape.as_list()) for output in inferred} == {(None, *most.shape[1:])}
    with tf.GradientTape() as tape:
        x = tf.constant(X)
        tape.watch(x)
        y = fc._ops.fastconv_max_pool2d_with_taps(input=x, geometry=geometry).output
    gradient = tape.gradient(y, x, tf.ones_like(y))
    np.testing.assert_array_equal(gradient, fastconv.max_pool2d_grad(X, most, np.ones_like(most), **window))


@pytest.mark.parametrize("size", [11, 13, 18, 20])
def test_encoded_geometries_of_other_lengths_are_refused(size: int) -> None:
    code = [*OLD, 1, 1, 0, 0, 0, 0, 0, 0][:size]
    with pytest.raises(tf.errors.InvalidArgumentError, match="geometry must come from"):
        fc._ops.fastconv_max_pool2d(input=X, geometry=fc._geometry(code))


@pytest.mark.parametrize("options", [{"dilations": 2}, {"ceil_mode": True}], ids=["dilations", "ceil_mode"])
def test_gradients_of_a_small_layer_before_a_pool_with_options(options: Any) -> None:
    """These pools must not use the fused gradient of a convolution and its pooling: it supports only plain windows."""
    w = tf.constant(np.random.default_rng(1).standard_normal((3, 3, 3, 4)).astype(np.float32))

    @tf.function
    def gradients(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = fc.max_pool2d(fc.conv2d(x, w, padding=((0, 0), (0, 1))), 2, 2, **options)
        return tape.gradient(y, [x, w])

    maps = fastconv.conv2d(X, w.numpy(), padding=((0, 0), (0, 1)))
    pooled = fastconv.max_pool2d(maps, 2, 2, **options)
    dy = fastconv.max_pool2d_grad(maps, pooled, np.ones_like(pooled), 2, 2, **options)
    dx, dw = gradients(tf.constant(X))
    expected = fastconv.conv2d_backprop_input(X.shape, w.numpy(), dy, padding=((0, 0), (0, 1)))
    np.testing.assert_allclose(dx, expected, rtol=0, atol=1e-5)
    expected = fastconv.conv2d_backprop_filter(X, w.shape, dy, padding=((0, 0), (0, 1)))
    np.testing.assert_allclose(dw, expected, rtol=0, atol=1e-4)


def test_the_fused_op_refuses_pools_with_options() -> None:
    w = tf.zeros((3, 3, 3, 4))
    conv = fc._geometry(fastconv._core.conv_geometry(1, "VALID", "NHWC", 1, "auto", None, False))
    for code in ((2, None, "VALID", "NHWC", 2, False, False), (4, 4, "VALID", "NHWC", 1, False, True)):
        pool = fc._geometry(fastconv._core.pool_geometry(*code, None))
        with pytest.raises(tf.errors.InvalidArgumentError, match="must have no dilations, ceil_mode or output_size"):
            fc._ops.fastconv_conv2d_max_pool2d(input=X, filters=w, bias=tf.zeros(4), geometry=conv, pool_geometry=pool)


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: fc.max_pool2d(x, 2, dilations=2, ceil_mode=True),
        lambda x: fc.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=True),
        lambda x: fc.adaptive_max_pool2d(x, (4, 3)),
        lambda x: fc.adaptive_avg_pool2d(x, (4, None)),
    ],
    ids=["max", "average", "adaptive max", "adaptive average"],
)
def test_pools_with_options_are_vectorized(pool: Any) -> None:
    stack = tf.stack([X, 2 * X[::-1], X - 1])

    def gradient(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(pool(x) ** 2)
        return tape.gradient(y, x)

    for function in (pool, gradient):
        ours = tf.vectorized_map(function, stack, fallback_to_while_loop=False)
        np.testing.assert_array_equal(ours, tf.stack([function(x) for x in tf.unstack(stack)]))
