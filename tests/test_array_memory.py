"""Arrays of any layout are accepted, arguments are not changed, and results are new arrays or `out`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastconv
import numpy as np
import pytest
from arrays import random
from numpy_calls import ARRAYS, FUNCTIONS, assert_same_bits, calls, parts


def misaligned(array: np.ndarray) -> np.ndarray:
    copy = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def on_disk(array: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "array.npy", array)
    return np.load(folder / "array.npy", mmap_mode="r")


class Subclass(np.ndarray):
    """A subclass of ndarray that adds nothing."""


LAYOUTS: dict[str, Callable[[np.ndarray, Path], np.ndarray]] = {
    "Fortran order": lambda array, _: np.asfortranarray(array),
    "reversed": lambda array, _: np.ascontiguousarray(array[::-1])[::-1],
    "reversed last axis": lambda array, _: np.ascontiguousarray(array[..., ::-1])[..., ::-1],
    "every second": lambda array, _: np.repeat(array, 2, axis=-1)[..., ::2],
    "inner part": lambda array, _: np.pad(array, 2)[(slice(2, -2),) * array.ndim],
    "transposed": lambda array, _: np.ascontiguousarray(array.T).T,
    "misaligned": lambda array, _: misaligned(array),
    "read-only": lambda array, _: read_only(array),
    "memory map": on_disk,
    "subclass": lambda array, _: array.view(Subclass),
}


@pytest.mark.parametrize(("name", "argument"), ARRAYS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layout_of_an_argument_does_not_matter(
    name: str, argument: str, layout: str, dtype: Any, tmp_path: Path
) -> None:
    call, arrays = calls(dtype)[name]
    other = LAYOUTS[layout](arrays[argument], tmp_path)
    np.testing.assert_array_equal(other, arrays[argument])
    result = call(**{**arrays, argument: other})
    assert_same_bits(result, call(**arrays))
    assert all(type(part) is np.ndarray for part in parts(result))


def test_broadcast_arguments_are_accepted() -> None:
    image = np.broadcast_to(random(1, 6, 6, 1), (3, 6, 6, 4))
    filters = random(3, 3, 4, 2)
    assert_same_bits(fastconv.conv2d(image, filters), fastconv.conv2d(image.copy(), filters))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arguments_are_not_changed_and_the_result_is_new(name: str, dtype: Any) -> None:
    call, arrays = calls(dtype)[name]
    before = {argument: array.copy() for argument, array in arrays.items()}
    result = call(**arrays)
    assert_same_bits(tuple(arrays.values()), tuple(before.values()))
    for part in parts(result):
        assert part.flags.c_contiguous and part.flags.writeable and part.flags.owndata
        is_place = part is not parts(result)[0] and not name.endswith("backprop")
        assert part.dtype == ((np.uint8 if "conv2d" in name else np.int64) if is_place else dtype)
    assert_same_bits(call(**arrays), result)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_out_is_overwritten_and_returned(name: str, dtype: Any) -> None:
    call, arrays = calls(dtype)[name]
    expected = call(**arrays)
    if isinstance(expected, tuple):
        outs = tuple(np.full_like(part, np.nan if part.dtype == dtype else 77) for part in expected)
        result = call(**arrays, out=outs)
        assert all(part is out for part, out in zip(result, outs, strict=True))
    else:
        out = np.full_like(expected, np.nan)
        result = call(**arrays, out=out)
        assert result is out
    assert_same_bits(result, expected)


def test_out_next_to_the_input() -> None:
    """Adjacent parts of one buffer do not overlap, and nothing beyond `out` is written."""
    buffer = np.full(3 * 64, 7, np.float32)
    x = buffer[:64].reshape(1, 4, 4, 4)
    x[...] = random(1, 4, 4, 4)
    out = buffer[64:128].reshape(1, 4, 4, 4)
    filters = random(1, 1, 4, 4)
    assert_same_bits(fastconv.conv2d(x, filters, out=out), fastconv.conv2d(x.copy(), filters))
    assert (buffer[128:] == 7).all()


def test_out_may_be_a_subclass_or_a_memory_map(tmp_path: Path) -> None:
    call, arrays = calls()["conv2d"]
    expected = call(**arrays)
    mapped = np.memmap(tmp_path / "out", expected.dtype, "w+", shape=expected.shape)
    for out in (mapped, np.empty_like(expected).view(Subclass)):
        assert call(**arrays, out=out) is out
        np.testing.assert_array_equal(out, expected)
