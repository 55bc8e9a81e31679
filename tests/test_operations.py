"""Each operation of the table is a function of the compiled module, a TensorFlow op and a name in C."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import fastconv
import numpy as np
import pytest
from fastconv import _core

TABLE: list[dict[str, Any]] = _core.operations()
KINDS = {"tensor", "filters", "optional tensor", "sizes", "optional sizes", "bytes", "int64"}


def names(items: list[dict[str, str]]) -> list[str]:
    return [item["name"] for item in items]


def op_name(operation: str) -> str:
    words = re.sub("2d", "2D", operation).split("_")
    return "Fastconv" + "".join(word[0].upper() + word[1:] for word in words)


def by_name(entry: dict[str, Any]) -> str:
    return str(entry["name"])


def test_the_table_is_consistent() -> None:
    assert len({entry["name"] for entry in TABLE}) == len(TABLE) >= 18
    for entry in TABLE:
        assert entry["inputs"] and entry["outputs"] and entry["geometries"] and entry["attributes"]
        assert "data_format" in entry["attributes"] or entry["geometries"] == ["elementwise"]
        assert {item["kind"] for item in entry["inputs"] + entry["outputs"]} <= KINDS
        for items in (entry["inputs"], entry["outputs"]):
            assert len(set(names(items))) == len(items)


@pytest.mark.parametrize("entry", TABLE, ids=by_name)
def test_each_operation_is_a_numpy_function_that_counts_its_arguments(entry: dict[str, Any]) -> None:
    function = getattr(_core, entry["name"])
    count = len(entry["inputs"]) + len(entry["attributes"]) + 1
    for wrong in (0, count - 1, count + 1):
        with pytest.raises(TypeError, match=rf"{entry['name']} takes {count} positional arguments, got {wrong}$"):
            function(*[None] * wrong)


@pytest.mark.parametrize("entry", TABLE, ids=by_name)
def test_each_operation_has_a_name_in_c(entry: dict[str, Any]) -> None:
    library = ctypes.CDLL(str(Path(_core.__file__).with_name("libfastconv.so")))
    library.fastconv_operation_name.restype = ctypes.c_char_p
    library.fastconv_operation_name.argtypes = [ctypes.c_size_t]
    listed = [library.fastconv_operation_name(i).decode() for i in range(len(TABLE))]
    assert library.fastconv_operation_name(len(TABLE)) is None
    assert listed == names(TABLE) and entry["name"] in listed


@pytest.mark.tensorflow
@pytest.mark.parametrize("entry", TABLE, ids=by_name)
def test_each_operation_is_a_tensorflow_op(entry: dict[str, Any]) -> None:
    import fastconv.tensorflow  # registers the ops
    from tensorflow.python.framework import op_def_registry

    types = {"tensor": "T", "filters": "T", "optional tensor": "T", "sizes": "U", "bytes": "DT_UINT8"}
    types["int64"] = "DT_INT64"
    op = op_def_registry.get(op_name(entry["name"]))

    def described(arguments: Any) -> list[tuple[str, str]]:
        from tensorflow.dtypes import as_dtype

        return [(a.name, a.type_attr or f"DT_{as_dtype(a.type).name.upper()}") for a in arguments]

    types["optional sizes"] = "U"
    inputs = entry["inputs"][: entry["graph_inputs"]]
    assert all(i["name"] in ("bias", "residual") for i in entry["inputs"][entry["graph_inputs"] :])
    expected = [("like" if "sizes" in i["kind"] else i["name"], types[i["kind"]]) for i in inputs]
    geometries = ["geometry", "pool_geometry"][: len(entry["geometries"])]
    assert described(op.input_arg) == expected + [(name, "DT_UINT8") for name in geometries]
    assert described(op.output_arg) == [(o["name"], types[o["kind"]]) for o in entry["outputs"]]
    assert not op.is_stateful
    assert hasattr(fastconv.tensorflow._ops, re.sub("^", "fastconv_", entry["name"]))


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("nchw", [False, True])
def test_operations_without_a_public_function_agree_with_public_ones(nchw: bool) -> None:
    data_format = "NCHW" if nchw else "NHWC"
    swap = (lambda a: np.ascontiguousarray(a.transpose(0, 3, 1, 2))) if nchw else (lambda a: a)
    x, w, dy = swap(random(2, 7, 8, 3)), random(3, 3, 3, 4), swap(random(2, 5, 6, 4))
    axes = (0, 2, 3) if nchw else (0, 1, 2)
    convolution = (1, "VALID", data_format, 1, "auto", False)
    d_filters, d_bias = _core.conv2d_backprop_filter_bias(x, w.shape, dy, *convolution, None)
    np.testing.assert_array_equal(d_filters, fastconv.conv2d_backprop_filter(x, w.shape, dy, data_format=data_format))
    np.testing.assert_allclose(d_bias, dy.sum(axes), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(_core.bias_gradient(dy, data_format, None), d_bias)
    y = swap(random(2, 5, 6, 4) - 0.5)
    masked, d_bias = _core.relu_bias_grad(dy, y, data_format, None)
    np.testing.assert_array_equal(masked, np.where(y > 0, dy, 0))
    np.testing.assert_allclose(d_bias, masked.sum(axes), rtol=1e-4, atol=1e-4)

    pooling = (2, None, "VALID", data_format, 1, False, None)
    pooled, taps = _core.max_pool2d_with_taps(x, *pooling, None)
    assert taps.shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(pooled, fastconv.max_pool2d(x, 2, data_format=data_format))
    np.testing.assert_array_equal(_core.max_pool2d_gather(x, taps, *pooling, None), pooled)
    grad = random(*pooled.shape)
    np.testing.assert_array_equal(
        _core.max_pool2d_scatter(x.shape, taps, grad, *pooling, None),
        fastconv.max_pool2d_grad(x, pooled, grad, 2, data_format=data_format),
    )

    attributes = (2, None, "VALID", 1, "VALID", data_format, 1, "auto", None, False)
    pooled, taps = fastconv.conv2d_max_pool2d(x, w, 2, data_format=data_format)
    grad = random(*pooled.shape)
    _, *both = fastconv.conv2d_max_pool2d_backprop(x, w, taps, grad, 2, data_format=data_format)
    two = _core.conv2d_max_pool2d_backprop_filter_bias(x, w, taps, grad, None, *attributes, None)
    for ours, theirs in zip(two, both, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_depthwise_convolution_and_its_max_pool() -> None:
    x, w = random(2, 7, 8, 3), random(3, 3, 3, 2)
    pooled, taps = _core.conv2d_max_pool2d(
        x, w, None, 2, None, "VALID", 1, "VALID", "NHWC", 1, "auto", None, True, None
    )
    y = fastconv.depthwise_conv2d(x, w)
    np.testing.assert_array_equal(pooled, fastconv.max_pool2d(y, 2))
    grad = random(*pooled.shape)
    d_input, d_filters, d_bias = _core.conv2d_max_pool2d_backprop(
        x, w, taps, grad, None, 2, None, "VALID", 1, "VALID", "NHWC", 1, "auto", None, True, True, None
    )
    dy = fastconv.max_pool2d_grad(y, pooled, grad, 2)
    close = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(d_input, fastconv.depthwise_conv2d_backprop_input(x.shape, w, dy), **close)
    np.testing.assert_allclose(d_filters, fastconv.depthwise_conv2d_backprop_filter(x, w.shape, dy), **close)
    np.testing.assert_allclose(d_bias, dy.sum((0, 1, 2)), **close)


@pytest.mark.tensorflow
@pytest.mark.parametrize("nchw", [False, True])
def test_a_convolution_and_its_max_pool_as_an_op(nchw: bool) -> None:
    import fastconv.tensorflow as fc
    import tensorflow as tf

    x, w, b, data_format = random(2, 7, 8, 3), random(3, 3, 3, 4), random(4), "NCHW" if nchw else "NHWC"
    image = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if nchw else x
    conv = fc._geometry(_core.conv_geometry(1, "VALID", data_format, 1, "auto", "relu", False))
    pool = fc._geometry(_core.pool_geometry(2, None, "VALID", data_format, 1, False, False, None))
    expected = fastconv.conv2d_max_pool2d(image, w, 2, bias=b, activation="relu", data_format=data_format)

    def both(image: Any) -> Any:
        op = fc._ops.fastconv_conv2d_max_pool2d
        return tuple(op(input=image, filters=w, bias=b, geometry=conv, pool_geometry=pool))

    for ours, theirs in zip(both(image), expected, strict=True):
        np.testing.assert_array_equal(np.reshape(ours, theirs.shape), theirs)
    sizes = [None, 3, None, 8] if nchw else [None, None, 8, 3]
    inferred = tf.function(both).get_concrete_function(tf.TensorSpec(sizes, tf.float32)).outputs
    pooled = [None, 4, None, 3] if nchw else [None, None, 3, 4]
    assert [output.shape.as_list() for output in inferred] == [pooled, pooled]


@pytest.mark.tensorflow
def test_a_transposed_convolution_as_an_op() -> None:
    """The shape of the input `like` gives two or four output sizes."""
    import fastconv.tensorflow as fc
    import tensorflow as tf

    dy, w = random(2, 3, 4, 4), random(3, 3, 3, 4)
    conv = fc._geometry(_core.conv_geometry(2, "SAME", "NHWC", 1, "auto", None, False))
    expected = fastconv.conv2d_transpose(dy, w, (6, 8), 2)

    @tf.function
    def in_graph(like: Any, dy: Any) -> Any:
        return fc._ops.fastconv_conv2d_transpose(input=dy, filters=w, like=like, geometry=conv)

    for lent, known in (([0, 6, 8], [None, 6, 8, 3]), ([0, 2, 6, 8, 3], [2, 6, 8, 3]), ([2, 6, 8, 3], [2, 6, 8, 3])):
        like = tf.fill(lent, tf.constant(0, tf.uint8))
        np.testing.assert_array_equal(in_graph(like, dy), expected)
        specs = tf.TensorSpec(lent, tf.uint8), tf.TensorSpec((None, 3, 4, 4))
        assert in_graph.get_concrete_function(*specs).outputs[0].shape.as_list() == known


@pytest.mark.tensorflow
def test_a_bias_gradient_as_an_op() -> None:
    import fastconv.tensorflow as fc

    dy = random(2, 3, 4, 4)
    conv = fc._geometry(_core.conv_geometry(1, "VALID", "NHWC", 1, "auto", None, False))
    np.testing.assert_allclose(fc._ops.fastconv_bias_gradient(out_backprop=dy, geometry=conv), dy.sum((0, 1, 2)), 1e-4)
