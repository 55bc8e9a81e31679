"""NaN and infinity change exactly the results that depend on them. Maxima of ties and NaNs follow the rules."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import fastconv
import numpy as np
import problems
import pytest
import random_problems
import reference
from problems import Problem
from reference import Geometry
from workers import compute


def sprinkle(array: np.ndarray, rng: np.random.Generator, few: int) -> np.ndarray:
    """A copy in which up to `few` values are replaced by NaN, infinity or minus infinity."""
    array = array.copy()
    for value in rng.choice([np.nan, np.inf, -np.inf], few):
        array.flat[rng.integers(array.size)] = value
    return array


def check(got: np.ndarray, exact: np.ndarray, with_padding: np.ndarray, tolerance: np.ndarray, what: str) -> None:
    """`exact` leaves out products with padding, and `with_padding` multiplies by zeros. Either result is right."""
    with np.errstate(invalid="ignore"):
        close = np.abs(got - exact) <= tolerance
    right = (got == exact) | close | (np.isnan(got) & (np.isnan(exact) | np.isnan(with_padding)))
    at = np.argwhere(~right)
    assert right.all(), (
        f"{what}\nwrong: {len(at)}, the first at {at[0]}: {got[tuple(at[0])]}, not {exact[tuple(at[0])]}"
    )


def conv_problems(seed: int, count: int) -> list[Problem]:
    """Non-empty problems, some of them computed by Winograd's algorithm."""
    drawn = random_problems.draw(count, seed, "float32", "conv")
    drawn += random_problems.draw(count // 3, seed, "float32", "winograd")
    drawn += random_problems.draw(count // 3, seed, "float64", "conv")
    return [
        dataclasses.replace(p, data_format="NHWC", padding=p.pads) for p in drawn if not p.empty and 0 not in p.size
    ]


def padded(x: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, Geometry]:
    """The same convolution with explicit zeros instead of padding."""
    (top, bottom), (left, right) = geometry.pads
    zeros = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    size = (zeros.shape[1], zeros.shape[2])
    return zeros, geometry._replace(size=size, pads=((0, 0), (0, 0)))


def finite(array: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(array), array, 1)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("where", ["input", "filters"])
def test_non_finite_values_in_conv2d(where: str, isa_worker: ProcessPoolExecutor, seed: int) -> None:
    for problem in conv_problems(seed, 60):
        rng = np.random.default_rng(problem.seed)
        x, w = problem.array("x", problem.input_shape), problem.array("w", problem.filter_shape)
        bias = problem.array("bias", (problem.filters,))
        if where == "input":
            x = sprinkle(x, rng, 3)
        else:
            w = sprinkle(w, rng, 2)
        arguments = problem.window_arguments() | {"input": x, "filters": w, "bias": bias}
        arguments["activation"] = "relu" if problem.relu else None
        (y,) = isa_worker.submit(compute, [("conv2d", arguments)]).result()
        geometry = problem.geometry
        exact = reference.conv2d(x, w, geometry, bias, problem.relu).value
        magnitude = reference.conv2d(finite(x), finite(w), geometry, bias).magnitude
        zeros, valid = padded(x, geometry)
        with_padding = reference.conv2d(zeros, w, valid, bias, problem.relu).value
        check(y, exact, with_padding, problems.tolerance_of(problem, magnitude), f"{where}: {problem}")


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("where", ["filters", "out_backprop"])
def test_non_finite_values_in_conv2d_backprop_input(where: str, isa_worker: ProcessPoolExecutor, seed: int) -> None:
    for problem in conv_problems(seed, 60):
        rng = np.random.default_rng(problem.seed)
        w, dy = problem.array("w", problem.filter_shape), problem.array("dy", problem.output_shape)
        if where == "filters":
            w = sprinkle(w, rng, 2)
        else:
            dy = sprinkle(dy, rng, 3)
        arguments = problem.window_arguments() | {
            "input_sizes": problem.input_shape,
            "filters": w,
            "out_backprop": dy,
        }
        (dx,) = isa_worker.submit(compute, [("conv2d_backprop_input", arguments)]).result()
        # With one output, the stride has no effect. With stride 1, more of the taps fall on padding.
        strides = tuple(s if size > 1 else 1 for s, size in zip(problem.strides, problem.output, strict=True))
        geometry = problem.geometry._replace(strides=strides)
        exact = reference.conv2d_backprop_input(w, dy, problem.geometry, problem.groups).value
        magnitude = reference.conv2d_backprop_input(finite(w), finite(dy), problem.geometry, problem.groups).magnitude
        # Zeros around dy stand for the outputs of a larger padding, so that every tap of every element meets an output.
        more = [reference.extent(problem.kernel[i], problem.dilations[i]) for i in range(2)]
        wide = [tuple(pad + more[i] * strides[i] for pad in geometry.pads[i]) for i in range(2)]
        larger = geometry._replace(pads=(wide[0], wide[1]))
        around = [(more[i], larger.output[i] - more[i] - problem.output[i]) for i in range(2)]
        zeros = np.pad(dy, ((0, 0), *around, (0, 0)))
        with_padding = reference.conv2d_backprop_input(w, zeros, larger, problem.groups).value
        check(dx, exact, with_padding, problems.tolerance_of(problem, magnitude), f"{where}: {problem}")


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("where", ["input", "out_backprop"])
def test_non_finite_values_in_conv2d_backprop_filter(where: str, isa_worker: ProcessPoolExecutor, seed: int) -> None:
    for problem in conv_problems(seed, 60):
        rng = np.random.default_rng(problem.seed)
        x, dy = problem.array("x", problem.input_shape), problem.array("dy", problem.output_shape)
        if where == "input":
            x = sprinkle(x, rng, 1)
        else:
            dy = sprinkle(dy, rng, 1)
        arguments = problem.window_arguments() | {
            "input": x,
            "filter_sizes": problem.filter_shape,
            "out_backprop": dy,
        }
        (dw,) = isa_worker.submit(compute, [("conv2d_backprop_filter", arguments)]).result()
        geometry, groups = problem.geometry, problem.groups
        exact = reference.conv2d_backprop_filter(x, dy, geometry, groups).value
        magnitude = reference.conv2d_backprop_filter(finite(x), finite(dy), geometry, groups).magnitude
        zeros, valid = padded(x, geometry)
        with_padding = reference.conv2d_backprop_filter(zeros, dy, valid, groups).value
        tolerance = problems.tolerance_of(problem, magnitude, filter_gradient=True)
        check(dw, exact, with_padding, tolerance, f"{where}: {problem}")


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_non_finite_values_in_depthwise_convolutions(isa_worker: ProcessPoolExecutor, seed: int) -> None:
    for problem in random_problems.draw(120, seed, "float32", "depthwise"):
        if problem.empty or 0 in problem.size:
            continue
        rng = np.random.default_rng(problem.seed)
        problem = dataclasses.replace(problem, data_format="NHWC", padding=problem.pads)
        geometry, arguments = problem.geometry, problem.window_arguments()
        x = sprinkle(problem.array("x", problem.input_shape), rng, 3)
        dy = sprinkle(problem.array("dy", problem.output_shape), rng, 3)
        w = problem.array("w", problem.filter_shape)
        y, dx = isa_worker.submit(
            compute,
            [
                ("depthwise_conv2d", arguments | {"input": x, "filters": w}),
                (
                    "depthwise_conv2d_backprop_input",
                    arguments | {"input_sizes": x.shape, "filters": w, "out_backprop": dy},
                ),
            ],
        ).result()
        exact = reference.depthwise_conv2d(x, w, geometry).value
        magnitude = reference.depthwise_conv2d(finite(x), w, geometry).magnitude
        check(y, exact, exact, problems.tolerance_of(problem, magnitude), f"forward: {problem}")
        exact = reference.depthwise_conv2d_backprop_input(w, dy, geometry).value
        magnitude = reference.depthwise_conv2d_backprop_input(w, finite(dy), geometry).magnitude
        check(dx, exact, exact, problems.tolerance_of(problem, magnitude), f"input gradient: {problem}")


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_non_finite_values_in_average_pools(isa_worker: ProcessPoolExecutor, seed: int) -> None:
    for problem in random_problems.draw(120, seed, "float32", "pool"):
        if problem.empty:
            continue
        rng = np.random.default_rng(problem.seed)
        problem = dataclasses.replace(problem, data_format="NHWC", padding=problem.pads, values="normal")
        arguments = problem.window_arguments() | problem.mean_arguments()
        x = sprinkle(problem.array("x", problem.input_shape), rng, 5)
        (y,) = isa_worker.submit(compute, [("avg_pool2d", arguments | {"input": x})]).result()
        exact = reference.avg_pool2d(x, problem.windows).value
        magnitude = reference.avg_pool2d(finite(x), problem.windows).magnitude
        check(y, exact, exact, problems.tolerance_of(problem, magnitude), str(problem))


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_value_affects_only_its_windows(
    value: float, algorithm: str, isa_worker: ProcessPoolExecutor
) -> None:
    x = np.random.default_rng(0).standard_normal((1, 14, 15, 3)).astype(np.float32)
    w = np.random.default_rng(1).standard_normal((3, 3, 3, 35)).astype(np.float32)
    x[0, 6, 7, 1] = value
    for activation in (None, "relu"):
        arguments = {"input": x, "filters": w, "padding": "SAME", "algorithm": algorithm, "activation": activation}
        (y,) = isa_worker.submit(compute, [("conv2d", arguments)]).result()
        reached = np.zeros((14, 15), bool)
        reached[5:8, 6:9] = True
        assert np.isfinite(y[0, ~reached]).all()
        hit = y[0, reached]
        if np.isnan(value):
            assert np.isnan(hit).all()  # ReLU keeps NaN
        else:
            expected = np.where(w[::-1, ::-1, 1].reshape(9, 35) * value > 0, np.inf, -np.inf)
            np.testing.assert_array_equal(hit, np.maximum(expected, 0) if activation else expected)


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_large_finite_values_do_not_overflow(algorithm: str, isa_worker: ProcessPoolExecutor) -> None:
    """The sums are finite, but Winograd's transforms of the values would overflow."""
    x = np.full((1, 12, 12, 2), 2e38, np.float32)
    x[:, ::2] *= -1
    w = np.zeros((3, 3, 2, 5), np.float32)
    w[1, 1, 0] = 1
    w[0, 0, 1] = 0.25
    arguments = {"input": x, "filters": w, "padding": "SAME", "algorithm": algorithm}
    dy = np.abs(np.random.default_rng(2).standard_normal((1, 12, 12, 5))).astype(np.float32)
    gradient = {"input": x / 1e5, "filter_sizes": w.shape, "out_backprop": dy * 1e-3, "padding": "SAME"}
    y, dw = isa_worker.submit(
        compute,
        [("conv2d", arguments), ("conv2d_backprop_filter", gradient | {"algorithm": algorithm})],
    ).result()
    geometry = Geometry((12, 12), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    np.testing.assert_allclose(y, reference.conv2d(x, w, geometry).value, rtol=1e-5)
    sums = reference.conv2d_backprop_filter(gradient["input"], gradient["out_backprop"], geometry)
    assert (np.abs(dw - sums.value) <= 1e-4 * sums.magnitude).all()


def on_planes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(array, 3, 1))


@pytest.mark.parametrize(("size", "shape", "activation"), [(3, (3, 23, 90), "sigmoid"), (5, (2, 18, 19), "relu")])
def test_non_finite_values_in_nchw_give_the_bits_of_nhwc(
    size: int, shape: tuple[int, int, int], activation: str, isa_worker: ProcessPoolExecutor
) -> None:
    """Winograd's algorithm computes NCHW on its planes. Tiles that are not finite are converted."""
    rng = np.random.default_rng(size)
    x = sprinkle(rng.standard_normal((*shape, 34)).astype(np.float32), rng, 4)
    dy = sprinkle(rng.standard_normal((*shape, 37)).astype(np.float32), rng, 4)
    x[-1, -1, -1, 0] = dy[-1, 0, -1, 0] = np.nan
    w = rng.standard_normal((size, size, 34, 37)).astype(np.float32)
    epilogue = {"bias": w[0, 0, 0], "activation": activation}
    results = []
    for data_format, to in (("NHWC", np.asarray), ("NCHW", on_planes)):
        given = {"padding": "SAME", "data_format": data_format, "algorithm": "winograd"}
        x_given, dy_given = to(x), to(dy)
        calls = [
            ("conv2d", given | epilogue | {"input": x_given, "filters": w}),
            (
                "conv2d_backprop_input",
                given | {"input_sizes": x_given.shape, "filters": w, "out_backprop": dy_given},
            ),
            (
                "conv2d_backprop_filter",
                given | {"input": x_given, "filter_sizes": w.shape, "out_backprop": dy_given},
            ),
        ]
        results.append(isa_worker.submit(compute, calls).result())
    nhwc, nchw = results
    np.testing.assert_array_equal(nchw[0], on_planes(nhwc[0]))
    np.testing.assert_array_equal(nchw[1], on_planes(nhwc[1]))
    np.testing.assert_array_equal(nchw[2], nhwc[2])


def filter_gradients(
    pool: ProcessPoolExecutor, x: np.ndarray, dy: np.ndarray, size: int, dirty_x: np.ndarray, dirty_dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Winograd's result for finite values, and the results of Winograd and direct for non-finite values."""
    call = {"filter_sizes": (size, size, x.shape[3], dy.shape[3]), "padding": "SAME"}
    dirty = call | {"input": dirty_x, "out_backprop": dirty_dy}
    calls = [
        call | {"input": x, "out_backprop": dy, "algorithm": "winograd"},
        dirty | {"algorithm": "winograd"},
        dirty | {"algorithm": "direct"},
    ]
    results = pool.submit(compute, [("conv2d_backprop_filter", arguments) for arguments in calls]).result()
    return results[0], results[1], results[2]


@pytest.mark.parametrize(
    ("value", "size", "shape", "channels", "filters"),
    [
        (np.nan, 3, (2, 14, 15), 40, 35),  # all sums are computed at once
        (np.inf, 3, (2, 14, 15), 200, 90),  # in blocks
        (np.nan, 5, (2, 9, 11), 33, 130),
        (np.nan, 5, (1, 6, 7), 640, 600),  # a filter gradient of more than 36 MB
        (3e38, 3, (2, 14, 15), 40, 35),  # finite, but its transform is not
    ],
)
def test_a_non_finite_value_changes_only_its_part_of_a_filter_gradient(
    value: float, size: int, shape: tuple[int, int, int], channels: int, filters: int, isa_worker: ProcessPoolExecutor
) -> None:
    """This part is the channel or filter of the value. There, the result equals that of the direct algorithm."""
    rng = np.random.default_rng(size)
    x = rng.uniform(-0.5, 0.5, (*shape, channels)).astype(np.float32)
    dy = rng.uniform(-0.5, 0.5, (*shape, filters)).astype(np.float32)
    reached = np.zeros((channels, filters), bool)
    dirty_x, dirty_dy = x.copy(), dy.copy()
    for channel in (0, 7, 8, channels - 1):
        dirty_x[-1, 3, 4, channel] = value
        reached[channel] = True
    for channel in (3, filters - 2):
        dirty_dy[-1, 5, 2, channel] = value
        reached[:, channel] = True
    clean, got, direct = filter_gradients(isa_worker, x, dy, size, dirty_x, dirty_dy)
    np.testing.assert_array_equal(got[:, :, ~reached], clean[:, :, ~reached])
    if not np.isfinite(value):
        assert not np.isfinite(got[:, :, reached]).all(axis=(0, 1)).any()
        np.testing.assert_array_equal(got[:, :, reached], direct[:, :, reached])
    else:
        assert np.isfinite(got).all() and np.isfinite(direct).all()
        assert (got == direct)[:, :, reached].all(axis=(0, 1)).any()


def test_a_filter_gradient_of_nan_alone_is_nan(isa_worker: ProcessPoolExecutor) -> None:
    x, dy = np.ones((1, 12, 12, 40), np.float32), np.full((1, 12, 12, 36), np.nan, np.float32)
    _, got, direct = filter_gradients(isa_worker, x, x[..., :36], 3, x, dy)
    assert np.isnan(got).all() and np.isnan(direct).all()


def test_subnormal_numbers_may_count_as_zero(isa_worker: ProcessPoolExecutor) -> None:
    x = np.full((1, 5, 5, 3), 1e-40, np.float32)
    w = np.full((3, 3, 3, 7), 2, np.float32)
    (y,) = isa_worker.submit(compute, [("conv2d", {"input": x, "filters": w})]).result()
    assert ((y == 0) | (np.abs(y - 27 * 2e-40) <= 1e-42)).all()


def test_the_callers_floating_point_state_is_kept() -> None:
    """Kernels flush subnormal numbers; the caller's own arithmetic must keep them."""
    x, w = np.ones((1, 40, 40, 16), np.float32), np.ones((3, 3, 16, 32), np.float32)
    fastconv.conv2d(x, w)
    tiny = np.array([1e-40], np.float32)
    assert (tiny * np.float32(1))[0] != 0


# ---- The maximum ----------------------------------------------------------------------------------------------------

CHANNELS = 37  # whole vectors of every width, and a tail


def pool_all(pool: ProcessPoolExecutor, x: np.ndarray, **window: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The output, the argmax, and for each input element the number of windows whose gradient it gets."""
    (result,) = pool.submit(compute, [("max_pool2d_with_argmax", {"input": x} | window)]).result()
    output, argmax = result
    grad = np.ones_like(output)
    calls = [
        ("max_pool2d", {"input": x} | window),
        ("max_pool2d_grad", {"orig_input": x, "orig_output": output, "grad": grad} | window),
    ]
    alone, gradient = pool.submit(compute, calls).result()
    np.testing.assert_array_equal(alone, output)
    return output, argmax, gradient


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_wins_in_every_lane_and_place(dtype: str, isa_worker: ProcessPoolExecutor) -> None:
    for place in range(4):
        for lane in range(CHANNELS):
            x = np.random.default_rng(place).standard_normal((1, 2, 2, CHANNELS)).astype(dtype)
            x[0, place // 2, place % 2, lane] = np.nan
            output, argmax, gradient = pool_all(isa_worker, x, ksize=2)
            assert list(np.flatnonzero(np.isnan(output))) == [lane]
            assert argmax[0, 0, 0, lane] == place * CHANNELS + lane
            assert gradient[0, place // 2, place % 2, lane] == 1
            assert gradient.sum() == CHANNELS


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_first_of_several_nans_wins(dtype: str, isa_worker: ProcessPoolExecutor) -> None:
    x = np.zeros((1, 2, 2, CHANNELS), dtype)
    x[0, 0, 1] = x[0, 1, 0] = np.nan
    x[0, 1, 1] = np.inf
    output, argmax, gradient = pool_all(isa_worker, x, ksize=2)
    assert np.isnan(output).all()
    np.testing.assert_array_equal(argmax[0, 0, 0], CHANNELS + np.arange(CHANNELS))
    assert (gradient[0, 0, 1] == 1).all() and gradient.sum() == CHANNELS


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [0.0, -np.inf, np.inf, -3.0])
def test_the_first_of_equal_maxima_wins(value: float, dtype: str, isa_worker: ProcessPoolExecutor) -> None:
    x = np.full((2, 6, 6, CHANNELS), value, dtype)
    output, argmax, gradient = pool_all(isa_worker, x, ksize=3, strides=3)
    assert (output == value).all()
    first = (np.array([[0, 3], [18, 21]])[..., None] * CHANNELS + np.arange(CHANNELS))[None]
    np.testing.assert_array_equal(argmax, np.broadcast_to(first, argmax.shape))
    expected = np.zeros((6, 6))
    expected[::3, ::3] = 1
    np.testing.assert_array_equal(gradient, np.broadcast_to(expected[None, :, :, None], gradient.shape))


def test_minus_zero_and_zero_are_equal(isa_worker: ProcessPoolExecutor) -> None:
    x = np.zeros((1, 2, 2, CHANNELS), np.float32)
    x[0, 0, 0] = -0.0
    _, argmax, _ = pool_all(isa_worker, x, ksize=2)
    np.testing.assert_array_equal(argmax[0, 0, 0], np.arange(CHANNELS))


def test_padding_does_not_beat_minus_infinity(isa_worker: ProcessPoolExecutor) -> None:
    x = np.full((1, 3, 3, CHANNELS), -np.inf, np.float32)
    output, argmax, gradient = pool_all(isa_worker, x, ksize=3, strides=2, padding="SAME")
    assert (output == -np.inf).all()
    # Because of the padding, the first elements inside the input are (0, 0), (0, 1), (1, 0) and (1, 1) for the windows.
    np.testing.assert_array_equal(argmax[0, :, :, 0], np.array([[0, 1], [3, 4]]) * CHANNELS)
    assert gradient.sum() == 4 * CHANNELS


def test_gradients_of_overlapping_windows_add_up(isa_worker: ProcessPoolExecutor) -> None:
    x = np.zeros((1, 5, 5, CHANNELS), np.float32)
    x[0, 2, 2] = 1
    _, _, gradient = pool_all(isa_worker, x, ksize=3, strides=1)
    assert (gradient[0, 2, 2] == 9).all() and gradient.sum() == 9 * CHANNELS


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_large_windows_find_the_first_maximum(kind: str, isa_worker: ProcessPoolExecutor) -> None:
    """Large windows are pooled along rows and columns. Zeros of both signs and NaNs of several kinds show the order."""
    rng = np.random.default_rng(3)
    bits = np.dtype(kind.replace("float", "int"))
    values = np.array([0.0, -0.0, -1.0, np.nan, np.nan, np.nan], kind)
    values.view(bits)[3:] += [1, 2, 3]
    for channels, window in ((1, 6), (CHANNELS, 11), (3, (5, 13))):
        x = rng.choice(values, (2, 24, 30, channels), p=[0.3, 0.3, 0.34, 0.02, 0.02, 0.02])
        arguments = {"input": x, "ksize": window, "strides": 1, "padding": "SAME"}
        calls = [("max_pool2d", arguments), ("max_pool2d_with_argmax", arguments)]
        alone, (_, argmax) = isa_worker.submit(compute, calls).result()
        first = np.stack([image.reshape(-1)[where] for image, where in zip(x, argmax, strict=True)])
        np.testing.assert_array_equal(alone.view(bits), first.view(bits))
