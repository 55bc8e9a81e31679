"""What the NumPy face promises beyond the numbers: forms of arguments, memory layouts, `out`, the package itself.

Other tests compare the numbers with the reference. Here, two ways to write the same call must give the same bits.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastconv
import numpy as np
import pytest
from processes import TIMEOUT

Arrays = dict[str, np.ndarray]


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def calls(dtype: Any = np.float32) -> dict[str, tuple[Callable[..., Any], Arrays]]:
    """For each function, a call and its arrays by name. The geometries have uncovered rows and padding."""
    x, filters, y = random(2, 9, 10, 4, dtype=dtype), random(3, 2, 2, 6, dtype=dtype), random(2, 5, 5, 6, dtype=dtype)
    depthwise, depthwise_y = random(3, 2, 4, 2, dtype=dtype), random(2, 5, 5, 8, dtype=dtype)
    pooled = random(2, 3, 3, 4, dtype=dtype)
    conv: dict[str, Any] = {"strides": 2, "padding": ((1, 1), (0, 1))}
    pool: dict[str, Any] = {"ksize": (3, 2), "strides": (3, 4)}
    max_pool: dict[str, Any] = {"pool_size": 2, "pool_padding": "SAME"}
    taps = np.random.default_rng(0).integers(0, 2, (2, 3, 3, 6)).astype(np.uint8)
    taps[:, 2, 2] = 0  # one pixel only
    table: dict[str, tuple[dict[str, Any], Arrays]] = {
        "conv2d": ({**conv, "activation": "relu"}, {"input": x, "filters": filters, "bias": random(6, dtype=dtype)}),
        "conv2d_backprop_input": ({**conv, "input_sizes": x.shape}, {"filters": filters, "out_backprop": y}),
        "conv2d_backprop_filter": ({**conv, "filter_sizes": filters.shape}, {"input": x, "out_backprop": y}),
        "depthwise_conv2d": (conv, {"input": x, "filters": depthwise, "bias": random(8, dtype=dtype)}),
        "depthwise_conv2d_backprop_input": (
            {**conv, "input_sizes": x.shape},
            {"filters": depthwise, "out_backprop": depthwise_y},
        ),
        "depthwise_conv2d_backprop_filter": (
            {**conv, "filter_sizes": depthwise.shape},
            {"input": x, "out_backprop": depthwise_y},
        ),
        "conv2d_transpose": ({**conv, "output_shape": x.shape}, {"input": y, "filters": filters}),
        "max_pool2d": (pool, {"input": x}),
        "max_pool2d_with_argmax": (pool, {"input": x}),
        "max_pool2d_grad": (pool, {"orig_input": x, "orig_output": pooled, "grad": pooled}),
        "avg_pool2d": (pool, {"input": x}),
        "avg_pool2d_grad": ({**pool, "orig_input_shape": x.shape}, {"grad": pooled}),
        "adaptive_max_pool2d": ({"output_size": (3, 3)}, {"input": x}),
        "adaptive_max_pool2d_grad": (
            {"output_size": (3, 3)},
            {"orig_input": x, "orig_output": pooled, "grad": pooled},
        ),
        "adaptive_avg_pool2d": ({"output_size": (3, 3)}, {"input": x}),
        "adaptive_avg_pool2d_grad": ({"output_size": (3, 3), "orig_input_shape": x.shape}, {"grad": pooled}),
        "conv2d_max_pool2d": (
            {**conv, **max_pool, "activation": "relu"},
            {"input": x, "filters": filters, "bias": random(6, dtype=dtype)},
        ),
        "conv2d_max_pool2d_backprop": (
            {**conv, **max_pool, "activation": "relu"},
            {
                "input": x,
                "filters": filters,
                "taps": taps,
                "grad": random(2, 3, 3, 6, dtype=dtype),
                "output": np.maximum(random(2, 3, 3, 6, dtype=dtype)[::-1], 0),
            },
        ),
    }

    def bind(name: str, keywords: dict[str, Any]) -> Callable[..., Any]:
        return lambda **arrays: getattr(fastconv, name)(**keywords, **arrays)

    return {name: (bind(name, keywords), arrays) for name, (keywords, arrays) in table.items()}


FUNCTIONS = sorted(calls())
ARRAYS = [(name, argument) for name in FUNCTIONS for argument in calls()[name][1]]


def parts(result: Any) -> tuple[np.ndarray, ...]:
    return result if isinstance(result, tuple) else (result,)


def assert_same_bits(actual: Any, desired: Any) -> None:
    for a, d in zip(parts(actual), parts(desired), strict=True):
        assert a.dtype == d.dtype
        np.testing.assert_array_equal(a, d, strict=True)


# ---- Memory ---------------------------------------------------------------------------------------------------------


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


def test_broadcast_argument() -> None:
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


# ---- Forms of arguments ---------------------------------------------------------------------------------------------


def pooling(**keywords: Any) -> Any:
    return fastconv.max_pool2d(random(2, 7, 9, 3), **{"ksize": 3, "strides": 1, **keywords})


def convolution(**keywords: Any) -> Any:
    return fastconv.conv2d(random(2, 7, 9, 3), random(3, 3, 3, 4), **keywords)


BOTH = pytest.mark.parametrize("call", [convolution, pooling])


@BOTH
@pytest.mark.parametrize(
    ("one", "same"),
    [
        (1, [(1, 1), [1, 1], ((1, 1), (1, 1)), [[1, 1], [1, 1]], np.int8(1), np.array(1), np.array([1, 1])]),
        ((2, 1), [[2, 1], ((2, 2), (1, 1)), [[0, 0], [2, 2], [1, 1], [0, 0]], np.array([2, 1], np.uint8)]),
        (((0, 1), (2, 0)), [[(0, 1), [2, 0]], [[0, 0], [0, 1], [2, 0], [0, 0]], np.array([[0, 1], [2, 0]])]),
        ("VALID", ["valid", "Valid", 0, (0, 0), ((0, 0), (0, 0)), [[0, 0]] * 4]),
        ("SAME", ["same", "Same", 1, ((1, 1), (1, 1))]),
    ],
    ids=["int", "pair", "pairs", "VALID", "SAME"],
)  # fmt: skip
def test_forms_of_padding(call: Callable[..., Any], one: Any, same: list[Any]) -> None:
    expected = call(padding=one)
    for other in same:
        assert_same_bits(call(padding=other), expected)


@BOTH
def test_order_of_padding_and_strides(call: Callable[..., Any]) -> None:
    """(height, width), and (before, after) in each. The output's shape and the padded side show the order."""
    assert call(padding=(2, 1)).shape[1:3] == (9, 9)
    assert call(padding=((0, 1), (2, 2))).shape[1:3] == (6, 11)
    assert call(strides=(3, 2)).shape[1:3] == (2, 4)
    assert_same_bits(call(padding=((2, 0), (0, 0)))[:, 2:], call())
    assert_same_bits(call(padding=((0, 0), (0, 2)))[:, :, :-2], call())


