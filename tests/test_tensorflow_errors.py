"""Wrong arguments of the ops raise an error and never crash, eagerly and in a graph."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastconv
import fastconv.tensorflow as fc
import numpy as np
import pytest
import tensorflow as tf
from arrays import random
from processes import TIMEOUT, run_python
from tensorflow_calls import same_bits

_x, _w, _b = random(2, 9, 8, 3), random(3, 3, 3, 5), random(5)
_y, _p = random(2, 7, 6, 5), random(2, 4, 4, 3)

# Arguments that Python code refuses, with the same error eagerly and in a graph.
BAD_ARGUMENTS: dict[str, tuple[Callable[..., Any], list[Any], type[Exception], str]] = {
    "strides 0": (lambda x, w: fc.conv2d(x, w, 0), [_x, _w], ValueError, "strides"),
    "strides negative": (lambda x, w: fc.conv2d(x, w, (1, -2)), [_x, _w], ValueError, "strides"),
    "strides fractional": (lambda x, w: fc.conv2d(x, w, 1.5), [_x, _w], TypeError, "strides"),
    "strides of three numbers": (lambda x, w: fc.conv2d(x, w, (1, 2, 3)), [_x, _w], ValueError, "strides"),
    "strides of the batch": (lambda x, w: fc.conv2d(x, w, (2, 1, 1, 1)), [_x, _w], ValueError, "strides"),
    "dilations 0": (lambda x, w: fc.conv2d(x, w, dilations=0), [_x, _w], ValueError, "dilations"),
    "strides None": (lambda x, w: fc.conv2d(x, w, None), [_x, _w], TypeError, "strides"),
    "padding word": (lambda x, w: fc.conv2d(x, w, 1, "FULL"), [_x, _w], ValueError, "padding"),
    "padding form": (lambda x, w: fc.conv2d(x, w, 1, (1, 2, 3)), [_x, _w], (TypeError, ValueError), "padding"),
    "padding negative": (lambda x, w: fc.conv2d(x, w, 1, -1), [_x, _w], ValueError, "padding"),
    "padding None": (lambda x, w: fc.conv2d(x, w, 1, None), [_x, _w], TypeError, "padding"),
    "data format": (lambda x, w: fc.conv2d(x, w, data_format="CHWN"), [_x, _w], ValueError, "data_format"),
    "activation": (lambda x, w: fc.conv2d(x, w, activation="tanh"), [_x, _w], ValueError, "activation"),
    "algorithm": (lambda x, w: fc.conv2d(x, w, algorithm="fft"), [_x, _w], ValueError, "algorithm"),
    "ksize 0": (lambda x: fc.max_pool2d(x, 0), [_x], ValueError, "ksize"),
    "ksize negative": (lambda x: fc.avg_pool2d(x, (2, -2)), [_x], ValueError, "ksize"),
    "ksize None": (lambda x: fc.avg_pool2d(x, None), [_x], TypeError, "ksize"),
    "pool strides 0": (lambda x: fc.max_pool2d(x, 2, 0), [_x], ValueError, "strides"),
    "integers": (lambda x, w: fc.conv2d(x, w), [_x.astype(np.int32), _w], TypeError, "input.*int32.*tf.cast"),
    "half": (lambda x: fc.max_pool2d(x, 2), [_x.astype(np.float16)], TypeError, "input.*float16.*tf.cast"),
    "strings": (lambda x: fc.max_pool2d(x, 2), [np.array([b"a"])], TypeError, "input"),
    "mixed": (lambda x, w: fc.conv2d(x, w), [_x, _w.astype(np.float64)], TypeError, "filters.*float64.*float32"),
    "mixed bias": (
        lambda x, w, b: fc.conv2d(x, w, bias=b),
        [_x, _w, _b.astype(np.float64)],
        TypeError,
        "bias.*float64.*float32",
    ),
    "mixed gradient": (
        lambda w, y: fc.conv2d_backprop_input([2, 9, 8, 3], w, y),
        [_w, _y.astype(np.float64)],
        TypeError,
        "filters.*float32.*float64",
    ),
    "None for the input": (lambda w: fc.conv2d(None, w), [_w], TypeError, "input"),
    "None for the filters": (lambda x: fc.conv2d(x, None), [_x], TypeError, "filters"),
    "sizes None": (lambda w, y: fc.conv2d_backprop_input(None, w, y), [_w, _y], TypeError, "input_sizes"),
    "sizes fractional": (
        lambda w, y: fc.conv2d_backprop_input([2, 9, 8.0, 3], w, y),
        [_w, _y],
        TypeError,
        "input_sizes",
    ),
    "sizes negative": (
        lambda w, y: fc.conv2d_backprop_input([2, -9, 8, 3], w, y),
        [_w, _y],
        ValueError,
        "input_sizes",
    ),
    "three sizes": (lambda w, y: fc.conv2d_backprop_input([9, 8, 3], w, y), [_w, _y], ValueError, "input_sizes"),
    "sizes unknown": (
        lambda w, y: fc.conv2d_backprop_input(tf.TensorShape([None, 9, 8, 3]), w, y),
        [_w, _y],
        (TypeError, ValueError),
        "input_sizes",
    ),
    "sizes of floats": (
        lambda x, y: fc.conv2d_backprop_filter(x, tf.constant([3.0, 3, 3, 5]), y),
        [_x, _y],
        TypeError,
        "filter_sizes",
    ),
}

# Arguments that the ops refuse. An op that runs raises InvalidArgumentError. If the mistake is known while a graph is
# traced, tracing raises ValueError.
BAD_SHAPES: dict[str, tuple[Callable[..., Any], list[Any], str]] = {
    "rank of the input": (lambda x, w: fc.conv2d(x, w), [_x[0], _w], r"input.*4 dimensions.*got 3"),
    "rank of the filters": (lambda x, w: fc.conv2d(x, w), [_x, _w[0]], r"filters.*4 dimensions.*got 3"),
    "channels": (lambda x, w: fc.conv2d(x, w), [_x, random(3, 3, 4, 3)], r"\b4\b.*\b3\b|\b3\b.*\b4\b"),
    "groups": (lambda x, w: fc.conv2d(x, w), [random(1, 9, 9, 4), random(3, 3, 2, 5)], r"\b5\b.*\b2\b|\b2\b.*\b5\b"),
    "bias": (lambda x, w, b: fc.conv2d(x, w, bias=b), [_x, _w, _b[1:]], r"bias.*\(5,\).*\(4,\)"),
    "bias without elements": (lambda x, w, b: fc.conv2d(x, w, bias=b), [_x, _w, _b[:0]], r"bias"),
    "rank of the bias": (lambda x, w, b: fc.conv2d(x, w, bias=b), [_x, _w, _b[None]], r"bias"),
    "window without rows": (lambda x, w: fc.conv2d(x, w), [_x, _w[:0]], r"filters|size"),
    "depthwise channels": (lambda x, w: fc.depthwise_conv2d(x, w), [_x, random(3, 3, 4, 1)], r"\b3\b.*4|4.*\b3\b"),
    "gradient, input": (
        lambda w, y: fc.conv2d_backprop_input([2, 9, 8, 3], w, y),
        [_w, _y[:, 1:]],
        r"out_backprop.*\(2, 7, 6, 5\).*\(2, 6, 6, 5\)",
    ),
    "gradient, filters": (
        lambda x, y: fc.conv2d_backprop_filter(x, [3, 3, 3, 5], y),
        [_x, _y[..., 1:]],
        r"out_backprop.*\(2, 7, 6, 5\).*\(2, 7, 6, 4\)",
    ),
    "gradient, max": (lambda x, y, g: fc.max_pool2d_grad(x, y, g, 2), [_x, _p, _p[1:]], r"grad.*\(1, 4, 4, 3\)"),
    "output, max": (lambda x, y, g: fc.max_pool2d_grad(x, y, g, 2), [_x, _p[1:], _p], r"orig_output.*\(1, 4, 4, 3\)"),
    "gradient, average": (lambda y: fc.avg_pool2d_grad([2, 9, 8, 3], y, 2), [_p[..., 1:]], r"grad.*\(2, 4, 4, 2\)"),
    "transpose": (lambda y, w: fc.conv2d_transpose(y, w, [2, 30, 30, 3], 2), [_y, _w], r"30|15"),
    "rank of a pool's input": (lambda x: fc.max_pool2d(x, 2), [_x[0]], r"input.*4 dimensions.*got 3"),
    "padding as large as the window": (lambda x: fc.avg_pool2d(x, 2, 2, 2), [_x], r"padding"),
    "padding huge": (lambda x, w: fc.conv2d(x, w, 1, 2**62), [_x, _w], r"padding|overflow|large"),
    "strides huge": (
        lambda w, y: fc.conv2d_backprop_input([2**31, 2**31, 2**31, 3], w, y),
        [_w, _y],
        r"input_sizes|overflow|large|out_backprop",
    ),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_refused(name: str) -> None:
    function, arrays, error, words = BAD_ARGUMENTS[name]
    with pytest.raises(error, match=words):
        function(*arrays)
    with pytest.raises(error, match=words):
        tf.function(function).get_concrete_function(*(tf.constant(array) for array in arrays))


@pytest.mark.parametrize("name", BAD_SHAPES)
def test_bad_shapes_are_refused(name: str) -> None:
    function, arrays, words = BAD_SHAPES[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        function(*arrays)
    graph = tf.function(function, autograph=False)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=words):
        graph(*(tf.constant(array) for array in arrays))
    unknown = tf.function(lambda *values: function(*values), input_signature=[tf.TensorSpec(None)] * len(arrays))
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        unknown(*arrays)
    same_bits(fc.conv2d(_x, _w), fastconv.conv2d(_x, _w))  # the op still works afterwards


@pytest.mark.parametrize(
    "name", ["rank of the input", "rank of the filters", "channels", "groups", "rank of a pool's input", "padding huge"]
)
def test_bad_shapes_are_refused_while_tracing(name: str) -> None:
    function, arrays, words = BAD_SHAPES[name]
    specs = [tf.TensorSpec((None, *array.shape[1:]) if i == 0 else array.shape) for i, array in enumerate(arrays)]
    with pytest.raises(ValueError, match=words):
        tf.function(function).get_concrete_function(*specs)


def test_a_channel_mismatch_is_refused_with_unknown_sizes() -> None:
    filters = tf.TensorSpec((5, 5, 4, 3))
    for data_format, shape in (("NHWC", (None, None, None, 3)), ("NCHW", (None, 3, None, 8))):
        function = tf.function(lambda x, w, data_format=data_format: fc.conv2d(x, w, data_format=data_format))
        with pytest.raises(ValueError, match=BAD_SHAPES["channels"][2]):
            function.get_concrete_function(tf.TensorSpec(shape), filters)


def test_raw_ops_do_not_crash_with_a_wrong_geometry() -> None:
    """Wrong numbers do not crash the process, neither eagerly nor while tracing. Many of them are refused."""
    tried = run_python(
        """
        import itertools
        import numpy as np
        import tensorflow as tf
        import fastconv.tensorflow as fc

        x, w, y, b = tf.ones((1, 6, 6, 2)), tf.ones((3, 3, 2, 4)), tf.ones((1, 4, 4, 4)), tf.ones((4,))
        p, t = tf.ones((1, 3, 3, 2)), tf.zeros((1, 3, 3, 2), tf.uint8)
        ops = fc._ops
        conv = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]
        pool = [0, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
        calls = [
            (conv, lambda g: ops.fastconv_conv2d(input=x, filters=w, bias=b, geometry=g)),
            (conv, lambda g: ops.fastconv_conv2d_backprop_input(like=x, filters=w, out_backprop=y, geometry=g)),
            (conv, lambda g: ops.fastconv_conv2d_backprop_filter(input=x, like=w, out_backprop=y, geometry=g)),
            (conv, lambda g: ops.fastconv_conv2d_backprop_filter_bias(input=x, like=w, out_backprop=y, geometry=g)),
            (pool, lambda g: ops.fastconv_max_pool2d(input=x, geometry=g)),
            (pool, lambda g: ops.fastconv_max_pool2d_with_taps(input=x, geometry=g)),
            (pool, lambda g: ops.fastconv_max_pool2d_scatter(like=x, taps=t, grad=p, geometry=g)),
            (pool, lambda g: ops.fastconv_max_pool2d_gather(values=x, taps=t, geometry=g)),
            (pool, lambda g: ops.fastconv_max_pool2d_with_argmax(input=x, geometry=g)),
            (pool, lambda g: ops.fastconv_max_pool2d_grad(orig_input=x, orig_output=p, grad=p, geometry=g)),
            (pool, lambda g: ops.fastconv_avg_pool2d(input=x, geometry=g)),
            (pool, lambda g: ops.fastconv_avg_pool2d_grad(like=x, grad=p, geometry=g)),
        ]
        refused = 0
        for good, call in calls:
            call(tf.fill(good, tf.constant(0, tf.uint8)))  # the right numbers are accepted
            wrong = [[], [0], [3], good[:-1], good + [0], [1] + good[1:]]
            for i, value in itertools.product(range(1, len(good)), [0, 3, 7, 2**31, 2**40, 2**62]):
                wrong.append(good[:i] + [value] + good[i + 1 :])
            for numbers in wrong:
                geometry = tf.fill(numbers, tf.constant(0, tf.uint8))
                for how in (call, lambda g: tf.function(call).get_concrete_function(g)):
                    try:
                        how(geometry)
                    except (tf.errors.InvalidArgumentError, ValueError):
                        refused += 1
        print(refused)
        """
    )
    assert int(tried) > 400


def test_raw_ops_refuse_wrong_shapes_of_like() -> None:
    run_python(
        """
        import tensorflow as tf
        import fastconv.tensorflow as fc

        conv = fc._geometry([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
        pool = fc._geometry([0, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0])
        x, w, y = tf.ones((1, 6, 6, 2)), tf.ones((3, 3, 2, 4)), tf.ones((1, 4, 4, 4))
        p, t = tf.ones((1, 3, 3, 2)), tf.zeros((1, 3, 3, 2), tf.uint8)
        big = 2**20
        for lent in [[], [0], [1], [0, 1, 6, 6], [0, 1, 6, 6, 2, 1], [1, 1, 6, 6, 2], [0, big, big, big, big],
                     [0, 2**62, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 2**62, 1, 1], [0, 1, 2**62, 1, 2]]:
            like = tf.fill(tf.constant(lent, tf.int64), tf.constant(0, tf.uint8))
            for call in (
                lambda: fc._ops.fastconv_conv2d_backprop_input(like=like, filters=w, out_backprop=y, geometry=conv),
                lambda: fc._ops.fastconv_conv2d_backprop_filter(input=x, like=like, out_backprop=y, geometry=conv),
                lambda: fc._ops.fastconv_conv2d_backprop_filter_bias(
                    input=x, like=like, out_backprop=y, geometry=conv
                ),
                lambda: fc._ops.fastconv_max_pool2d_scatter(like=like, taps=t, grad=p, geometry=pool),
                lambda: fc._ops.fastconv_avg_pool2d_grad(like=like, grad=x, geometry=pool),
            ):
                for how in (call, lambda: tf.function(call)()):
                    try:
                        how()
                    except (tf.errors.InvalidArgumentError, ValueError):
                        continue
                    raise AssertionError(f"accepted: {lent}")
        """
    )


def test_outputs_too_large_for_memory_raise_resource_exhausted_error() -> None:
    """The sizes are valid, but no machine has memory for the output."""
    run_python(
        """
        import os
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # its allocator waits 10 s for memory
        import tensorflow as tf
        import fastconv.tensorflow as fc

        def padded():
            return fc.conv2d(tf.ones((1, 1, 1, 1)), tf.ones((1, 1, 1, 1)), 1, 2**20)

        def lent():
            return fc.avg_pool2d_grad([1, 2**24, 2**24, 1], tf.zeros((1, 1, 1, 1)), 2**24)

        for call in (padded, lent):
            for how in (call, lambda: tf.function(call)()):
                try:
                    how()
                except tf.errors.ResourceExhaustedError:
                    continue
                raise AssertionError("the output fitted into memory")
        """
    )


# Replaces the operator new of a process. The new one fails for code at the addresses from `first` to `last`.
FAILING_NEW = r"""
#include <cstdint>
#include <cstdlib>
#include <new>

extern "C" {
std::uintptr_t first = 0, last = 0;
}

void* operator new(std::size_t size) {
    const auto caller = reinterpret_cast<std::uintptr_t>(__builtin_return_address(0));
    if (caller >= first && caller < last) throw std::bad_alloc();
    if (void* memory = std::malloc(size)) return memory;
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_an_op_without_memory_for_its_kernel_raises_resource_exhausted_error(tmp_path: Path) -> None:
    """TensorFlow does not run an op whose kernel could not be made. The op works once there is memory."""
    source, library = tmp_path / "failing_new.cpp", tmp_path / "failing_new.so"
    source.write_text(FAILING_NEW)
    subprocess.run(["g++", "-shared", "-fPIC", "-o", library, source], check=True, timeout=TIMEOUT)
    run_python(
        """
        import ctypes, re, sys
        import tensorflow as tf
        import fastconv.tensorflow as fc

        new = ctypes.CDLL(sys.argv[1])
        first, last = (ctypes.c_size_t.in_dll(new, name) for name in ("first", "last"))
        with open("/proc/self/maps") as maps:
            ours = [re.match("(.*?)-(.*?) ", line) for line in maps if "libfastconv_tensorflow" in line]
        first.value = int(ours[0][1], 16)
        x, w = tf.ones((1, 6, 6, 2)), tf.ones((3, 3, 2, 4))
        for call in (lambda x: fc.conv2d(x, w), lambda x: fc.max_pool2d(x, 2), lambda x: fc.activate(x, "silu")):
            graph = tf.function(call, autograph=False).get_concrete_function(x)  # traced while there is memory
            for how in (call, graph):
                last.value = int(ours[-1][2], 16)
                try:
                    how(x)
                except tf.errors.ResourceExhaustedError as error:
                    assert "fastconv: out of memory" in str(error), error
                else:
                    raise AssertionError("the op ran without its kernel")
                last.value = 0
                how(x)
        """,
        str(library),
        LD_PRELOAD=str(library),
    )


@pytest.mark.parametrize("sizes", [[9], [9, 9, 4], [9, 9, 9], [2, 9, 9, 4, 1]])
def test_a_wrong_number_of_sizes_known_only_at_run_time_is_refused(sizes: list[int]) -> None:
    unknown = tf.TensorSpec(None, tf.int32)
    filters, images = tf.ones([3, 3, 4, 6]), tf.ones([2, 9, 9, 4])

    @tf.function(input_signature=[unknown, tf.TensorSpec([None, 7, 7, 6])])
    def to_input(sizes: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        return fc.conv2d_backprop_input(sizes, filters, gradient)

    @tf.function(input_signature=[unknown])
    def to_filters(sizes: tf.Tensor) -> tf.Tensor:
        return fc.conv2d_backprop_filter(images, sizes, tf.ones([2, 7, 7, 6]))

    for batch in (0, 2):
        with pytest.raises(tf.errors.InvalidArgumentError, match="input_sizes must be 2 or 4 integers, got"):
            to_input(tf.constant(sizes), tf.ones([batch, 7, 7, 6]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="filter_sizes must be 4 integers, got"):
        to_filters(tf.constant(sizes))
    assert to_input(tf.constant([9, 9]), tf.ones([2, 7, 7, 6])).shape == (2, 9, 9, 4)
    assert to_filters(tf.constant([3, 3, 4, 6])).shape == filters.shape
