"""Many cores: the tasks that a plan counts are those that run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fastconv
import numpy as np
import pytest
from fastconv import _core

Sizes = tuple[int, ...]

# n, h, w, c, k, r, stride, groups (0: depthwise), algorithm. Some problem takes each algorithm, in each of its forms.
PROBLEMS: list[tuple[int, int, int, int, int, int, int, int, str]] = [
    (1, 7, 7, 100, 500, 1, 1, 1, "auto"),
    (2, 15, 15, 40, 70, 1, 2, 1, "auto"),
    (1, 30, 100, 24, 40, 3, 1, 1, "direct"),
    (2, 30, 30, 30, 36, 3, 2, 2, "auto"),
    (2, 9, 9, 300, 2, 3, 1, 1, "auto"),
    (3, 28, 28, 1, 6, 3, 1, 1, "auto"),
    (1, 20, 20, 40, 70, 3, 1, 1, "winograd"),
    (2, 9, 9, 256, 260, 3, 1, 1, "winograd"),
    (1, 14, 14, 300, 300, 3, 1, 1, "winograd"),
    (2, 21, 21, 33, 33, 5, 1, 1, "winograd"),
    (2, 20, 20, 70, 70, 3, 1, 0, "auto"),
    (1, 8, 8, 700, 700, 3, 1, 0, "auto"),
    (2, 14, 14, 520, 520, 3, 2, 0, "auto"),
]


@pytest.fixture(autouse=True)
def threads_restored() -> Iterator[None]:
    before = fastconv.get_num_threads()
    yield
    fastconv.set_num_threads(before)


def calls(problem: tuple[Any, ...], dtype: type = np.float32) -> dict[str, tuple[Any, Sizes, Sizes, dict[str, Any]]]:
    """For each direction: the call, the shapes of its input and filters, and the attributes."""
    n, h, w, c, k, r, stride, groups, algorithm = problem
    rng = np.random.default_rng(1)
    depthwise = groups == 0
    x = rng.standard_normal((n, h, w, c)).astype(dtype)
    filters = rng.standard_normal((r, r, c, k // c) if depthwise else (r, r, c // groups, k)).astype(dtype)
    name = "depthwise_conv2d" if depthwise else "conv2d"
    forward, d_input, d_filter = (getattr(fastconv, name + end) for end in ("", "_backprop_input", "_backprop_filter"))
    options: dict[str, Any] = {"strides": stride, "padding": "SAME", "algorithm": algorithm}
    dy = rng.standard_normal(forward(x, filters, **options).shape).astype(dtype)
    found = {
        "forward": lambda: forward(x, filters, **options),
        "input gradient": lambda: d_input(x.shape, filters, dy, **options),
        "filter gradient": lambda: d_filter(x, filters.shape, dy, **options),
    }
    return {
        direction: (call, x.shape, filters.shape, {**options, "depthwise": depthwise, "dtype": dtype})
        for direction, call in found.items()
    }


def counted(input_shape: Sizes, filter_shape: Sizes, direction: str, options: dict[str, Any]) -> list[Any]:
    return _core.count_tasks(
        input_shape, filter_shape, options["strides"], options["padding"], "NHWC", 1, options["algorithm"],
        options["dtype"] is np.float64, direction, options["depthwise"],
    )  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
@pytest.mark.parametrize("threads", [1, 3, 16, 64])
def test_the_counted_tasks_are_those_that_run(problem: tuple[Any, ...], threads: int) -> None:
    for direction, (call, input_shape, filter_shape, options) in calls(problem).items():
        fastconv.set_num_threads(threads)
        phases = counted(input_shape, filter_shape, direction, options)
        loops = [len(costs) for _, loop, _, costs in phases if loop and costs]
        assert _core.tasks_run_by(call) == loops, direction
        found = fastconv.explain(input_shape, filter_shape, direction=direction, **options)
        products = sum(products for *_, costs in phases for products, _ in costs)
        assert products == found.multiplications, direction
        assert all(
            products >= 0 and moved >= 0 and products + moved > 0 for *_, costs in phases for products, moved in costs
        )