@BOTH
def test_forms_of_numbers(call: Callable[..., Any]) -> None:
    names = ["strides", "dilations"] if call is convolution else ["strides", "ksize"]
    for name in names:
        expected = call(**{name: (2, 1)})
        for other in (
            [2, 1],
            (1, 2, 1, 1),
            [1, 2, 1, 1],
            np.array([2, 1]),
            (np.int64(2), np.uint8(1)),
            range(2, 0, -1),
        ):
            assert_same_bits(call(**{name: other}), expected)
        expected = call(**{name: 2})
        for other in ((2, 2), np.int32(2), np.array(2), [1, 2, 2, 1]):
            assert_same_bits(call(**{name: other}), expected)


@pytest.mark.parametrize("name", ["conv2d_backprop_input", "conv2d_backprop_filter", "avg_pool2d_grad"])
def test_forms_of_shapes(name: str) -> None:
    _, arrays = calls()[name]
    keywords: dict[str, Any] = {"strides": 2, "padding": ((1, 1), (0, 1))}
    argument, sizes = {
        "conv2d_backprop_input": ("input_sizes", (2, 9, 10, 4)),
        "conv2d_backprop_filter": ("filter_sizes", (3, 2, 2, 6)),
        "avg_pool2d_grad": ("orig_input_shape", (2, 9, 10, 4)),
    }[name]
    if name == "avg_pool2d_grad":
        keywords = {"ksize": (3, 2), "strides": (3, 4)}
    function = getattr(fastconv, name)
    expected = function(**arrays, **keywords, **{argument: sizes})
    for other in (list(sizes), np.array(sizes), np.array(sizes, np.int32), tuple(np.int64(size) for size in sizes)):
        assert_same_bits(function(**arrays, **keywords, **{argument: other}), expected)


