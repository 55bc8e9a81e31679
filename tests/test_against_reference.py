"""Every function agrees with the float64 reference, at every instruction set, within the bound on rounding errors.

Hundreds of random problems, awkward ones by name, and properties that hold for drawn geometries.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import Any

import fastconv
import numpy as np
import problems
import pytest
import reference
from hypothesis import assume, given
from hypothesis import strategies as st
from problems import CONV, FUNCTIONS, Call, Pooling, Problem, kind_of
from workers import ISAS, compute, worker

BATCH = 100  # calls sent to a worker together
Workers = dict[str, ProcessPoolExecutor]  # by instruction set


@pytest.fixture(scope="module")
def isa_workers() -> Iterator[Workers]:
    """A process for each instruction set."""
    with ExitStack() as stack:
        yield {isa: stack.enter_context(worker(FASTCONV_ISA=isa)) for isa in ISAS}


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
    drawn = problems.random_problems(max(count, 500), seed, dtype, kind)
    shares = problems.shares(drawn)
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
def test_random_problems(
    name: str, dtype: str, isa_workers: Workers, seed: int, count: int, tally: dict[str, tuple[int, float]]
) -> None:
    drawn = problems.random_problems(count, seed, dtype, kind_of(name))
    for isa, worst in check_all(isa_workers, (problems.call_of(problem, name) for problem in drawn)).items():
        tally[f"reference, {name}, {dtype}, {isa}"] = (len(drawn), worst)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CONV)
def test_random_winograd_problems(
    name: str, dtype: str, isa_workers: Workers, seed: int, count: int, tally: dict[str, tuple[int, float]]
) -> None:
    drawn = problems.random_problems(count, seed, dtype, "winograd")
    for isa, worst in check_all(isa_workers, (problems.call_of(problem, name) for problem in drawn)).items():
        tally[f"reference, {name} by Winograd's algorithm, {dtype}, {isa}"] = (len(drawn), worst)


@pytest.mark.parametrize("positive", [False, True], ids=["normal", "positive"])
@pytest.mark.parametrize("name", CONV[:3])
def test_winograd_error_in_norm(name: str, positive: bool, isa_workers: Workers) -> None:
    """At most 16 times the direct algorithm's error, on normal and on image-like data."""
    problem = conv((30, 34), 48, (3, 3), 40, padding="SAME", n=2, values="positive" if positive else "normal")
    algorithms = ("direct", "winograd")
    calls = [problems.call_of(dataclasses.replace(problem, algorithm=algorithm), name) for algorithm in algorithms]
    expected = calls[0].expected()[0][0]
    for isa, (direct, winograd) in compute_everywhere(isa_workers, calls).items():
        assert np.linalg.norm(winograd - expected) <= 16 * np.linalg.norm(direct - expected), isa
        assert (direct != winograd).any()  # two different algorithms did compute


