"""The C entry computes the same as the NumPy functions, and refuses wrong arguments with a code and a message."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastconv
import numpy as np
import pytest
from fastconv import _core
from processes import TIMEOUT

FOLDER = Path(_core.__file__).parent
HEADERS = Path(__file__).parents[1] / "cpp" / "include"
OK, INVALID_ARGUMENT, UNKNOWN_OPERATION, OUT_OF_MEMORY = range(4)
DTYPES = {np.dtype(t): i for i, t in enumerate((np.float32, np.float64, np.uint8, np.int64), 1)}


class Tensor(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("dims", ctypes.c_int64 * 8),
        ("data", ctypes.c_void_p),
    ]


class Attribute(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("text", ctypes.c_char_p),
        ("numbers", ctypes.POINTER(ctypes.c_int64)),
        ("count", ctypes.c_size_t),
    ]


LIBRARY = ctypes.CDLL(str(FOLDER / "libfastconv.so"))
for function in (LIBRARY.fastconv_infer, LIBRARY.fastconv_run):
    function.argtypes = [
        ctypes.c_char_p,
        ctypes.POINTER(Tensor),
        ctypes.c_size_t,
        ctypes.POINTER(Attribute),
        ctypes.c_size_t,
        ctypes.POINTER(Tensor),
        ctypes.c_size_t,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]


def tensor(array: Any) -> Tensor:
    """The C tensor of an array, of a shape (as int64 numbers), or of None."""
    if array is None:
        return Tensor()
    if isinstance(array, Tensor):
        return array
    if isinstance(array, tuple):
        array = np.array(array, np.int64)
    result = Tensor(DTYPES[array.dtype], array.ndim, (ctypes.c_int64 * 8)(*array.shape), array.ctypes.data)
    result.keeps = array
    return result


def attribute(name: str, value: Any) -> Attribute:
    if isinstance(value, str):
        return Attribute(name.encode(), value.encode(), None, 0)
    numbers = [int(v) for v in np.ravel(value)]
    return Attribute(name.encode(), None, (ctypes.c_int64 * len(numbers))(*numbers), len(numbers))


def call(
    function: Any, operation: str, inputs: Sequence[Any], outputs: Sequence[Any], attributes: Any, size: int = 400
) -> tuple[int, str, Any]:
    given = attributes if isinstance(attributes, list) else [attribute(*item) for item in attributes.items()]
    tensors = [tensor(array) for array in inputs]
    results = (Tensor * len(outputs))(*[tensor(array) for array in outputs])
    message = ctypes.create_string_buffer(b"?" * (size - 1), size)
    code = function(
        operation.encode(), (Tensor * len(tensors))(*tensors), len(tensors), (Attribute * len(given))(*given),
        len(given), results, len(outputs), message, size,
    )  # fmt: skip
    return code, message.value.decode(), results


def run(operation: str, inputs: Sequence[Any], count: int = 1, **attributes: Any) -> list[np.ndarray]:
    """The results of an operation, in arrays of the inferred shapes."""
    code, text, inferred = call(LIBRARY.fastconv_infer, operation, inputs, [None] * count, attributes)
    assert (code, text) == (OK, "")
    dtypes = {number: dtype for dtype, number in DTYPES.items()}
    arrays = [None if t.dtype == 0 else np.empty(t.dims[: t.rank], dtypes[t.dtype]) for t in inferred]
    code, text, _ = call(LIBRARY.fastconv_run, operation, inputs, arrays, attributes)
    assert (code, text) == (OK, "")
    return arrays


def random(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_convolutions_equal_the_numpy_functions(dtype: Any, data_format: str) -> None:
    nchw = data_format == "NCHW"
    x, w, b = random(*((2, 3, 9, 8) if nchw else (2, 9, 8, 3)), dtype=dtype), random(3, 2, 3, 4, dtype=dtype), None
    options = {"strides": (2, 1), "padding": ((1, 0), (2, 1)), "data_format": data_format, "dilations": (1, 2)}
    (y,) = run("conv2d", [x, w, b], **options)
    np.testing.assert_array_equal(y, fastconv.conv2d(x, w, **options))
    b = random(4, dtype=dtype)
    (y,) = run("conv2d", [x, w, b], activation="relu", algorithm="direct", **options)
    np.testing.assert_array_equal(y, fastconv.conv2d(x, w, bias=b, activation="relu", algorithm="direct", **options))
    (dx,) = run("conv2d_backprop_input", [x.shape, w, y], **options)
    np.testing.assert_array_equal(dx, fastconv.conv2d_backprop_input(x.shape, w, y, **options))
    (dw,) = run("conv2d_backprop_filter", [x, w.shape, y], **options)
    np.testing.assert_array_equal(dw, fastconv.conv2d_backprop_filter(x, w.shape, y, **options))
    (transposed,) = run("conv2d_transpose", [y, w, (9, 8)], **options)
    np.testing.assert_array_equal(transposed, dx)
    (y,) = run("conv2d", [x, w, None], depthwise=1, **options)
    np.testing.assert_array_equal(y, fastconv.depthwise_conv2d(x, w, **options))


def test_pools_equal_the_numpy_functions() -> None:
    x = random(2, 7, 8, 3)
    pairs = [[0, 0], [1, 0], [0, 1], [0, 0]]
    for padding in ("same", 1, (1, 0), ((1, 0), (0, 1)), pairs):
        options = {"ksize": (3, 2), "strides": (1, 2, 1, 1), "padding": padding}
        (y,) = run("max_pool2d", [x], **options)
        np.testing.assert_array_equal(y, fastconv.max_pool2d(x, **options))
    for options in (
        {"dilations": (2, 1), "ceil_mode": 1},
        {"dilations": 2, "padding": 1, "count_include_pad": 1, "ceil_mode": 1},
    ):
        (y,) = run("avg_pool2d", [x], ksize=2, **options)
        named = {
            name: bool(value) if value in (0, 1) and name != "padding" else value for name, value in options.items()
        }
        np.testing.assert_array_equal(y, fastconv.avg_pool2d(x, 2, **named))
    for size, expected_size in ((3, 3), ((4, 3), (4, 3)), ((-1, 3), (None, 3))):
        (y,) = run("max_pool2d", [x], output_size=size)
        np.testing.assert_array_equal(y, fastconv.adaptive_max_pool2d(x, expected_size))
    for beside in ({"ksize": 2}, {"strides": 1}, {"padding": "SAME"}, {"dilations": 1}, {"ceil_mode": 0}):
        code, text, _ = call(LIBRARY.fastconv_run, "max_pool2d", [x], [x.copy()], {"output_size": 3, **beside})
        assert (
            code != OK
            and text
            == f"{next(iter(beside))} must not be given together with output_size, which determines the windows"
        )
    output, argmax = run("max_pool2d_with_argmax", [x], 2, ksize=2, include_batch_in_index=1)
    expected = fastconv.max_pool2d_with_argmax(x, 2, include_batch_in_index=True)
    for ours, theirs in zip((output, argmax), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    grad = random(*output.shape)
    (dx,) = run("max_pool2d_grad", [x, output, grad], ksize=2)
    np.testing.assert_array_equal(dx, fastconv.max_pool2d_grad(x, output, grad, 2))
    (dx,) = run("avg_pool2d_grad", [x.shape, grad], ksize=2)
    np.testing.assert_array_equal(dx, fastconv.avg_pool2d_grad(x.shape, grad, 2))


def test_a_convolution_and_its_max_pool_equal_the_numpy_functions() -> None:
    x, w = random(2, 7, 8, 3), random(3, 3, 3, 4)
    pooled, taps = run("conv2d_max_pool2d", [x, w, None], 2, pool_size=2, pool_strides=1, pool_padding="SAME")
    options: dict[str, Any] = {"pool_strides": 1, "pool_padding": "SAME"}
    for ours, theirs in zip((pooled, taps), fastconv.conv2d_max_pool2d(x, w, 2, **options), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    grad = random(*pooled.shape)
    for wanted in (True, False):
        given = [x, w, taps, grad]
        ours = run("conv2d_max_pool2d_backprop", [*given, None], 3, pool_size=2, input_gradient=int(wanted), **options)
        theirs = fastconv.conv2d_max_pool2d_backprop(*given, 2, input_gradient=wanted, **options)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
    relu = {"activation": "relu", "pool_size": 2}
    ours = run("conv2d_max_pool2d_backprop", [x, w, taps, grad, pooled], 3, **relu, **options)
    theirs = fastconv.conv2d_max_pool2d_backprop(x, w, taps, grad, 2, activation="relu", output=pooled, **options)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    outputs = [np.empty_like(x), np.empty_like(w), random(4)]
    code, text, _ = call(
        LIBRARY.fastconv_run, "conv2d_max_pool2d_backprop", [x, w, taps, grad, None], outputs, {**relu, **options}
    )
    assert code == INVALID_ARGUMENT and text.startswith("output must be given if activation is 'relu'")
    code, text, _ = call(
        LIBRARY.fastconv_run,
        "conv2d_max_pool2d_backprop",
        [x, w, np.full_like(taps, 9), grad, None],
        [np.empty_like(x), np.empty_like(w), random(4)],
        {"pool_size": 2, **options},
    )
    assert code == INVALID_ARGUMENT and "taps" in text


def test_sizes_may_be_height_and_width_alone() -> None:
    w, dy = random(3, 3, 3, 4), random(2, 4, 3, 4)
    expected = fastconv.conv2d_backprop_input((2, 9, 8, 3), w, dy, 2)
    (dx,) = run("conv2d_backprop_input", [(9, 8), w, dy], strides=2)
    np.testing.assert_array_equal(dx, expected)
    (dx,) = run("conv2d_transpose", [dy, w, (9, 8)], strides=2)
    np.testing.assert_array_equal(dx, expected)


def test_an_output_may_overwrite_the_gradients_only() -> None:
    gradients, features = random(2, 3, 3, 4), random(2, 3, 3, 4) - 0.3
    expected, bias = np.where(features > 0, gradients, 0), np.empty(4, np.float32)
    run_it = LIBRARY.fastconv_run
    code, text, _ = call(run_it, "relu_bias_grad", [gradients, features], [features, bias], {})
    assert (code, text) == (INVALID_ARGUMENT, "output must not overlap features in memory")
    code, text, _ = call(run_it, "relu_bias_grad", [gradients, features], [gradients, bias], {})
    assert code == OK, text
    np.testing.assert_array_equal(gradients, expected)


X, W, Y = random(1, 6, 6, 2), random(3, 3, 2, 4), random(1, 4, 4, 4)
WRONG: dict[str, tuple[list[Any], list[Any], Any, str]] = {
    "shape of an input": ([X[0], W, None], [Y], {}, "input must have 4 dimensions"),
    "channels": ([X, random(3, 3, 3, 4), None], [Y], {}, "input channels"),
    "shape of the bias": ([X, W, random(3)], [Y], {}, r"bias must have shape \(4,\)"),
    "shape of the output": ([X, W, None], [random(1, 4, 4, 3)], {}, r"output must have shape \(1, 4, 4, 4\)"),
    "dtypes": ([X, W.astype(np.float64), None], [Y], {}, "filters must be float32, got float64"),
    "dtype of bytes": ([X.astype(np.uint8), W, None], [Y], {}, "input must be float32 or float64, got uint8"),
    "dtype of the output": ([X, W, None], [Y.astype(np.float64)], {}, "output must be float32, got float64"),
    "no input": ([None, W, None], [Y], {}, r"input must be a tensor with a dtype from .* \(4\), got 0"),
    "no output": ([X, W, None], [None], {}, "output must be a tensor"),
    "unknown dtype": ([Tensor(9, 4), W, None], [Y], {}, r"input must be a tensor with a dtype from .* \(4\), got 9"),
    "rank": ([Tensor(1, 9), W, None], [Y], {}, "rank from 0 to 8, got 9"),
    "negative rank": ([Tensor(1, -1), W, None], [Y], {}, "rank from 0 to 8, got -1"),
    "negative size": ([Tensor(1, 1, (ctypes.c_int64 * 8)(-1)), W, None], [Y], {}, "no negative dimension"),
    "size": ([Tensor(1, 3, (ctypes.c_int64 * 8)(*[2**31] * 3)), W, None], [Y], {}, "overflows 64 bits"),
    "null data": ([Tensor(1, 4, (ctypes.c_int64 * 8)(1, 6, 6, 2)), W, None], [Y], {}, "data of input must not be null"),
    "null output": ([X, W, None], [Tensor(1, 4, (ctypes.c_int64 * 8)(1, 4, 4, 4))], {}, "data of output must not be"),
    "alignment": (
        [Tensor(1, 4, (ctypes.c_int64 * 8)(1, 6, 6, 2), X.ctypes.data + 2), W, None], [Y], {}, "aligned to 4 bytes",
    ),
    "overlap": ([X, random(1, 1, 2, 2), None], [X], {}, "output must not overlap input"),
    "too few inputs": ([X], [Y], {}, "input_count must be 2 for conv2d, got 1"),
    "too many outputs": ([X, W, None], [Y, Y], {}, "output_count must be 1 for conv2d, got 2"),
    "attribute": ([X, W, None], [Y], {"stride": 1}, "conv2d has no attribute 'stride'"),
    "attribute of another": ([X, W, None], [Y], {"ksize": 1}, "conv2d has no attribute 'ksize'"),
    "attribute twice": ([X, W, None], [Y], [attribute("strides", 1)] * 2, "strides must not be given twice"),
    "attribute without a name": ([X, W, None], [Y], [Attribute()], "name of attribute 0 must not be null"),
    "attribute without a value": ([X, W, None], [Y], [Attribute(b"strides")], "either text or numbers, got neither"),
    "many numbers": ([X, W, None], [Y], {"padding": [0] * 9}, "padding must have 1 to 8 numbers, got 9"),
    "three numbers": ([X, W, None], [Y], {"padding": [0] * 3}, "padding must be 'VALID', 'SAME' or 1, 2, 4 or 8"),
    "no stride": ([X, W, None], [Y], {"strides": 0}, "strides must be at least 1, got 0"),
    "text for numbers": ([X, W, None], [Y], {"strides": "two"}, "strides must be numbers, got the text 'two'"),
    "numbers for a text": ([X, W, None], [Y], {"data_format": 1}, "data_format must be text, got numbers"),
    "format": ([X, W, None], [Y], {"data_format": "NHCW"}, "data_format must be 'NHWC' or 'NCHW', got 'NHCW'"),
    "algorithm": ([X, W, None], [Y], {"algorithm": "fft"}, "algorithm must be .*, got 'fft'"),
    "boolean": ([X, W, None], [Y], {"depthwise": 2}, "depthwise must be 0 or 1, got 2"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments_are_refused(what: str) -> None:
    inputs, outputs, attributes, message = WRONG[what]
    before = [None if not isinstance(o, np.ndarray) else o.copy() for o in outputs]
    code, text, _ = call(LIBRARY.fastconv_run, "conv2d", inputs, outputs, attributes)
    assert code == INVALID_ARGUMENT
    assert re.search(message, text), text
    for now, then in zip(outputs, before, strict=True):
        if then is not None:
            np.testing.assert_array_equal(now, then)


SIZES: dict[str, tuple[Any, str]] = {
    "three": ((1, 6, 6), "input_sizes must have 4 numbers, or 2 for height and width, got 3"),
    "negative": ((1, -6, 6, 2), "input_sizes must have no negative dimension"),
    "unknown": ((-1, 6, 6, 2), "input_sizes must have no negative dimension"),
    "floats": (np.ones(4, np.float32), "input_sizes must be int64, got float32"),
    "many": (np.ones(9, np.int64), "input_sizes must have at most 8 numbers, got 9"),
    "null": (Tensor(4, 1, (ctypes.c_int64 * 8)(4)), "the data of input_sizes must not be null"),
    "nothing": (None, "input_sizes must be a tensor"),
}


@pytest.mark.parametrize("what", SIZES)
@pytest.mark.parametrize("function", [LIBRARY.fastconv_run, LIBRARY.fastconv_infer])
def test_wrong_sizes_are_refused(what: str, function: Any) -> None:
    sizes, message = SIZES[what]
    code, text, _ = call(function, "conv2d_backprop_input", [sizes, W, Y], [np.empty_like(X)], {})
    assert code == INVALID_ARGUMENT and message in text


def test_ksize_must_be_given() -> None:
    code, text, _ = call(LIBRARY.fastconv_run, "max_pool2d", [X], [X.copy()], {})
    assert (code, text) == (INVALID_ARGUMENT, "ksize must be given")


def test_null_pointers_are_refused() -> None:
    function, outputs, text = LIBRARY.fastconv_run, (Tensor * 1)(tensor(Y)), ctypes.create_string_buffer(100)
    inputs = (Tensor * 3)(*[tensor(a) for a in (X, W, None)])
    for arguments in (
        (None, inputs, 3, None, 0, outputs, 1),
        (b"conv2d", None, 3, None, 0, outputs, 1),
        (b"conv2d", inputs, 3, None, 1, outputs, 1),
        (b"conv2d", inputs, 3, None, 0, None, 1),
    ):
        assert function(*arguments, text, len(text)) == INVALID_ARGUMENT
        assert b"must not be null" in text.value
        assert function(*arguments, None, 100) == INVALID_ARGUMENT
    assert function(b"conv2d", inputs, 3, None, 0, outputs, 1, None, 0) == OK
    np.testing.assert_array_equal(Y, fastconv.conv2d(X, W))


def test_the_message_of_an_unknown_operation_fits_the_buffer() -> None:
    for size in (1, 2, 10, 400):
        code, text, _ = call(LIBRARY.fastconv_infer, "conv3d", [], [], {}, size)
        assert code == UNKNOWN_OPERATION
        assert text == "fastconv has no operation of this name"[: size - 1]


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_out_of_memory_is_reported() -> None:
    """This gradient in NCHW needs scratch memory as large as its input, more than this process may use."""
    code = f"""
    import resource, sys
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    import numpy as np
    from test_c_entry import LIBRARY, call

    x, dy = np.zeros((1, 2, 8192, 8192), np.float32), np.zeros((1, 2, 2731, 2731), np.float32)
    arguments = "conv2d_backprop_filter", [x, (1, 1, 2, 1), dy], [np.zeros((1, 1, 2, 1), np.float32)]
    call(LIBRARY.fastconv_run, "conv2d", [x[:, :, :4, :4].copy(), np.ones((1, 1, 1, 1), np.float32), None],
         [np.zeros((1, 1, 4, 4), np.float32)], {{"data_format": "NCHW"}})
    with open("/proc/self/statm") as statm:
        size = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20), resource.RLIM_INFINITY))
    code, text, _ = call(LIBRARY.fastconv_run, *arguments, {{"data_format": "NCHW", "strides": 3, "depthwise": 1}})
    print(code, text)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.stdout == f"{OUT_OF_MEMORY} fastconv: out of memory\n", done.stderr