def test_pool_strides_default_to_the_window() -> None:
    x = random(1, 9, 9, 2)
    for function in (fastconv.max_pool2d, fastconv.avg_pool2d):
        assert_same_bits(function(x, (2, 3)), function(x, (2, 3), strides=(2, 3)))


def test_no_activation_is_linear() -> None:
    assert_same_bits(convolution(activation="linear"), convolution())
    assert (convolution() < 0).any()
    assert_same_bits(convolution(activation="relu"), np.maximum(convolution(), 0))


# ---- Data formats ---------------------------------------------------------------------------------------------------


def to_nchw(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))


IMAGES = {"input", "out_backprop", "orig_input", "orig_output", "grad", "output"}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nchw_is_nhwc_transposed(name: str, dtype: Any) -> None:
    call, arrays = calls(dtype)[name]
    expected = call(**arrays)
    keywords: dict[str, Any] = {"data_format": "NCHW"}
    if "conv2d" in name:
        keywords |= {"strides": (1, 1, 2, 2), "padding": [[0, 0], [0, 0], [1, 1], [0, 1]]}
    elif name.startswith("adaptive_"):
        keywords["output_size"] = 3
    else:
        keywords |= {"ksize": (1, 1, 3, 2), "strides": (1, 1, 3, 4)}
    if "max_pool2d" in name and "conv2d" in name:
        keywords |= {"pool_size": 2, "pool_padding": "SAME"}
    if name in ("conv2d", "conv2d_max_pool2d", "conv2d_max_pool2d_backprop"):
        keywords["activation"] = "relu"
    shape = {
        "conv2d_backprop_input": {"input_sizes": (2, 4, 9, 10)},
        "depthwise_conv2d_backprop_input": {"input_sizes": (2, 4, 9, 10)},
        "conv2d_backprop_filter": {"filter_sizes": (3, 2, 2, 6)},
        "depthwise_conv2d_backprop_filter": {"filter_sizes": (3, 2, 4, 2)},
        "conv2d_transpose": {"output_shape": (2, 4, 9, 10)},
        "avg_pool2d_grad": {"orig_input_shape": (2, 4, 9, 10)},
        "adaptive_avg_pool2d_grad": {"orig_input_shape": (2, 4, 9, 10)},
    }.get(name, {})
    images = {argument: to_nchw(array) if argument in IMAGES else array for argument, array in arrays.items()}
    result = getattr(fastconv, name)(**images, **keywords, **shape)
    for i, (actual, desired) in enumerate(zip(parts(result), parts(expected), strict=True)):
        in_format = not name.endswith("backprop_filter") and (i == 0 or name == "max_pool2d_with_argmax")
        desired = to_nchw(desired) if in_format else desired
        np.testing.assert_allclose(actual, desired, rtol=0, atol=64 * np.finfo(dtype).eps)


# ---- Relations between functions ------------------------------------------------------------------------------------


def test_input_gradient_can_be_left_out_and_out_may_contain_none() -> None:
    call, arrays = calls()["conv2d_max_pool2d_backprop"]
    expected = call(**arrays)
    without = call(**arrays, input_gradient=False)
    assert without[0] is None
    assert_same_bits(without[1:], expected[1:])
    out = np.full_like(expected[1], np.nan)
    some = call(**arrays, out=(None, out, None))
    assert some[1] is out
    assert_same_bits(some, expected)


def test_packed_filters_of_a_convolution_and_its_max_pool() -> None:
    call, arrays = calls()["conv2d_max_pool2d"]
    assert_same_bits(call(**{**arrays, "filters": fastconv.PackedFilters(arrays["filters"])}), call(**arrays))


