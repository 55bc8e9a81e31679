"""Convolutions whose tasks follow the thread count, and functions for child processes that compute them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import fastconv
import numpy as np
from fastconv import _core

DIRECTIONS = ("forward", "input gradient", "filter gradient")
MEGABYTE = 1 << 20


class Problem(NamedTuple):
    """A convolution with padding "SAME". No groups: a depthwise convolution."""

    n: int
    h: int
    w: int
    c: int
    k: int
    r: int
    stride: int = 1
    groups: int = 1
    algorithm: str = "auto"

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the input and the filters."""
        channels = (self.c, self.k // self.c) if self.groups == 0 else (self.c // self.groups, self.k)
        return (self.n, self.h, self.w, self.c), (self.r, self.r, *channels)

    @property
    def options(self) -> dict[str, Any]:
        return {"strides": self.stride, "padding": "SAME", "algorithm": self.algorithm}

    def calls(self, dtype: type) -> dict[str, Callable[[], np.ndarray]]:
        """A call for each direction."""
        rng = np.random.default_rng(1)
        x, w = (rng.standard_normal(shape).astype(dtype) for shape in self.shapes)
        name = "depthwise_conv2d" if self.groups == 0 else "conv2d"
        forward, d_input, d_filter = (
            functools.partial(getattr(fastconv, name + end), **self.options)
            for end in ("", "_backprop_input", "_backprop_filter")
        )
        dy = rng.standard_normal(forward(x, w).shape).astype(dtype)
        found = (lambda: forward(x, w)), (lambda: d_input(x.shape, w, dy)), (lambda: d_filter(x, w.shape, dy))
        return dict(zip(DIRECTIONS, found, strict=True))

    def count_tasks(self, direction: str, threads: int, dtype: type = np.float32) -> list[Any]:
        """(name, whether it is a loop, whether threads share it, the costs of its tasks) of each phase."""
        fastconv.set_num_threads(threads)
        return _core.count_tasks(
            *self.shapes, self.stride, "SAME", "NHWC", 1, self.algorithm, dtype is np.float64, direction,
            self.groups == 0,
        )  # fmt: skip


# Some problem takes each algorithm in each of its forms, and most of them have another cut for many threads.
PROBLEMS = [
    Problem(1, 7, 7, 100, 500, 1),
    Problem(2, 15, 15, 40, 70, 1, 2),
    Problem(1, 28, 28, 256, 128, 1),
    Problem(1, 56, 56, 64, 64, 1),
    Problem(1, 28, 28, 128, 140, 3, 2),
    Problem(2, 30, 30, 30, 36, 3, 2, 2),
    Problem(2, 14, 14, 64, 128, 3, 1, 4),
    Problem(1, 30, 100, 24, 40, 3, algorithm="direct"),
    Problem(2, 9, 9, 300, 2, 3),
    Problem(3, 28, 28, 1, 6, 3),
    Problem(1, 20, 20, 40, 70, 3, algorithm="winograd"),
    Problem(2, 9, 9, 256, 260, 3, algorithm="winograd"),
    Problem(1, 14, 14, 300, 300, 3, algorithm="winograd"),
    Problem(2, 21, 21, 33, 33, 5, algorithm="winograd"),
    Problem(1, 28, 28, 128, 128, 3),
    Problem(1, 7, 7, 512, 512, 3),
    Problem(2, 27, 27, 96, 64, 5),
    Problem(3, 40, 40, 64, 64, 3),
    Problem(2, 20, 20, 70, 70, 3, 1, 0),
    Problem(1, 8, 8, 700, 700, 3, 1, 0),
    Problem(2, 14, 14, 520, 520, 3, 2, 0),
    Problem(1, 56, 56, 33, 33, 3, 1, 0),
    Problem(2, 31, 64, 70, 70, 3, 1, 0),
    Problem(2, 28, 28, 72, 72, 3, 1, 18),
    Problem(1, 14, 14, 90, 60, 3, 2, 30),
]

# Layers that need much scratch memory.
LARGE = [
    Problem(n, size, size, c, k, r, 1, groups)
    for n, size, c, k in ((8, 28, 512, 512), (8, 224, 64, 64), (1, 14, 700, 700), (8, 7, 512, 512), (4, 56, 256, 256))
    for r, groups in ((3, 1), (1, 1), (3, 4))
]


def digests(dtype: type, threads: int) -> dict[str, str]:
    """A digest of each result of all problems."""
    found = {}
    for problem in PROBLEMS:
        for direction, call in problem.calls(dtype).items():
            fastconv.set_num_threads(threads)
            found[f"{problem} {direction}"] = hashlib.sha256(call().tobytes()).hexdigest()
    return found


def too_much_scratch_memory(threads: int) -> list[str]:
    """The large layers that need more than 64 MB, and 2 MB for each thread beyond 16."""
    fastconv.set_num_threads(threads)
    limit = 64 * MEGABYTE + 2 * MEGABYTE * max(0, threads - 16)
    return [
        f"{problem} {direction}"
        for problem in LARGE
        for direction in DIRECTIONS
        if fastconv.explain(*problem.shapes, direction=direction, **problem.options).scratch_bytes > limit
    ]
