"""TensorFlow's profiler counts the same floating-point operations for our ops as for its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastconv._core as _core
import fastconv.keras as fk
import fastconv.tensorflow as fct
import keras
import pytest
import tensorflow as tf

ops = fct._ops


def flops(function: Callable[..., Any], *shapes: tuple[int, ...]) -> int:
    """The FLOPs of all ops of the graph, as ``tf.compat.v1.profiler`` counts them."""
    arguments = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    graph = tf.function(function).get_concrete_function(*arguments).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder(
        tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    ).with_empty_output()
    return int(tf.compat.v1.profiler.profile(graph, options=options.build()).total_float_ops)


IMAGE, CHANNELS = (2, 9, 8, 4), (4,)


def tensorflows_batch_norm(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    return tf.nn.batch_normalization(x, *tf.nn.moments(x, [0, 1, 2]), offset, scale, 1e-3)


def with_gradients(function: Callable[..., tf.Tensor]) -> Callable[..., Any]:
    """The function, and its gradients with respect to all arguments."""

    def run(*arguments: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            y = function(*arguments)
        return tape.gradient(y, arguments)

    return run


def tensorflows_inference(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    return tf.nn.batch_normalization(x, tf.zeros(CHANNELS), tf.ones(CHANNELS), offset, scale, 1e-3)


def inference(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    return fct.batch_norm_inference(x, tf.zeros(CHANNELS), tf.ones(CHANNELS), scale, offset)


def inference_and_gradient(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Any:
    """The ops alone: a tape would also compute the gradients of the statistics."""
    statistics = tf.zeros(CHANNELS), tf.ones(CHANNELS)
    return inference(x, scale, offset), fct.batch_norm_inference_grad(x, *statistics, x, scale, offset)


PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any], list[tuple[int, ...]]]] = {
    "conv2d": (
        lambda x, w, b: fct.conv2d(x, w, 2, "SAME", bias=b, activation="relu"),
        lambda x, w, b: tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, w, 2, "SAME"), b)),
        [IMAGE, (3, 2, 4, 6), (6,)],
    ),
    "conv2d_in_groups_without_bias": (
        lambda x, w: fct.conv2d(x, w, (1, 2)),
        lambda x, w: tf.nn.conv2d(x, w, (1, 2), "VALID"),
        [IMAGE, (3, 2, 2, 6)],
    ),
    "conv2d_backprop_input": (
        lambda w, dy: fct.conv2d_backprop_input(IMAGE, w, dy, 2, "SAME"),
        lambda w, dy: tf.raw_ops.Conv2DBackpropInput(
            input_sizes=IMAGE, filter=w, out_backprop=dy, strides=[1, 2, 2, 1], padding="SAME"
        ),
        [(3, 2, 4, 6), (2, 5, 4, 6)],
    ),
    "conv2d_backprop_filter": (
        lambda x, dy: fct.conv2d_backprop_filter(x, (3, 2, 4, 6), dy, 2, "SAME"),
        lambda x, dy: tf.raw_ops.Conv2DBackpropFilter(
            input=x, filter_sizes=(3, 2, 4, 6), out_backprop=dy, strides=[1, 2, 2, 1], padding="SAME"
        ),
        [IMAGE, (2, 5, 4, 6)],
    ),
    "conv2d_transpose": (
        lambda x, w: fct.conv2d_transpose(x, w, (2, 18, 16, 6), 2),
        lambda x, w: tf.nn.conv2d_transpose(x, w, (2, 18, 16, 6), 2),
        [IMAGE, (3, 2, 6, 4)],
    ),
    "depthwise_conv2d": (
        lambda x, w: fct.depthwise_conv2d(x, w, 1, "SAME"),
        lambda x, w: tf.nn.depthwise_conv2d(x, w, (1, 1, 1, 1), "SAME"),
        [IMAGE, (3, 2, 4, 2)],
    ),
    "max_pool2d": (lambda x: fct.max_pool2d(x, 3, 2), lambda x: tf.nn.max_pool2d(x, 3, 2, "VALID"), [IMAGE]),
    "avg_pool2d": (lambda x: fct.avg_pool2d(x, 3, 2), lambda x: tf.nn.avg_pool2d(x, 3, 2, "VALID"), [IMAGE]),
    "max_pool2d_grad": (
        lambda x, y: fct.max_pool2d_grad(x, y, y, 3, 2),
        lambda x, y: tf.raw_ops.MaxPoolGrad(
            orig_input=x, orig_output=y, grad=y, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="VALID"
        ),
        [IMAGE, (2, 4, 3, 4)],
    ),
    "avg_pool2d_grad": (
        lambda y: fct.avg_pool2d_grad(IMAGE, y, 3, 2),
        lambda y: tf.raw_ops.AvgPoolGrad(
            orig_input_shape=IMAGE, grad=y, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="VALID"
        ),
        [(2, 4, 3, 4)],
    ),
    "bias_gradient": (
        lambda y: ops.fastconv_bias_gradient(out_backprop=y, geometry=conv_geometry()),
        lambda y: tf.raw_ops.BiasAddGrad(out_backprop=y),
        [IMAGE],
    ),
    "add": (lambda a, b: fct.add(a, b, "relu"), lambda a, b: tf.nn.relu(a + b), [IMAGE, IMAGE]),
    "add_grad": (
        with_gradients(lambda a, b: fct.add(a, b, "relu")),
        with_gradients(lambda a, b: tf.nn.relu(a + b)),
        [IMAGE, IMAGE],
    ),
    "batch_norm_statistics": (
        lambda x: fct.batch_norm_statistics(x),
        lambda x: tf.nn.moments(x, [0, 1, 2]),
        [IMAGE],
    ),
    "batch_norm": (
        lambda x, scale, offset: fct.batch_norm(x, scale, offset, activation="relu")[0],
        lambda *given: tf.nn.relu(tensorflows_batch_norm(*given)),
        [IMAGE, CHANNELS, CHANNELS],
    ),
    "batch_norm_with_a_residual": (
        lambda x, scale, offset, more: fct.batch_norm(x, scale, offset, residual=more)[0],
        lambda x, scale, offset, more: tensorflows_batch_norm(x, scale, offset) + more,
        [IMAGE, CHANNELS, CHANNELS, IMAGE],
    ),
    "batch_norm_grad": (
        with_gradients(lambda *given: fct.batch_norm(*given, activation="relu")[0]),
        with_gradients(lambda *given: tf.nn.relu(tensorflows_batch_norm(*given))),
        [IMAGE, CHANNELS, CHANNELS],
    ),
    "batch_norm_inference": (inference, tensorflows_inference, [IMAGE, CHANNELS, CHANNELS]),
    "batch_norm_inference_grad": (
        inference_and_gradient,
        with_gradients(tensorflows_inference),
        [IMAGE, CHANNELS, CHANNELS],
    ),
}


def conv_geometry(data_format: str = "NHWC", depthwise: bool = False) -> tf.Tensor:
    return fct._geometry(_core.conv_geometry(1, "VALID", data_format, 1, "auto", None, depthwise))


@pytest.mark.parametrize("name", PAIRS)
def test_an_op_counts_as_much_as_tensorflows(name: str) -> None:
    ours, theirs, shapes = PAIRS[name]
    counted = flops(ours, *shapes)
    assert counted == flops(theirs, *shapes)
    assert counted > 0


def lenet(layers: Any) -> keras.Model:
    return keras.Sequential(
        [
            keras.layers.Input((28, 28, 1)),
            layers.Conv2D(6, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def training_step(model: keras.Model) -> Callable[[tf.Tensor], Any]:
    def step(x: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)  # TensorFlow's graph always contains the gradient of x
            loss = tf.reduce_sum(model(x, training=True))
        return tape.gradient(loss, [x, *model.trainable_variables])

    return step


def test_a_model_and_its_training_step_count_as_much_as_stock_ones() -> None:
    ours, stock = lenet(fk), lenet(keras.layers)
    shape = (4, 28, 28, 1)
    assert flops(ours, shape) == flops(stock, shape) > 1_000_000
    assert flops(training_step(ours), shape) == flops(training_step(stock), shape) > 3_000_000


def test_other_ops_count_as_the_sum_of_their_parts() -> None:
    """For NCHW, depthwise gradients and fused gradients, TensorFlow has no count to compare with."""
    x, w, y = (2, 4, 9, 8), (3, 2, 4, 6), (2, 6, 7, 7)
    assert flops(lambda x, w: fct.conv2d(x, w, data_format="NCHW"), x, w) == 2 * (2 * 6 * 7 * 7) * (3 * 2 * 4)
    assert flops(lambda x: fct.max_pool2d(x, 2, data_format="NCHW"), x) == 4 * (2 * 4 * 4 * 4)
    depthwise = 2 * (2 * 7 * 7 * 8) * (3 * 2)
    assert (
        flops(lambda x, y: fct.depthwise_conv2d_backprop_filter(x, (3, 2, 4, 2), y), IMAGE, (2, 7, 7, 8)) == depthwise
    )
    assert flops(lambda w, y: fct.depthwise_conv2d_backprop_input(IMAGE, w, y), (3, 2, 4, 2), (2, 7, 7, 8)) == depthwise
    geometry = {"geometry": conv_geometry("NCHW")}
    both = flops(
        lambda x, y: ops.fastconv_conv2d_backprop_filter_bias(input=x, like=tf.zeros(w), out_backprop=y, **geometry),
        x,
        y,
    )
    assert both == flops(lambda x, y: fct.conv2d_backprop_filter(x, w, y, data_format="NCHW"), x, y) + 2 * 6 * 7 * 7 - 6


def test_unknown_sizes_count_nothing() -> None:
    assert flops(lambda x: fct.max_pool2d(x, 2), (None, 8, 8, 4)) == 0  # type: ignore[arg-type]