def test_transpose_is_the_input_gradient() -> None:
    y, filters = random(2, 4, 5, 6), random(3, 3, 2, 6)
    expected = fastconv.conv2d_backprop_input((2, 8, 9, 2), filters, y, 2, "SAME")
    assert_same_bits(fastconv.conv2d_transpose(y, filters, (2, 8, 9, 2), 2), expected)
    assert_same_bits(fastconv.conv2d_transpose(y, filters, (8, 9), (2, 2)), expected)
    assert_same_bits(fastconv.conv2d_transpose(y, filters, np.array([8, 9]), [1, 2, 2, 1], "same"), expected)
    nchw = fastconv.conv2d_transpose(to_nchw(y), filters, (8, 9), 2, data_format="NCHW")
    np.testing.assert_allclose(nchw, to_nchw(expected), rtol=0, atol=1e-5)


def test_transpose_with_groups() -> None:
    y, filters = random(1, 4, 4, 6), random(3, 3, 1, 6)
    expected = fastconv.conv2d_backprop_input((1, 6, 6, 3), filters, y)
    assert_same_bits(fastconv.conv2d_transpose(y, filters, (1, 6, 6, 3), 1, "VALID"), expected)


def test_depthwise_is_a_convolution_with_one_channel_per_group() -> None:
    x, filters = random(2, 7, 8, 3), random(3, 3, 3, 2)
    grouped = filters.reshape(3, 3, 1, 6)
    y = fastconv.depthwise_conv2d(x, filters)
    np.testing.assert_allclose(y, fastconv.conv2d(x, grouped), atol=1e-5)
    np.testing.assert_allclose(
        fastconv.depthwise_conv2d_backprop_filter(x, filters.shape, y).reshape(3, 3, 1, 6),
        fastconv.conv2d_backprop_filter(x, grouped.shape, y),
        atol=1e-4,
    )
    np.testing.assert_allclose(
        fastconv.depthwise_conv2d_backprop_input(x.shape, filters, y),
        fastconv.conv2d_backprop_input(x.shape, grouped, y),
        atol=1e-4,
    )


def test_double_precision_is_computed_in_double_precision() -> None:
    x, filters = random(1, 6, 6, 8, dtype=np.float64), random(3, 3, 8, 4, dtype=np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))  # (N, P, Q, C, R, S)
    expected = np.einsum("npqcrs,rsck->npqk", windows, filters)
    np.testing.assert_allclose(fastconv.conv2d(x, filters), expected, rtol=0, atol=1e-13)


# ---- Arg max --------------------------------------------------------------------------------------------------------


def test_argmax_points_at_the_maximum() -> None:
    x = random(3, 8, 9, 5)
    for padding in ("VALID", "SAME", 1):
        output, argmax = fastconv.max_pool2d_with_argmax(x, 3, 2, padding)
        assert argmax.dtype == np.int64
        assert_same_bits(output, fastconv.max_pool2d(x, 3, 2, padding))
        images = x.reshape(3, -1)
        np.testing.assert_array_equal(np.take_along_axis(images, argmax.reshape(3, -1), 1), output.reshape(3, -1))
        _, with_batch = fastconv.max_pool2d_with_argmax(x, 3, 2, padding, include_batch_in_index=True)
        np.testing.assert_array_equal(x.ravel()[with_batch], output)
        first_of_image = images.shape[1] * np.arange(3).reshape(3, 1, 1, 1)
        np.testing.assert_array_equal(with_batch, argmax + first_of_image)


def test_argmax_of_nchw_counts_as_in_nhwc() -> None:
    x = random(2, 6, 7, 3)
    _, expected = fastconv.max_pool2d_with_argmax(x, 2)
    _, argmax = fastconv.max_pool2d_with_argmax(to_nchw(x), 2, data_format="NCHW")
    assert_same_bits(argmax, to_nchw(expected))


