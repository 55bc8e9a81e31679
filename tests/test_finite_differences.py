"""Gradients agree with finite differences."""

from __future__ import annotations

from typing import Any

import fastconv
import numpy as np
import pytest
import random_problems
from problems import Problem


def finite_difference(function: Any, x: np.ndarray, step: float) -> np.ndarray:
    """The gradient of a scalar function, by central differences."""
    gradient = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        moved = x.copy()
        moved[at] += step
        above = function(moved)
        moved[at] -= 2 * step
        gradient[at] = (above - function(moved)) / (2 * step)
    return gradient


def small_problems(kind: str, seed: int) -> list[Problem]:
    """Non-empty problems that are small enough for one call per element."""

    def fits(p: Problem) -> bool:
        sizes = [np.prod(p.input_shape), 1 if p.pool else np.prod(p.filter_shape)]
        return not p.empty and p.values == "normal" and 0 < min(sizes) and max(sizes) < 300

    return [p for p in random_problems.draw(500, seed, "float64", kind) if fits(p)][:12]


@pytest.mark.parametrize("prefix", ["", "depthwise_"])
def test_conv_gradients_by_finite_differences(prefix: str, seed: int) -> None:
    drawn = small_problems("depthwise" if prefix else "conv", seed)
    assert len(drawn) == 12
    for problem in drawn:
        arguments = problem.window_arguments()
        x = problem.to_format(problem.array("x", problem.input_shape))
        w = problem.array("w", problem.filter_shape)
        dy = problem.to_format(problem.array("dy", problem.output_shape))
        forward = getattr(fastconv, prefix + "conv2d")
        dx = getattr(fastconv, prefix + "conv2d_backprop_input")(x.shape, w, dy, **arguments)
        dw = getattr(fastconv, prefix + "conv2d_backprop_filter")(x, w.shape, dy, **arguments)
        # The loss is linear in x and in w, so a large step costs no accuracy.
        numeric = finite_difference(lambda x: float((forward(x, w, **arguments) * dy).sum()), x, 0.5)  # noqa: B023
        np.testing.assert_allclose(dx, numeric, rtol=1e-9, atol=1e-9, err_msg=str(problem))
        numeric = finite_difference(lambda w: float((forward(x, w, **arguments) * dy).sum()), w, 0.5)  # noqa: B023
        np.testing.assert_allclose(dw, numeric, rtol=1e-9, atol=1e-9, err_msg=str(problem))


def test_pool_gradients_by_finite_differences(seed: int) -> None:
    drawn = small_problems("pool", seed)
    assert len(drawn) == 12
    for problem in drawn:
        arguments = problem.window_arguments()
        # All values differ by at least 0.25, so a step of 0.0625 changes no argmax.
        x = np.random.default_rng(problem.seed).permutation(int(np.prod(problem.input_shape))).astype(np.float64) / 4
        x = problem.to_format(x.reshape(problem.input_shape))
        dy = problem.to_format(problem.array("dy", problem.output_shape))
        dx = fastconv.max_pool2d_grad(x, fastconv.max_pool2d(x, **arguments), dy, **arguments)
        numeric = finite_difference(lambda x: float((fastconv.max_pool2d(x, **arguments) * dy).sum()), x, 0.0625)  # noqa: B023
        np.testing.assert_allclose(dx, numeric, rtol=1e-9, atol=1e-9, err_msg=str(problem))
        arguments |= problem.mean_arguments()
        dx = fastconv.avg_pool2d_grad(x.shape, dy, **arguments)
        numeric = finite_difference(lambda x: float((fastconv.avg_pool2d(x, **arguments) * dy).sum()), x, 0.5)  # noqa: B023
        np.testing.assert_allclose(dx, numeric, rtol=1e-9, atol=1e-9, err_msg=str(problem))
