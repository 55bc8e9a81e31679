"""Properties that hold for any geometry: the reference's values, adjoint gradients, linearity."""

from __future__ import annotations

import fastconv
import numpy as np
import problems
import pytest
import reference
from hypothesis import assume, given
from hypothesis import strategies as st
from problems import Problem


@st.composite
def geometries(draw: st.DrawFn, kind: str) -> Problem:
    pool = kind == "pool"
    small = st.integers(1, 5)
    kernel, strides = draw(st.tuples(small, small)), draw(st.tuples(small, small))
    dilations = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    size = draw(st.tuples(st.integers(1, 12), st.integers(1, 20)))
    data_format = draw(st.sampled_from(["NHWC", "NCHW"]))
    most = [reference.extent(kernel[i], dilations[i]) - 1 if pool else 6 for i in range(2)]
    pads = st.tuples(*(st.tuples(st.integers(0, m), st.integers(0, m)) for m in most))
    padding = draw(st.one_of(st.sampled_from(["VALID", "SAME"]), pads))
    groups = draw(st.integers(1, 4)) if kind == "conv" else 1
    channels, filters = groups * draw(st.integers(1, 9)), groups * draw(st.integers(1, 20))
    if kind == "depthwise":
        groups, filters = channels, channels * draw(st.integers(1, 3))
    problem = Problem(
        (draw(st.integers(0, 2**32 - 1)),), draw(st.sampled_from(["float32", "float64"])), data_format,
        draw(st.integers(0, 3)), size, channels, kernel, strides, padding, dilations, filters, groups,
        depthwise=kind == "depthwise", pool=pool, bias=draw(st.booleans()), relu=draw(st.booleans()),
        values=draw(st.sampled_from(["normal", "ties"])) if pool else "normal", forms=draw(st.integers(0, 20)),
        ceil_mode=pool and draw(st.booleans()), count_include_pad=pool and draw(st.booleans()),
    )  # fmt: skip
    assume(min(problem.output) >= 0 and (not pool or problems.every_window_meets_the_input(problem)))
    return problem


@pytest.mark.parametrize("kind", ["conv", "depthwise", "pool"])
@given(data=st.data())
def test_any_geometry_agrees_with_the_reference(kind: str, data: st.DataObject) -> None:
    for call in problems.calls_of(data.draw(geometries(kind))):
        call.check(getattr(fastconv, call.name)(**call.arguments))


@pytest.mark.parametrize("prefix", ["", "depthwise_"])
@given(data=st.data())
def test_gradients_are_adjoint(prefix: str, data: st.DataObject) -> None:
    """<conv(x, w), dy> = <x, backprop_input(w, dy)> = <w, backprop_filter(x, dy)>."""
    problem = data.draw(geometries("depthwise" if prefix else "conv"))
    arguments = problem.window_arguments()
    x, w = problem.array("x", problem.input_shape), problem.array("w", problem.filter_shape)
    dy = problem.to_format(problem.array("dy", problem.output_shape))
    x = problem.to_format(x)
    y = getattr(fastconv, prefix + "conv2d")(x, w, **arguments)
    dx = getattr(fastconv, prefix + "conv2d_backprop_input")(x.shape, w, dy, **arguments)
    dw = getattr(fastconv, prefix + "conv2d_backprop_filter")(x, w.shape, dy, **arguments)

    def inner(a: np.ndarray, b: np.ndarray) -> float:
        return float((a.astype(np.float64) * b).sum())

    # Each of the three sums contains every product x*w*dy once.
    absolute = getattr(fastconv, prefix + "conv2d")(np.abs(x), np.abs(w), **arguments)
    tolerance = 20 * np.finfo(problem.dtype).eps * inner(absolute, np.abs(dy))
    assert abs(inner(y, dy) - inner(x, dx)) <= tolerance
    assert abs(inner(y, dy) - inner(w, dw)) <= tolerance


@given(data=st.data())
def test_linear_in_input_and_filters(data: st.DataObject) -> None:
    """Scaling by a power of two scales the result exactly; sums agree within the bound."""
    problem = data.draw(geometries("conv"))
    arguments = problem.window_arguments()
    x, other = (problem.to_format(problem.array(name, problem.input_shape)) for name in ("x", "other"))
    w = problem.array("w", problem.filter_shape)
    y = fastconv.conv2d(x, w, **arguments)
    np.testing.assert_array_equal(fastconv.conv2d(4 * x, w, **arguments), 4 * y)
    np.testing.assert_array_equal(fastconv.conv2d(x, -w / 8, **arguments), -y / 8)
    both = fastconv.conv2d(x + other, w, **arguments)
    bound = fastconv.conv2d(np.abs(x) + np.abs(other), np.abs(w), **arguments)
    error = np.abs(both - (y + fastconv.conv2d(other, w, **arguments)))
    assert (error <= 2 * problems.ERROR_BOUND * np.finfo(problem.dtype).eps * bound).all()


@given(data=st.data())
def test_average_pool_gradient_is_adjoint(data: st.DataObject) -> None:
    problem = data.draw(geometries("pool"))
    arguments = problem.window_arguments() | problem.mean_arguments()
    x = problem.to_format(problem.array("x", problem.input_shape).astype(np.float64))
    dy = problem.to_format(problem.array("dy", problem.output_shape).astype(np.float64))
    y = fastconv.avg_pool2d(x, **arguments)
    dx = fastconv.avg_pool2d_grad(x.shape, dy, **arguments)
    absolute = (fastconv.avg_pool2d(np.abs(x), **arguments) * np.abs(dy)).sum()
    assert abs((y * dy).sum() - (x * dx).sum()) <= 100 * np.finfo(np.float64).eps * absolute