def test_first_of_equal_maxima_and_first_nan() -> None:
    for channels in (1, 3, 16, 17):
        x = np.zeros((1, 2, 4, channels), np.float32)
        x[:, 1, 2:] = np.nan
        x[:, 0, 2] = np.inf
        output, argmax = fastconv.max_pool2d_with_argmax(x, 2)
        channel = np.arange(channels)
        np.testing.assert_array_equal(output[0, 0, 0], np.zeros(channels))
        np.testing.assert_array_equal(argmax[0, 0, 0], channel)
        assert np.isnan(output[0, 0, 1]).all()
        np.testing.assert_array_equal(argmax[0, 0, 1], (1 * 4 + 2) * channels + channel)
        gradient = fastconv.max_pool2d_grad(x, output, np.full_like(output, 5), 2)
        assert gradient[0, 0, 0].tolist() == gradient[0, 1, 2].tolist() == [5] * channels
        assert gradient.sum() == 10 * channels


def test_window_of_minus_infinity() -> None:
    x = np.full((1, 2, 2, 3), -np.inf, np.float64)
    output, argmax = fastconv.max_pool2d_with_argmax(x, 2, padding=1, strides=2)
    assert np.isneginf(output).all()
    np.testing.assert_array_equal(argmax.reshape(4, 3), np.arange(12).reshape(4, 3))


# ---- Empty results --------------------------------------------------------------------------------------------------


def test_empty_batch() -> None:
    x, filters = random(0, 6, 6, 4), random(3, 3, 4, 2)
    y = fastconv.conv2d(x, filters, bias=random(2))
    assert y.shape == (0, 4, 4, 2)
    assert fastconv.conv2d_backprop_input(x.shape, filters, y).shape == x.shape
    out = np.full(filters.shape, np.nan, np.float32)
    assert not fastconv.conv2d_backprop_filter(x, filters.shape, y, out=out).any()
    depthwise_y = fastconv.depthwise_conv2d(x, filters)
    assert depthwise_y.shape == (0, 4, 4, 8)
    assert not fastconv.depthwise_conv2d_backprop_filter(x, filters.shape, depthwise_y, out=out).any()
    assert fastconv.max_pool2d(x, 2).shape == fastconv.avg_pool2d(x, 2).shape == (0, 3, 3, 4)
    assert fastconv.max_pool2d_with_argmax(x, 2)[1].shape == (0, 3, 3, 4)
    assert fastconv.avg_pool2d_grad(x.shape, fastconv.avg_pool2d(x, 2), 2).shape == x.shape


def test_any_number_of_images_without_rows() -> None:
    """NumPy allows such arrays, and no work is done for each image."""
    x, filters = np.empty((2**50, 0, 5, 4), np.float32), random(1, 1, 4, 6)
    output, taps = fastconv.conv2d_max_pool2d(x, filters, 2)
    assert output.shape == taps.shape == (2**50, 0, 2, 6)
    _, to_filters, to_bias = fastconv.conv2d_max_pool2d_backprop(x, filters, taps, output, 2)
    assert not to_filters.any() and not to_bias.any()
    assert fastconv.max_pool2d_grad(x, x[:, :, :2], x[:, :, :2], 2).shape == x.shape


def test_window_just_too_large_gives_an_empty_output() -> None:
    x, filters = random(2, 2, 6, 4), random(3, 3, 4, 2)
    y = fastconv.conv2d(x, filters)
    assert y.shape == (2, 0, 4, 2)
    out = np.full(x.shape, np.nan, np.float32)
    assert not fastconv.conv2d_backprop_input(x.shape, filters, y, out=out).any()
    filter_out = np.full(filters.shape, np.nan, np.float32)
    assert not fastconv.conv2d_backprop_filter(x, filters.shape, y, out=filter_out).any()
    pooled = fastconv.max_pool2d(x, 3, 1)
    assert pooled.shape == (2, 0, 4, 4)
    out[...] = np.nan
    assert not fastconv.max_pool2d_grad(x, pooled, pooled, 3, 1, out=out).any()
    out[...] = np.nan
    assert not fastconv.avg_pool2d_grad(x.shape, pooled, 3, 1, out=out).any()


def test_input_without_rows() -> None:
    """With padding, the output of an empty convolution is zeros plus bias."""
    x, filters, bias = random(1, 0, 4, 2), random(2, 2, 2, 3), random(3)
    assert fastconv.conv2d(x, filters, padding="SAME").shape == (1, 0, 4, 3)
    y = fastconv.conv2d(x, filters, padding=1, bias=bias)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (1, 1, 5, 3)))
    assert not fastconv.conv2d_backprop_filter(x, filters.shape, y, padding=1).any()
    assert fastconv.conv2d_backprop_input(x.shape, filters, y, padding=1).shape == x.shape


