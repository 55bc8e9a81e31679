"""An `out` that does not fit the result, or overlaps an argument, raises an error that says so."""

from __future__ import annotations

import fastconv
import numpy as np
import pytest
from valid_calls import ARRAYS, FUNCTIONS, OUT_TUPLES, X, call, ones, valid_call

WITH_OUT = [name for name in FUNCTIONS if name not in OUT_TUPLES]


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_of_a_wrong_kind(name: str) -> None:
    result = call(name)
    for wrong in (result.tolist(), 1.0, "out", (result,), np.float32(1)):
        with pytest.raises(TypeError, match=r"^out must be a NumPy array of the result's shape and dtype, got "):
            call(name, out=wrong)
    for dtype in (np.float64, np.int32, np.float16, object, np.dtype(np.float32).newbyteorder("S")):
        with pytest.raises(TypeError, match=r"^out must have dtype float32, got "):
            call(name, out=result.astype(dtype))
    with pytest.raises(TypeError, match=r"^out must have no mask"):
        call(name, out=np.ma.masked_array(result))


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_of_a_wrong_shape(name: str) -> None:
    result = call(name)
    wrongs = [result[:1], result[:, 1:], result[..., 1:], result[0], result.ravel(), result[None], np.float32([])]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"^out must have shape \(.*\) \(that of the result\), got \("):
            call(name, out=np.ascontiguousarray(wrong))


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_of_a_wrong_layout(name: str) -> None:
    result = call(name)
    read_only = np.empty_like(result)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match=r"^out must be writable"):
        call(name, out=read_only)
    misaligned = np.empty(result.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(result.shape)
    for wrong in (
        np.asfortranarray(result),
        np.empty((*result.shape, 2), np.float32)[..., 0],
        result[::-1],
        misaligned,
    ):
        with pytest.raises(ValueError, match=r"^out must be C-contiguous and aligned"):
            call(name, out=wrong)


@pytest.mark.parametrize(("name", "argument"), [pair for pair in ARRAYS if pair[0] in WITH_OUT])
def test_out_that_overlaps(name: str, argument: str) -> None:
    """The argument and `out` share one element of a common buffer."""
    result, array = call(name), valid_call(name)[argument]
    buffer = np.ones(result.size + array.size - 1, np.float32)
    out_first = {"out": buffer[: result.size], argument: buffer[result.size - 1 :]}
    out_last = {"out": buffer[array.size - 1 :], argument: buffer[: array.size]}
    for arrays in (out_first, out_last):
        shaped = {"out": arrays["out"].reshape(result.shape), argument: arrays[argument].reshape(array.shape)}
        with pytest.raises(ValueError, match=rf"^out must not overlap {argument} in memory"):
            call(name, **shaped)


def test_out_that_is_the_input() -> None:
    x = ones(*X)
    with pytest.raises(ValueError, match=r"^out must not overlap input"):
        fastconv.conv2d(x, ones(1, 1, 4, 4), out=x)
    strided = x[:, ::-1]
    with pytest.raises(ValueError, match=r"^out must not overlap input"):
        fastconv.max_pool2d(strided, 1, out=x)


def test_out_of_the_argmax() -> None:
    output, argmax = call("max_pool2d_with_argmax")
    for wrong in (output, [output, argmax], (output,), (output, argmax, argmax)):
        with pytest.raises(TypeError, match=r"^out must be None or the tuple \(output, argmax\)"):
            call("max_pool2d_with_argmax", out=wrong)
    with pytest.raises(TypeError, match=r"^out\[0\] must have dtype float32, got int64"):
        call("max_pool2d_with_argmax", out=(argmax, output))
    with pytest.raises(TypeError, match=r"^out\[1\] must have dtype int64, got int32"):
        call("max_pool2d_with_argmax", out=(output, argmax.astype(np.int32)))
    with pytest.raises(ValueError, match=r"^out\[1\] must have shape"):
        call("max_pool2d_with_argmax", out=(output, argmax[:1]))
    buffer = np.empty(argmax.nbytes, np.uint8)
    shared = (
        buffer[: output.nbytes].view(np.float32).reshape(output.shape),
        buffer.view(np.int64).reshape(argmax.shape),
    )
    with pytest.raises(ValueError, match=r"^out\[1\] must not overlap out\[0\]"):
        call("max_pool2d_with_argmax", out=shared)
