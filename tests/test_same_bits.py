"""The number of threads, the threading backend and the position in the batch or in memory change no bit."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import Any

import fastconv
import numpy as np
import problems
import pytest
import random_problems
from numpy_calls import to_nchw
from problems import Call, Pooling, Problem
from thread_jobs import BACKENDS
from workers import ISAS, Plain, compute, compute_displaced, compute_packed, worker

HALVES = Pooling((2, 2), (2, 2), "VALID")

# Problems for every algorithm with enough work for several threads. Their tiles depend on the number of threads.
LARGE = [
    Problem((1,), "float32", "NHWC", 3, (28, 28), 1, (3, 3), (1, 1), "SAME", filters=6, bias=True),
    Problem((2,), "float32", "NHWC", 1, (40, 40), 17, (3, 3), (1, 1), "SAME", filters=70, bias=True, relu=True),
    Problem((3,), "float32", "NCHW", 5, (21, 23), 48, (3, 3), (1, 1), "SAME", filters=40, algorithm="winograd"),
    Problem((4,), "float64", "NHWC", 2, (30, 30), 33, (5, 3), (2, 1), "SAME", filters=33, algorithm="direct"),
    Problem((5,), "float32", "NHWC", 2, (30, 30), 36, (3, 3), (2, 2), "SAME", (2, 2), filters=30, groups=3),
    Problem((6,), "float32", "NHWC", 2, (9, 9), 300, (3, 3), (1, 1), "SAME", filters=2),
    Problem((7,), "float32", "NHWC", 4, (20, 20), 64, (1, 1), (1, 1), "VALID", filters=100),
    Problem((8,), "float32", "NHWC", 2, (20, 20), 500, (3, 3), (1, 1), "VALID", filters=150, algorithm="direct"),
    Problem((9,), "float32", "NHWC", 3, (40, 40), 40, (3, 3), (1, 1), "SAME", filters=40, groups=40, depthwise=True),
    Problem((10,), "float64", "NCHW", 2, (40, 40), 6, (5, 5), (2, 2), "SAME", filters=18, groups=6, depthwise=True),
    Problem((11,), "float32", "NHWC", 3, (60, 60), 33, (3, 3), (2, 2), "SAME", pool=True),
    Problem((12,), "float64", "NCHW", 3, (60, 60), 33, (2, 2), (2, 2), "VALID", pool=True),
    Problem((13,), "float32", "NHWC", 1, (90, 90), 40, (3, 3), (1, 1), "SAME", pool=True),
    Problem((14,), "float32", "NHWC", 9, (28, 28), 1, (3, 3), (1, 1), "VALID", filters=6, pooling=HALVES),
    Problem((15,), "float64", "NHWC", 9, (13, 13), 6, (3, 3), (1, 1), "SAME", filters=16, bias=True, pooling=HALVES),
    Problem((16,), "float32", "NCHW", 3, (60, 60), 8, (5, 5), (1, 1), "SAME", filters=40, relu=True, pooling=HALVES),
    Problem(
        (17,), "float32", "NHWC", 2, (7, 7), 130, (3, 3), (1, 1), "SAME", filters=140, bias=True, algorithm="direct"
    ),
    Problem((18,), "float32", "NHWC", 1, (14, 14), 64, (3, 3), (1, 1), "SAME", filters=150, relu=True),
    Problem((19,), "float32", "NHWC", 1, (14, 14), 700, (1, 1), (1, 1), "VALID", filters=150, bias=True),
    Problem((20,), "float32", "NHWC", 2, (60, 50), 33, (13, 10), (1, 1), "SAME", pool=True),
    Problem((21,), "float64", "NCHW", 3, (40, 40), 9, (9, 15), (2, 1), "SAME", pool=True, count_include_pad=True),
    Problem((22,), "float32", "NHWC", 1, (90, 280), 1, (6, 6), (1, 1), "SAME", pool=True),
    Problem((23,), "float32", "NCHW", 2, (90, 80), 1, (5, 5), (1, 1), "SAME", filters=1, bias=True),
    Problem((24,), "float32", "NHWC", 3, (40, 37), 44, (3, 3), (1, 1), "SAME", filters=44, groups=11, bias=True),
    Problem((25,), "float64", "NHWC", 2, (40, 37), 27, (3, 3), (2, 2), "SAME", filters=18, groups=9, relu=True),
    Problem((26,), "float32", "NHWC", 2, (60, 90), 3, (3, 3), (1, 1), "SAME", filters=3, groups=3, depthwise=True),
]


# The baseline's kernels differ from the others in their vectors only, and take twice as long.
FAST_ISAS = [pytest.param(isa, marks=[pytest.mark.slow] if isa == "baseline" else []) for isa in ISAS]


def some_problems(seed: int, count: int) -> list[Problem]:
    """Large problems and random ones."""
    drawn = list(LARGE)
    for kind in problems.KINDS:
        for dtype in ("float32", "float64"):
            drawn += random_problems.draw(count // 20, seed, dtype, kind)
    return drawn


def plain(calls: list[Call]) -> list[Plain]:
    return [(call.name, call.arguments) for call in calls]


def assert_same(results: list[Any], expected: list[Any], calls: list[Call], what: str) -> None:
    for got, value, call in zip(results, expected, calls, strict=True):
        pairs = zip(got, value, strict=True) if isinstance(got, tuple) else [(got, value)]
        assert all(a.tobytes() == b.tobytes() for a, b in pairs), f"the bits differ with {what}: {call}"


@pytest.mark.parametrize("isa", FAST_ISAS)
def test_threads_and_backends_change_no_bit(isa: str, seed: int, count: int) -> None:
    calls = [call for problem in some_problems(seed, count) for call in problems.calls_of(problem)]
    with ExitStack() as stack:
        workers: dict[str, ProcessPoolExecutor] = {
            backend: stack.enter_context(worker(FASTCONV_ISA=isa, FASTCONV_THREADING=backend)) for backend in BACKENDS
        }
        expected = workers[BACKENDS[0]].submit(compute, plain(calls), 1).result()
        for backend, pool in workers.items():
            for threads in (2, 7) if backend == "openmp" else (1, 3, 7):
                results = pool.submit(compute, plain(calls), threads).result()
                assert_same(results, expected, calls, f"FASTCONV_THREADING={backend}, threads={threads}")


@pytest.mark.parametrize("isa_worker", FAST_ISAS, indirect=True)
def test_alignment_changes_no_bit(isa_worker: ProcessPoolExecutor, seed: int, count: int) -> None:
    calls = [call for problem in some_problems(seed, count) for call in problems.calls_of(problem)]
    expected = isa_worker.submit(compute_displaced, plain(calls), 0).result()
    for elements in (1, 3):
        results = isa_worker.submit(compute_displaced, plain(calls), elements).result()
        assert_same(results, expected, calls, f"an offset of the arrays from the alignment, in elements: {elements}")


def image(call: Call, index: int) -> Plain:
    """The call for one image of the batch. Not for filter gradients, because they sum over the batch."""
    arguments = dict(call.arguments)
    for name in ("input", "out_backprop", "orig_input", "orig_output", "grad", "taps"):
        if name in arguments:
            arguments[name] = arguments[name][index : index + 1]
    for name in ("input_sizes", "output_shape", "orig_input_shape"):
        if name in arguments:
            arguments[name] = (1, *arguments[name][1:])
    return call.name, arguments


@pytest.mark.parametrize("isa_worker", FAST_ISAS, indirect=True)
def test_the_place_in_the_batch_changes_no_bit(isa_worker: ProcessPoolExecutor, seed: int, count: int) -> None:
    for problem in some_problems(seed, count):
        problem = dataclasses.replace(problem, n=5, forms=1)
        for call in problems.calls_of(problem):
            if call.name.endswith(("backprop_filter", "max_pool2d_backprop")):
                continue
            (together,) = isa_worker.submit(compute, plain([call])).result()
            alone = isa_worker.submit(compute, [image(call, i) for i in range(5)]).result()
            if isinstance(together, tuple):
                together, argmax = together
                np.testing.assert_array_equal(argmax, np.concatenate([a for _, a in alone]), err_msg=str(call))
                alone = [output for output, _ in alone]
            assert_same([together], [np.concatenate(alone)], [call], "one call for each image")


def layer(kind: str, channels: int, filters: int, window: tuple[int, int], image: np.ndarray) -> Plain:
    draw = np.random.default_rng(channels).standard_normal
    shape = (*window, channels, filters)
    arguments = {"input": np.ascontiguousarray(image), "filters": draw(shape, np.float32)}
    algorithm = "depthwise" if kind == "depthwise_conv2d" and filters == 1 else "direct"
    return kind, {**arguments, "algorithm": algorithm}


@pytest.mark.parametrize(
    ("kind", "channels", "filters", "window"),
    [
        ("conv2d", 1, 6, (3, 3)),
        ("conv2d", 1, 1, (5, 5)),
        ("conv2d", 3, 70, (3, 3)),
        ("conv2d", 17, 24, (5, 3)),
        ("conv2d", 40, 33, (1, 1)),
        ("conv2d", 300, 2, (3, 3)),
        ("depthwise_conv2d", 40, 1, (3, 3)),
        ("depthwise_conv2d", 40, 1, (5, 3)),  # other tiles, because the window does not have three rows
        ("depthwise_conv2d", 600, 1, (3, 3)),  # other tiles, because of many channels
        ("depthwise_conv2d", 17, 3, (3, 5)),
    ],
)
def test_the_place_in_the_image_changes_no_bit(
    isa_worker: ProcessPoolExecutor, kind: str, channels: int, filters: int, window: tuple[int, int]
) -> None:
    """After the first rows and columns are cut off, pixels are in another tile or at another place in their tile."""
    image = np.random.default_rng(0).standard_normal((1, 31, 33, channels), np.float32)
    (whole,) = isa_worker.submit(compute, [layer(kind, channels, filters, window, image)]).result()
    for y, x in ((0, 1), (1, 2), (3, 3), (2, 5)):
        cut = layer(kind, channels, filters, window, image[:, y:, x:])
        (part,) = isa_worker.submit(compute, [cut]).result()
        assert part.tobytes() == whole[:, y:, x:].tobytes(), (
            f"the bits differ after cutting off (rows, columns) = {(y, x)}"
        )


@pytest.mark.parametrize(("channels", "window"), [(1, (5, 6)), (3, (13, 7)), (40, (11, 11)), (17, (1, 9))])
def test_the_place_in_the_image_changes_no_bit_of_a_mean(
    isa_worker: ProcessPoolExecutor, channels: int, window: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).standard_normal((1, 71, 83, channels), np.float32)
    corners = ((0, 0), (0, 1), (1, 2), (3, 3), (2, 15))
    parts = [np.ascontiguousarray(image[:, y:, x:]) for y, x in corners]
    calls = [("avg_pool2d", {"input": part, "ksize": window, "strides": 1}) for part in parts]
    whole, *cut = isa_worker.submit(compute, calls).result()
    for (y, x), part in zip(corners[1:], cut, strict=True):
        assert part.tobytes() == whole[:, y:, x:].tobytes(), f"rows and columns cut off: {(y, x)}"


@pytest.mark.parametrize(
    ("size", "channels", "filters", "window"),
    [
        (14, 256, 260, 3),  # Winograd: transformed filters are stored only for many tiles
        (7, 1100, 257, 1),  # direct: if there are few pixels, each task packs the filters it needs
        (9, 300, 512, 1),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_plan_changes_no_bit(
    isa_worker: ProcessPoolExecutor, size: int, channels: int, filters: int, window: int, dtype: type
) -> None:
    """The plan depends on the number of images and on whether filters are packed, but all plans give the same sums."""
    draw = np.random.default_rng(channels).standard_normal
    x, w = draw((12, size, size, channels)).astype(dtype), draw((window, window, channels, filters)).astype(dtype)
    dy = draw((12, size, size, filters)).astype(dtype)
    calls = []
    for few in (12, 1):
        calls.append(("conv2d", {"input": x[:few], "filters": w, "padding": "SAME"}))
        sizes = (few, size, size, channels)
        calls.append(
            ("conv2d_backprop_input", {"input_sizes": sizes, "filters": w, "out_backprop": dy[:few], "padding": "SAME"})
        )
    forward, gradient, first, first_gradient = isa_worker.submit(compute, calls).result()
    (stays,) = isa_worker.submit(compute_packed, calls[2:3]).result()
    assert first.tobytes() == forward[:1].tobytes()
    assert first_gradient.tobytes() == gradient[:1].tobytes()
    assert stays.tobytes() == first.tobytes()


@pytest.mark.parametrize(
    ("kind", "shape", "filters", "options", "kernel"),
    [
        ("conv2d", (2, 40, 48, 24), (1, 1, 24, 40), {}, "conv_row"),
        ("conv2d", (12, 7, 7, 2100), (1, 1, 2100, 40), {}, "conv_row"),
        ("conv2d", (3, 33, 48, 24), (1, 1, 24, 40), {"strides": (2, 2)}, "conv_row"),
        ("conv2d", (3, 31, 47, 3), (3, 3, 3, 40), {"padding": "SAME"}, "conv_row"),
        ("conv2d", (3, 31, 64, 6), (2, 3, 6, 33), {"padding": "SAME", "strides": (1, 2)}, "conv_row"),
        ("depthwise_conv2d", (2, 75, 75, 24), (3, 3, 24, 1), {"padding": "SAME", "strides": (2, 2)}, "depthwise_plane"),
        ("depthwise_conv2d", (2, 30, 37, 24), (5, 5, 24, 1), {"padding": "SAME"}, "depthwise_plane"),
        ("depthwise_conv2d", (2, 150, 150, 24), (3, 3, 24, 1), {"padding": "SAME", "strides": (3, 3)}, "depthwise_row"),
    ],
)
def test_planes_give_the_bits_of_nhwc(
    isa_worker: ProcessPoolExecutor, kind: str, shape: Any, filters: Any, options: Any, kernel: str
) -> None:
    """The layers whose images are not converted from NCHW, except depthwise ones with few channels or rare windows."""
    draw = np.random.default_rng(0).standard_normal
    x, w, bias = (draw(size, np.float32) for size in (shape, filters, (filters[3] if kind == "conv2d" else shape[3],)))
    planes = np.ascontiguousarray(np.moveaxis(x, 3, 1))
    found = fastconv.explain(planes.shape, filters, data_format="NCHW", depthwise=kind != "conv2d", **options)
    assert found.kernel == kernel
    arguments = {"filters": w, "bias": bias, "activation": "relu", **options}
    calls = [(kind, {"input": x, **arguments}), (kind, {"input": planes, "data_format": "NCHW", **arguments})]
    expected, result = isa_worker.submit(compute, calls).result()
    assert result.tobytes() == np.ascontiguousarray(np.moveaxis(expected, 3, 1)).tobytes()


@pytest.mark.parametrize(
    ("shape", "filters", "stride"),
    [
        ((3, 31, 33, 24), (1, 1, 24, 40), 1),  # lanes are channels, and a tile has pixels of two images
        ((2, 40, 48, 150), (1, 1, 150, 70), 1),  # lanes are filters
        ((2, 40, 47, 30), (1, 1, 30, 70), 2),
        ((2, 41, 64, 5), (3, 5, 5, 70), 2),
        ((5, 61, 62, 3), (3, 3, 3, 33), 1),
    ],
)
def test_filter_gradients_on_planes_give_the_bits_of_nhwc(
    isa_worker: ProcessPoolExecutor, shape: Any, filters: Any, stride: int
) -> None:
    draw = np.random.default_rng(0).standard_normal
    x = draw(shape, np.float32)
    dy = draw((shape[0], -(-shape[1] // stride), -(-shape[2] // stride), filters[3]), np.float32)
    calls = [
        ("conv2d_backprop_filter", {"filter_sizes": filters, "strides": stride, "padding": "SAME", **images})
        for images in (
            {"input": x, "out_backprop": dy},
            {"input": to_nchw(x), "out_backprop": to_nchw(dy), "data_format": "NCHW"},
        )
    ]
    expected, result = isa_worker.submit(compute, calls).result()
    assert result.tobytes() == expected.tobytes()


@pytest.mark.parametrize("window", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", 1])
def test_gradients_of_planes_have_the_bits_of_nhwc(
    isa_worker: ProcessPoolExecutor, window: int, stride: int, padding: Any
) -> None:
    """Those of depthwise layers."""
    draw = np.random.default_rng(0).standard_normal
    w, sizes = draw((window, window, 24, 1), np.float32), (2, 30, 75, 24)
    options = {"strides": stride, "padding": padding}
    dy = draw(fastconv.depthwise_conv2d(np.zeros(sizes, np.float32), w, **options).shape, np.float32)
    planes = {"input_sizes": (2, 24, 30, 75), "out_backprop": np.ascontiguousarray(np.moveaxis(dy, 3, 1))}
    calls = [
        ("depthwise_conv2d_backprop_input", {"input_sizes": sizes, "filters": w, "out_backprop": dy, **options}),
        ("depthwise_conv2d_backprop_input", {"filters": w, "data_format": "NCHW", **planes, **options}),
    ]
    expected, result = isa_worker.submit(compute, calls).result()
    assert result.tobytes() == np.ascontiguousarray(np.moveaxis(expected, 3, 1)).tobytes()


def test_a_tap_of_nan_at_the_padding_gives_the_same_bits_with_all_threads(isa_worker: ProcessPoolExecutor) -> None:
    """It may or may not count there, so the threads must not choose the way in which images of NCHW are computed."""
    draw = np.random.default_rng(0).standard_normal
    x, w = draw((1, 5, 14, 28), np.float32), draw((3, 3, 5, 27), np.float32)
    w[0, 0, 0, 0] = np.nan
    call = ("conv2d", {"input": x, "filters": w, "padding": ((2, 1), (3, 1)), "strides": 2, "data_format": "NCHW"})
    first, *others = (isa_worker.submit(compute, [call], threads=n).result()[0] for n in (1, 2, 3, 7))
    assert all(other.tobytes() == first.tobytes() for other in others)


def test_a_second_run_gives_the_same_bits(seed: int, count: int) -> None:
    calls = [call for problem in some_problems(seed, count) for call in problems.calls_of(problem)]
    assert_same(compute(plain(calls)), compute(plain(calls)), calls, "a second run")
