"""``tf.vectorized_map``, ``jacobian`` and ``batch_jacobian`` run each of our ops once, not once per iteration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import fastconv._core as _core
import fastconv.tensorflow as fct
import numpy as np
import pytest
import tensorflow as tf
from processes import run_python

ITERATIONS = 3
FORMATS = ("NHWC", "NCHW")
WIDE_FORMATS = ("NHWC", pytest.param("NCHW", marks=pytest.mark.slow))  # the test of each op covers both
N, H, W, C, K, R, S, M = 2, 7, 6, 4, 6, 3, 2, 2
ops = fct._ops


class Case(NamedTuple):
    """An op, the shapes of its inputs in one iteration, and its other arguments."""

    op: Callable[..., Any]
    shapes: dict[str, tuple[int, ...]]
    geometry: dict[str, Any]


def image(data_format: str, height: int, width: int, channels: int) -> tuple[int, ...]:
    return (N, height, width, channels) if data_format == "NHWC" else (N, channels, height, width)


def conv_geometry(
    data_format: str, activation: str | None = None, depthwise: bool = False, algorithm: str = "auto"
) -> Any:
    padding = ((1, 0), (0, 1))
    return fct._geometry(_core.conv_geometry((2, 1), padding, data_format, 1, "auto", activation, depthwise))


def pool_geometry(data_format: str, include_batch: bool = False) -> Any:
    return fct._geometry(_core.pool_geometry(2, (2, 1), "SAME", data_format, 1, include_batch, False, None))


def convolution_cases(data_format: str) -> dict[str, Case]:
    """Sizes: floor((7 + 1 - 3) / 2) + 1 = 3 rows and (6 + 1 - 2) + 1 = 6 columns."""
    x, y = image(data_format, H, W, C), image(data_format, 3, 6, K)
    plain = {"geometry": conv_geometry(data_format)}
    relu = {"geometry": conv_geometry(data_format, "relu")}
    cases = {
        "bias_gradient": Case(ops.fastconv_bias_gradient, {"out_backprop": y}, plain),
        "relu_bias_grad": Case(ops.fastconv_relu_bias_grad, {"gradients": y, "features": y}, plain),
        "conv2d_relu": Case(ops.fastconv_conv2d, {"input": x, "filters": (R, S, C, K), "bias": (K,)}, relu),
    }
    depthwise = {"geometry": conv_geometry(data_format, depthwise=True)}
    kinds = {
        "": ((R, S, C, K), y, plain),
        "_grouped": ((R, S, C // 2, K), y, plain),
        "_depthwise": ((R, S, C, M), image(data_format, 3, 6, C * M), depthwise),
    }
    for kind, (filters, output, geometry) in kinds.items():
        gradient = {"input": x, "like": filters, "out_backprop": output}
        no_bias = {"bias": tf.zeros((0, 0), tf.float64)}
        cases |= {
            f"conv2d{kind}": Case(ops.fastconv_conv2d, {"input": x, "filters": filters}, geometry | no_bias),
            f"backprop_input{kind}": Case(
                ops.fastconv_conv2d_backprop_input, {"like": x, "filters": filters, "out_backprop": output}, geometry
            ),
            f"transpose{kind}": Case(
                ops.fastconv_conv2d_transpose, {"input": output, "filters": filters, "like": x}, geometry
            ),
            f"backprop_filter{kind}": Case(ops.fastconv_conv2d_backprop_filter, gradient, geometry),
            f"backprop_filter_bias{kind}": Case(ops.fastconv_conv2d_backprop_filter_bias, gradient, geometry),
        }
    return cases


def pool_cases(data_format: str) -> dict[str, Case]:
    x, y = image(data_format, H, W, C), image(data_format, 4, 6, C)
    plain = {"geometry": pool_geometry(data_format)}
    return {
        "max_pool2d": Case(ops.fastconv_max_pool2d, {"input": x}, plain),
        "max_pool2d_with_taps": Case(ops.fastconv_max_pool2d_with_taps, {"input": x}, plain),
        "max_pool2d_with_argmax": Case(ops.fastconv_max_pool2d_with_argmax, {"input": x}, plain),
        "max_pool2d_with_batch_in_argmax": Case(
            ops.fastconv_max_pool2d_with_argmax, {"input": x}, {"geometry": pool_geometry(data_format, True)}
        ),
        "max_pool2d_grad": Case(ops.fastconv_max_pool2d_grad, {"orig_input": x, "orig_output": y, "grad": y}, plain),
        "max_pool2d_scatter": Case(ops.fastconv_max_pool2d_scatter, {"like": x, "taps": y, "grad": y}, plain),
        "max_pool2d_gather": Case(ops.fastconv_max_pool2d_gather, {"values": x, "taps": y}, plain),
        "avg_pool2d": Case(ops.fastconv_avg_pool2d, {"input": x}, plain),
        "avg_pool2d_grad": Case(ops.fastconv_avg_pool2d_grad, {"like": x, "grad": y}, plain),
    }


def pooled_convolution_cases(data_format: str) -> dict[str, Case]:
    x, pooled = image(data_format, H, W, C), image(data_format, 2, 6, K)
    filters = (R, S, C, K)
    both = {"geometry": conv_geometry(data_format), "pool_geometry": pool_geometry(data_format)}
    relu = both | {"geometry": conv_geometry(data_format, "relu")}
    linear = both | {"output": tf.zeros((0, 0), tf.float64)}
    gradient = {"input": x, "filters": filters, "taps": pooled, "grad": pooled}
    return {
        "conv2d_max_pool2d": Case(ops.fastconv_conv2d_max_pool2d, {"input": x, "filters": filters, "bias": (K,)}, relu),
        "conv2d_max_pool2d_backprop": Case(ops.fastconv_conv2d_max_pool2d_backprop, gradient, linear),
        "conv2d_max_pool2d_backprop_filter_bias": Case(
            ops.fastconv_conv2d_max_pool2d_backprop_filter_bias, gradient, linear
        ),
        "conv2d_max_pool2d_backprop_relu": Case(
            ops.fastconv_conv2d_max_pool2d_backprop, gradient | {"output": pooled}, relu
        ),
    }


def elementwise_cases() -> dict[str, Case]:
    x, relu = (N, H, C), {"geometry": fct._geometry([0, 0]), "activation": "silu"}
    return {
        "activate": Case(ops.fastconv_activate, {"input": x}, relu),
        "activate_grad": Case(ops.fastconv_activate_grad, {"input": x, "grad": x}, relu),
        "add": Case(ops.fastconv_add, {"a": x, "b": x}, relu),
        "add_grad": Case(ops.fastconv_add_grad, {"a": x, "b": x, "grad": x}, relu),
    }


def batch_norm_cases(data_format: str) -> dict[str, Case]:
    x, row = image(data_format, H, W, C), (C,)
    geometry = {"geometry": fct._geometry([0, int(data_format == "NCHW")]), "activation": "relu"}
    inputs = {"input": x, "scale": row, "offset": row, "residual": x}
    given = inputs | {"mean": row, "variance": row}
    gradient = given | {"grad": x}
    left_out = {name: tf.zeros((0, 0), tf.float64) for name in ("residual", "grad_mean", "grad_variance")}
    without = {name: shape for name, shape in gradient.items() if name != "residual"}
    return {
        "batch_norm": Case(ops.fastconv_batch_norm, inputs, geometry),
        "batch_norm_grad": Case(
            ops.fastconv_batch_norm_grad, gradient | {"grad_mean": row, "grad_variance": row}, geometry
        ),
        "batch_norm_grad_without_residual": Case(ops.fastconv_batch_norm_grad, without, geometry | left_out),
        "batch_norm_statistics": Case(ops.fastconv_batch_norm_statistics, {"input": x}, geometry),
        "batch_norm_inference": Case(ops.fastconv_batch_norm_inference, given, geometry),
        "batch_norm_inference_grad": Case(ops.fastconv_batch_norm_inference_grad, gradient, geometry),
    }


def cases(data_format: str) -> dict[str, Case]:
    return (
        convolution_cases(data_format)
        | pool_cases(data_format)
        | pooled_convolution_cases(data_format)
        | elementwise_cases()
        | batch_norm_cases(data_format)
    )


def operands(shapes: dict[str, tuple[int, ...]], stacked: tuple[str, ...]) -> dict[str, tf.Tensor]:
    random = np.random.default_rng(3)
    made = {}
    for name, shape in shapes.items():
        shape = (ITERATIONS, *shape) if name in stacked else shape
        # Tap 0 exists in every window, also in one that lies partly outside the input.
        array = np.zeros(shape, np.uint8) if name == "taps" else random.standard_normal(shape)
        made[name] = tf.constant(np.abs(array) if name == "variance" else array)
    return made


def as_list(outputs: Any) -> list[tf.Tensor]:
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def choices(names: list[str]) -> list[tuple[str, ...]]:
    """Sets of inputs that differ between iterations: each input alone, and all of them."""
    return [*((name,) for name in names), *([tuple(names)] if len(names) > 1 else [])]


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("name", cases("NHWC"))
def test_a_vectorized_op_equals_its_iterations(name: str, data_format: str) -> None:
    """This holds whichever inputs differ between iterations, and no loop runs."""
    op, shapes, geometry = cases(data_format)[name]
    for stacked in choices(list(shapes)):
        values = operands(shapes, stacked)
        shared = {key: value for key, value in values.items() if key not in stacked} | geometry
        varying = {key: values[key] for key in stacked}
        vectorized = tf.vectorized_map(
            lambda x, op=op, shared=shared: as_list(op(**x, **shared)), varying, fallback_to_while_loop=False
        )
        alone = [as_list(op(**{key: value[i] for key, value in varying.items()}, **shared)) for i in range(ITERATIONS)]
        for got, wanted in zip(vectorized, zip(*alone, strict=True), strict=True):
            np.testing.assert_allclose(got, np.stack(wanted), rtol=1e-11, atol=1e-11, err_msg=f"{stacked} stacked")


def test_each_operation_has_a_case() -> None:
    """A new operation in the table needs a case above."""
    tested = {case.op.__name__ for case in cases("NHWC").values()}
    named = {f"fastconv_{operation['name']}" for operation in _core.operations()}
    assert tested == named


@contextmanager
def without_loops(level: int = logging.DEBUG) -> Iterator[None]:
    """Fails if TensorFlow logs that it loops over one of our ops: a warning in a map, a debug message in a jacobian."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = tf.get_logger()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
    assert [text for text in told if "Fastconv" in text] == []


