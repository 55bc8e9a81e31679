"""`explain` agrees with what a call observably does."""

from __future__ import annotations

from typing import Any, get_args

import fastconv
import numpy as np
import pytest
from fastconv._explain import Direction

DIRECTIONS = get_args(Direction)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("sizes", "keywords", "algorithm"),
    [
        (((1, 56, 56, 64), (3, 3, 64, 64)), {"padding": "SAME"}, "winograd"),
        (((1, 56, 56, 64), (3, 3, 64, 64)), {"padding": "SAME", "algorithm": "direct"}, "direct"),
        (((1, 56, 56, 64), (1, 1, 64, 256)), {}, "direct"),
        (((1, 56, 56, 64), (3, 3, 1, 64)), {"padding": "SAME"}, "depthwise"),
        (((1, 56, 56, 64), (3, 3, 64, 1)), {"depthwise": True}, "depthwise"),
        (((1, 56, 56, 64), (3, 3, 1, 64)), {"padding": "SAME", "algorithm": "depthwise"}, "depthwise"),
        (((1, 56, 56, 1), (3, 3, 1, 1)), {"padding": "SAME"}, "direct"),  # one channel would fill one lane
        (((1, 56, 56, 1), (5, 5, 1, 1)), {"depthwise": True}, "direct"),
        (((1, 56, 56, 1), (3, 3, 1, 1)), {"algorithm": "depthwise"}, "depthwise"),
        (((1, 56, 56, 64), (3, 3, 1, 64)), {"padding": "SAME", "algorithm": "direct"}, "direct"),
        (((1, 56, 56, 64), (3, 3, 64, 1)), {"depthwise": True, "algorithm": "direct"}, "direct"),
        (((1, 28, 28, 1), (3, 3, 1, 6)), {}, "direct"),
        (((1, 224, 224, 3), (7, 7, 3, 64)), {"strides": 2, "padding": "SAME"}, "direct"),
    ],
)
def test_the_chosen_algorithm_is_named(sizes: Any, keywords: Any, algorithm: str, dtype: Any, direction: Any) -> None:
    found = fastconv.explain(*sizes, direction=direction, dtype=dtype, **keywords)
    assert found.algorithm == algorithm
    assert found.isa == fastconv.show_config("dicts")["isa"]
    assert found.kernel and found.tile[0] >= 1 and found.tile[1] >= 1 and found.tasks >= 1
    assert 1 <= found.threads <= fastconv.get_num_threads()
    text = str(found)
    assert direction in text and algorithm in text and found.kernel in text


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
@pytest.mark.parametrize("size", [(1, 7, 7, 512, 512), (64, 112, 112, 64, 64), (8, 14, 14, 1024, 512), (1, 9, 9, 3, 4)])
def test_scratch_memory_is_bounded(size: tuple[int, ...], algorithm: str, threads: int, direction: Any) -> None:
    n, h, w, c, k = size
    before = fastconv.get_num_threads()
    fastconv.set_num_threads(threads)
    try:
        found = fastconv.explain((n, h, w, c), (3, 3, c, k), padding="SAME", direction=direction, algorithm=algorithm)
    finally:
        fastconv.set_num_threads(before)
    assert 0 < found.scratch_bytes <= 64 << 20


@pytest.mark.parametrize(
    ("sizes", "algorithms"),  # forward, input gradient, filter gradient
    [
        ((1, 32, 32, 11, 32), "direct direct direct"),
        ((1, 32, 32, 12, 16), "direct winograd direct"),
        ((1, 32, 32, 16, 12), "winograd direct direct"),
        ((1, 32, 32, 16, 16), "winograd winograd winograd"),
        ((1, 32, 32, 48, 20), "winograd winograd direct"),
        ((1, 7, 7, 16, 64), "direct winograd winograd"),
        ((1, 7, 7, 64, 16), "winograd direct winograd"),
    ],
)
def test_winograd_serves_few_channels_where_it_gains(sizes: tuple[int, ...], algorithms: str) -> None:
    n, h, w, c, k = sizes
    for direction, algorithm in zip(DIRECTIONS, algorithms.split(), strict=True):
        found = fastconv.explain((n, h, w, c), (3, 3, c, k), padding="SAME", direction=direction)
        assert (found.algorithm, "36 points" in found.kernel) == (algorithm, algorithm == "winograd"), direction


