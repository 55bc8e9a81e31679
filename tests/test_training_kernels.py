"""The kernels of a training step on every instruction set: taps, bias gradients and gradients of fused layers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
from workers import ISAS, execute, worker

pytestmark = pytest.mark.tensorflow


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
            # The gradient of the gradient gathers the values at the maxima.
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


def test_max_pools_with_taps_and_bias_gradients(isa_worker: ProcessPoolExecutor) -> None:
    isa_worker.submit(execute, EVERY_ISA).result()


CONV_MAX_POOL_ON_EVERY_ISA = """
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
    isa_worker.submit(execute, CONV_MAX_POOL_ON_EVERY_ISA).result()


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
    # The 3x3 windows are two pixels apart: an odd pixel lies in one window, an even pixel in two.
    uses = np.where(np.arange(2 * p + 1) % 2, 1, 2)
    uses[[0, -1]] = 1
    exact = np.float64(grad[0, 0, 0, 0]) * window[3] * uses[:, None, None] * uses[:, None][:, : 2 * q + 1]
    assert abs(d_input[:, : 2 * p + 1, : 2 * q + 1] / exact - 1).max() <= 16 * eps
"""


def test_long_sums_in_gradients_of_a_convolution_and_its_max_pool(isa_worker: ProcessPoolExecutor) -> None:
    isa_worker.submit(execute, LONG_SUMS_EVERY_ISA).result()
