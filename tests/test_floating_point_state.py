"""Every operation runs in the same floating-point state, and the calling thread's own state is restored."""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import fastconv
import numpy as np
import pytest
from fastconv import _core

# The control register in the C library's fenv_t, and its bits: (offset, mask, flush subnormals, round down).
LAYOUTS = {"x86_64": (28, 0xFFC0, 0x8040, 0x2000), "aarch64": (0, 0xFFFFFFFF, 1 << 24, 2 << 22)}
pytestmark = pytest.mark.skipif(platform.machine() not in LAYOUTS, reason="the layout of fenv_t is not known")
OFFSET, MASK, FLUSH, ROUND_DOWN = LAYOUTS.get(platform.machine(), (0, 0, 0, 0))
STATES = {"subnormals": 0, "no subnormals": FLUSH, "rounding down": ROUND_DOWN, "both": FLUSH | ROUND_DOWN}


def control() -> int:
    environment = ctypes.create_string_buffer(64)
    ctypes.CDLL("libm.so.6").fegetenv(environment)
    return int(struct.unpack_from("<I", environment, OFFSET)[0]) & MASK


@contextmanager
def calling_thread(bits: int) -> Iterator[None]:
    """Set these bits in the floating-point state of this thread."""
    library = ctypes.CDLL("libm.so.6")
    before, environment = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
    library.fegetenv(before)
    library.fegetenv(environment)
    struct.pack_into("<I", environment, OFFSET, struct.unpack_from("<I", environment, OFFSET)[0] | bits)
    library.fesetenv(environment)
    try:
        yield
    finally:
        library.fesetenv(before)


def random(dtype: Any, scale: float, *shape: int) -> np.ndarray:
    return (np.random.default_rng(shape).standard_normal(shape) * scale).astype(dtype)


Call = Callable[[], Any]


def elementwise_calls(x: np.ndarray, y: np.ndarray, numbers: np.ndarray) -> dict[str, Call]:
    """Activations, additions and batch normalisation. `numbers` are rows of a number for each channel."""
    mean, variance, scale = numbers[0], numbers[1] ** 2, numbers[2]
    return {
        "activate": lambda: fastconv.activate(x, "silu"),
        "activate_grad": lambda: fastconv.activate_grad(x, y, "silu"),
        "add": lambda: fastconv.add(x, y, "gelu"),
        "add_grad": lambda: fastconv.add_grad(x, y, x, "gelu"),
        "batch_norm": lambda: fastconv.batch_norm(x, scale, mean, activation="relu"),
        "batch_norm_grad": lambda: fastconv.batch_norm_grad(x, mean, variance, y, scale, mean, activation="relu"),
        "batch_norm_inference": lambda: fastconv.batch_norm_inference(x, mean, variance, scale, residual=y),
        "batch_norm_statistics": lambda: fastconv.batch_norm_statistics(x),
        "batch_norm_inference_grad": lambda: fastconv.batch_norm_inference_grad(x, mean, variance, y, scale),
    }


