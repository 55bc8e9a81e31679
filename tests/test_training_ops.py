"""Ops of a training step: taps kept for the gradient of a max pool, bias gradients, and no unneeded gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import fastconv
import fastconv.keras as fk
import fastconv.tensorflow as fc
import keras
import numpy as np
import pytest
import tensorflow as tf
from workers import ISAS, execute, worker


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def ops_of(function: Callable[..., Any], *arguments: Any) -> list[str]:
    """The types of our ops that remain after TensorFlow prunes a graph."""
    concrete = tf.function(function).get_concrete_function(*arguments)
    needed, waiting = set(), [tensor.op for tensor in concrete.graph.outputs]
    while waiting:
        op = waiting.pop()
        if op not in needed:
            needed.add(op)
            waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return sorted(op.type for op in needed if op.type.startswith("Fastconv"))


# ---- On every instruction set ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=ISAS)
def isa_worker(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    """One process for all scripts: importing TensorFlow takes longer than most of them."""
    with worker(FASTCONV_ISA=request.param) as pool:
        yield pool


# Awkward numbers of channels, windows at the border, gaps between windows, both dtypes and formats.
EVERY_ISA = """
import itertools
import numpy as np
import tensorflow as tf
import fastconv
import fastconv.tensorflow as fc

def random(*shape, dtype=np.float32):
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)

