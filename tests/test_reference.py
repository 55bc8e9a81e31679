"""The reference agrees with SciPy, TensorFlow and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import scipy.ndimage
import scipy.signal
import tensorflow as tf
from reference import Geometry

PADS = ((1, 2), (0, 3))
GEOMETRIES = [
    Geometry((7, 9), (3, 2), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    Geometry((7, 9), (3, 4), (2, 3), PADS, (1, 1)),
    Geometry((7, 9), (2, 3), (1, 2), PADS, (3, 2)),
    Geometry((4, 3), (3, 4), (5, 4), PADS, (1, 1)),
    Geometry((3, 2), (5, 4), (1, 1), ((2, 2), (1, 2)), (1, 1)),
]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def correlate(x: np.ndarray, w: np.ndarray, geometry: Geometry) -> np.ndarray:
    """SciPy's correlation of one image and one group, with zeros between the taps of a dilated filter."""
    (dilation_y, dilation_x), (stride_y, stride_x) = geometry.dilations, geometry.strides
    extents = [reference.extent(geometry.kernel[i], geometry.dilations[i]) for i in range(2)]
    spread = np.zeros((*extents, *w.shape[2:]))
    spread[::dilation_y, ::dilation_x] = w
    padded = np.pad(x, (*geometry.pads, (0, 0)))
    channels = [
        sum(scipy.signal.correlate2d(padded[..., c], spread[..., c, k], "valid") for c in range(x.shape[2]))
        for k in range(w.shape[3])
    ]
    return np.stack(channels, axis=-1)[::stride_y, ::stride_x]


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_conv2d_agrees_with_scipy(geometry: Geometry, groups: int) -> None:
    x, w, bias = normal(2, *geometry.size, 6), normal(*geometry.kernel, 6 // groups, 12), normal(12)
    y, magnitude = reference.conv2d(x, w, geometry, bias)
    for n in range(2):
        parts = [
            correlate(x_part, w_part, geometry)
            for x_part, w_part in zip(np.split(x[n], groups, axis=2), np.split(w, groups, axis=3), strict=True)
        ]
        np.testing.assert_allclose(y[n], np.concatenate(parts, axis=2) + bias, rtol=1e-12, atol=1e-12)
    assert (magnitude >= np.abs(y) - 1e-12).all()
    absolute = reference.conv2d(np.abs(x), np.abs(w), geometry, np.abs(bias))
    np.testing.assert_allclose(magnitude, absolute.value, rtol=1e-12)
    relu = reference.conv2d(x, w, geometry, bias, relu=True).value
    np.testing.assert_array_equal(relu, np.maximum(y, 0))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_depthwise_convolution_is_a_grouped_one(geometry: Geometry) -> None:
    x, w, bias = normal(2, *geometry.size, 3), normal(*geometry.kernel, 3, 2), normal(6)
    grouped = w.reshape(*geometry.kernel, 1, 6)
    dy = normal(2, *geometry.output, 6)
    pairs = [
        (reference.depthwise_conv2d(x, w, geometry, bias), reference.conv2d(x, grouped, geometry, bias)),
        (
            reference.depthwise_conv2d_backprop_input(w, dy, geometry),
            reference.conv2d_backprop_input(grouped, dy, geometry, 3),
        ),
    ]
    for ours, other in pairs:
        np.testing.assert_allclose(ours.value, other.value, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ours.magnitude, other.magnitude, rtol=1e-12)
    dw = reference.depthwise_conv2d_backprop_filter(x, dy, geometry).value
    np.testing.assert_allclose(
        dw.reshape(grouped.shape), reference.conv2d_backprop_filter(x, dy, geometry, 3).value, rtol=1e-12, atol=1e-12
    )


def difference(function: Any, x: np.ndarray) -> np.ndarray:
    gradient = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[at] = 0.5  # the functions are linear
        gradient[at] = function(x + step) - function(x - step)
    return gradient


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_conv_gradients_agree_with_finite_differences(geometry: Geometry, groups: int) -> None:
    x, w = normal(2, *geometry.size, 4), normal(*geometry.kernel, 4 // groups, 2)
    dy = normal(2, *geometry.output, 2)
    dx = reference.conv2d_backprop_input(w, dy, geometry, groups).value
    numeric = difference(lambda x: (reference.conv2d(x, w, geometry).value * dy).sum(), x)
    np.testing.assert_allclose(dx, numeric, rtol=1e-10, atol=1e-10)
    dw = reference.conv2d_backprop_filter(x, dy, geometry, groups).value
    numeric = difference(lambda w: (reference.conv2d(x, w, geometry).value * dy).sum(), w)
    np.testing.assert_allclose(dw, numeric, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if g.dilations == (1, 1)])
def test_pools_agree_with_plain_loops(geometry: Geometry) -> None:
    height, width = geometry.size
    x = np.random.default_rng(0).integers(-3, 4, (2, height, width, 3)).astype(np.float64)
    value, argmax = reference.max_pool2d(x, geometry)
    mean = reference.avg_pool2d(x, geometry).value
    for n, p, q, c in np.ndindex(value.shape):
        places = [
            (y, x)
            for y in range(p * geometry.strides[0] - geometry.pads[0][0], height)[: geometry.kernel[0]]
            for x in range(q * geometry.strides[1] - geometry.pads[1][0], width)[: geometry.kernel[1]]
            if y >= 0 and x >= 0
        ]
        window = [x[n, y, column, c] for y, column in places]
        first = window.index(max(window))
        assert value[n, p, q, c] == max(window)
        assert argmax[n, p, q, c] == (places[first][0] * width + places[first][1]) * 3 + c
        np.testing.assert_allclose(mean[n, p, q, c], np.mean(window), rtol=1e-12)
    grad = normal(*value.shape)
    numeric = difference(lambda x: (reference.avg_pool2d(x, geometry).value * grad).sum(), x)
    np.testing.assert_allclose(reference.avg_pool2d_grad(grad, geometry).value, numeric, rtol=1e-10, atol=1e-10)
    expected = np.zeros((2, height * width * 3))
    for n, p, q, c in np.ndindex(value.shape):
        expected[n, argmax[n, p, q, c]] += grad[n, p, q, c]
    dx = reference.max_pool2d_grad(x, grad, geometry).value
    np.testing.assert_allclose(dx.reshape(2, -1), expected, rtol=1e-12, atol=1e-12)


def test_maximum_of_special_values() -> None:
    nan, inf = np.nan, np.inf
    geometry = Geometry((1, 4), (1, 4), (1, 1), ((0, 0), (0, 0)), (1, 1))
    for window, value, place in [
        ([1, 2, 2, 1], 2, 1),
        ([-inf, -inf, -inf, -inf], -inf, 0),
        ([1, nan, inf, nan], nan, 1),
        ([nan, 5, 6, 7], nan, 0),
        ([-inf, -inf, nan, 0], nan, 2),
        ([0.0, -0.0, -1, -inf], 0, 0),
    ]:
        got = reference.max_pool2d(np.array(window, np.float32).reshape(1, 1, 4, 1), geometry)
        np.testing.assert_array_equal(got.value.ravel(), [value])
        assert got.argmax.ravel() == [place]


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_padding_and_sizes_agree_with_tensorflow(padding: str) -> None:
    """The shapes are TensorFlow's. The values show on which side the odd padding is."""
    for size in range(1, 9):
        for kernel in range(1, 6):
            for stride in range(1, 5):
                for dilation in (1, 2):
                    geometry_of = (size, size), (kernel, kernel), (stride, stride)
                    pads = reference.resolve_pads(padding, "NHWC", *geometry_of, (dilation, dilation))
                    geometry = Geometry(*geometry_of, pads, (dilation, dilation))
                    if min(geometry.output) < 1:
                        continue
                    x, w = normal(1, size, size, 1), normal(kernel, kernel, 1, 1)
                    expected = tf.nn.conv2d(x, w, stride, padding, dilations=dilation).numpy()
                    np.testing.assert_allclose(reference.conv2d(x, w, geometry).value, expected, rtol=1e-10, atol=1e-10)


def test_max_pool_agrees_with_scipy() -> None:
    x = normal(9, 11)
    geometry = Geometry((9, 11), (3, 5), (1, 1), ((1, 1), (2, 2)), (1, 1))
    expected = scipy.ndimage.maximum_filter(x, (3, 5), mode="constant", cval=-np.inf)
    np.testing.assert_array_equal(reference.max_pool2d(x[None, :, :, None], geometry).value[0, :, :, 0], expected)


def test_every_form_of_padding_is_resolved() -> None:
    rest = ((5, 6), (3, 3), (1, 1), (1, 1))
    for padding, data_format, pads in [
        ("valid", "NHWC", ((0, 0), (0, 0))),
        ("Same", "NCHW", ((1, 1), (1, 1))),
        (2, "NHWC", ((2, 2), (2, 2))),
        ((1, 2), "NHWC", ((1, 1), (2, 2))),
        (((1, 2), (3, 4)), "NCHW", ((1, 2), (3, 4))),
        ([[0, 0], [1, 2], [3, 4], [0, 0]], "NHWC", ((1, 2), (3, 4))),
        ([[0, 0], [0, 0], [1, 2], [3, 4]], "NCHW", ((1, 2), (3, 4))),
    ]:
        assert reference.resolve_pads(padding, data_format, *rest) == pads
