"""An array of a wrong kind, dtype, rank or number of channels raises an error that names the argument.

Each test takes a call that works and makes one argument wrong, for every function that has such an argument.
"""

from __future__ import annotations

from typing import Any

import fastconv
import numpy as np
import pytest
from numpy_calls import parts
from valid_calls import ARRAYS, CONVOLUTIONS, FUNCTIONS, SHAPES, SIZES, call, ones, valid_call, with_argument


def test_every_function_is_covered() -> None:
    assert len(FUNCTIONS) == 14
    assert len(ARRAYS) == 29
    assert len(SHAPES) == 6


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_valid_calls_are_valid(name: str) -> None:
    assert all(np.isfinite(part).all() for part in parts(call(name)))


# ---- Arrays ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "argument"), ARRAYS)
@pytest.mark.parametrize("kind", ["list", "tuple", "scalar", "str", "memoryview"])
def test_anything_but_an_array(name: str, argument: str, kind: str) -> None:
    array = valid_call(name)[argument]
    value = {
        "list": array.tolist(),
        "tuple": tuple(array),
        "scalar": 1.0,
        "str": "array",
        "memoryview": memoryview(array),
    }[kind]
    with pytest.raises(TypeError, match=rf"^{argument} must be a NumPy array of float32 or float64, got \w+"):
        call(name, **{argument: value})


@pytest.mark.parametrize(("name", "argument"), [pair for pair in ARRAYS if pair[1] != "bias"])
def test_none_for_an_array(name: str, argument: str) -> None:
    with pytest.raises(TypeError, match=rf"^{argument} must be a NumPy array of float32 or float64, got None"):
        call(name, **{argument: None})


@pytest.mark.parametrize(("name", "argument"), ARRAYS)
@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u1", "i4", "i8", "u8", "f2", "g", "c8", "c16", "O", "S4", "U4", "M8[s]", "f4,f4"]
)
def test_unsupported_dtype(name: str, argument: str, dtype: str) -> None:
    wrong = np.zeros(valid_call(name)[argument].shape, dtype)
    with pytest.raises(TypeError, match=rf"^{argument} must be float32 or float64, got .*{argument}\.astype"):
        call(name, **{argument: wrong})


