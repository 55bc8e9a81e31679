"""Batch normalisation and its gradients: the documented errors, special values, and the same bits everywhere."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import fastconv
import numpy as np
import pytest
from activation_reference import BOTH, DTYPES
from batch_norm_problems import OPTIONAL, BatchNormProblem, Bounded, draw_problems
from workers import Plain, compute, compute_displaced


def check(results: Any, expected: list[Bounded], problem: BatchNormProblem) -> float:
    """Raises AssertionError unless the results are right. Returns the largest error relative to the bound."""
    worst = 0.0
    smallest = float(np.finfo(problem.dtype).smallest_normal)
    for index, (got, (value, allowed)) in enumerate(zip(results, expected, strict=True)):
        assert (got.shape, got.dtype) == (value.shape, np.dtype(problem.dtype)), f"result {index} of {problem}"
        ratio = np.abs(got - value) / (allowed + 8 * smallest)
        assert (ratio <= 1).all(), f"result {index}: {float(ratio.max()):.2f} of the bound in {problem}"
        worst = max(worst, float(ratio.max(initial=0)))
    return worst


# ---- Errors ---------------------------------------------------------------------------------------------------------

SIZES = [  # several parts and chunks, a rest, rows of one pixel and of several, planes with a rest and without rows
    BatchNormProblem((1,), (5, 61, 67, 3), activation="relu", optional=OPTIONAL[:2], mean=-1e4),
    BatchNormProblem((2,), (3, 41, 43, 70), activation="relu6", optional=OPTIONAL[:2]),
    BatchNormProblem((3,), (3, 41, 43, 70), activation="relu", optional=OPTIONAL, mean=100),
    BatchNormProblem((4,), (3, 5, 41, 43), data_format="NCHW", activation="relu", optional=OPTIONAL[:2]),
    BatchNormProblem((5,), (40, 5, 3, 3), data_format="NCHW", activation="silu", optional=OPTIONAL, mean=1e4),
    BatchNormProblem((6,), (1500, 300), activation="gelu", optional=OPTIONAL[:1]),
    BatchNormProblem((7,), (2, 3000), activation="relu"),
    BatchNormProblem((8,), (4, 30, 30, 40), activation="relu", optional=OPTIONAL[:2], given_statistics=True),
    BatchNormProblem((9,), (4, 30, 30, 40), activation="silu", optional=OPTIONAL, given_statistics=True),
    # Small planes in several groups, the last of which is smaller: more images than a chunk, large groups, one image.
    BatchNormProblem((10,), (270, 70, 3, 3), "float32", "NCHW", "relu", OPTIONAL[:2], mean=100),
    BatchNormProblem((11,), (3, 45, 17, 29), "float32", "NCHW", "silu", OPTIONAL),
    BatchNormProblem((12,), (1, 700, 2), "float32", "NCHW", "relu", OPTIONAL[:2]),
    BatchNormProblem((13,), (2, 700, 5), "float32", "NCHW", "silu", OPTIONAL, given_statistics=True),
]


def check_forward(results: Any, problem: BatchNormProblem) -> tuple[list[np.ndarray], float]:
    """The statistics that normalised, and the largest error relative to the bound."""
    if problem.given_statistics:
        given = [problem.arrays["mean"], problem.arrays["variance"]]
        return given, check([results], [problem.output(*given)], problem)
    return results[1:], check(results, [problem.output(*results[1:]), *problem.statistics()], problem)


@pytest.mark.parametrize("dtype", DTYPES)
def test_errors(
    dtype: Any,
    isa_workers: dict[str, ProcessPoolExecutor],
    seed: int,
    count: int,
    tally: dict[str, tuple[int, float]],
) -> None:
    name = np.dtype(dtype).name
    problems = [replace(problem, dtype=name) for problem in SIZES] + draw_problems(count // 2, seed, name)
    calls = [problem.forward() for problem in problems]
    forward = {isa: pool.submit(compute, calls) for isa, pool in isa_workers.items()}
    worst = dict.fromkeys(isa_workers, 0.0)
    for isa, results in forward.items():
        checked = [check_forward(*pair) for pair in zip(results.result(), problems, strict=True)]
        worst[isa] = max(error for _, error in checked)
    # All instruction sets get the statistics of the last one, so that the exact gradients are computed once.
    statistics = [given for given, _ in checked]
    calls = [problem.backward(*given) for problem, given in zip(problems, statistics, strict=True)]
    backward = {isa: pool.submit(compute, calls) for isa, pool in isa_workers.items()}
    for i, (problem, given) in enumerate(zip(problems, statistics, strict=True)):
        expected = problem.gradients(*given)
        for isa, results in backward.items():
            found = results.result()[i]
            assert (found[3] is None) == ("residual" not in problem.optional)
            found = [result for result in found if result is not None]
            worst[isa] = max(worst[isa], check(found, expected, problem))
    for isa, error in worst.items():
        tally[f"batch_norm, {name}, {isa}"] = (len(problems), error)


@pytest.mark.parametrize("activation", BOTH, ids=str)
@pytest.mark.parametrize("given_statistics", [False, True])
def test_finite_differences(activation: Any, given_statistics: bool) -> None:
    """Of a function of all results, with respect to all inputs."""
    problem = BatchNormProblem(
        (3,), (3, 2, 2, 3), "float64", "NHWC", activation, OPTIONAL, 0.1, 2, given_statistics, True
    )
    name, given = problem.forward()

    def loss(**changed: np.ndarray) -> float:
        results = getattr(fastconv, name)(**{**given, **changed})
        results = (results,) if given_statistics else results
        weights = [problem.arrays[f"grad{suffix}"] for suffix in ("", "_mean", "_variance")]
        return sum(float((result * w).sum()) for result, w in zip(results, weights, strict=False))

    statistics = (
        [problem.arrays[k] for k in ("mean", "variance")] if given_statistics else fastconv.batch_norm(**given)[1:]
    )
    gradient, arguments = problem.backward(*statistics)
    for kind, found in zip(("input", *OPTIONAL), getattr(fastconv, gradient)(**arguments), strict=True):
        x = given[kind]
        for at in list(np.ndindex(x.shape))[::3]:
            moved = [x.copy(), x.copy()]
            moved[0][at] += 1e-6
            moved[1][at] -= 1e-6
            numeric = (loss(**{kind: moved[0]}) - loss(**{kind: moved[1]})) / 2e-6
            np.testing.assert_allclose(found[at], numeric, rtol=1e-6, atol=1e-7, err_msg=f"{kind} at {at}")


# ---- Special values -------------------------------------------------------------------------------------------------

FORMATS = [((6, 7, 9, 5), "NHWC"), ((6, 5, 7, 9), "NCHW"), ((3, 3, 3, 40), "NHWC")]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "data_format"), FORMATS)
def test_constant_channels(shape: tuple[int, ...], data_format: str, dtype: Any) -> None:
    """They have variance 0 and their value as mean, and the output is the offset."""
    problem = BatchNormProblem((1,), shape, data_format=data_format)
    values = (np.random.default_rng(0).standard_normal(shape[problem.axis]) * 1e4).astype(dtype)
    x = np.ascontiguousarray(np.broadcast_to(values.reshape(problem.row), shape))
    offset = values / 3
    y, mean, variance = fastconv.batch_norm(x, offset=offset, data_format=data_format)
    np.testing.assert_array_equal(mean, values)
    np.testing.assert_array_equal(variance, np.zeros_like(variance))
    np.testing.assert_array_equal(y, np.broadcast_to(offset.reshape(problem.row), shape))
    grad_input, *_ = fastconv.batch_norm_grad(x, mean, variance, x, data_format=data_format)
    assert np.isfinite(grad_input).all()


@pytest.mark.parametrize(("shape", "data_format"), FORMATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(shape: tuple[int, ...], data_format: str, value: float) -> None:
    """They concern their channel only, wherever they are in it."""
    problem = BatchNormProblem((1,), shape, data_format=data_format, optional=("scale", "offset"), activation="relu")
    _, given = problem.forward()
    clean = fastconv.batch_norm(**given)
    clean_gradients = fastconv.batch_norm_grad(**problem.backward(*clean[1:])[1])[:3]
    others = [channel for channel in range(shape[problem.axis]) if channel != 2]
    for place in (0, 1, -1):
        x = given["input"].copy()
        index = [0 if place >= 0 else size - 1 for size in shape]
        index[-1 if problem.axis != len(shape) - 1 else 0] = place
        index[problem.axis] = 2
        x[tuple(index)] = value
        y, mean, variance = fastconv.batch_norm(**given | {"input": x})
        np.testing.assert_array_equal(mean[2], value)
        assert np.isnan(variance[2])
        gradients = fastconv.batch_norm_grad(**problem.backward(mean, variance)[1] | {"input": x})[:3]
        for got, wanted in zip((y, mean, variance, *gradients), (*clean, *clean_gradients), strict=True):
            axis = problem.axis if got.ndim > 1 else 0
            np.testing.assert_array_equal(got.take(others, axis), wanted.take(others, axis))


def test_an_infinite_value_with_given_statistics() -> None:
    x = np.array([[np.inf, 1], [-np.inf, 2], [np.nan, 3]], np.float32)
    one, zero, grad = np.ones(2, np.float32), np.zeros(2, np.float32), np.full((3, 2), 2, np.float32)
    y = fastconv.batch_norm_inference(x, zero, one, epsilon=0, activation="relu")
    np.testing.assert_array_equal(y, np.array([[np.inf, 1], [0, 2], [np.nan, 3]], np.float32))
    linear = fastconv.batch_norm_inference_grad(x, zero, one, grad, epsilon=0)
    np.testing.assert_array_equal(linear[0], grad)
    masked = fastconv.batch_norm_inference_grad(x, zero, one, grad, epsilon=0, activation="relu")
    np.testing.assert_array_equal(masked[0], np.array([[0, 2], [0, 2], [0, 2]]) + np.array([[2, 0], [0, 0], [0, 0]]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("activation", "bounds"), [("relu", [0]), ("relu6", [0, 6]), (("clip", -1, 0), [-1, 0])])
def test_bounds_have_no_gradient(activation: Any, bounds: list[float], dtype: Any) -> None:
    """As in `activate_grad`. The values next to the bounds have one if they lie between them."""
    x = np.repeat(np.array(bounds, dtype), 21).reshape(-1, 3)
    rows = np.zeros(3, dtype), np.ones(3, dtype)
    for step in (-0.25, 0, 0.25):
        grad, _, grad_offset, _ = fastconv.batch_norm_inference_grad(
            x + dtype(step), *rows, np.ones_like(x), epsilon=0, activation=activation
        )
        np.testing.assert_array_equal(grad, fastconv.activate_grad(x + dtype(step), np.ones_like(x), activation))
        np.testing.assert_array_equal(grad_offset, grad.sum(0))
        assert step != 0 or not grad.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_subnormal_values(dtype: Any) -> None:
    """They may count as zero."""
    x = (np.arange(12).reshape(4, 3) * np.finfo(dtype).smallest_subnormal).astype(dtype)
    y, mean, variance = fastconv.batch_norm(x)
    assert (np.abs(mean) <= np.finfo(dtype).smallest_normal).all()
    assert (np.abs(y) <= 100 * np.finfo(dtype).smallest_normal).all()
    assert (variance == 0).all()


def test_huge_means(seed: int) -> None:
    """The variance of values around 1e4 with deviation 1, over a million values."""
    x = (np.random.default_rng(seed).standard_normal((4096, 256)) + 1e4).astype(np.float32)
    _, mean, variance = fastconv.batch_norm(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(variance, exact.var(0), rtol=8 * np.finfo(np.float32).eps)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=np.finfo(np.float32).eps)


def test_empty() -> None:
    for shape, data_format in (((0, 3, 4, 5), "NHWC"), ((2, 5, 0, 4), "NCHW"), ((0, 5), "NHWC")):
        x = np.zeros(shape, np.float32)
        y, mean, variance = fastconv.batch_norm(x, data_format=data_format, activation="silu")
        assert y.shape == shape and np.isnan(mean).all() and np.isnan(variance).all() and mean.shape == (5,)
        one = np.ones(5, np.float32)
        for gradient in (fastconv.batch_norm_grad, fastconv.batch_norm_inference_grad):
            d_input, d_scale, d_offset, d_residual = gradient(x, one, one, x, data_format=data_format, residual=x)
            assert d_input.shape == shape and d_residual is not None and d_residual.shape == shape
            np.testing.assert_array_equal([d_scale, d_offset], np.zeros((2, 5)))
    none = np.zeros((3, 4, 0), np.float64)
    assert [result.shape for result in fastconv.batch_norm(none)] == [(3, 4, 0), (0,), (0,)]


# ---- The same bits --------------------------------------------------------------------------------------------------


def all_calls(seed: int, count: int) -> list[Plain]:
    problems = SIZES + draw_problems(count, seed, "float32") + draw_problems(count, seed, "float64")
    calls = []
    for problem in problems:
        statistics = problem.arrays["mean"], problem.arrays["variance"]
        calls += [problem.forward(), problem.backward(*statistics)]
    return calls


def same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return all(same(x, y) for x, y in zip(a, b, strict=True))
    return (a is None and b is None) or a.tobytes() == b.tobytes()


def test_threads_and_alignment(isa_worker: ProcessPoolExecutor, seed: int, count: int) -> None:
    calls = all_calls(seed, count // 20)
    expected = isa_worker.submit(compute, calls, 1).result()
    for threads in (2, 3, 7):
        results = isa_worker.submit(compute, calls, threads).result()
        assert all(map(same, results, expected)), f"{threads} threads"
    for elements in (1, 3):
        results = isa_worker.submit(compute_displaced, calls, elements).result()
        assert all(map(same, results, expected)), f"arrays {elements} elements off the alignment"


def test_inference_with_the_statistics_of_the_batch(isa_worker: ProcessPoolExecutor, seed: int, count: int) -> None:
    """It gives the bits of training. With one image after the other, it gives the bits of the batch."""
    problems = [p for p in SIZES + draw_problems(count // 4, seed, "float32") if not p.given_statistics]
    forward = isa_worker.submit(compute, [problem.forward() for problem in problems]).result()
    calls: list[Plain] = []
    for problem, (_, mean, variance) in zip(problems, forward, strict=True):
        given = problem.forward()[1] | {"mean": mean, "variance": variance}
        calls.append(("batch_norm_inference", given))
        last = {name: given[name][-1:] for name in ("input", "residual") if name in given}
        calls.append(("batch_norm_inference", given | last))
    results = isa_worker.submit(compute, calls).result()
    for i, (output, _, _) in enumerate(forward):
        assert same(results[2 * i], output) and same(results[2 * i + 1], output[-1:]), problems[i]


def test_statistics_alone(isa_worker: ProcessPoolExecutor, seed: int, count: int) -> None:
    """They have the bits of those that `batch_norm` returns."""
    problems = [p for p in SIZES + draw_problems(count // 4, seed, "float32") if not p.given_statistics]
    forward = isa_worker.submit(compute, [problem.forward() for problem in problems]).result()
    calls: list[Plain] = [
        ("batch_norm_statistics", {"input": p.arrays["input"], "data_format": p.data_format}) for p in problems
    ]
    alone = isa_worker.submit(compute, calls).result()
    for problem, (_, *statistics), found in zip(problems, forward, alone, strict=True):
        assert same(found, tuple(statistics)), problem


def test_out(seed: int) -> None:
    problem = BatchNormProblem((seed,), (5, 6, 7, 8), optional=OPTIONAL, activation="relu")
    _, given = problem.forward()
    expected = fastconv.batch_norm(**given)
    out = tuple(np.full_like(result, np.nan) for result in expected)
    results = fastconv.batch_norm(**given, out=out)
    assert all(a is b for a, b in zip(results, out, strict=True)) and same(results, expected)
    _, arguments = problem.backward(*expected[1:])
    gradients = fastconv.batch_norm_grad(**arguments)
    array = np.full_like(gradients[0], np.nan)
    results = fastconv.batch_norm_grad(**arguments, out=(array, None, None, None))
    assert results[0] is array and same(results, gradients)


def test_a_result_that_bypasses_the_caches(seed: int) -> None:
    """Such a result is written in another way if it is aligned to vectors."""
    whole = np.random.default_rng(seed).random((9, 4096, 128), np.float32)
    given = {"mean": whole[0, 0], "variance": whole[0, 1], "activation": "relu"}
    expected = np.concatenate([fastconv.batch_norm_inference(part[None], **given) for part in whole])
    room = np.empty(whole.size + 64, np.float32)
    start = -room.ctypes.data % 64 // 4
    for shift in (0, 1):
        out = room[start + shift : start + shift + whole.size].reshape(whole.shape)
        fastconv.batch_norm_inference(whole, **given, out=out)
        np.testing.assert_array_equal(out, expected)


# ---- Wrong arguments ------------------------------------------------------------------------------------------------

X, ROW = np.ones((2, 3, 4), np.float32), np.ones(4, np.float32)
WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "rank": ({"input": ROW}, ValueError, r"^input must have at least 2 dimensions, .* got shape \(4,\)"),
    "dtype": ({"input": X.astype(np.float16)}, TypeError, r"^input must be float32 or float64, got float16"),
    "scale": (
        {"scale": ROW[:3]},
        ValueError,
        r"^scale must have shape \(4,\) \(one number for each channel\), got \(3,\)",
    ),
    "offset": ({"offset": ROW.astype(np.float64)}, TypeError, r"^offset is float64 but input is float32"),
    "residual": ({"residual": X[:1]}, ValueError, r"^residual must have shape \(2, 3, 4\) \(that of input\)"),
    "epsilon": ({"epsilon": -1}, ValueError, r"^epsilon must be a finite number and at least 0, got -1"),
    "infinite epsilon": ({"epsilon": np.inf}, ValueError, r"^epsilon must be a finite number"),
    "NaN as epsilon": ({"epsilon": np.nan}, ValueError, r"^epsilon must be a finite number"),
    "word as epsilon": ({"epsilon": "small"}, TypeError, r"^epsilon: expected a number, got 'small'"),
    "bool as epsilon": ({"epsilon": True}, TypeError, r"^epsilon: expected a number, got True"),
    "huge epsilon": ({"epsilon": 10**400}, ValueError, r"^epsilon must fit in float64, got a larger integer"),
    "data_format": ({"data_format": "NWHC"}, ValueError, r"^data_format must be 'NHWC' or 'NCHW', got 'NWHC'"),
    "channels second": ({"data_format": "NCHW"}, ValueError, r"^mean must have shape \(3,\)"),
    "activation": ({"activation": "softmax"}, ValueError, r"^activation must be None, .* got 'softmax'"),
    "mean": ({"mean": ROW[:2]}, ValueError, r"^mean must have shape \(4,\) \(one number for each channel\)"),
    "variance": ({"variance": X}, ValueError, r"^variance must have shape \(4,\)"),
    "grad": ({"grad": X[:, :2]}, ValueError, r"^grad must have shape \(2, 3, 4\) \(that of input\)"),
    "grad_mean": ({"grad_mean": X}, ValueError, r"^grad_mean must have shape \(4,\)"),
    "out": ({"out": (None, None, None, X.copy())}, ValueError, r"^out\[3\] must be None if residual is None, got"),
    "too few out": (
        {"out": (None, None)},
        TypeError,
        r"^out must be None or the tuple \(grad_input, .*\)",
    ),
    "overlap": ({"out": (X, None, None, None)}, ValueError, r"^out\[0\] must not overlap input in memory"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case: str) -> None:
    changes, error, message = WRONG[case]
    given = {"input": X, "mean": ROW, "variance": ROW, "grad": X.copy()}
    with pytest.raises(error, match=message):
        fastconv.batch_norm_grad(**given | changes)
