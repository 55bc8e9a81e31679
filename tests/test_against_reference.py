"""Every function agrees with the float64 reference, at every instruction set, within the bound on rounding errors.

Hundreds of problems are random. Others are awkward on purpose and have names.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import fastconv
import numpy as np
import problems
import pytest
import random_problems
from awkward_problems import AWKWARD, conv
from problems import CONV, FUNCTIONS, Call, kind_of
from workers import compute

BATCH = 100  # calls sent to a worker together
Workers = dict[str, ProcessPoolExecutor]  # by instruction set


def compute_everywhere(workers: Workers, calls: list[Call]) -> dict[str, list[Any]]:
    """The results of the calls at each instruction set."""
    plain = [(call.name, call.arguments) for call in calls]
    waiting = {isa: pool.submit(compute, plain) for isa, pool in workers.items()}
    return {isa: results.result() for isa, results in waiting.items()}


def check_all(workers: Workers, calls: Iterable[Call]) -> dict[str, float]:
    """The largest error at each instruction set, relative to the bound."""
    worst = dict.fromkeys(workers, 0.0)
    remaining = iter(calls)
    while batch := list(itertools.islice(remaining, BATCH)):
        for isa, results in compute_everywhere(workers, batch).items():
            for call, result in zip(batch, results, strict=True):
                worst[isa] = max(worst[isa], call.check(result, f"at the instruction set {isa}"))
    return worst


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", problems.KINDS)
def test_random_problems_are_awkward_enough(kind: str, dtype: str, seed: int, count: int) -> None:
    drawn = random_problems.draw(max(count, 500), seed, dtype, kind)
    shares = random_problems.shares(drawn)
    least = {
        "asymmetric": 0.2, "empty": 0.1, "no images": 0.02, "odd channels": 0.3, "window larger than the input": 0.2,
        "many channels": 0.1, "wide": 0.05,
    }  # fmt: skip
    if kind != "winograd":
        least |= {"stride larger than the window": 0.1, "uncovered last rows": 0.1}
    if kind in ("conv", "depthwise"):
        least |= {"grouped": 0.2, "dilated": 0.2}
    if kind == "pool":
        least |= {"dilated": 0.1, "rounded up": 0.05, "padding counted": 0.1}
    if kind == "adaptive":
        least = {"windows of several sizes": 0.4, "empty": 0.1, "no images": 0.02, "odd channels": 0.3, "wide": 0.02}
    if kind == "conv_max_pool":
        least = {
            "asymmetric": 0.2, "empty": 0.1, "grouped": 0.05, "padded max pooling": 0.2,
            "overlapping max pooling windows": 0.1, "common small layer": 0.2,
        }  # fmt: skip
    few = {name: shares[name] for name, share in least.items() if shares[name] < share}
    assert not few, f"too few problems with these properties: {few}"
    assert {p.data_format for p in drawn} == {"NHWC", "NCHW"}
    if kind not in ("pool", "adaptive"):
        assert {(p.bias, p.relu) for p in drawn} == {(False, False), (False, True), (True, False), (True, True)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_random_problems_agree(
    name: str, dtype: str, isa_workers: Workers, seed: int, count: int, tally: dict[str, tuple[int, float]]
) -> None:
    drawn = random_problems.draw(count, seed, dtype, kind_of(name))
    for isa, worst in check_all(isa_workers, (problems.call_of(problem, name) for problem in drawn)).items():
        tally[f"reference, {name}, {dtype}, {isa}"] = (len(drawn), worst)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CONV)
def test_random_winograd_problems_agree(
    name: str, dtype: str, isa_workers: Workers, seed: int, count: int, tally: dict[str, tuple[int, float]]
) -> None:
    drawn = random_problems.draw(count, seed, dtype, "winograd")
    for isa, worst in check_all(isa_workers, (problems.call_of(problem, name) for problem in drawn)).items():
        tally[f"reference, {name} by Winograd's algorithm, {dtype}, {isa}"] = (len(drawn), worst)


@pytest.mark.parametrize("positive", [False, True], ids=["normal", "positive"])
@pytest.mark.parametrize("name", CONV[:3])
def test_winograds_error_in_norm_is_bounded(name: str, positive: bool, isa_workers: Workers) -> None:
    """Winograd's error is at most 16 times the direct algorithm's, on normal and on image-like data."""
    problem = conv((30, 34), 48, (3, 3), 40, padding="SAME", n=2, values="positive" if positive else "normal")
    algorithms = ("direct", "winograd")
    calls = [problems.call_of(dataclasses.replace(problem, algorithm=algorithm), name) for algorithm in algorithms]
    expected = calls[0].expected()[0][0]
    for isa, (direct, winograd) in compute_everywhere(isa_workers, calls).items():
        assert np.linalg.norm(winograd - expected) <= 16 * np.linalg.norm(direct - expected), isa
        assert (direct != winograd).any()  # two different algorithms have computed


# These take seconds each.
SLOW = {"filters of more than 32 MB", "groups of more than 32 MB together", "layout conversion in parts"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in AWKWARD]
)
def test_awkward_problems_agree(name: str, isa_workers: Workers) -> None:
    check_all(isa_workers, problems.calls_of(AWKWARD[name]))


def test_uncovered_elements_have_gradient_zero(isa_workers: Workers) -> None:
    problem = conv((11, 11), 3, (2, 2), 5, strides=(4, 4))
    call = problems.call_of(problem, "conv2d_backprop_input")
    call = dataclasses.replace(
        call, arguments=call.arguments | {"out": np.full(problem.input_shape, np.nan, problem.dtype)}
    )
    covered = np.zeros((11, 11), bool)
    for y in (0, 1, 4, 5, 8, 9):
        covered[y, [0, 1, 4, 5, 8, 9]] = True
    for isa, (dx,) in compute_everywhere(isa_workers, [call]).items():
        assert (dx[:, ~covered] == 0).all(), isa
        assert (dx[:, covered] != 0).all(), isa


WORDS = ("conv2d", "depthwise", "max", "avg", "adaptive")


def test_every_function_has_a_kind() -> None:
    computing = {name for name in fastconv.__all__ if name.split("_")[0] in WORDS}
    assert computing == set(FUNCTIONS)