PROGRAM = r"""
#include "fastconv/c_api.h"

#include <stdio.h>

int main(void) {
    float image[16], filter[4] = {1, 1, 1, 1}, result[9];
    const int64_t stride = 1;
    const fastconv_attribute attributes[] = {{"strides", NULL, &stride, 1}, {"padding", "VALID", NULL, 0}};
    fastconv_tensor inputs[3] = {{FASTCONV_FLOAT32, 4, {1, 4, 4, 1}, image},
                                 {FASTCONV_FLOAT32, 4, {2, 2, 1, 1}, filter},
                                 {FASTCONV_NONE, 0, {0}, NULL}};
    fastconv_tensor output = {FASTCONV_FLOAT32, 4, {1, 3, 3, 1}, result};
    char message[200];
    int i;
    for (i = 0; i < 16; ++i) image[i] = (float)i;
    if (fastconv_run("conv2d", inputs, 3, attributes, 2, &output, 1, message, sizeof message) != FASTCONV_OK) {
        fprintf(stderr, "%s\n", message);
        return 1;
    }
    for (i = 0; i < 9; ++i) printf("%g ", result[i]);
    output.rank = 3;
    printf("%d\n", fastconv_run("conv2d", inputs, 3, attributes, 2, &output, 1, message, sizeof message));
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
def test_a_program_in_c_compiles_and_computes(tmp_path: Path) -> None:
    (tmp_path / "program.c").write_text(PROGRAM)
    command = [
        "gcc",
        "-std=c99",
        "-pedantic",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{HEADERS}",
        "program.c",
        "-o",
        "program",
    ]
    library = [f"-L{FOLDER}", "-lfastconv", f"-Wl,-rpath,{FOLDER}"]
    subprocess.run([*command, *library], cwd=tmp_path, check=True, timeout=TIMEOUT)
    done = subprocess.run([str(tmp_path / "program")], capture_output=True, text=True, timeout=TIMEOUT)
    assert done.stdout == "10 14 18 26 30 34 42 46 50 1\n", done.stderr