DEPTHWISE_KERNELS = {
    "forward": "depthwise_row",
    "input gradient": "depthwise_row",
    "filter gradient": "depthwise_filter_rows",
}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_named_algorithm_runs(direction: Any) -> None:
    """Depthwise kernels run for "depthwise" and "auto" only."""
    for algorithm in ("auto", "direct", "depthwise"):
        found = fastconv.explain((1, 20, 20, 64), (3, 3, 1, 64), algorithm=algorithm, direction=direction)
        assert (found.kernel == DEPTHWISE_KERNELS[direction]) == (algorithm != "direct")
        assert (found.algorithm == "direct") == (algorithm == "direct")


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d"])
def test_named_algorithms_of_a_depthwise_layer(name: str, strides: int) -> None:
    """ "depthwise" gives the bits of "auto"; "direct" rounds the same sums differently."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 12, 13, 24), np.float32)
    w = rng.standard_normal((3, 3, 1, 24) if name == "conv2d" else (3, 3, 24, 1), np.float32)
    forward, d_input, d_filter = (getattr(fastconv, name + end) for end in ("", "_backprop_input", "_backprop_filter"))
    dy = rng.standard_normal(forward(x, w, strides).shape, np.float32)

    def results(algorithm: str) -> list[np.ndarray]:
        return [
            forward(x, w, strides, algorithm=algorithm),
            d_input(x.shape, w, dy, strides, algorithm=algorithm),
            d_filter(x, w.shape, dy, strides, algorithm=algorithm),
        ]

    for auto, depthwise, direct in zip(results("auto"), results("depthwise"), results("direct"), strict=True):
        np.testing.assert_array_equal(depthwise, auto)
        np.testing.assert_allclose(direct, auto, rtol=1e-4, atol=1e-4)


def test_multiplications_are_those_of_the_algorithm() -> None:
    direct = fastconv.explain((2, 28, 28, 64), (3, 3, 64, 128), padding="SAME", algorithm="direct")
    assert direct.multiplications == 2 * 28 * 28 * 9 * 64 * 128
    winograd = fastconv.explain((2, 28, 28, 64), (3, 3, 64, 128), padding="SAME", algorithm="winograd")
    assert winograd.multiplications == direct.multiplications / 4
    for direction in DIRECTIONS:  # no inserted zeros are multiplied, and no window is computed twice
        strided = fastconv.explain((2, 28, 28, 64), (2, 2, 64, 128), 2, algorithm="direct", direction=direction)
        assert strided.multiplications == 2 * 14 * 14 * 4 * 64 * 128


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_an_empty_call_has_nothing_to_compute(direction: Any) -> None:
    found = fastconv.explain((0, 5, 5, 3), (3, 3, 3, 4), direction=direction)
    assert found.multiplications == 0 and str(found) == f"{direction}: nothing to compute"


def test_wrong_arguments_are_refused() -> None:
    words = "direction must be 'forward', 'input gradient' or 'filter gradient'"
    for wrong in (None, 0, b"forward"):
        with pytest.raises(TypeError, match=f"^{words}, got "):
            fastconv.explain((1, 5, 5, 3), (3, 3, 3, 4), direction=wrong)
    with pytest.raises(ValueError, match=f"^{words}, got 'backward'"):
        fastconv.explain((1, 5, 5, 3), (3, 3, 3, 4), direction="backward")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="float16"):
        fastconv.explain((1, 5, 5, 3), (3, 3, 3, 4), dtype=np.float16)
    with pytest.raises(ValueError, match="winograd"):
        fastconv.explain((1, 5, 5, 3), (2, 2, 3, 4), algorithm="winograd")
    with pytest.raises(ValueError, match=r"algorithm 'depthwise' supports only one filter.* use 'auto' or 'direct'"):
        fastconv.explain((1, 5, 5, 3), (3, 3, 1, 6), algorithm="depthwise")
    with pytest.raises(ValueError, match="channels"):
        fastconv.explain((1, 5, 5, 3), (3, 3, 4, 4))
