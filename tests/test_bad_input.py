"""A wrong argument of the NumPy face raises a TypeError or a ValueError that names the argument.

Each test takes a call that works and makes one argument wrong, for every function that has such an argument.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import fastconv
import numpy as np
import pytest

X = (2, 8, 8, 4)
Y = (2, 6, 6, 6)
FILTERS = (3, 3, 4, 6)
DEPTHWISE_FILTERS = (3, 3, 4, 2)
DEPTHWISE_Y = (2, 6, 6, 8)
POOLED = (2, 4, 4, 4)
Y_POOLED = (2, 3, 3, 6)


def ones(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.ones(shape, dtype)


def valid_call(name: str) -> dict[str, Any]:
    """Arguments with which the function works; every array is float32."""
    calls: dict[str, dict[str, Any]] = {
        "conv2d": {"input": ones(*X), "filters": ones(*FILTERS), "bias": ones(6)},
        "conv2d_backprop_input": {"input_sizes": X, "filters": ones(*FILTERS), "out_backprop": ones(*Y)},
        "conv2d_backprop_filter": {"input": ones(*X), "filter_sizes": FILTERS, "out_backprop": ones(*Y)},
        "depthwise_conv2d": {"input": ones(*X), "filters": ones(*DEPTHWISE_FILTERS), "bias": ones(8)},
        "depthwise_conv2d_backprop_input": {
            "input_sizes": X,
            "filters": ones(*DEPTHWISE_FILTERS),
            "out_backprop": ones(*DEPTHWISE_Y),
        },
        "depthwise_conv2d_backprop_filter": {
            "input": ones(*X),
            "filter_sizes": DEPTHWISE_FILTERS,
            "out_backprop": ones(*DEPTHWISE_Y),
        },
        "conv2d_transpose": {
            "input": ones(*Y),
            "filters": ones(*FILTERS),
            "output_shape": X,
            "strides": 1,
            "padding": "VALID",
        },
        "max_pool2d": {"input": ones(*X), "ksize": 2},
        "max_pool2d_with_argmax": {"input": ones(*X), "ksize": 2},
        "max_pool2d_grad": {
            "orig_input": ones(*X),
            "orig_output": ones(*POOLED),
            "grad": ones(*POOLED),
            "ksize": 2,
        },
        "avg_pool2d": {"input": ones(*X), "ksize": 2},
        "avg_pool2d_grad": {"orig_input_shape": X, "grad": ones(*POOLED), "ksize": 2},
        "conv2d_max_pool2d": {"input": ones(*X), "filters": ones(*FILTERS), "pool_size": 2, "bias": ones(6)},
        "conv2d_max_pool2d_backprop": {
            "input": ones(*X),
            "filters": ones(*FILTERS),
            "taps": np.zeros(Y_POOLED, np.uint8),
            "grad": ones(*Y_POOLED),
            "pool_size": 2,
        },
    }
    return calls[name]


FUNCTIONS = [
    name
    for name in fastconv.__all__
    if inspect.isfunction(getattr(fastconv, name))
    and name != "explain"  # takes no arrays
    and name != "bias_gradient"  # has no window; see test_same_faces.py
    and not name.startswith("adaptive_")  # see test_pool_options.py
    and "data_format" in inspect.signature(getattr(fastconv, name)).parameters
]
CONVOLUTIONS = [name for name in FUNCTIONS if "conv2d" in name]
POOLS = [name for name in FUNCTIONS if "pool2d" in name and "conv2d" not in name]
GRADIENTS = [name for name in FUNCTIONS if "backprop" in name or "grad" in name or "transpose" in name]
FORWARD = [name for name in FUNCTIONS if name not in GRADIENTS]
CONV_MAX_POOL = ["conv2d_max_pool2d", "conv2d_max_pool2d_backprop"]
TWO_OR_FOUR = ["input_sizes", "output_shape"]
SIZES = ["input_sizes", "filter_sizes", "output_shape", "orig_input_shape"]


def parts(result: Any) -> tuple[np.ndarray, ...]:
    return result if isinstance(result, tuple) else (result,)


def call(name: str, **changes: Any) -> Any:
    return getattr(fastconv, name)(**{**valid_call(name), **changes})


def with_argument(names: list[str], *, of: Any) -> list[tuple[str, str]]:
    """All (function, argument) pairs of these argument names, or of those whose valid value is of this type."""
    pairs = []
    for function in FUNCTIONS:
        arguments = valid_call(function)
        for argument in inspect.signature(getattr(fastconv, function)).parameters:
            if argument == "taps":  # has tests of its own
                continue
            if argument in names or (of is not None and isinstance(arguments.get(argument), of)):
                pairs.append((function, argument))
    return pairs


ARRAYS = with_argument([], of=np.ndarray)
NUMBERS = with_argument(["strides", "dilations", "ksize", "pool_size", "pool_strides"], of=None)
SHAPES = with_argument(SIZES, of=None)


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
    output = name == "conv2d_transpose"  # its input is the output of a convolution, whose shape is told instead
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


# ---- Numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "argument"), NUMBERS)
@pytest.mark.parametrize(
    "value", [0, -1, (1, 0), (0, 1), (-2, 1), [1, -1], (1, 0, 1, 1), (1, 1, -3, 1), np.int64(0), -(2**63)]
)
def test_number_below_one(name: str, argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{argument} must be at least 1, got (0|-\d+)"):
        call(name, **{argument: value})


NO_INTEGERS = [
    1.5, 2.0, "2", b"2", True, np.bool_(True), (1, 1.5), (1, None), [2, "2"], (True, True), {1, 2}, {1: 2},
    np.float32(2), np.array([1.0, 2.0]), np.array(2.0), np.array([[1, 2]]), 2j, object(), ((1, 1), (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "argument"), [*NUMBERS, *SHAPES])
@pytest.mark.parametrize("value", NO_INTEGERS, ids=lambda value: repr(value).partition(" at 0x")[0])
def test_anything_but_an_integer(name: str, argument: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{argument}\b.* integer"):
        call(name, **{argument: value})


@pytest.mark.parametrize(
    ("name", "argument"),
    [pair for pair in NUMBERS if pair[1] != "pool_strides" and (pair[1] != "strides" or pair[0] in CONVOLUTIONS)],
)
def test_none_for_a_number(name: str, argument: str) -> None:
    with pytest.raises(TypeError, match=rf"^{argument}: expected an integer, got None"):
        call(name, **{argument: None})


@pytest.mark.parametrize(("name", "argument"), NUMBERS)
@pytest.mark.parametrize("value", [(), (1, 2, 3), (1, 1, 1, 1, 1), [], np.ones(3, int)], ids=repr)
def test_wrong_count_of_numbers(name: str, argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{argument} must be 1, 2 or 4 integers, got {len(value)} integers"):
        call(name, **{argument: value})


@pytest.mark.parametrize(("name", "argument"), NUMBERS)
@pytest.mark.parametrize(
    ("data_format", "value"),
    [("NHWC", (2, 1, 1, 1)), ("NHWC", (1, 1, 1, 2)), ("NCHW", (1, 2, 1, 1)), ("NCHW", (0, 1, 1, 1))],
)
def test_four_numbers_of_batch_and_channels(name: str, argument: str, data_format: str, value: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"^{argument} of the batch and channel dimensions must be 1 in {data_format}"
    ):
        call(name, data_format=data_format, **{argument: value})


@pytest.mark.parametrize(("name", "argument"), [*NUMBERS, *SHAPES])
@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**200, 10**5000], ids=["2^63", "-2^63-1", "2^200", "10^5000"])
def test_number_beyond_64_bits(name: str, argument: str, number: int) -> None:
    with pytest.raises(ValueError, match=rf"^{argument}: expected a number that fits in 64 bits"):
        call(name, **{argument: (1, number, number, 1)})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_huge_stride_is_valid(name: str) -> None:
    """The arithmetic does not overflow: the output has one row and one column."""
    huge = 2**63 - 1
    arguments = valid_call(name) | ({"pool_size": 1} if name in CONV_MAX_POOL else {})
    for argument, value in arguments.items():  # arguments that are outputs of the forward pass
        if isinstance(value, np.ndarray) and value.shape in (Y, DEPTHWISE_Y, POOLED):
            arguments[argument] = value[:, :1, :1]
        if isinstance(value, np.ndarray) and value.shape == Y_POOLED:
            arguments[argument] = value[:, :1, :1]
    result = getattr(fastconv, name)(**{**arguments, "strides": huge})
    reference = getattr(fastconv, name)(**{**arguments, "strides": 8})
    for part, expected in zip(parts(result), parts(reference), strict=True):
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_huge_dilation(name: str) -> None:
    with pytest.raises(ValueError, match="window"):
        call(name, dilations=2**63 - 1)
    with pytest.raises(ValueError, match="window"):
        call(name, dilations=2**61)
    with pytest.raises(ValueError, match="window"):
        call(name, dilations=2**63 - 1, padding="SAME")


@pytest.mark.parametrize(("name", "argument"), SHAPES)
@pytest.mark.parametrize("value", [(), (3,), (3, 3, 4), (1, 8, 8, 4, 1), [1] * 8], ids=repr)
def test_shape_of_the_wrong_length(name: str, argument: str, value: Any) -> None:
    wanted = "4 numbers, or 2 for height and width" if argument in TWO_OR_FOUR else "4 dimensions .*"
    with pytest.raises(ValueError, match=rf"^{argument} must have {wanted}, got {len(value)}"):
        call(name, **{argument: value})


@pytest.mark.parametrize(("name", "argument"), SHAPES)
def test_shape_that_is_one_number(name: str, argument: str) -> None:
    with pytest.raises(TypeError, match=rf"^{argument} must be a sequence of integers, got 8"):
        call(name, **{argument: 8})


@pytest.mark.parametrize(("name", "argument"), SHAPES)
@pytest.mark.parametrize("value", [(-1, 8, 8, 4), (2, -8, 8, 4), (2, 8, 8, -4), (-(2**62),) * 4], ids=repr)
def test_negative_shape(name: str, argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{argument} must have no negative dimension, got \("):
        call(name, **{argument: value})


@pytest.mark.parametrize(("name", "argument"), SHAPES)
@pytest.mark.parametrize(
    "value", [(2**31, 2**31, 1, 4), (2**62, 1, 1, 4), (1, 2**40, 2**40, 4), (0, 2**40, 2**40, 4)], ids=repr
)
def test_shape_whose_product_overflows(name: str, argument: str, value: Any) -> None:
    if argument == "filter_sizes" and value[0] == 0:
        value = (2**40, 2**40, 4, 1)
    with pytest.raises(ValueError, match=rf"^{argument} \(.*\) has a size in bytes that overflows 64 bits"):
        call(name, **{argument: value})


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d"])
def test_output_whose_size_overflows_for_an_empty_batch(name: str) -> None:
    with pytest.raises(ValueError, match="overflow"):
        call(name, input=ones(0, 8, 8, 4), padding=2**40)


# ---- Padding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "value",
    ["", "FULL", "valid ", "EXPLICIT", (), (1,), (1, 1, 1), (1, 1, 1, 1), [[1, 1]], ((1, 1), (1, 1), (1, 1)),
     ((1,), (1,)), ((1, 1, 1), (1, 1, 1)), (1, (1, 1)), ((1, 1), 1), [1] * 8, ((0, 0), (1, 1), (1, 1), 0),
     np.zeros((3, 2), int), np.zeros((2, 0), int)],
    ids=repr,
)  # fmt: skip
def test_padding_of_a_wrong_form(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^padding must be 'VALID', 'SAME', an int, \(ph, pw\), .*, got "):
        call(name, padding=value)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "value",
    [None, 1.0, 0.5, b"SAME", True, (1, 0.5), ("VALID", "SAME"), ((1, 1), (1, 0.5)), (None, None), {1, 2}, 1j,
     (((1,), 1), (1, 1)), np.zeros((2, 2))],
    ids=repr,
)  # fmt: skip
def test_padding_of_a_wrong_type(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=r"^padding\b"):
        call(name, padding=value)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "value", [-1, (0, -1), (-1, 0), ((0, -1), (0, 0)), [[0, 0], [0, 0], [-1, 0], [0, 0]], -(2**63)]
)
def test_negative_padding(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^padding must not be negative, got -"):
        call(name, padding=value)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("data_format", "value"),
    [
        ("NHWC", [[1, 0], [0, 0], [0, 0], [0, 0]]),
        ("NHWC", [[0, 0], [0, 0], [0, 0], [0, 1]]),
        ("NCHW", [[0, 0], [0, 1], [0, 0], [0, 0]]),
    ],
)
def test_padding_of_batch_and_channels(name: str, data_format: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^padding of the batch and channel dimensions must be 0 in {data_format}"):
        call(name, data_format=data_format, padding=value)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("value", [2**40, 2**62, 2**63 - 1, 2**63, 10**5000, (0, 2**63 - 1), ((0, 2**62), (0, 2**62))],
                         ids=["2^40", "2^62", "2^63-1", "2^63", "10^5000", "pair", "pairs"])  # fmt: skip
def test_huge_padding(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^padding\b"):
        call(name, padding=value)


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("padding", [2**21, 2**22, 2**23])
def test_padding_of_an_image_beyond_any_memory(padding: int, depthwise: bool) -> None:
    """The output is small, because the strides are large."""
    function = fastconv.depthwise_conv2d if depthwise else fastconv.conv2d
    side = 2 * padding + 8
    message = rf"^padding makes an image too large: {side} x {side} pixels of 4 channels take more than 2\^46 bytes"
    with pytest.raises(ValueError, match=message):
        function(ones(1, 8, 8, 4), ones(3, 3, 4, 1), padding, padding)


def test_the_largest_padding() -> None:
    """The middle window reads the whole image, the other eight only padding."""
    padding = 2**20 - 2  # 2^20 is too much
    result = fastconv.conv2d(ones(1, 3, 3, 4), ones(3, 3, 4, 1), padding, padding)
    assert result.sum() == result[0, 1, 1, 0] == 36


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize(
    "value", [2, (2, 0), (0, 2), ((0, 2), (0, 0)), ((0, 0), (2, 0)), [[0, 0], [2, 2], [0, 0], [0, 0]]]
)
def test_pool_padding_as_large_as_the_window(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^padding must be smaller than the window \(2, 2\), got"):
        call(name, padding=value)


@pytest.mark.parametrize("name", ["max_pool2d", "max_pool2d_with_argmax", "avg_pool2d"])
def test_pool_of_padding_only(name: str) -> None:
    for shape in ((2, 0, 8, 4), (2, 8, 0, 4)):
        with pytest.raises(ValueError, match=r"^input of shape .* has no rows or columns"):
            call(name, input=ones(*shape), ksize=2, padding=1)


# ---- Sizes that do not fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORWARD)
def test_negative_output_size(name: str) -> None:
    """A window of 3 does not fit on 1 pixel. A window of 2 gives an empty output, which is not an error."""
    arguments = valid_call(name)
    arguments["input"] = ones(2, 1, 8, 4)
    if "ksize" in arguments:
        arguments["ksize"] = 3
    with pytest.raises(ValueError, match=r"the output height is negative: input height 1 .* window"):
        getattr(fastconv, name)(**arguments, strides=1)
    arguments["input"] = ones(2, 8, 1, 4)
    with pytest.raises(ValueError, match=r"the output width is negative: input width 1 .* window"):
        getattr(fastconv, name)(**arguments, strides=1)


@pytest.mark.parametrize("name", GRADIENTS)
def test_negative_output_size_of_a_gradient(name: str) -> None:
    sizes = {argument: (2, 1, 8, 4) for function, argument in SHAPES if function == name and argument != "filter_sizes"}
    if not sizes:
        argument = "orig_input" if name == "max_pool2d_grad" else "input"
        sizes = {argument: ones(2, 1, 8, 4)}
    if name in POOLS:
        sizes["ksize"] = 3
    with pytest.raises(ValueError, match="the output height is negative"):
        call(name, strides=1, **sizes)


def gradient_arguments() -> list[tuple[str, str]]:
    names = {"out_backprop", "grad", "orig_output"}
    return [
        (name, argument)
        for name, argument in ARRAYS
        if argument in names or (name == "conv2d_transpose" and argument == "input")
    ]


@pytest.mark.parametrize(("name", "argument"), gradient_arguments())
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("change", [-1, 1])
def test_gradient_whose_shape_does_not_fit(name: str, argument: str, axis: int, change: int) -> None:
    shape = list(valid_call(name)[argument].shape)
    shape[axis] += change
    with pytest.raises(ValueError, match=rf"^{argument} must have shape \(.*\) \(.*\), got \({shape[0]}, {shape[1]}"):
        call(name, **{argument: ones(*shape)})


def test_two_number_output_shape_names_the_array_of_wrong_rank() -> None:
    with pytest.raises(ValueError, match=r"^input must have 4 dimensions \(N, P, Q, K\), got 3"):
        call("conv2d_transpose", output_shape=(8, 8), input=ones(6, 6, 6))
    with pytest.raises(ValueError, match=r"^filters must have 4 dimensions \(R, S, C/groups, K\), got 2"):
        call("conv2d_transpose", output_shape=(8, 8), filters=ones(3, 3))


# ---- Words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_unknown_data_format(name: str) -> None:
    for wrong in ("nhwc", "HWC", "", "NHWC\0", "channels_last"):
        with pytest.raises(ValueError, match=r"^data_format must be 'NHWC' or 'NCHW', got '"):
            call(name, data_format=wrong)
    for wrong_type in (None, 1, b"NHWC", ["NHWC"]):
        with pytest.raises(TypeError, match=r"^data_format must be 'NHWC' or 'NCHW', got "):
            call(name, data_format=wrong_type)


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d", "conv2d_transpose", "conv2d_max_pool2d"])
def test_unknown_activation(name: str) -> None:
    pooled = name == "conv2d_max_pool2d"
    choices = "None, 'linear' or 'relu'" if pooled else "None, 'linear', 'relu', .*, 'clip' or a name with its numbers"
    for wrong in ("RELU", "softmax", "", "relu(1)", "tanh" if pooled else "hard_silu", ("softmax", 1)):
        with pytest.raises(ValueError, match=rf"^activation must be {choices}.*, got '"):
            call(name, activation=wrong)
    for wrong_type in (np.tanh, 1, b"relu", False, (), (0.2,), ["leaky_relu", "0.2"], {"leaky_relu": 1}, ("elu", True)):
        with pytest.raises(TypeError, match=rf"^activation(: expected a number| must be {choices}).*, got "):
            call(name, activation=wrong_type)


WRONG_PARAMETERS = {
    ("relu", 1): "'relu' takes no numbers, got 1",
    ("leaky_relu", 1, 2): "'leaky_relu' takes at most 1 number, got 2",
    ("hard_sigmoid", 1, 2, 3): "'hard_sigmoid' takes at most 2 numbers, got 3",
    ("elu", np.nan): "'elu' takes finite numbers, got nan",
    ("leaky_relu", -np.inf): "'leaky_relu' takes finite numbers, got -inf",
    "clip": "'clip' takes 2 numbers, (low, high), got 0",
    ("clip", 1): "'clip' takes 2 numbers, (low, high), got 1",
    ("clip", 2, 1): "'clip' takes a lower bound that is not above the upper one, got 2 and 1",
    ("clip", np.nan, 1): "'clip' takes numbers other than NaN, got nan",
}


@pytest.mark.parametrize("wrong", WRONG_PARAMETERS, ids=str)
def test_wrong_parameters_of_activations(wrong: Any) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(f"activation {WRONG_PARAMETERS[wrong]}") + "$"):
        call("conv2d", activation=wrong)


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d", "conv2d_transpose"])
def test_wrong_residual(name: str) -> None:
    right = call(name)
    for wrong in (ones(6), ones(*right.shape[:-1], 1), ones(*right.shape)[None]):
        shapes = re.escape(f"{right.shape} (that of the output), got {wrong.shape}")
        with pytest.raises(ValueError, match=f"^residual must have shape {shapes}"):
            call(name, residual=wrong)
    with pytest.raises(TypeError, match=r"^residual is float64 but input is float32; cast"):
        call(name, residual=right.astype(np.float64))
    with pytest.raises(TypeError, match=r"^residual must be a NumPy array of float32 or float64, got list"):
        call(name, residual=[1.0])
    with pytest.raises(ValueError, match=r"^out must not overlap residual in memory"):
        call(name, residual=right, out=right)


def test_wrong_output_padding() -> None:
    def transpose(output_shape: Any = None, padding: Any = 1, strides: Any = 2, **options: Any) -> Any:
        x, w = ones(1, 5, 5, 2), ones(*options.pop("kernel", (3, 3)), 4, 2)
        return fastconv.conv2d_transpose(x, w, output_shape, strides, padding, **options)

    for message, arguments in {
        "output_padding must be None if output_shape is given, got (1, 1)": {
            "output_shape": (10, 10), "output_padding": 1,
        },
        "output_shape must be given, got None; or pass output_padding=0 to let the size follow": {},
        "output_padding must not be negative, got -1": {"output_padding": (0, -1)},
        "output_padding must be 1 or 2 integers, (height, width), got 3": {"output_padding": (0, 0, 0)},
        "output_padding along the width must be smaller than the stride 2 or the dilation 1, got 2": {
            "output_padding": (1, 2),
        },
        "output_padding: the output height is negative: -9 for input height 5 with padding (10, 10); pad less or use a "
        "larger input": {"output_padding": 0, "padding": 10},
        "output_padding along the height must be from 1 to 2 with padding 'SAME' and a window of 2, got 0": {
            "output_padding": 0, "padding": "SAME", "kernel": (2, 2),
        },
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
            transpose(**arguments)
    with pytest.raises(TypeError, match=r"^output_padding: expected an integer, got 'SAME'"):
        transpose(output_padding="SAME")
    with pytest.raises(ValueError, match=r"overflows 64 bits"):
        transpose(output_padding=0, strides=2**62)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_unknown_algorithm(name: str) -> None:
    with pytest.raises(ValueError, match=r"^algorithm must be 'auto', .*, got 'fft'"):
        call(name, algorithm="fft")
    with pytest.raises(ValueError, match=r"^algorithm 'winograd' supports only 3x3 and 5x5 filters with strides 1"):
        call(name, algorithm="winograd", dilations=2)
    with pytest.raises(ValueError, match=r"^algorithm 'depthwise' supports only one filter for each input channel"):
        call(name, algorithm="depthwise")
    with pytest.raises(TypeError, match=r"^algorithm must be .*, got None"):
        call(name, algorithm=None)


def test_a_lone_surrogate_does_not_crash() -> None:
    for argument in ("padding", "data_format", "activation", "algorithm"):
        with pytest.raises(ValueError):
            call("conv2d", **{argument: "\ud800"})


def test_include_batch_in_index_is_a_bool() -> None:
    for wrong in ("yes", np.zeros(3), [], None, 1):
        with pytest.raises(TypeError, match=r"^include_batch_in_index must be True or False"):
            call("max_pool2d_with_argmax", include_batch_in_index=wrong)


# ---- out ------------------------------------------------------------------------------------------------------------

OUT_TUPLES = {
    "max_pool2d_with_argmax": "output, argmax",
    "conv2d_max_pool2d": "output, taps",
    "conv2d_max_pool2d_backprop": "input_backprop, filter_backprop, bias_backprop",
}
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


# ---- A convolution and the max pooling of its output ----------------------------------------------------------------


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
    with pytest.raises(ValueError, match=r"^pool_size must have at most 255 pixels, got 16 x 16"):
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


# ---- conv_output_size and show_config -------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["size", "kernel", "stride", "dilation"])
def test_output_size_of_wrong_numbers(argument: str) -> None:
    valid: dict[str, Any] = {"size": 28, "kernel": 3, "stride": 1, "dilation": 1}
    for wrong in (1.0, "3", None, True, (3,), [3, 3]):
        with pytest.raises(TypeError, match=rf"^{argument}: expected an integer, got "):
            fastconv.conv_output_size(**{**valid, argument: wrong})
    for negative in (-1, -(2**63)):
        with pytest.raises(ValueError, match=rf"^{argument} must (not be negative|be at least 1), got -"):
            fastconv.conv_output_size(**{**valid, argument: negative})
    with pytest.raises(ValueError, match=rf"^{argument}: expected a number that fits in 64 bits"):
        fastconv.conv_output_size(**{**valid, argument: 2**64})
    if argument != "size":
        with pytest.raises(ValueError, match=rf"^{argument} must be at least 1, got 0"):
            fastconv.conv_output_size(**{**valid, argument: 0})


def test_output_size_of_wrong_padding() -> None:
    for wrong in ("FULL", (1, 2, 3), (), -1, (0, -1), 2**63 - 1, 2**63):
        with pytest.raises(ValueError, match=r"^padding\b"):
            fastconv.conv_output_size(28, 3, padding=wrong)
    for wrong_type in (None, 0.5, ((1, 1), (1, 1)), True):
        with pytest.raises(TypeError, match=r"^padding\b"):
            fastconv.conv_output_size(28, 3, padding=wrong_type)  # type: ignore[arg-type]


def test_output_size_that_is_negative() -> None:
    assert fastconv.conv_output_size(2, 3) == 0
    with pytest.raises(ValueError, match="the output size is negative"):
        fastconv.conv_output_size(1, 3)
    with pytest.raises(ValueError, match="overflow"):
        fastconv.conv_output_size(28, 2**62, dilation=2**62)


def test_show_config_of_an_unknown_mode() -> None:
    for wrong in ("print", None, 1):
        with pytest.raises(ValueError, match=r"^mode must be 'stdout' or 'dicts', got "):
            fastconv.show_config(wrong)  # type: ignore[call-overload]