def calls(dtype: Any, tiny: bool) -> dict[str, Call]:
    """Each operation with each of its algorithms. With tiny values, results are close to the smallest normal number."""
    least = float(np.finfo(dtype).tiny)
    whole, factor = (2 * least, least**0.5) if tiny else (1.0, 1.0)

    @cache  # computed once, in the usual floating-point state
    def values(*shape: int) -> np.ndarray:
        return random(dtype, whole, *shape)

    @cache
    def factors(*shape: int) -> np.ndarray:
        return random(dtype, factor, *shape)

    x, w, y = factors(9, 14, 15, 8), factors(3, 3, 8, 12), factors(9, 12, 13, 12)
    few, many = factors(9, 28, 28, 1), factors(5, 5, 1, 6)  # as LeNet's first layer
    few_y, wide, wide_y = factors(9, 24, 24, 6), factors(4, 9, 9, 640), factors(4, 7, 7, 640)
    depthwise, depthwise_y = factors(3, 3, 8, 1), factors(9, 12, 13, 8)
    pooled, taps = fastconv.max_pool2d(values(9, 14, 15, 8), 2), np.zeros((9, 7, 7, 8), np.uint8)
    fused_taps, fused_grad = np.ones((9, 6, 6, 12), np.uint8), factors(9, 6, 6, 12)
    few_taps, few_grad = np.ones((9, 12, 12, 6), np.uint8), factors(9, 12, 12, 6)
    convolution, pooling = (1, "VALID", "NHWC", 1, "auto", False), (2, None, "VALID", "NHWC", 1, False, None)
    fused_arguments = (None, 2, None, "VALID", 1, "VALID", "NHWC", 1, "auto", None, False)
    filter_gradient = fastconv.conv2d_backprop_filter
    found: dict[str, Call] = {
        "conv2d small K": lambda: fastconv.conv2d(few, many, bias=values(6)),
        "conv2d NCHW": lambda: fastconv.conv2d(x, factors(3, 3, 14, 3), data_format="NCHW"),
        "conv2d depthwise": lambda: fastconv.depthwise_conv2d(x, depthwise),
        "conv2d_transpose": lambda: fastconv.conv2d_transpose(y, w, x.shape, 1, "VALID"),
        "conv2d_backprop_filter depthwise": lambda: fastconv.depthwise_conv2d_backprop_filter(
            x, (3, 3, 8, 1), depthwise_y
        ),
        "conv2d_backprop_filter depthwise of many channels": lambda: fastconv.depthwise_conv2d_backprop_filter(
            wide, (3, 3, 640, 1), wide_y
        ),
        "conv2d_backprop_filter small K": lambda: filter_gradient(few, many.shape, few_y),
        "conv2d_backprop_filter_bias": lambda: _core.conv2d_backprop_filter_bias(x, w.shape, y, *convolution, None),
        "bias_gradient": lambda: _core.bias_gradient(values(9, 12, 13, 100), "NHWC", None),
        "bias_gradient NCHW": lambda: _core.bias_gradient(values(9, 100, 12, 13), "NCHW", None),
        "relu_bias_grad": lambda: _core.relu_bias_grad(values(9, 12, 13, 100), values(9, 12, 13, 100), "NHWC", None),
        "conv2d_max_pool2d": lambda: fastconv.conv2d_max_pool2d(x, w, 2),
        "conv2d_max_pool2d_backprop": lambda: fastconv.conv2d_max_pool2d_backprop(x, w, fused_taps, fused_grad, 2),
        "conv2d_max_pool2d_backprop small K": lambda: fastconv.conv2d_max_pool2d_backprop(
            few, many, few_taps, few_grad, 2
        ),
        "conv2d_max_pool2d_backprop_filter_bias": lambda: _core.conv2d_max_pool2d_backprop_filter_bias(
            few, many, few_taps, few_grad, *fused_arguments, None
        ),
        "max_pool2d": lambda: fastconv.max_pool2d(values(9, 14, 15, 8), 3, 1),
        "max_pool2d_with_argmax": lambda: fastconv.max_pool2d_with_argmax(values(9, 14, 15, 8), 3, 1),
        "max_pool2d_with_taps": lambda: _core.max_pool2d_with_taps(values(9, 14, 15, 8), *pooling, None),
        "max_pool2d_grad": lambda: fastconv.max_pool2d_grad(
            values(9, 14, 15, 8), fastconv.max_pool2d(values(9, 14, 15, 8), 3, 1), values(9, 12, 13, 8), 3, 1
        ),
        "max_pool2d_gather": lambda: _core.max_pool2d_gather(values(9, 14, 15, 8), taps, *pooling, None),
        "max_pool2d_scatter": lambda: _core.max_pool2d_scatter((9, 14, 15, 8), taps, pooled, *pooling, None),
        "avg_pool2d": lambda: fastconv.avg_pool2d(values(9, 14, 15, 8), 3, 1, "SAME"),
        "avg_pool2d_grad": lambda: fastconv.avg_pool2d_grad((9, 14, 15, 8), values(9, 12, 13, 8), 3, 1),
        **elementwise_calls(values(9, 14, 15, 8), values(9, 15, 14, 8).reshape(9, 14, 15, 8), values(3, 8)),
    }
    for algorithm in ("direct", "winograd"):
        named: dict[str, Any] = {"algorithm": algorithm}
        found[f"conv2d {algorithm}"] = lambda named=named: fastconv.conv2d(x, w, **named)
        found[f"conv2d_backprop_input {algorithm}"] = lambda named=named: fastconv.conv2d_backprop_input(
            x.shape, w, y, **named
        )
        found[f"conv2d_backprop_filter {algorithm}"] = lambda named=named: filter_gradient(x, w.shape, y, **named)
    return found


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = fastconv.get_num_threads()
    fastconv.set_num_threads(request.param)
    yield
    fastconv.set_num_threads(before)


def bits(result: Any) -> list[bytes]:
    parts = result if isinstance(result, tuple) else (result,)
    return [part.tobytes() for part in parts if part is not None]


def test_every_operation_is_called() -> None:
    assert {name.split()[0] for name in calls(np.float32, False)} == {entry["name"] for entry in _core.operations()}


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("tiny", [False, True], ids=["usual values", "tiny values"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", calls(np.float32, False))
def test_same_bits_in_every_state(name: str, dtype: Any, tiny: bool) -> None:
    call = calls(dtype, tiny)[name]
    expected = bits(call())
    for state, changed in STATES.items():
        with calling_thread(changed):
            before = control()
            found = call()
            after = control()
        assert bits(found) == expected, state
        assert after == before == control() | changed
