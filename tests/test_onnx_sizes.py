"""Sizes that an ONNX model computes from the shapes of its tensors."""

from __future__ import annotations

import contextlib
from pathlib import Path

import fastconv.onnx
import numpy as np
import pytest
from onnx import numpy_helper
from onnx_models import Model, check


def dense_of_pixels(m: Model, x: str) -> str:
    """TensorFlow's dense layer of images, as tf2onnx writes it: it joins all dimensions but the last."""
    shape = m.add("Cast", m.add("Shape", x), to=6)
    outer = m.add("Gather", shape, [0, 1, 2])
    products = [m.add("ReduceProd", sizes, axes=[0], keepdims=0) for sizes in (outer, m.add("Gather", shape, [3]))]
    joined = m.add("Concat", *(m.add("Unsqueeze", product, [0]) for product in products), axis=0)
    m.weights.append(numpy_helper.from_array(np.array([6], np.int32), "units"))
    flat = m.add("MatMul", m.add("Reshape", x, m.add("Cast", joined, to=7)), m.random(4, 6))
    return str(m.add("Reshape", flat, m.add("Cast", m.add("Concat", outer, "units", axis=0), to=7)))


def test_dense_layers_of_images(tmp_path: Path) -> None:
    m = Model()
    x = m.add("Transpose", m.conv(m.input("n", 3, 6, 5), 3, 4), perm=[0, 2, 3, 1])
    m.output(m.add("Transpose", dense_of_pixels(m, x), perm=[0, 3, 1, 2]))
    check(m, tmp_path, (1, 3, 6, 5), (3, 3, 6, 5))


def test_slices_and_padding_without_effect_are_removed(tmp_path: Path) -> None:
    """tf2onnx crops and pads the result of a transposed convolution to twice the input's size, which it already has."""
    m = Model()
    x = m.conv(m.input("n", 3, "h", "w"), 3, 4)
    x = m.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    y = m.add("ConvTranspose", x, m.random(4, 4, 2, 2), strides=[2, 2])
    before, after = (m.add("Slice", m.add("Shape", name), [2], [4], [0]) for name in (x, y))
    doubled = m.add("Mul", before, [2, 2])
    more = m.add("Sub", after, doubled)
    start = m.add("Div", m.add("Max", more, [0, 0]), [2, 2])
    y = m.add("Slice", y, start, m.add("Add", start, doubled), [2, 3])
    missing = m.add("Max", m.add("Neg", more), [0, 0])
    y = m.add("Pad", y, m.add("Concat", [0, 0, 0, 0, 0, 0], missing, axis=0))
    m.output(m.add("Relu", y))
    net = check(m, tmp_path, (2, 3, 8, 6), (1, 3, 7, 9))
    assert not {"slice", "pad"} & {node.operation for node in net._graph.nodes}


@pytest.mark.parametrize("inner, outer", [([0], [0]), ([0, 4], [3]), ([2], [4])])
def test_squeeze_and_unsqueeze_with_unknown_sizes(tmp_path: Path, inner: list[int], outer: list[int]) -> None:
    m = Model()
    y = m.add("Unsqueeze", m.conv(m.input("n", 3, "h", "w"), 3, 4), inner)
    m.output(y, m.add("Squeeze", m.add("ReduceMean", y, axes=outer), outer))
    check(m, tmp_path, (2, 3, 6, 5), (1, 3, 4, 7))


@pytest.mark.parametrize("channels", [1, 4])
def test_resize_to_the_size_of_another_tensor(tmp_path: Path, channels: int) -> None:
    """PyTorch's interpolate(x, size=y.shape[2:]). Only the size of the batch is unknown."""
    m = Model()
    y = m.conv(m.input("n", 3, 8, 6), 3, channels)
    small = m.conv(y, channels, 4, strides=[2, 2])
    sizes = m.add("Concat", *(m.add("Unsqueeze", m.add("Gather", m.add("Shape", y), np.int64(a), axis=0), [0])
                              for a in (2, 3)), axis=0)  # fmt: skip
    batch = m.add("Slice", m.add("Shape", small), [0], [2], [0])
    m.output(m.add("Add", y, m.add("Resize", small, None, None, m.add("Concat", batch, sizes, axis=0), mode="linear")))
    check(m, tmp_path, (1, 3, 8, 6), (3, 3, 8, 6))


def test_resize_to_a_size_known_only_at_run_time_is_refused(tmp_path: Path) -> None:
    m = Model()
    y = m.conv(m.input("n", 3, "h", "w"), 3, 4)
    small = m.conv(y, 4, 4, strides=[2, 2])
    m.output(m.add("Resize", small, None, None, m.add("Shape", y), mode="linear"))
    with pytest.raises(ValueError, match=r"\(Resize\): its sizes .* give the inputs fixed image sizes"):
        fastconv.onnx.load(m.save(tmp_path))


@pytest.mark.timeout(60)
def test_loading_ends_with_huge_products_of_sizes(tmp_path: Path) -> None:
    """The symbolic sizes become long products, and the numbers overflow. Some versions of onnx compute 0."""
    m = Model()
    x = m.conv(m.input("n", 3, "h", "w"), 3, 4)
    sizes = m.add("Gather", m.add("Shape", x), [1, 2])
    for _ in range(200):
        sizes = m.add("Mul", sizes, sizes)
    m.output(m.add("Reshape", x, sizes))
    with contextlib.suppress(ValueError):
        fastconv.onnx.load(m.save(tmp_path))


def test_loading_ends_with_many_transposed_convolutions(tmp_path: Path) -> None:
    m = Model()
    x = m.input("n", 1, "h", "w")
    for _ in range(1500):
        x = m.add("ConvTranspose", x, "weights")
    m.weights.append(numpy_helper.from_array(np.ones((1, 1, 1, 1)), "weights"))
    m.output(m.add("Reshape", x, m.add("Shape", x)))
    assert fastconv.onnx.load(m.save(tmp_path)).inputs[0].shape == (None, 1, None, None)