# ---- conv_output_size -----------------------------------------------------------------------------------------------


def test_output_size_is_the_formula() -> None:
    checked = 0
    for size in range(8):
        for kernel in (1, 2, 3, 5):
            for stride in (1, 2, 3):
                for dilation in (1, 2):
                    extent = (kernel - 1) * dilation + 1
                    assert fastconv.conv_output_size(size, kernel, stride, "same", dilation) == -(-size // stride)
                    for pad in (0, 1, 2):
                        expected = (size + 2 * pad - extent) // stride + 1
                        if expected >= 0:
                            assert fastconv.conv_output_size(size, kernel, stride, pad, dilation) == expected
                            checked += 1
    assert checked > 300


def test_output_size_is_the_one_of_conv2d() -> None:
    for size, kernel, stride, dilation, padding in [(7, 3, 2, 1, (1, 2)), (9, 2, 3, 2, "SAME"), (5, 5, 1, 1, "VALID")]:
        pads = (padding, (0, 0)) if isinstance(padding, tuple) else padding
        y = fastconv.conv2d(random(1, size, 1, 1), random(kernel, 1, 1, 1), stride, pads, dilations=dilation)
        assert fastconv.conv_output_size(size, kernel, stride, padding, dilation) == y.shape[1]
    assert fastconv.conv_output_size(np.int64(28), np.int32(3), np.uint8(1), np.array([1, 1]), np.int8(1)) == 28


# ---- The package ----------------------------------------------------------------------------------------------------


def test_show_config_reports_what_is_in_use() -> None:
    config = fastconv.show_config(mode="dicts")
    assert config["version"] == fastconv.__version__
    assert config["isa"] in config["isa_available"]
    assert config["threads"] == fastconv.get_num_threads()
    assert config["threading"] in ("openmp", "pool")
    assert config["compiler"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert fastconv.show_config() is None
    text = printed.getvalue()
    for value in [config["version"], config["compiler"], config["isa"], *config["isa_available"], config["threading"]]:
        assert value in text
    assert f"threads    {config['threads']}\n" in text


def run_python(code: str) -> Any:
    """The JSON output of the code, run in another Python process."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_loads_numpy_and_little_else() -> None:
    modules = run_python(
        "import numpy, sys, json; before = set(sys.modules); import fastconv\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    assert "fastconv._core" in modules
    assert {name.split(".")[0] for name in modules} <= {"fastconv", "numpy", "__future__"}
    assert [name for name in modules if name in ("fastconv.keras", "fastconv.tensorflow", "fastconv.lenet")] == []


def test_computing_does_not_import_tensorflow() -> None:
    assert run_python(
        "import numpy as np, sys, json, fastconv; from fastconv import *\n"
        "y = conv2d(np.ones((1, 4, 4, 1), np.float32), np.ones((3, 3, 1, 2), np.float32)).tolist()\n"
        "print(json.dumps([y, 'tensorflow' in sys.modules, 'keras' in sys.modules]))"
    ) == [[[[[9, 9], [9, 9]], [[9, 9], [9, 9]]]], False, False]


def test_submodules_are_listed_and_load_on_first_access() -> None:
    assert {"keras", "lenet", "tensorflow"} <= set(dir(fastconv))
    assert run_python(
        "import fastconv, sys, json; before = 'fastconv.lenet' in sys.modules; name = fastconv.lenet.__name__\n"
        "print(json.dumps([before, name, 'fastconv.lenet' in sys.modules]))"
    ) == [False, "fastconv.lenet", True]


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match=r"^module 'fastconv' has no attribute 'conv3d'$"):
        _ = fastconv.conv3d  # type: ignore[attr-defined]


def test_public_names_have_docstrings() -> None:
    for name in fastconv.__all__:
        if name != "__version__":
            text = getattr(fastconv, name).__doc__
            kind = "Attributes\n" if inspect.isclass(getattr(fastconv, name)) else "Returns\n"
            assert (text and kind in text) or name == "set_num_threads", name


@pytest.fixture
def no_forced_thread_switch() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(interval)


def test_other_python_threads_run_during_a_call(no_forced_thread_switch: None) -> None:
    """Forced thread switches are off, so the other thread runs only if a call releases the lock."""
    x, filters = random(4, 64, 64, 32), random(3, 3, 32, 32)
    started, proceed, seen = threading.Event(), threading.Event(), threading.Event()

    def other() -> None:
        started.set()
        proceed.wait()
        seen.set()

    thread = threading.Thread(target=other)
    thread.start()
    started.wait()
    proceed.set()
    turns = 0
    while not seen.is_set() and turns < 1000:
        fastconv.conv2d(x, filters)
        turns += 1
    ran_during_a_call = seen.is_set()
    thread.join()
    assert ran_during_a_call


@pytest.mark.parametrize("threads", [1, 2])
def test_windows_far_larger_than_the_input(threads: int) -> None:
    """Cost depends on what a window covers, not on its size: there is no memory for 2**40 taps."""
    before = fastconv.get_num_threads()
    fastconv.set_num_threads(threads)
    try:
        x = np.random.default_rng(3).standard_normal((1, 64, 64, 4), np.float32)
        largest = fastconv.max_pool2d(x, 1 << 20, 1, "SAME")
        np.testing.assert_array_equal(largest, np.broadcast_to(x.max((1, 2), keepdims=True), x.shape))
        huge = 2_000_000_000
        gradient = fastconv.avg_pool2d_grad((1, 64, 64, 4), np.zeros((1, 0, 0, 4), np.float32), huge, huge)
        np.testing.assert_array_equal(gradient, np.zeros((1, 64, 64, 4), np.float32))
        far = 1 << 40  # 2^40 rows without columns
        rows = fastconv.max_pool2d(x, (far, 99), (1, 99), ((far - 1, far - 1), (0, 0)))
        assert rows.shape == (1, far + 63, 0, 4)
        assert not fastconv.avg_pool2d_grad(x.shape, rows, (far, 99), (1, 99), ((far - 1, far - 1), (0, 0))).any()
        # The products of these sizes do not fit in 64 bits.
        for rows, window in ((16, (1 << 28, 1 << 28)), (1, (1, 1 << 60))):
            x, ones = x[:, :rows, :16, :1].copy(), np.ones((1, rows, 16, 1), np.float32)
            gradient = fastconv.avg_pool2d_grad(ones.shape, ones, window, 1, "SAME")
            np.testing.assert_allclose(gradient, ones, rtol=1e-6)
            gradient = fastconv.max_pool2d_grad(x, ones, ones, window, 1, "SAME")
            np.testing.assert_array_equal(gradient[gradient != 0], rows * 16)
    finally:
        fastconv.set_num_threads(before)


@pytest.mark.parametrize("far", [1 << 31, 1 << 38])
def test_padding_and_dilation_that_reach_far(far: int) -> None:
    """Only the middle of the window lies inside the image."""
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((1, 1, 3, 2), np.float32), rng.standard_normal((3, 1, 2, 3), np.float32)
    options: dict[str, Any] = {"padding": ((far, far), (0, 0)), "dilations": (far, 1)}
    y = fastconv.conv2d(x, w, **options)
    np.testing.assert_array_equal(y, fastconv.conv2d(x, w[1:2]))
    dx = fastconv.conv2d_backprop_input(x.shape, w, y, **options)
    np.testing.assert_array_equal(dx, fastconv.conv2d_backprop_input(x.shape, w[1:2], y))
    dw = fastconv.conv2d_backprop_filter(x, w.shape, y, **options)
    np.testing.assert_array_equal(dw[1:2], fastconv.conv2d_backprop_filter(x, (1, 1, 2, 3), y))
    assert not dw[::2].any()


def test_padding_beyond_every_address() -> None:
    x, w = np.ones((1, 1, 3, 2), np.float32), np.ones((3, 1, 2, 3), np.float32)
    with pytest.raises(ValueError, match=r"^padding makes an image too large: .* 3 channels take more than 2\^46"):
        fastconv.conv2d(x, w, padding=((1 << 50, 1 << 50), (0, 0)), dilations=(1 << 50, 1))
