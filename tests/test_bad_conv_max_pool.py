"""Wrong arguments of a convolution with max pooling raise an error that names the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from valid_calls import CONV_MAX_POOL, OUT_TUPLES, Y_POOLED, call, ones, valid_call


@pytest.mark.parametrize("name", CONV_MAX_POOL)
def test_padding_and_window_of_the_pooling(name: str) -> None:
    """Messages say whether an argument belongs to the pooling or to the convolution."""
    with pytest.raises(ValueError, match=r"^pool_padding must be 'VALID', 'SAME', an int"):
        call(name, pool_padding="FULL")
    with pytest.raises(ValueError, match=r"^pool_padding must be smaller than the window \(2, 2\), got"):
        call(name, pool_padding=2)
    with pytest.raises(ValueError, match=r"^pool_padding must not be negative"):
        call(name, pool_padding=-1)
    with pytest.raises(TypeError, match=r"^pool_padding must be"):
        call(name, pool_padding=None)
    with pytest.raises(ValueError, match=r"^the max-pooling's output height is negative: input height 6"):
        call(name, pool_size=8, pool_strides=1)
    with pytest.raises(ValueError, match=r"^pool_size: the window, .* overflows"):
        call(name, pool_size=2**63 - 1, pool_strides=1, pool_padding="SAME")
    of_one_window = {"taps": np.zeros((2, 1, 1, 6), np.uint8), "grad": ones(2, 1, 1, 6)} if "backprop" in name else {}
    with pytest.raises(ValueError, match=r"^pool_size must be a window of at most 255 pixels, .*; got 16 x 16$"):
        call(name, pool_size=16, pool_padding="SAME", **of_one_window)


def test_taps_of_a_wrong_kind() -> None:
    for wrong in ([[[[0]]]], None, 0, b"taps"):
        with pytest.raises(TypeError, match=r"^taps must be a NumPy array of uint8, got "):
            call(CONV_MAX_POOL[1], taps=wrong)
    for dtype in (np.int8, np.int64, np.float32, bool):
        with pytest.raises(TypeError, match=r"^taps must be uint8, got "):
            call(CONV_MAX_POOL[1], taps=np.zeros(Y_POOLED, dtype))
    for shape in ((2, 3, 3, 5), (2, 6, 3, 3), (3, 3, 6), (2, 3, 3, 6, 1)):
        with pytest.raises(ValueError, match=r"^taps must have shape \(2, 3, 3, 6\)"):
            call(CONV_MAX_POOL[1], taps=np.zeros(shape, np.uint8))


def test_taps_that_name_no_pixel() -> None:
    """The wrong tap is in the first or the last window. Windows that lie partly in the padding have fewer pixels."""
    for at in ((0, 0, 0, 0), (1, 2, 2, 5)):
        taps = np.zeros(Y_POOLED, np.uint8)
        taps[at] = 3
        call(CONV_MAX_POOL[1], taps=taps)
        taps[at] = 4
        with pytest.raises(ValueError, match=r"^taps must be pixel numbers within each .* got 4 for a window of 4"):
            call(CONV_MAX_POOL[1], taps=taps)
    padded = {"pool_padding": 1, "grad": ones(2, 4, 4, 6)}
    taps = np.zeros((2, 4, 4, 6), np.uint8)
    taps[1, 1, 1, 5] = 3
    call(CONV_MAX_POOL[1], taps=taps, **padded)
    taps[1, 0, 3, 5] = 1
    with pytest.raises(ValueError, match=r"^taps must be pixel numbers .* got 1 for a window of 1"):
        call(CONV_MAX_POOL[1], taps=taps, **padded)


def test_input_gradient_is_a_bool() -> None:
    for wrong in ("yes", np.zeros(3), [], None, 1):
        with pytest.raises(TypeError, match=r"^input_gradient must be True or False"):
            call(CONV_MAX_POOL[1], input_gradient=wrong)


@pytest.mark.parametrize("name", CONV_MAX_POOL)
def test_out_of_a_convolution_and_its_max_pool(name: str) -> None:
    results = call(name)
    for wrong in (results[0], list(results), results[:1], (*results, results[0])):
        with pytest.raises(TypeError, match=rf"^out must be None or the tuple \({OUT_TUPLES[name]}\), got "):
            call(name, out=wrong)
    for i, result in enumerate(results):
        nothing: list[Any] = [None] * len(results)
        for wrong, error in (
            (result[:1] if result.ndim > 1 else result[:3], ValueError),
            (result.astype(np.float16), TypeError),
            (np.broadcast_to(result, result.shape), ValueError),
            (result.tolist(), TypeError),
        ):
            nothing[i] = wrong
            with pytest.raises(error, match=rf"^out\[{i}\] must "):
                call(name, out=tuple(nothing))
    shared = np.empty(4096, np.float32)
    outs = [shared.view(r.dtype)[: r.size].reshape(r.shape) for r in results]
    with pytest.raises(ValueError, match=r"^out\[1\] must not overlap out\[0\]"):
        call(name, out=tuple(outs))
    x = valid_call(name)["input"]
    with pytest.raises(ValueError, match=r"^out\[0\] must not overlap input"):
        call(name, input=x, out=(x.ravel()[: results[0].size].reshape(results[0].shape), *[None] * (len(results) - 1)))


def test_out_of_an_input_gradient_that_is_switched_off() -> None:
    x = valid_call(CONV_MAX_POOL[1])["input"]
    with pytest.raises(ValueError, match=r"^out\[0\] must be None if input_gradient is False"):
        call(CONV_MAX_POOL[1], input_gradient=False, out=(np.empty_like(x), None, None))