@pytest.mark.parametrize(("name", "argument"), ARRAYS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_byte_order_of_another_machine(name: str, argument: str, dtype: Any) -> None:
    array = valid_call(name)[argument]
    wrong = array.astype(np.dtype(dtype).newbyteorder("S"))
    with pytest.raises(TypeError, match=rf"^{argument} must have the machine's byte order, .*astype"):
        call(name, **{argument: wrong})


@pytest.mark.parametrize(("name", "argument"), ARRAYS)
def test_masked_array(name: str, argument: str) -> None:
    array = valid_call(name)[argument]
    with pytest.raises(TypeError, match=rf"^{argument} must have no mask, .*filled"):
        call(name, **{argument: np.ma.masked_array(array, mask=array > 2)})


@pytest.mark.parametrize(
    ("name", "argument"), [pair for pair in ARRAYS if [function for function, _ in ARRAYS].count(pair[0]) > 1]
)
def test_mixed_dtypes(name: str, argument: str) -> None:
    with pytest.raises(TypeError, match=rf"\b{argument} is float(32|64).*cast"):
        call(name, **{argument: valid_call(name)[argument].astype(np.float64)})


@pytest.mark.parametrize(("name", "argument"), ARRAYS)
def test_wrong_rank(name: str, argument: str) -> None:
    array = valid_call(name)[argument]
    for wrong in (array[0], array[None], array.reshape(-1, 1) if array.ndim == 1 else array.ravel(), np.float32(1)):
        with pytest.raises(ValueError, match=rf"^{argument} must have (4 dimensions|shape)"):
            call(name, **{argument: np.asarray(wrong)})


@pytest.mark.parametrize(
    ("data_format", "two", "three"),
    [
        ("NHWC", "[None, :, :, None]", ("[None]", "[..., None]")),
        ("NCHW", "[None, None]", ("[None]", "[:, None]")),
    ],
)
@pytest.mark.parametrize(("name", "argument"), [pair for pair in ARRAYS if pair[1] in ("input", "orig_input")])
def test_rank_errors_say_how_to_reach_4_dimensions(
    name: str, argument: str, data_format: str, two: str, three: tuple[str, str]
) -> None:
    """The index that the message recommends gives an array of 4 dimensions."""
    output = name == "conv2d_transpose"  # the message shows the shape of this input instead
    for rank, forms in ((2, (two,)), (3, three)):
        array = ones(*range(5, 5 + rank))
        with pytest.raises(ValueError, match=rf"^{argument} must have") as error:
            call(name, **{argument: array, "data_format": data_format})
        for form in () if output else forms:
            assert f"{argument}{form} " in str(error.value)
            assert eval(f"array{form}").ndim == 4


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d"])
def test_rank_errors_of_filters(name: str) -> None:
    with pytest.raises(ValueError, match=r"filters\[:, :, None, None\] makes it one filter of one channel"):
        call(name, filters=ones(3, 3))
    with pytest.raises(ValueError, match=r"filters\[..., None\] makes it one filter.*filters\[:, :, None\]"):
        call(name, filters=ones(3, 3, 4))


def test_rank_errors_of_gradients_tell_the_shape() -> None:
    with pytest.raises(ValueError, match=r"out_backprop must .*got \(2, 6, 6, 1, 6\); reshape it to \(2, 6, 6, 6\)"):
        call("conv2d_backprop_filter", out_backprop=ones(2, 6, 6, 1, 6))
    with pytest.raises(ValueError, match=r"got \(2, 6, 6\)$"):
        call("conv2d_backprop_filter", out_backprop=ones(2, 6, 6))


@pytest.mark.parametrize(("name", "argument"), with_argument(SIZES, of=None))
def test_rank_errors_of_sizes_name_no_array(name: str, argument: str) -> None:
    with pytest.raises(ValueError, match=r"got 3( in shape \(8, 8, 4\))?$"):
        call(name, **{argument: (8, 8, 4)})


@pytest.mark.parametrize(("name", "argument"), with_argument(SIZES, of=None))
def test_an_array_in_place_of_its_shape(name: str, argument: str) -> None:
    with pytest.raises(TypeError, match=f"^{argument} must be a sequence of integers, got an array; pass its shape$"):
        call(name, **{argument: ones(3, 3, 4, 6)})


def test_matrix_has_the_wrong_rank() -> None:
    with pytest.raises(ValueError, match=r"^input must have 4 dimensions"), pytest.warns(PendingDeprecationWarning):
        call("conv2d", input=np.matrix(np.eye(3, dtype=np.float32)))


# ---- Channels -------------------------------------------------------------------------------------------------------


def test_filters_with_exchanged_channel_dimensions() -> None:
    """Shape (3, 3, 4, 3) was meant as 4 filters of 3 channels; the message shows both shapes."""
    with pytest.raises(ValueError) as error:
        fastconv.conv2d(ones(1, 28, 28, 3), ones(3, 3, 4, 3))
    text = str(error.value)
    assert text.startswith("filters must have 3 input channels in dimension 2, or, with groups, a divisor of 3; got")
    assert text.endswith("; got filters (3, 3, 4, 3) and input (1, 28, 28, 3) in NHWC")


def test_channels_of_nchw() -> None:
    message = r"^filters must have 8 input channels in dimension 2; got .* input \(2, 8, 8, 4\) in NCHW$"
    with pytest.raises(ValueError, match=message):
        call("depthwise_conv2d", data_format="NCHW", bias=None)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_channel_mismatch(name: str) -> None:
    arguments = valid_call(name)
    argument = "filters" if "filters" in arguments else "filter_sizes"
    for channels in (3, 5, 8):
        sizes = (3, 3, channels, 6)
        message = rf"^{argument} must have 4 input channels in dimension 2.*; got {argument} \(3, 3, {channels}, "
        with pytest.raises(ValueError, match=message):
            call(name, **{argument: ones(*sizes) if argument == "filters" else sizes})


def test_groups_that_do_not_divide_the_filters() -> None:
    with pytest.raises(ValueError, match=r"^filters must have a multiple of 4 in dimension 3, .* shape \(3, 3, 1, 5\)"):
        call("conv2d", filters=ones(3, 3, 1, 5), bias=None)


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d", "conv2d_backprop_filter", "conv2d_max_pool2d"])
@pytest.mark.parametrize(
    ("data_format", "shape"), [("NHWC", (2, 8, 8, 0)), ("NCHW", (2, 0, 8, 8)), ("NHWC", (0, 8, 8, 0))]
)
def test_no_channels(name: str, data_format: str, shape: tuple[int, ...]) -> None:
    argument = next(other for function, other in ARRAYS if function == name)
    with pytest.raises(ValueError, match=rf"^{argument} must have at least 1 channel"):
        call(name, **{argument: ones(*shape), "data_format": data_format})


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("sizes", [(0, 3, 4, 6), (3, 0, 4, 6), (3, 3, 0, 6), (0, 0, 0, 0)])
def test_filters_without_elements(name: str, sizes: tuple[int, ...]) -> None:
    argument = "filters" if "filters" in valid_call(name) else "filter_sizes"
    with pytest.raises(ValueError, match=rf"^{argument} must have no dimension of size 0 except the last"):
        call(name, **{argument: ones(*sizes) if argument == "filters" else sizes})


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d"])
@pytest.mark.parametrize("shape", [(5,), (7,), (1,), (0,), (6, 1), (1, 6), ()])
def test_bias_that_does_not_fit(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^bias must have shape \((6|8),\)"):
        call(name, bias=ones(*shape))