def test_random_output_sizes(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        size, kernel, stride, dilation = (int(rng.integers(low, 12)) for low in (0, 1, 1, 1))
        before, after = int(rng.integers(4)), int(rng.integers(4))
        for padding, pads in (
            ("VALID", (0, 0)),
            ("SAME", reference.same_pads(size, kernel, stride, dilation)),
            (before, (before, before)),
            ((before, after), (before, after)),
        ):
            expected = reference.output_size(size, kernel, stride, pads, dilation)
            arguments = (size, kernel, stride, padding, dilation)
            if expected < 0:
                with pytest.raises(ValueError, match="negative"):
                    fastconv.conv_output_size(*arguments)
            else:
                assert fastconv.conv_output_size(*arguments) == expected, arguments


# ---- Awkward problems, by name --------------------------------------------------------------------------------------


def conv(size: Any, channels: int, kernel: Any, filters: int, **rest: Any) -> Problem:
    arguments: dict[str, Any] = {"data_format": "NHWC", "n": 2, "strides": (1, 1), "padding": "VALID"}
    return Problem((7,), "float32", size=size, channels=channels, kernel=kernel, filters=filters, **arguments | rest)


def depthwise(size: Any, channels: int, kernel: Any, multiplier: int = 1, **rest: Any) -> Problem:
    filters = channels * multiplier
    return conv(size, channels, kernel, filters, groups=channels, depthwise=True, **rest)


def conv_max_pool(window: Any, convolution: Problem, padding: Any = "VALID", strides: Any = None) -> Problem:
    """A convolution and the max pooling of its output."""
    return dataclasses.replace(convolution, pooling=Pooling(window, strides or window, padding))


def pooling(size: Any, channels: int, kernel: Any, **rest: Any) -> Problem:
    return conv(size, channels, kernel, 1, pool=True, **rest)


def adaptive(size: Any, channels: int, output: Any, **rest: Any) -> Problem:
    return pooling(size, channels, (1, 1), adaptive=output, **rest)


AWKWARD = {
    "lenet, first layer": conv((28, 28), 1, (3, 3), 6),
    "lenet, second layer": conv((13, 13), 6, (3, 3), 16, bias=True),
    "3 channels": conv((9, 9), 3, (3, 3), 8, padding="SAME", bias=True, relu=True),
    "17 channels to 17 filters": conv((9, 9), 17, (3, 3), 17, padding="SAME", bias=True),
    "1x1": conv((7, 9), 6, (1, 1), 17, bias=True, relu=True),
    "1x1 with stride 2": conv((7, 9), 6, (1, 1), 17, strides=(2, 2)),
    "1x1 with padding": conv((5, 5), 3, (1, 1), 5, padding=((1, 2), (3, 0)), bias=True),
    "1x1, output of another size": conv((5, 5), 3, (1, 1), 5, padding=((0, 2), (0, 3))),
    "1x1, several blocks of channels": conv((14, 14), 1030, (1, 1), 70, bias=True, relu=True),
    "1x1, tiles of pixels and parts of the filters": conv((17, 23), 70, (1, 1), 150, bias=True, relu=True),
    "short rows": conv((7, 7), 150, (3, 3), 70, padding="SAME", bias=True, relu=True, algorithm="direct"),
    "short rows, no padding": conv((9, 8), 330, (3, 3), 33, bias=True, algorithm="direct"),
    "short rows, stride 2": conv((14, 13), 40, (1, 1), 70, strides=(2, 2), bias=True, relu=True),
    "short rows, dilated": conv((5, 5), 40, (3, 2), 20, dilations=(2, 3), padding="SAME", bias=True, relu=True),
    "window larger than the input": conv((3, 2), 3, (7, 7), 5, padding="SAME"),
    "window larger than the padded input by a stride": conv((3, 3), 3, (5, 5), 5, strides=(2, 2)),
    "stride larger than the window": conv((11, 13), 3, (2, 2), 5, strides=(4, 5)),
    "stride larger than the input": conv((3, 3), 3, (2, 2), 5, strides=(7, 7), padding="SAME"),
    "stride with padding larger than the window": conv((2, 2), 3, (2, 2), 5, strides=(3, 3), padding=((5, 4), (3, 6))),
    "huge stride": conv((5, 5), 3, (3, 3), 5, strides=(2**40, 2**62)),
    "huge dilation of a 1x1 window": conv((5, 5), 3, (1, 1), 5, dilations=(2**62, 2**62)),
    "uncovered last rows": conv((10, 11), 3, (3, 2), 5, strides=(4, 4)),
    "asymmetric padding": conv((6, 7), 6, (3, 3), 6, padding=((0, 3), (2, 1))),
    "padding much larger than the window": conv((2, 3), 3, (2, 2), 5, padding=((9, 8), (7, 11)), bias=True),
    "no rows": conv((0, 5), 3, (3, 3), 5, padding=((2, 2), (1, 1)), bias=True),
    "no rows, no outputs": conv((0, 5), 3, (3, 3), 5, padding="SAME", bias=True),
    "no columns": conv((5, 0), 3, (3, 3), 5, padding=((2, 2), (1, 2)), bias=True, relu=True),
    "batch 0": conv((5, 5), 3, (3, 3), 5, n=0),
    "batch 1": conv((5, 5), 3, (3, 3), 5, n=1),
    "dilation and stride with a common factor": conv((19, 23), 3, (3, 3), 5, strides=(4, 6), dilations=(6, 4)),
    "dilation and stride without a common factor": conv(
        (19, 23), 3, (3, 3), 5, strides=(3, 4), dilations=(4, 3), padding="SAME"
    ),
    "dilation larger than the input": conv((3, 3), 3, (2, 2), 5, dilations=(8, 8), padding=((8, 8), (8, 8))),
    "groups": conv((7, 7), 12, (3, 3), 8, groups=4, padding="SAME", bias=True, relu=True),
    "groups of one channel, two filters": conv((7, 7), 6, (3, 3), 12, groups=6, bias=True),
    "groups with one filter and channel": conv((7, 7), 17, (3, 3), 17, groups=17, bias=True),
    "groups of many filters": conv((5, 5), 4, (3, 3), 140, groups=2, strides=(2, 2), padding="SAME"),
    "one row, wide": conv((1, 40), 3, (1, 5), 33, padding="SAME"),
    "one column, high": conv((40, 1), 3, (5, 1), 33, padding="SAME"),
    "every tail of a vector of filters": conv((4, 5), 2, (2, 2), 61, bias=True, relu=True),
    "long sums": conv((4, 4), 700, (3, 3), 9),
    "window of more than a thousand taps, high": conv((40, 33), 2, (37, 30), 3, padding="SAME", n=1, bias=True),
    "window of more than a thousand taps, wide": conv((2, 1200), 1, (1, 1100), 3, padding="SAME", n=1, relu=True),
    "filters of more than 32 MB": conv((2, 2), 1000, (3, 3), 1000, padding="SAME", n=1, bias=True, relu=True),
    "few filters of more than 32 MB": conv((1, 1), 600_000, (1, 1), 2, n=1, bias=True, relu=True),
    "groups of more than 32 MB together": conv((1, 1), 600, (3, 3), 6000, groups=3, padding="SAME", n=1, bias=True),
    "layout conversion in parts": conv((150, 150), 32, (1, 1), 64, data_format="NCHW", n=3, bias=True),
    "gradient over many tiles": conv((70, 75), 5, (3, 3), 7, padding="SAME", n=3),
    "many channels, chosen for Winograd": conv((13, 14), 40, (3, 3), 48, padding="SAME", bias=True, relu=True),
    "Winograd": conv((9, 11), 6, (3, 3), 17, padding="SAME", bias=True, relu=True, algorithm="winograd"),
    "Winograd, one pixel": conv((1, 1), 3, (3, 3), 5, padding="SAME", algorithm="winograd"),
    "Winograd, batch 0": conv((9, 9), 3, (3, 3), 5, n=0, algorithm="winograd"),
    "Winograd, filters in parts": conv((33, 34), 480, (3, 3), 384, padding="SAME", n=1, bias=True),
    "Winograd, filters streamed": conv((5, 6), 512, (3, 3), 500, padding="SAME", bias=True, algorithm="winograd"),
    "Winograd, filters streamed, many tiles": conv((7, 7), 300, (3, 3), 270, padding="SAME", n=40, relu=True),
    "Winograd, sums of the taps in L2": conv((30, 31), 64, (3, 3), 64, padding="SAME", bias=True),
    "Winograd, few tiles of one image": conv((14, 14), 40, (3, 3), 150, padding="SAME", n=1, bias=True, relu=True),
    "Winograd, 5x5": conv((17, 19), 40, (5, 5), 72, padding="SAME", bias=True, relu=True),
    "Winograd, 5x5, few channels": conv((9, 11), 3, (5, 5), 17, padding="SAME", n=3, algorithm="winograd"),
    "Winograd, 5x5, blocks of taps": conv((14, 13), 96, (5, 5), 130, padding=((2, 0), (1, 3)), bias=True),
    "small_k_spread": conv((28, 28), 1, (3, 3), 6, n=3, bias=True, relu=True),
    "small_k_spread, several channels": conv((11, 13), 6, (3, 3), 5, padding=((2, 1), (0, 2)), bias=True),
    "small_k_spread, 5 rows": conv((31, 9), 3, (5, 5), 7, padding="SAME", bias=True),
    "small_k_spread, 5 rows of 2": conv((7, 9), 1, (5, 2), 3, padding="SAME"),
    "small_k_spread, one filter": conv((26, 26), 6, (3, 3), 1, padding="SAME", n=3, bias=True),
    "small_k_spread, fewer rows than the window": conv((4, 9), 1, (3, 3), 6, n=3),
    "small_k_spread, wide": conv((9, 700), 1, (3, 3), 6, padding="SAME", n=1),
    "Winograd, many tiles": conv((60, 61), 33, (3, 3), 40, padding="SAME", n=3, bias=True, algorithm="winograd"),
    "small_k_reduce": conv((9, 9), 64, (3, 3), 3, padding="SAME", bias=True, relu=True, algorithm="direct"),
    "small_k_reduce, dilated": conv((9, 9), 65, (3, 3), 2, dilations=(2, 3), padding="SAME", bias=True),
    "small_k_reduce in groups": conv((9, 9), 68, (3, 3), 6, groups=2, padding="SAME", bias=True, relu=True),
    "small_k_reduce, long": conv((3, 60), 300, (3, 3), 2, padding=((0, 1), (2, 1)), strides=(1, 2)),
    "gradient in blocks of channels": conv((3, 3), 200, (5, 5), 150, padding="SAME"),
    "row wider than a tile": conv((1, 9000), 8, (3, 3), 4, padding="SAME", n=1),
    "depthwise": depthwise((9, 9), 17, (3, 3), padding="SAME", bias=True, relu=True),
    "depthwise, many channels": depthwise((9, 10), 530, (3, 3), padding="SAME", bias=True, relu=True),
    "depthwise, many channels, dilated": depthwise((9, 10), 515, (3, 2), padding="SAME", dilations=(1, 3)),
    "depthwise, many rows": depthwise((23, 11), 33, (3, 3), padding="SAME", bias=True),
    "depthwise, multiplier 3": depthwise((9, 9), 6, (3, 3), 3, padding=((1, 0), (0, 2)), bias=True),
    "depthwise, one channel": depthwise((9, 9), 1, (3, 3), 1, strides=(2, 2), padding="SAME"),
    "depthwise, one channel, multiplier 6": depthwise((9, 9), 1, (3, 3), 6),
    "depthwise, unequal strides": depthwise((9, 9), 6, (3, 3), 1, strides=(2, 3), padding="SAME"),
    "depthwise, dilated": depthwise((9, 11), 6, (3, 2), 1, dilations=(2, 5), padding=((5, 2), (1, 7))),
    "depthwise, dilated with stride": depthwise((19, 17), 6, (3, 3), 1, dilations=(2, 3), strides=(4, 2)),
    "depthwise, window larger than the input": depthwise((2, 3), 6, (7, 7), 1, padding="SAME"),
    "depthwise, stride larger than the window": depthwise((11, 13), 6, (2, 2), 1, strides=(5, 4)),
    "depthwise, padding larger than the window": depthwise((2, 3), 3, (2, 2), 1, padding=((4, 3), (5, 6)), bias=True),
    "depthwise, no rows": depthwise((0, 3), 3, (2, 2), 1, padding=((1, 1), (1, 1)), bias=True),
    "depthwise, batch 0": depthwise((5, 5), 3, (2, 2), 1, n=0),
    "depthwise, channels in blocks": depthwise((6, 40), 700, (3, 3), 1, padding="SAME", n=1),
    "depthwise, many taps": depthwise((9, 9), 5, (8, 7), 1, padding="SAME"),
    "pool, lenet": pooling((26, 26), 6, (2, 2), strides=(2, 2)),
    "pool, uncovered last rows": pooling((13, 13), 16, (2, 2), strides=(2, 2)),
    "pool, overlapping": pooling((9, 9), 17, (3, 3), strides=(2, 2), padding="SAME"),
    "pool, window larger than the input": pooling((2, 3), 3, (5, 5), padding="SAME"),
    "pool, window larger than the input, no outputs": pooling((2, 3), 3, (4, 4), strides=(2, 2)),
    "pool, dilated": pooling((9, 11), 17, (3, 2), strides=(2, 1), padding=((2, 1), (0, 2)), dilations=(2, 3)),
    "pool, dilated without overlap": pooling((14, 15), 3, (2, 2), strides=(3, 3), dilations=(2, 2)),
    "pool, dilated, sharing pixels": pooling((9, 11), 5, (2, 2), strides=(2, 2), dilations=(2, 2)),
    "pool, interleaved windows": pooling((9, 9), 6, (2, 2), strides=(1, 1), dilations=(3, 2)),
    "pool, dilated beyond the input": pooling(
        (3, 2), 3, (3, 3), dilations=(2, 2), padding=((2, 3), (2, 3)), ceil_mode=True
    ),
    "pool, rounded up": pooling((7, 9), 6, (2, 2), strides=(2, 2), ceil_mode=True),
    "pool, rounded up, no window in the padding": pooling(
        (3, 3), 4, (2, 2), strides=(5, 2), padding=((1, 1), (0, 1)), ceil_mode=True
    ),
    "pool, padding counted": pooling(
        (7, 8), 17, (3, 3), strides=(2, 2), padding=((2, 1), (1, 2)), count_include_pad=True
    ),
    "pool, padding counted, rounded up": pooling(
        (8, 7), 5, (3, 2), strides=(2, 3), padding=((1, 1), (1, 0)), ceil_mode=True, count_include_pad=True
    ),
    "pool, padding counted, dilated": pooling(
        (8, 7), 5, (3, 2), strides=(2, 1), padding="SAME", dilations=(2, 3), count_include_pad=True
    ),
    "adaptive, whole image": adaptive((9, 7), 65, (1, 1)),
    "adaptive, divisors": adaptive((8, 9), 6, (4, 3)),
    "adaptive, one axis divides": adaptive((8, 9), 17, (4, 5)),
    "adaptive, overlapping": adaptive((7, 11), 3, (4, 6)),
    "adaptive, larger than the input": adaptive((3, 4), 5, (7, 9)),
    "adaptive, input's height": adaptive((5, 6), 4, (None, 4)),
    "adaptive, no outputs": adaptive((5, 6), 4, (0, 3)),
    "adaptive, NaN": adaptive((9, 8), 67, (4, 5), values="nan"),
    "pool, whole image": pooling((9, 7), 65, (9, 7)),
    "pool, stride larger than the window": pooling((11, 13), 3, (2, 2), strides=(5, 4)),
    "pool, asymmetric padding": pooling((6, 7), 6, (3, 4), strides=(2, 1), padding=((0, 2), (3, 1))),
    "pool, 1x1": pooling((5, 5), 33, (1, 1), strides=(2, 2)),
    "pool, batch 0": pooling((5, 5), 3, (2, 2), n=0),
    "pool, NaN": pooling((9, 9), 67, (3, 3), values="nan", padding="SAME"),
    "pool, minus infinity": pooling((9, 9), 67, (3, 3), values="infinite", padding="SAME"),
    "pool, ties": pooling((9, 9), 67, (3, 3), values="ties", padding="SAME"),
    "pool, window of 400": pooling((41, 43), 3, (20, 20), strides=(7, 7), values="ties"),
    "max pool after conv, lenet, first layer": conv_max_pool((2, 2), conv((28, 28), 1, (3, 3), 6, n=9, bias=True)),
    "max pool after conv, lenet, second layer": conv_max_pool((2, 2), conv((13, 13), 6, (3, 3), 16, n=9, bias=True)),
    "max pool after conv, uncovered and overlapping": conv_max_pool(
        (3, 2), conv((12, 13), 3, (3, 3), 7, padding="SAME"), strides=(2, 1)
    ),
    "max pool after conv, padded": conv_max_pool((3, 3), conv((9, 11), 3, (3, 3), 17, padding="SAME"), "SAME", (2, 2)),
    "max pool after conv, padded on one side": conv_max_pool(
        (2, 3), conv((9, 11), 6, (3, 3), 5, relu=True), ((1, 0), (0, 2))
    ),
    "max pool after conv, too large for one task": conv_max_pool(
        (2, 2), conv((40, 41), 8, (3, 3), 40, padding="SAME", bias=True)
    ),
    "max pool after conv, too many filter values for parts": conv_max_pool(
        (2, 2), conv((8, 8), 40, (3, 3), 80, padding="SAME")
    ),
    "max pool after conv, Winograd, large filters": conv_max_pool(
        (2, 2), conv((7, 8), 130, (3, 3), 140, padding="SAME", n=5, bias=True)
    ),
    "max pool after conv, NCHW": conv_max_pool((2, 2), conv((9, 8), 5, (3, 3), 7, data_format="NCHW", n=3, bias=True)),
    "max pool after conv, groups and strides": conv_max_pool(
        (2, 2), conv((19, 17), 12, (3, 3), 8, groups=4, strides=(2, 1))
    ),
    "max pool after conv, depthwise in groups": conv_max_pool(
        (2, 2), conv((9, 9), 17, (3, 3), 17, groups=17, padding="SAME", bias=True)
    ),
    "max pool after conv, whole image": conv_max_pool((7, 7), conv((9, 9), 3, (3, 3), 33)),
    "max pool after conv, batch 0": conv_max_pool((2, 2), conv((9, 9), 3, (3, 3), 5, n=0, bias=True)),
    "max pool after conv, no windows": conv_max_pool((3, 3), conv((4, 9), 3, (3, 3), 5, bias=True)),
    "pool, layout conversion in parts": pooling((200, 200), 40, (2, 2), strides=(2, 2), data_format="NCHW", n=3),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward(name: str, isa_workers: Workers) -> None:
    check_all(isa_workers, problems.calls_of(AWKWARD[name]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_convolution_and_max_pool_equal_the_two_functions(dtype: str, seed: int, count: int) -> None:
    """The bits equal those of the convolution followed by the pooling, also for NaN and infinity."""
    rng = np.random.default_rng(seed)
    for problem in problems.random_problems(count // 2, seed, dtype, "conv_max_pool"):
        assert problem.pooling is not None
        x, w = problem.array("input", problem.input_shape), problem.array("filters", problem.filter_shape)
        x[rng.random(x.shape) < 0.01] = rng.choice([np.nan, np.inf, -np.inf])
        x, arguments = problem.to_format(x), problem.window_arguments()
        size, strides, pool_padding = problem.pooling.kernel, problem.pooling.strides, problem.pooling.padding
        maps = fastconv.conv2d(x, w, **arguments)
        pooled = fastconv.max_pool2d(maps, size, strides, pool_padding, problem.data_format)
        output, taps = fastconv.conv2d_max_pool2d(
            x, w, size, pool_strides=strides, pool_padding=pool_padding, **arguments
        )
        np.testing.assert_array_equal(output, pooled, err_msg=str(problem))
        nhwc = maps if problem.data_format == "NHWC" else np.moveaxis(maps, 1, 3)
        expected = reference.max_pool2d_taps(nhwc, problem.pooling_geometry)
        np.testing.assert_array_equal(taps, expected, err_msg=str(problem))


@pytest.mark.parametrize(
    ("n", "size", "channels", "filters", "window"),
    [
        (9, 8, 33, 34, 3),  # Winograd, in a task of a few images
        (9, 8, 64, 70, 3),  # too many filters for a task of a few images
        (33, 7, 512, 200, 3),  # Winograd, transformed filters are not stored
        (40, 9, 12, 33, 5),
        (5, 30, 64, 40, 1),
    ],
)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_convolution_and_max_pool_by_every_algorithm(
    n: int, size: int, channels: int, filters: int, window: int, threads: int
) -> None:
    draw = np.random.default_rng(n).standard_normal
    x, w = draw((n, size, size, channels), np.float32), draw((window, window, channels, filters), np.float32)
    more: dict[str, Any] = {"padding": "SAME", "bias": draw(filters, np.float32), "activation": "relu"}
    before = fastconv.get_num_threads()
    fastconv.set_num_threads(threads)
    try:
        expected = fastconv.max_pool2d(fastconv.conv2d(x, w, **more), 2)
        assert fastconv.conv2d_max_pool2d(x, w, 2, **more)[0].tobytes() == expected.tobytes()
    finally:
        fastconv.set_num_threads(before)


# Gradients are defined even if the forward pass is empty: elements of dx that no window covers are zero.
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


# ---- Properties over drawn geometries -------------------------------------------------------------------------------


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
def test_drawn_geometries(kind: str, data: st.DataObject) -> None:
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


# ---- Finite differences ---------------------------------------------------------------------------------------------


def finite_difference(function: Any, x: np.ndarray, step: float) -> np.ndarray:
    """The gradient of the scalar function, by central differences."""
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

    return [p for p in problems.random_problems(500, seed, "float64", kind) if fits(p)][:12]


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
        # All values differ by at least a quarter of a step, so a small step changes no argmax.
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


WORDS = ("conv2d", "depthwise", "max", "avg", "adaptive")


def test_every_function_has_a_kind() -> None:
    computing = {name for name in fastconv.__all__ if name.split("_")[0] in WORDS}
    assert computing == set(FUNCTIONS)