def in_nchw(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Lets a function of NCHW images take and return NHWC, as TensorFlow's CPU kernels do."""

    def converted(x: tf.Tensor, *filters: tf.Tensor) -> tf.Tensor:
        return tf.transpose(function(tf.transpose(x, [0, 3, 1, 2]), *filters), [0, 2, 3, 1])

    return converted


#: Our function of a data format, TensorFlow's function, and the shape of the filters if there are any.
PAIRS: dict[str, tuple[Callable[[str], Callable[..., tf.Tensor]], Callable[..., tf.Tensor], tuple[int, ...]]] = {
    "conv2d": (
        lambda data_format: lambda x, w: fct.conv2d(x, w, 2, "SAME", data_format),
        lambda x, w: tf.nn.conv2d(x, w, 2, "SAME"),
        (3, 2, 4, 6),
    ),
    "conv2d_relu": (
        lambda data_format: lambda x, w: fct.conv2d(x, w, 1, "VALID", data_format, activation="relu"),
        lambda x, w: tf.nn.relu(tf.nn.conv2d(x, w, 1, "VALID")),
        (3, 2, 4, 6),
    ),
    "conv2d_in_groups": (
        lambda data_format: lambda x, w: fct.conv2d(x, w, 1, "SAME", data_format),
        lambda x, w: tf.concat(
            [tf.nn.conv2d(*parts, 1, "SAME") for parts in zip(tf.split(x, 2, 3), tf.split(w, 2, 3), strict=True)], 3
        ),
        (3, 2, 2, 6),
    ),
    "depthwise_conv2d": (
        lambda data_format: lambda x, w: fct.depthwise_conv2d(x, w, 1, "SAME", data_format),
        lambda x, w: tf.nn.depthwise_conv2d(x, w, (1, 1, 1, 1), "SAME"),
        (3, 2, 4, 2),
    ),
    "max_pool2d": (
        lambda data_format: lambda x: fct.max_pool2d(x, 3, 2, "SAME", data_format),
        lambda x: tf.nn.max_pool2d(x, 3, 2, "SAME"),
        (),
    ),
    "avg_pool2d": (
        lambda data_format: lambda x: fct.avg_pool2d(x, 3, 2, "SAME", data_format),
        lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"),
        (),
    ),
}


@pytest.mark.parametrize("data_format", WIDE_FORMATS)
@pytest.mark.parametrize("name", PAIRS)
def test_jacobians_are_those_of_tensorflow(name: str, data_format: str) -> None:
    make, theirs, filters = PAIRS[name]
    ours = make(data_format) if data_format == "NHWC" else in_nchw(make(data_format))
    random = np.random.default_rng(5)
    values = [tf.constant(random.standard_normal(shape)) for shape in ((2, 5, 4, 4), filters) if shape]

    def jacobians(function: Callable[..., tf.Tensor]) -> list[tf.Tensor]:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(values)
            y = function(*values)
        return [*tape.jacobian(y, values), tape.batch_jacobian(y, values[0])]

    with without_loops():
        found = jacobians(ours)
    for got, wanted in zip(found, jacobians(theirs), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("data_format", WIDE_FORMATS)
@pytest.mark.parametrize("name", PAIRS)
def test_gradients_of_each_element_are_those_of_tensorflow(name: str, data_format: str) -> None:
    """Differential privacy and meta-learning need these gradients. The graph has unknown sizes."""
    make, theirs, filters = PAIRS[name]
    ours = make(data_format) if data_format == "NHWC" else in_nchw(make(data_format))
    random = np.random.default_rng(6)
    x = tf.constant(random.standard_normal((ITERATIONS, 2, 5, 4, 4)))
    filters_of_all = [tf.constant(random.standard_normal(filters))] if filters else []

    def gradients(function: Callable[..., tf.Tensor]) -> list[tf.Tensor]:
        def of_one(element: tf.Tensor) -> list[tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch([element, filters_of_all])
                y = tf.reduce_sum(function(element, *filters_of_all) ** 2)
            return tape.gradient(y, [element, *filters_of_all])

        unknown = tf.TensorSpec([None, None, None, None, 4], tf.float64)
        return tf.function(lambda x: tf.vectorized_map(of_one, x), input_signature=[unknown])(x)

    with without_loops():
        found = gradients(ours)
    for got, wanted in zip(found, gradients(theirs), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-11)


def test_the_jacobian_of_a_pooled_convolution_in_a_graph() -> None:
    """In a graph, one op computes the gradients of the convolution, its ReLU and the max pooling."""
    random = np.random.default_rng(7)
    x = tf.constant(random.standard_normal((2, 10, 10, 1)))
    w, b = tf.constant(random.standard_normal((3, 3, 1, 6))), tf.constant(random.standard_normal(6))

    def ours(x: tf.Tensor) -> tf.Tensor:
        return fct.max_pool2d(fct.conv2d(x, w, bias=b, activation="relu"), 2)

    def theirs(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(x, w, 1, "VALID") + b), 2, 2, "VALID")

    def jacobian(function: Callable[[tf.Tensor], tf.Tensor]) -> Any:
        @tf.function
        def traced(x: tf.Tensor) -> list[tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch([w, b])
                y = function(x)
            return tape.jacobian(y, [w, b])

        return traced

    traced = jacobian(ours)
    with without_loops():
        found = traced(x)
    types = {op.type for op in traced.get_concrete_function(x).graph.get_operations()}
    assert "FastconvConv2DMaxPool2DBackpropFilterBias" in types
    for got, wanted in zip(found, jacobian(theirs)(x), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-11)


def test_second_derivatives_nested_maps_and_empty_maps() -> None:
    random = np.random.default_rng(8)
    x = tf.constant(random.standard_normal((2, 3, 1, 4, 4, 2)))
    w = tf.constant(random.standard_normal((2, 2, 2, 3)))

    def hessian(convolve: Any) -> tf.Tensor:
        with tf.GradientTape() as outer:
            outer.watch(w)
            with tf.GradientTape() as inner:
                inner.watch(w)
                y = tf.reduce_sum(tf.exp(0.1 * convolve(x[0, 0], w, 1, "SAME")))
            gradient = inner.gradient(y, w)
        return outer.jacobian(gradient, w)

    def nested(convolve: Any) -> tf.Tensor:
        return tf.vectorized_map(lambda row: tf.vectorized_map(lambda one: convolve(one, w, 1, "SAME"), row), x)

    with without_loops():
        found = [hessian(fct.conv2d), nested(fct.conv2d)]
    for got, wanted in zip(found, [hessian(tf.nn.conv2d), nested(tf.nn.conv2d)], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-11)
    none = tf.vectorized_map(lambda one: fct.conv2d(one, w, 1, "SAME"), x[0, :0])
    assert none.shape == (0, 1, 4, 4, 3)


def test_a_named_algorithm_is_kept() -> None:
    """If the named algorithm does not support groups, TensorFlow runs a loop, without a warning."""
    random = np.random.default_rng(9)
    x = tf.constant(random.standard_normal((2, 1, 8, 8, 4)))
    w = tf.constant(random.standard_normal((2, 3, 3, 4, 8)))

    def convolve(pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        return fct.conv2d(*pair, algorithm="winograd")

    with without_loops(logging.WARNING):
        got = tf.vectorized_map(convolve, (x, w))
    np.testing.assert_array_equal(got, tf.stack([convolve((x[i], w[i])) for i in range(2)]))


def test_a_loop_runs_if_tensorflows_modules_moved() -> None:
    run_python(
        """
        import builtins
        import numpy as np
        import tensorflow as tf

        original = builtins.__import__
        refused = set()

        def reorganised(name, globals=None, locals=None, fromlist=(), level=0):
            if name.startswith("tensorflow.python") and (globals or {}).get("__name__", "").startswith("fastconv"):
                refused.add(name)
                raise ImportError(f"no module named {name}")
            return original(name, globals, locals, fromlist, level)

        builtins.__import__ = reorganised
        import fastconv.tensorflow as fct

        assert {"tensorflow.python.ops.parallel_for.pfor", "tensorflow.python.framework.ops"} <= refused, refused
        x = tf.constant(np.random.default_rng(0).standard_normal((3, 1, 5, 5, 2)))
        pooled = tf.vectorized_map(lambda one: fct.avg_pool2d(one, 2), x)
        np.testing.assert_allclose(pooled, [tf.nn.avg_pool2d(one, 2, 2, "VALID") for one in x])
        """,
        TF_CPP_MIN_LOG_LEVEL="2",
    )
