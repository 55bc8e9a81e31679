"""Random problems, seeded and small, with many awkward cases."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import reference
from problems import Pooling, Problem, every_window_meets_the_input
from reference import Pads, Pair

MOST_PRODUCTS = 3_000_000
MOST_VALUES = 60_000


def _pick(rng: np.random.Generator, *choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def _padding_form(rng: np.random.Generator, pads: Pads, data_format: str) -> Any:
    """One of the ways to write explicit padding."""
    (top, bottom), (left, right) = pads
    forms: list[Any] = [pads, [[top, bottom], [left, right]]]
    if data_format == "NHWC":
        forms.append([[0, 0], [top, bottom], [left, right], [0, 0]])
    else:
        forms.append([[0, 0], [0, 0], [top, bottom], [left, right]])
    if top == bottom and left == right:
        forms.append((top, left))
        if top == left:
            forms.append(top)
    return _pick(rng, *forms)


def _with_random_pooling(rng: np.random.Generator, problem: Problem) -> Problem | None:
    """Like _random_problem, with a max pooling of the output. Most are common layers, and many of these are small."""
    if rng.random() < 0.6:
        channels, filters = _pick(rng, 1, 1, 2, 3, 6, 6, 8, 17), _pick(rng, 1, 5, 6, 8, 16, 16, 17, 33)
        padding = problem.padding if isinstance(problem.padding, str) else problem.pads
        problem = dataclasses.replace(
            problem, data_format="NHWC", channels=channels, filters=filters, strides=(1, 1), dilations=(1, 1),
            groups=1, padding=padding, algorithm="auto",
        )  # fmt: skip
    kernel = (_pick(rng, 1, 2, 2, 2, 3), _pick(rng, 1, 2, 2, 2, 3))
    strides = kernel if rng.random() < 0.6 else (_pick(rng, 1, 2, 3), _pick(rng, 1, 2, 3))
    padding = "VALID"
    if rng.random() < 0.4:
        drawn = [int(rng.integers(kernel[i // 2])) for i in range(4)]
        explicit = _padding_form(rng, ((drawn[0], drawn[1]), (drawn[2], drawn[3])), problem.data_format)
        padding = _pick(rng, "SAME", explicit)
    problem = dataclasses.replace(problem, pooling=Pooling(kernel, strides, padding))
    if min(problem.output) < 0 or min(problem.pooling_geometry.output) < 0:
        return None
    if 0 in problem.output and 0 not in problem.pooling_geometry.output:
        return None
    products = int(np.prod(problem.output_shape)) * int(np.prod(problem.filter_shape[:3]))
    values = max(int(np.prod(problem.input_shape)), int(np.prod(problem.output_shape)))
    return problem if products <= MOST_PRODUCTS and values <= MOST_VALUES else None


def _random_window(rng: np.random.Generator, kind: str) -> tuple[Pair, Pair, Pair]:
    """The kernel, the strides and the dilations."""
    pool = kind == "pool"
    kernel = (_pick(rng, 1, 2, 2, 3, 3, 3, 4, 5, 7), _pick(rng, 1, 2, 2, 3, 3, 3, 4, 5, 7))
    strides = (_pick(rng, 1, 1, 1, 2, 2, 3, 5), _pick(rng, 1, 1, 1, 2, 2, 3, 5))
    if kind == "winograd":
        kernel, strides = _pick(rng, (3, 3), (3, 3), (5, 5)), (1, 1)
    if large := pool and rng.random() < 0.15:
        kernel = (int(rng.integers(6, 22)), int(rng.integers(6, 22)))
        strides = (_pick(rng, 1, 1, 2), _pick(rng, 1, 1, 2))
    if pool and not large and rng.random() < 0.4:
        strides = kernel
    dilations = (1, 1)
    if kind in ("conv", "depthwise") and rng.random() < 0.4:
        dilations = (_pick(rng, 1, 2, 3, 4), _pick(rng, 1, 2, 3, 4))
    if pool and rng.random() < 0.3:
        dilations = (_pick(rng, 1, 2, 3), _pick(rng, 1, 2, 3))
    return kernel, strides, dilations


def _random_problem(rng: np.random.Generator, seed: tuple[int, ...], dtype: str, kind: str) -> Problem | None:
    """None if the draw has a negative output size, has a pooling window without input, or is too much work."""
    if kind == "conv_max_pool":
        problem = _random_problem(rng, seed, dtype, "conv")
        return problem and _with_random_pooling(rng, problem)
    if kind == "adaptive":
        return _random_adaptive(rng, seed, dtype)
    pool = kind == "pool"
    data_format = _pick(rng, "NHWC", "NCHW")
    kernel, strides, dilations = _random_window(rng, kind)
    size = (int(rng.integers(1, 13)), int(rng.integers(1, 13)))
    if rng.random() < 0.2:
        size = (size[0], int(rng.integers(13, 41)))
    if max(kernel) > 7:
        size = (size[0] + 12, size[1] + 12)
    n = _pick(rng, 1, 1, 2, 3, 5)

    padding: Any
    style = rng.random()
    if style < 0.15:
        padding = _pick(rng, "VALID", "valid")
    elif style < 0.35:
        padding = _pick(rng, "SAME", "same")
    else:
        most = [reference.extent(kernel[i], dilations[i]) + (-1 if pool else 1) for i in range(2)]
        drawn = [int(rng.integers(0, most[i // 2] + 1)) for i in range(4)]
        if style < 0.5:
            drawn[1], drawn[3] = drawn[0], drawn[2]
        padding = _padding_form(rng, ((drawn[0], drawn[1]), (drawn[2], drawn[3])), data_format)

    if rng.random() < 0.2:
        if rng.random() < 0.3:
            n = 0
        elif not pool and rng.random() < 0.1:
            size = _pick(rng, (0, size[1]), (size[0], 0), (0, 0))
        else:  # on one axis, the window exceeds the padded input by at most a stride
            axis = _pick(rng, 0, 1)
            pads = reference.resolve_pads(padding, data_format, size, kernel, strides, dilations)
            room = reference.extent(kernel[axis], dilations[axis]) - sum(pads[axis])
            short = max(0, room - int(rng.integers(1, strides[axis] + 1)))
            size = (short, size[1]) if axis == 0 else (size[0], short)

    filters = groups = 1
    if pool:
        channels = _pick(rng, 1, 1, 3, 3, 6, 6, 17, 17, 2, 4, 8, 16, 32, 33, 64, 65, 100, 140)
    elif kind == "depthwise":
        channels = _pick(rng, 1, 3, 3, 6, 6, 17, 17, 2, 4, 8, 16, 31, 33, 64, 100, 140)
        groups, filters = channels, channels * _pick(rng, 1, 1, 1, 2, 3, 5)
    elif kind == "conv" and rng.random() < 0.32:
        groups = _pick(rng, 2, 3, 3, 5, 6, 17)
        channels = groups * _pick(rng, 1, 1, 2, 3, 6, 17)
        filters = groups * _pick(rng, 1, 1, 2, 3, 5, 17, 33)
    else:
        channels = _pick(rng, 1, 1, 3, 3, 6, 6, 17, 17, 2, 5, 8, 16, 33, 64, 140)
        filters = _pick(rng, 1, 2, 3, 5, 6, 8, 10, 16, 17, 31, 33, 48, 65, 100, 140)

    problem = Problem(
        seed, dtype, data_format, n, size, channels, kernel, strides, padding, dilations, filters, groups,
        depthwise=kind == "depthwise", pool=pool, bias=bool(rng.random() < 0.5), relu=bool(rng.random() < 0.3),
        algorithm="winograd" if kind == "winograd" else "auto" if pool else _pick(rng, "auto", "direct"),
        values=_pick(rng, "normal", "normal", "ties", "nan", "infinite") if pool else "normal",
        forms=int(rng.integers(1000)), ceil_mode=pool and bool(rng.random() < 0.3),
        count_include_pad=pool and bool(rng.random() < 0.3),
    )  # fmt: skip
    if min(problem.output) < 0 or (pool and not every_window_meets_the_input(problem)):
        return None
    products = int(np.prod(problem.output_shape)) * int(np.prod(problem.filter_shape[:3] if not pool else kernel))
    values = max(int(np.prod(problem.input_shape)), int(np.prod(problem.output_shape)))
    return problem if products <= MOST_PRODUCTS and values <= MOST_VALUES else None


def _random_adaptive(rng: np.random.Generator, seed: tuple[int, ...], dtype: str) -> Problem | None:
    size = (int(rng.integers(1, 13)), int(rng.integers(13, 30) if rng.random() < 0.1 else rng.integers(1, 13)))
    output: list[int | None] = [None, None]
    for i in range(2):
        divisors = [d for d in range(1, size[i] + 1) if size[i] % d == 0]
        output[i] = _pick(rng, None, 1, int(rng.choice(divisors)), *(int(rng.integers(1, 14)) for _ in range(5)))
    if rng.random() < 0.1:
        output[_pick(rng, 0, 1)] = 0
    return Problem(
        seed, dtype, _pick(rng, "NHWC", "NCHW"), _pick(rng, 0, 1, 1, 2, 2, 3, 5), size,
        _pick(rng, 1, 1, 3, 3, 6, 6, 17, 17, 2, 4, 8, 16, 33, 65, 100), (1, 1), (1, 1), "VALID", pool=True,
        values=_pick(rng, "normal", "normal", "ties", "nan", "infinite"), forms=int(rng.integers(1000)),
        adaptive=(output[0], output[1]),
    )  # fmt: skip


def series(seed: int, dtype: str, kind: str) -> Iterator[Problem]:
    """An endless series of problems of a `kind` of KINDS. Problem i depends only on (seed, i), `dtype` and `kind`."""
    for index in itertools.count():
        rng = np.random.default_rng([seed, index, *kind.encode(), *dtype.encode()])
        problem = None
        while problem is None:
            problem = _random_problem(rng, (seed, index), dtype, kind)
        yield problem


def draw(count: int, seed: int, dtype: str, kind: str) -> list[Problem]:
    """The first `count` problems of the series."""
    return list(itertools.islice(series(seed, dtype, kind), count))


def shares(problems: list[Problem]) -> dict[str, float]:
    """For each awkward property, the share of the problems that have it."""

    def share(has: Callable[[Problem], bool]) -> float:
        return sum(has(p) for p in problems) / len(problems)

    def extents(p: Problem) -> Pair:
        y, x = (reference.extent(p.kernel[i], p.dilations[i]) for i in range(2))
        return y, x

    return {
        "grouped": share(lambda p: p.groups > 1),
        "dilated": share(lambda p: p.dilated),
        "asymmetric": share(lambda p: p.asymmetric),
        "empty": share(lambda p: p.empty),
        "no images": share(lambda p: p.n == 0),
        "odd channels": share(lambda p: p.channels // p.groups in (1, 3, 6, 17)),
        "window larger than the input": share(lambda p: any(extents(p)[i] > p.size[i] for i in range(2))),
        "stride larger than the window": share(lambda p: any(p.strides[i] > extents(p)[i] for i in range(2))),
        "uncovered last rows": share(
            lambda p: not p.empty and any(
                (p.output[i] - 1) * p.strides[i] - p.pads[i][0] + extents(p)[i] < p.size[i] for i in range(2)
            )
        ),
        "rounded up": share(
            lambda p: p.ceil_mode and p.output != dataclasses.replace(p, ceil_mode=False).output
        ),
        "padding counted": share(lambda p: p.count_include_pad and any(map(any, p.pads))),
        "windows of several sizes": share(
            lambda p: p.adaptive is not None and any(o and s % o for o, s in zip(p.output, p.size, strict=True))
        ),
        "many channels": share(lambda p: p.channels > 64 or p.filters > 64),
        "wide": share(lambda p: p.size[1] > 20),
        "padded max pooling": share(lambda p: p.pooling is not None and any(map(any, p.pooling_geometry.pads))),
        "overlapping max pooling windows": share(
            lambda p: p.pooling is not None and any(p.pooling.strides[i] < p.pooling.kernel[i] for i in range(2))
        ),
        "common small layer": share(
            lambda p: p.data_format == "NHWC" and p.groups == 1 and p.algorithm == "auto" and not p.empty
            and (*p.strides, *p.dilations) == (1, 1, 1, 1) and p.channels * p.kernel[1] <= 24
        ),
    }  # fmt: skip