def same_bits(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert a.tobytes() == b.tobytes()

def max_pools():
    geometries = [dict(ksize=2), dict(ksize=2, padding="SAME"), dict(ksize=3, strides=2, padding="SAME"),
                  dict(ksize=(1, 4), strides=(1, 2)), dict(ksize=2, strides=3, padding=((1, 0), (0, 1))),
                  dict(ksize=2, strides=(2, 1)), dict(ksize=(15, 17), padding="SAME")]
    for dtype, c in itertools.product((np.float32, np.float64), (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 33)):
        for keywords, nan in itertools.product(geometries, (False, True)):
            x = random(2, 9, 11, c, dtype=dtype)
            x = np.round(x * 2) / 2  # equal maxima
            if nan:
                x[random(*x.shape) > 1.5] = np.nan
            given, more = x, {}
            if c in (3, 8):
                given, more = np.ascontiguousarray(x.transpose(0, 3, 1, 2)), dict(data_format="NCHW")
            y = fastconv.max_pool2d(given, **keywords, **more)
            dy = random(*y.shape, dtype=dtype)
            variable = tf.constant(given)
            with tf.GradientTape() as outer:
                dy_tensor = tf.constant(dy)
                outer.watch(dy_tensor)
                with tf.GradientTape() as tape:
                    tape.watch(variable)
                    ours = fc.max_pool2d(variable, **keywords, **more)
                gradient = tape.gradient(ours, variable, output_gradients=dy_tensor)
            same_bits(ours, y)
            same_bits(gradient, fastconv.max_pool2d_grad(given, y, dy, **keywords, **more))
            # The gradient's gradient gathers what the maximum took.
            values = random(*given.shape, dtype=dtype)
            gathered = outer.gradient(gradient, dy_tensor, output_gradients=tf.constant(values))
            nhwc = values.transpose(0, 2, 3, 1) if more else values
            _, argmax = fastconv.max_pool2d_with_argmax(given, **keywords, **more, include_batch_in_index=True)
            same_bits(gathered, np.ascontiguousarray(nhwc).reshape(-1)[argmax])

def bias_gradients():
    shapes = [(1, 1, 1, 1), (3, 5, 7, 2), (2, 13, 13, 3), (5, 26, 26, 6), (2, 9, 31, 16), (2, 10, 10, 17),
              (1, 20, 21, 63), (2, 7, 9, 64), (1, 3, 3, 300), (0, 4, 4, 5), (2, 64, 64, 24), (2, 128, 128, 6)]
    for dtype, shape, nchw, relu in itertools.product((np.float32, np.float64), shapes, (False, True), (False, True)):
        dy = random(*shape, dtype=dtype)
        y = random(*shape[::-1], dtype=dtype).reshape(shape)
        format = 1 if nchw else 0
        if nchw:
            dy, y = (np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in (dy, y))
        axes = (0, 2, 3) if nchw else (0, 1, 2)
        if relu:
            geometry = fc._geometry([0, format, 0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
            call = lambda: fc._ops.fastconv_relu_bias_grad(gradients=dy, features=y, geometry=geometry)
            masked = np.where(y > 0, dy, dtype(0))
        else:
            # One input channel of ones, and 1 x 1 filters.
            geometry = fc._geometry([0, format, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
            x = np.ones((shape[0], 1, *shape[1:3]) if nchw else (*shape[:3], 1), dtype)
            like = tf.zeros((1, 1, 1, shape[3]), dtype)
            call = lambda: fc._ops.fastconv_conv2d_backprop_filter_bias(
                input=x, like=like, out_backprop=dy, geometry=geometry)
            masked = dy
        results = []
        for threads in (1, 2, 3):
            fastconv.set_num_threads(threads)
            results.append([np.asarray(part) for part in call()])
        for first, bias in results:
            same_bits(bias, results[0][1])
            if relu:
                same_bits(first, masked)
        exact = masked.astype(np.longdouble)
        bound = 16 * np.finfo(dtype).eps * abs(exact).sum(axes)
        assert (abs(results[0][1] - exact.sum(axes)) <= bound).all()

max_pools()
bias_gradients()
"""


def test_taps_and_bias_gradients(isa_worker: ProcessPoolExecutor) -> None:
    isa_worker.submit(execute, EVERY_ISA).result()


# ---- Taps ------------------------------------------------------------------------------------------------------------


def test_taps_are_kept_only_for_a_tape() -> None:
    x = tf.TensorSpec((None, 8, 8, 6))

    def gradient(x: tf.Tensor, ksize: Any = 2) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = fc.max_pool2d(x, ksize, padding="SAME")
        return tape.gradient(y, x)

    assert ops_of(lambda x: fc.max_pool2d(x, 2), x) == ["FastconvMaxPool2D"]
    assert ops_of(gradient, x) == ["FastconvMaxPool2DScatter", "FastconvMaxPool2DWithTaps"]
    assert ops_of(lambda x: gradient(x, (16, 16)), x) == ["FastconvMaxPool2D", "FastconvMaxPool2DGrad"]
    assert ops_of(lambda x: tf.gradients(fc.max_pool2d(x, 2), x), x) == ["FastconvMaxPool2D", "FastconvMaxPool2DGrad"]
    x = tf.constant(random(2, 8, 8, 6))
    y = fc.max_pool2d(x, 2)
    np.testing.assert_array_equal(gradient(x), fastconv.max_pool2d_grad(x.numpy(), y.numpy(), np.ones_like(y), 2))


def test_layers_keep_taps_only_in_training() -> None:
    model = keras.Sequential([keras.Input((8, 8, 2)), fk.MaxPooling2D(2), keras.layers.Flatten()])
    spec = tf.TensorSpec((3, 8, 8, 2))
    assert ops_of(model, spec) == ops_of(lambda x: model(x, training=False), spec) == ["FastconvMaxPool2D"]


def test_taps_that_name_no_pixel_of_the_window() -> None:
    """Raw ops with arbitrary taps access no memory outside the tensors."""
    geometry = fc._geometry(fastconv._core.pool_geometry(2, None, "VALID", "NHWC", 1, False, False, None))
    for c in (1, 3, 6, 16, 40):
        taps = np.random.default_rng(c).integers(0, 256, (2, 3, 3, c)).astype(np.uint8)
        dy, values = random(2, 3, 3, c), random(2, 6, 6, c)
        gradient = fc._ops.fastconv_max_pool2d_scatter(like=values, taps=taps, grad=dy, geometry=geometry)
        gathered = fc._ops.fastconv_max_pool2d_gather(values=values, taps=taps, geometry=geometry)
        windows = values.reshape(2, 3, 2, 3, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(2, 3, 3, c, 4)
        expected = np.where(taps < 4, np.take_along_axis(windows, np.minimum(taps, 3)[..., None], 4)[..., 0], 0)
        np.testing.assert_array_equal(gathered, expected)
        np.testing.assert_allclose(
            np.sum(gradient, (1, 2)), np.where(taps < 4, dy, 0).sum((1, 2)), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("wrong", ["taps", "grad", "like", "window"])
def test_wrong_shapes_of_taps(wrong: str) -> None:
    geometry = fc._geometry(
        fastconv._core.pool_geometry(16 if wrong == "window" else 2, None, "SAME", "NHWC", 1, False, False, None)
    )
    side = 1 if wrong == "window" else 3
    given = {"taps": tf.zeros((1, side, side, 2), tf.uint8), "grad": tf.ones((1, side, side, 2))}
    like = tf.zeros((1, 6, 6, 2))
    if wrong == "like":
        like = tf.zeros((1, 7, 6, 2))
    elif wrong != "window":
        given[wrong] = given[wrong][:, 1:]
    with pytest.raises(tf.errors.InvalidArgumentError):
        fc._ops.fastconv_max_pool2d_scatter(like=like, geometry=geometry, **given)
    if wrong != "grad":
        with pytest.raises(tf.errors.InvalidArgumentError):
            fc._ops.fastconv_max_pool2d_gather(values=like, taps=given["taps"], geometry=geometry)
    if wrong == "window":
        with pytest.raises(tf.errors.InvalidArgumentError, match="at most 255"):
            fc._ops.fastconv_max_pool2d_with_taps(input=like, geometry=geometry)


# ---- A convolution and the max pooling of its output -----------------------------------------------------------------

BEHIND_EVERY_ISA = """
import itertools
import numpy as np
import tensorflow as tf
import fastconv
import fastconv.tensorflow as fc

core = fastconv._core
layers = [  # input, filters, convolution, pooling; many, a few and very few images
    ((3, 9, 8, 3), (3, 3, 3, 5), {}, dict(ksize=2)), ((130, 13, 13, 6), (3, 3, 6, 16), {}, dict(ksize=2)),
    ((5, 28, 28, 1), (3, 3, 1, 6), {}, dict(ksize=2)), ((260, 12, 12, 1), (5, 5, 1, 6), {}, dict(ksize=2)),
    ((33, 10, 11, 3), (3, 3, 3, 17), dict(padding="SAME"), dict(ksize=3, strides=2, padding="SAME")),
    ((9, 9, 9, 4), (3, 2, 2, 6), dict(strides=2), dict(ksize=2, strides=1)),
    ((2, 12, 12, 4), (3, 3, 4, 40), dict(dilations=2), dict(ksize=(2, 3))),
    ((7, 6, 6, 5), (1, 1, 5, 3), {}, dict(ksize=2)), ((0, 9, 8, 3), (3, 3, 3, 5), {}, dict(ksize=2)),
    ((70, 14, 14, 3), (5, 5, 3, 32), dict(padding="SAME"), dict(ksize=2)),
    # Kernels for sparse dy, or for 4x4 patches; filters that do not fill a block; overlapping windows.
    ((9, 13, 13, 6), (3, 3, 6, 19), dict(padding="SAME"), dict(ksize=3, strides=2)),
    ((9, 11, 9, 2), (2, 3, 2, 7), dict(padding=((1, 0), (0, 2))), dict(ksize=(2, 1))),
    ((9, 9, 8, 1), (2, 3, 1, 6), dict(padding="SAME"), dict(ksize=(3, 2))),
    ((9, 7, 9, 1), (3, 2, 1, 11), {}, dict(ksize=2)), ((9, 8, 8, 2), (3, 1, 2, 9), {}, dict(ksize=2, strides=(1, 2))),
    ((9, 6, 6, 7), (1, 1, 7, 5), {}, dict(ksize=3)), ((9, 8, 8, 3), (1, 1, 3, 6), {}, dict(ksize=2)),
    ((9, 9, 9, 2), (3, 2, 2, 6), {}, dict(ksize=3, strides=2)),
]
for dtype, nchw, (shape, window, conv, pool) in itertools.product((np.float32, np.float64), (False, True), layers):
    rng = np.random.default_rng(shape)
    x, w = rng.standard_normal(shape), rng.standard_normal(window)
    if nchw:
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    more = dict(data_format="NCHW" if nchw else "NHWC")
    x, w = x.astype(dtype), w.astype(dtype)
    y = fastconv.conv2d(x, w, **conv, **more)
    geometry = core.conv_geometry(conv.get("strides", 1), conv.get("padding", "VALID"), more["data_format"],
                                  conv.get("dilations", 1), "auto", None, False)
    windows = core.pool_geometry(pool["ksize"], pool.get("strides"), pool.get("padding", "VALID"), more["data_format"],
                                 1, False, False, None)
    assert core.conv2d_max_pool2d_backprop_serves(geometry, list(x.shape), list(w.shape), dtype == np.float64)
    pooled, taps = fc._ops.fastconv_max_pool2d_with_taps(input=y, geometry=fc._geometry(windows))
    grad = rng.standard_normal(pooled.shape).astype(dtype)
    given = dict(input=x, filters=w, taps=taps, grad=grad, output=np.zeros((0, 0), dtype),
                 geometry=fc._geometry(geometry), pool_geometry=fc._geometry(windows))
    results = []
    for threads in (1, 2, 3, 8):
        fastconv.set_num_threads(threads)
        both = fc._ops.fastconv_conv2d_max_pool2d_backprop(**given)
        one = fc._ops.fastconv_conv2d_max_pool2d_backprop_filter_bias(**given)
        results.append([np.asarray(part) for part in (*both, *one)])
    d_input, d_filters, d_bias = results[0][:3]
    for result in results:
        for part, expected in zip(result, (d_input, d_filters, d_bias, d_filters, d_bias)):
            assert part.shape == expected.shape and part.tobytes() == expected.tobytes()
    exact_dy = fastconv.max_pool2d_grad(y.astype(np.float64), np.asarray(pooled, np.float64), grad.astype(np.float64),
                                        **pool, **more)
    arguments = dict(**conv, **more, algorithm="direct")
    eps = np.finfo(dtype).eps
    for result, function, first in ((d_filters, "filter", (x, w.shape)), (d_input, "input", (x.shape, w))):
        compute = getattr(fastconv, "conv2d_backprop_" + function)
        wide = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in first]
        sizes = [abs(a) if isinstance(a, np.ndarray) else a for a in wide]
        bound = 16 * eps * compute(*sizes, abs(exact_dy), **arguments)
        assert (abs(result - compute(*wide, exact_dy, **arguments)) <= bound + 1e-300).all(), (shape, function)
    axes = (0, 2, 3) if nchw else (0, 1, 2)
    assert (abs(d_bias - exact_dy.sum(axes)) <= 16 * eps * abs(exact_dy).sum(axes)).all()
"""


def test_gradients_of_a_convolution_and_its_max_pool(isa_worker: ProcessPoolExecutor) -> None:
    isa_worker.submit(execute, BEHIND_EVERY_ISA).result()


NOT_FINITE_EVERY_ISA = """
import itertools
import numpy as np
import fastconv
import fastconv.tensorflow as fc

core = fastconv._core
layers = [((20, 13, 13, 6), (3, 3, 6, 16), "VALID"), ((20, 11, 12, 1), (3, 3, 1, 6), "VALID"),
          ((20, 8, 9, 3), (3, 3, 3, 5), "SAME")]
values = (np.inf, -np.inf, np.nan)
for (shape, window, padding), dtype, where in itertools.product(layers, (np.float32, np.float64), range(3)):
    rng = np.random.default_rng(where)
    x, w = rng.standard_normal(shape).astype(dtype), rng.standard_normal(window).astype(dtype)
    y = fastconv.conv2d(x, w, padding=padding)
    geometry = core.conv_geometry(1, padding, "NHWC", 1, "auto", None, False)
    pooled, taps = fc._ops.fastconv_max_pool2d_with_taps(
        input=y, geometry=fc._geometry(core.pool_geometry(2, None, "VALID", "NHWC", 1, False, False, None)))
    grad = rng.standard_normal(pooled.shape).astype(dtype)
    given = dict(input=x, filters=w, taps=np.asarray(taps), grad=grad, output=np.zeros((0, 0), dtype))
    pool_geometry = fc._geometry(core.pool_geometry(2, None, "VALID", "NHWC", 1, False, False, None))
    for value, of in itertools.product(values, (x, grad, w)):
        kept, at = of.copy(), rng.integers(of.size)
        of.flat[at] = value
        ours = fc._ops.fastconv_conv2d_max_pool2d_backprop(
            **given, geometry=fc._geometry(geometry), pool_geometry=pool_geometry)
        dy = np.asarray(fc._ops.fastconv_max_pool2d_scatter(
            like=y, taps=taps, grad=grad, geometry=pool_geometry))
        options = dict(padding=padding, algorithm="direct")
        expected = (fastconv.conv2d_backprop_input(x.shape, w, dy, **options),
                    fastconv.conv2d_backprop_filter(x, w.shape, dy, **options), dy.sum((0, 1, 2)))
        for result, wanted in zip(ours, expected):
            np.testing.assert_allclose(result, wanted, rtol=1e-3, atol=1e-3)
        of[...] = kept
"""


def test_infinity_and_nan_in_gradients_of_a_convolution_and_its_max_pool(isa_worker: ProcessPoolExecutor) -> None:
    isa_worker.submit(execute, NOT_FINITE_EVERY_ISA).result()


LONG_SUMS_EVERY_ISA = """
import itertools
import numpy as np
import fastconv
import fastconv.tensorflow as fc

core = fastconv._core
pool_geometry = fc._geometry(core.pool_geometry(2, None, "VALID", "NHWC", 1, False, False, None))
geometry = fc._geometry(core.conv_geometry(1, "VALID", "NHWC", 1, "auto", None, False))
layers = [((28, 28, 1), (3, 3, 1, 6)), ((13, 13, 6), (3, 3, 6, 16))]
for (shape, window), images in itertools.product(layers, (8, 2048)):
    x, w = np.full((images, *shape), 0.7, np.float32), np.ones(window, np.float32)
    p, q = (shape[0] - 2) // 2, (shape[1] - 2) // 2
    grad = np.full((images, p, q, window[3]), 0.3, np.float32)
    d_input, d_filters, d_bias = (np.asarray(part) for part in fc._ops.fastconv_conv2d_max_pool2d_backprop(
        input=x, filters=w, taps=np.zeros(grad.shape, np.uint8), grad=grad, output=np.zeros((0, 0), np.float32),
        geometry=geometry, pool_geometry=pool_geometry))
    count, eps = images * p * q, np.finfo(np.float32).eps
    for result, exact in ((d_filters, np.float64(x[0, 0, 0, 0]) * grad[0, 0, 0, 0] * count),
                          (d_bias, np.float64(grad[0, 0, 0, 0]) * count)):
        assert abs(result / exact - 1).max() <= 16 * eps, (shape, images, abs(result / exact - 1).max() / eps)
    # Of 3x3 windows at every other pixel, an odd one is in one, an even one in two.
    uses = np.where(np.arange(2 * p + 1) % 2, 1, 2)
    uses[[0, -1]] = 1
    exact = np.float64(grad[0, 0, 0, 0]) * window[3] * uses[:, None, None] * uses[:, None][:, : 2 * q + 1]
    assert abs(d_input[:, : 2 * p + 1, : 2 * q + 1] / exact - 1).max() <= 16 * eps
"""


def test_long_sums_in_gradients_of_a_convolution_and_its_max_pool(isa_worker: ProcessPoolExecutor) -> None:
    isa_worker.submit(execute, LONG_SUMS_EVERY_ISA).result()


def behind(x: tf.Tensor, w: tf.Tensor, b: tf.Tensor | None, activation: str | None, wanted: list[int]) -> Any:
    """Gradients of the cube of a convolution's max pooling."""
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
    expected = behind(*values, activation, wanted)  # eagerly, op by op

    specs = [None if value is None else tf.TensorSpec((None, *value.shape[1:]), dtype) for value in values]
    specs[1:] = [None if value is None else tf.TensorSpec(value.shape, dtype) for value in values[1:]]
    in_graph = tf.function(lambda *given: behind(*given, activation, wanted)).get_concrete_function(*specs)
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
            first = behind(*values, None, wanted)
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


def test_max_pool_windows_of_more_than_255_pixels() -> None:
    geometry = fc._geometry(fastconv._core.conv_geometry(1, "VALID", "NHWC", 1, "auto", None, False))
    windows = fc._geometry(fastconv._core.pool_geometry(24, None, "VALID", "NHWC", 1, False, False, None))
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 255 pixels, got 24 x 24"):
        fc._ops.fastconv_conv2d_max_pool2d_backprop_filter_bias(
            input=tf.zeros((1, 24, 24, 4)), filters=tf.zeros((1, 1, 4, 16)), taps=tf.zeros((1, 1, 1, 16), tf.uint8),
            grad=tf.zeros((1, 1, 1, 16)), output=tf.zeros((0, 0)), geometry=geometry, pool_geometry=windows,
        )  # fmt: skip


def test_large_layers_keep_their_own_gradients() -> None:
    specs = [tf.TensorSpec(shape) for shape in ((2, 32, 32, 16), (3, 3, 16, 32), (32,))]
    assert "FastconvMaxPool2DScatter" in ops_of(lambda *given: behind(*given, None, [0, 1, 2]), *specs)


@pytest.mark.parametrize("wrong", ["taps", "grad", "filters"])
def test_wrong_shapes_for_gradients_of_a_convolution_and_its_max_pool(wrong: str) -> None:
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


# ---- Bias gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, "relu"])
def test_bias_gradient_needs_no_extra_pass(activation: str | None) -> None:
    def gradients(x: tf.Tensor, w: tf.Tensor, b: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, w, b])
            y = fc.conv2d(x, w, bias=b, activation=activation)
        return tape.gradient(y, [x, w, b])

    specs = tf.TensorSpec((None, 8, 8, 3)), tf.TensorSpec((3, 3, 3, 5)), tf.TensorSpec((5,))
    concrete = tf.function(gradients).get_concrete_function(*specs)
    types = {op.type for op in concrete.graph.get_operations()}
    assert not types & {"BiasAddGrad", "ReluGrad"}
    assert [output.shape.as_list() for output in concrete.outputs] == [[None, 8, 8, 3], [3, 3, 3, 5], [5]]


def test_dy_is_not_overwritten_if_it_is_still_needed() -> None:
    """The ReLU's gradient may reuse the memory of its input only if no one else needs it."""
    x, w, b, dy = (tf.constant(random(*shape)) for shape in ((1, 6, 6, 2), (3, 3, 2, 4), (4,), (1, 4, 4, 4)))
    before = dy.numpy().copy()

    @tf.function
    def gradients(dy: tf.Tensor) -> Any:
        doubled = dy * 2
        with tf.GradientTape() as tape:
            tape.watch([w, b])
            y = fc.conv2d(x, w, bias=b, activation="relu")
        return *tape.gradient(y, [w, b], output_gradients=doubled), doubled, y

    for _ in range(3):
        d_filters, d_bias, doubled, y = gradients(dy)
        masked = np.where(y > 0, doubled, np.float32(0))
        np.testing.assert_array_equal(doubled, 2 * before)
        np.testing.assert_array_equal(dy, before)
        np.testing.assert_array_equal(d_filters, fastconv.conv2d_backprop_filter(x.numpy(), w.shape.as_list(), masked))
        np.testing.assert_allclose(d_bias, masked.sum((0, 1, 2)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wrong", ["features", "rank"])
def test_wrong_shapes_of_a_relu(wrong: str) -> None:
    geometry = fc._geometry([0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
    dy = tf.ones((2, 3, 4) if wrong == "rank" else (2, 3, 4, 5))
    features = tf.ones((2, 3, 4, 6)) if wrong == "features" else dy
    with pytest.raises(tf.errors.InvalidArgumentError):
        fc._ops.fastconv_relu_bias_grad(gradients=dy, features=features, geometry=geometry)


# ---- Only the gradients that are needed ------------------------------------------------------------------------------


def model_and_loss() -> tuple[Any, Callable[[tf.Tensor], Any]]:
    layers = [fk.Conv2D(4, 3, activation="relu"), fk.MaxPooling2D(2), fk.Conv2D(5, 3), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((10, 10, 1)), *layers])

    def gradients(x: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(x, training=True)))
        return tape.gradient(loss, model.trainable_variables)

    return model, gradients


def test_first_layer_has_no_input_gradient_in_a_graph() -> None:
    _, gradients = model_and_loss()
    assert ops_of(gradients, tf.TensorSpec((2, 10, 10, 1))) == [
        "FastconvConv2D",
        "FastconvConv2D",
        "FastconvConv2DBackpropFilterBias",
        "FastconvConv2DBackpropInput",
        "FastconvConv2DMaxPool2DBackpropFilterBias",
        "FastconvMaxPool2DWithTaps",
    ]


def test_first_layer_has_no_input_gradient_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    _, gradients = model_and_loss()
    called = []
    compute = fc._ops.fastconv_conv2d_backprop_input
    monkeypatch.setattr(fc._ops, "fastconv_conv2d_backprop_input", lambda **given: called.append(1) or compute(**given))
    assert all(gradient is not None for gradient in gradients(tf.constant(random(2, 10, 10, 1))))
    assert len(called) == 1


@pytest.mark.parametrize("wanted", ["input", "filters", "bias"])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_one_gradient_alone(wanted: str, activation: str | None) -> None:
    values = {"input": random(2, 7, 7, 3), "filters": random(3, 3, 3, 4), "bias": random(4)}
    tensors = {name: tf.constant(value) for name, value in values.items()}
    results = []
    for watched in (list(tensors), [wanted]):
        with tf.GradientTape() as tape:
            tape.watch([tensors[name] for name in watched])
            y = fc.conv2d(**tensors, activation=activation)
        results.append(tape.gradient(y, tensors[wanted]))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-5)
