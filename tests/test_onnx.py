"""Whole ONNX models as frozen networks, in the patterns that exporters write."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import fastconv.onnx
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_models import Model, build, expected

MODELS: dict[str, tuple[Callable[[Model], Any], tuple[int, ...]]] = {}


def model(*shape: int) -> Callable[[Any], Any]:
    """Register a function that builds a model, with the shape of its input, without the batch."""

    def register(make: Any) -> Any:
        MODELS[make.__name__] = (make, shape)
        return make

    return register


@model(3, 9, 8)
def flatten_into_gemm(m: Model) -> None:
    y = m.add("Relu", m.conv(m.input("n", 3, 9, 8), 3, 4, strides=[2, 2]))
    m.output(m.add("Gemm", m.add("Flatten", y), m.random(7, 80), m.random(7), transB=1))


@model(3, 9, 8)
def flatten_through_activations_into_gemm(m: Model) -> None:
    flat = m.add("Flatten", m.conv(m.input("n", 3, 9, 8), 3, 4, strides=[2, 2]))
    y = m.add("Mul", m.add("Sigmoid", flat), flat)
    m.output(m.add("Gemm", m.add("Add", y, m.random(80)), m.random(80, 7), m.random(7)))


@model(3, 6, 5)
def flatten_is_an_output(m: Model) -> None:
    m.output(m.add("Flatten", m.conv(m.input("n", 3, 6, 5), 3, 4)))


@model(3, 6, 5)
def reshape_by_its_own_batch(m: Model) -> None:
    y = m.conv(m.input("n", 3, 6, 5), 3, 4)
    batch = m.add("Unsqueeze", m.add("Gather", m.add("Shape", y), np.int64(0), axis=0), [0])
    flat = m.add("Reshape", y, m.add("Concat", batch, [-1], axis=0))
    m.output(m.add("Gemm", flat, m.random(120, 3), m.random(3)))


@model(3, 6, 5)
def reshape_to_a_sequence(m: Model) -> None:
    y = m.add("Reshape", m.conv(m.input("n", 3, 6, 5), 3, 4), [0, 4, -1])
    m.output(m.add("MatMul", m.add("Transpose", y, perm=[0, 2, 1]), m.random(4, 6)))


@model(4, 6, 5)
def channel_shuffle(m: Model, height: int | str = 6, width: int | str = 5) -> None:
    y = m.conv(m.input("n", 4, height, width), 4, 8, groups=2, pads=[0, 0, 0, 0], size=1)
    shape = m.add("Shape", y)
    sizes = [m.add("Gather", shape, [axis], axis=0) for axis in range(4)]
    apart = m.add("Concat", sizes[0], [2], m.add("Div", sizes[1], [2]), *sizes[2:], axis=0)
    turned = m.add("Transpose", m.add("Reshape", y, apart), perm=[0, 2, 1, 3, 4])
    m.output(m.conv(m.add("Reshape", turned, m.add("Concat", *sizes, axis=0)), 8, 4, groups=2))


@model(3, 6, 5)
def softmax_over_channels(m: Model) -> None:
    y = m.conv(m.input("n", 3, 6, 5), 3, 4)
    m.output(*(m.add("Softmax", y, axis=axis) for axis in (1, -1, 2, -3)))


@model(3, 6, 5)
def layer_normalization_of_channels(m: Model) -> None:
    y = m.add("Transpose", m.conv(m.input("n", 3, 6, 5), 3, 4), perm=[0, 2, 3, 1])
    y = m.add("LayerNormalization", y, m.random(4), m.random(4), axis=-1, epsilon=1e-6)
    m.output(m.conv(m.add("Transpose", y, perm=[0, 3, 1, 2]), 4, 2))


@model(4, 6, 5)
def split_and_slice(m: Model) -> None:
    y = m.conv(m.input("n", 4, 6, 5), 4, 8)
    first, second = m.add("Split", y, [3, 5], count=2, axis=1)
    part = m.add("Slice", second, [1, 1], [4, 6], [1, 2], [1, 2])
    back = m.add("Slice", y, [-1], [-(2**63)], [3], [-2])
    m.output(m.add("Concat", first, second, axis=1), m.add("Relu", part), back)


@model(3, 6, 5)
def resize(m: Model) -> None:
    y = m.conv(m.input("n", 3, 6, 5), 3, 4)
    m.weights.append(numpy_helper.from_array(np.array([1, 1, 2, 3], np.float32), "scales"))
    old = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    near = m.add("Resize", y, None, "scales", mode="nearest", **old)
    smooth = m.add("Resize", y, None, "scales", mode="linear")
    batch = m.add("Slice", m.add("Shape", y), [0], [2], [0])
    size = m.add("Concat", batch, [12, 15], axis=0)
    corners = m.add("Resize", y, None, None, size, mode="linear", coordinate_transformation_mode="align_corners")
    m.output(m.add("Add", near, smooth), corners)


@model(4, 7, 7)
def batch_norm_before_and_after(m: Model) -> None:
    y = m.add("Relu", m.batch_norm(m.input("n", 4, 7, 7), 4))
    y = m.batch_norm(m.conv(m.batch_norm(y, 4), 4, 6), 6)
    y = m.batch_norm(m.conv(y, 6, 6, groups=6), 6)
    m.output(m.add("Relu", m.conv(m.batch_norm(y, 6), 6, 5, size=1)))


@model(3, 9, 8)
def automatic_padding(m: Model) -> None:
    x = m.input("n", 3, 9, 8)
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        m.output(m.conv(x, 3, 4, size=4, auto_pad=mode, strides=[2, 3]))


@model(3, 10, 9)
def pools(m: Model) -> None:
    y = m.conv(m.input("n", 3, 10, 9), 3, 4)
    sizes = {"kernel_shape": [3, 3], "strides": [2, 2]}
    m.output(
        m.add("MaxPool", y, ceil_mode=1, **sizes),
        m.add("MaxPool", y, pads=[1, 0, 0, 1], **sizes),
        m.add("AveragePool", y, pads=[1, 1, 1, 1], **sizes),
        m.add("AveragePool", y, pads=[1, 1, 1, 1], count_include_pad=1, ceil_mode=1, **sizes),
    )


@model(3, 8, 8)
def residual_block(m: Model) -> None:
    x = m.add("Relu", m.conv(m.input("n", 3, 8, 8), 3, 8))
    y = m.add("Relu", m.batch_norm(m.conv(x, 8, 4, size=1), 4))
    y = m.batch_norm(m.conv(y, 4, 8, strides=[2, 2]), 8)
    skip = m.batch_norm(m.conv(x, 8, 8, size=1, strides=[2, 2]), 8)
    y = m.add("Relu", m.add("Add", y, skip))
    y = m.add("Clip", m.add("Add", m.conv(y, 8, 8), y), 0.0, 6.0)
    m.output(m.add("Gemm", m.add("Flatten", m.add("GlobalAveragePool", y)), m.random(8, 5), m.random(5)))


@model(4, 6, 5)
def squeeze_and_excitation(m: Model) -> None:
    y = m.conv(m.input("n", 4, 6, 5), 4, 8)
    y = m.add("Mul", y, m.add("Sigmoid", y))
    gate = m.add("Relu", m.conv(m.add("GlobalAveragePool", y), 8, 2, size=1))
    gate = m.add("HardSigmoid", m.conv(gate, 2, 8, size=1), alpha=1 / 6)
    m.output(m.add("Mul", y, gate))


@model(9, 4, 5)
def pixel_shuffle(m: Model) -> None:
    y = m.conv(m.input("n", 9, 4, 5), 9, 18)
    m.output(m.add("DepthToSpace", y, blocksize=3, mode="CRD"), m.add("DepthToSpace", y, blocksize=3))


@model(3, 6, 7)
def arithmetic_in_both_orders(m: Model) -> None:
    y = m.conv(m.input("n", 3, 6, 7), 3, 4)
    y = m.add("Sub", m.random(4, 1, 1), m.add("Div", y, m.random(1, 4, 1, 1, low=1, high=2)))
    y = m.add("Max", m.add("Mul", m.random(6, 7), y), m.random(7))
    y = m.add("CastLike", m.add("Cast", y, to=m.kind), y)
    m.output(m.add("Neg", m.add("Add", m.add("ReduceMean", y, axes=[1], keepdims=1), y)))


@model(3, 6, 7)
def reductions(m: Model) -> None:
    y = m.conv(m.input("n", 3, 6, 7), 3, 4)
    m.output(*(m.add("ReduceMean", y, axes=axes, keepdims=keep) for keep in (0, 1) for axes in ([1], [2, 3], [1, 3])))


@pytest.mark.parametrize("dtype, bound", [("float64", 1e-9), ("float32", 1e-5)])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_models_compute_what_onnx_computes(tmp_path: Path, name: str, dtype: str, bound: float) -> None:
    make, shape = MODELS[name]
    if name == "automatic_padding" and tuple(map(int, onnx.__version__.split(".")[:2])) < (1, 20):
        pytest.skip("onnx's evaluator makes the output too small before version 1.20")
    path = build(make, dtype).save(tmp_path)
    net = fastconv.onnx.load(path)
    assert net.inputs[0].shape == (None, *shape)
    for batch in (1, 3):
        x = np.random.default_rng(batch).uniform(-1, 1, (batch, *shape))
        correct = expected(build(make).proto(), {"x": x})
        results = net(x.astype(dtype))
        for result, y in zip(results if len(correct) > 1 else [results], correct, strict=True):
            assert result.shape == y.shape and result.dtype == dtype
            assert np.linalg.norm(result - y) <= bound * np.linalg.norm(y)


def test_free_image_sizes(tmp_path: Path) -> None:
    def unet(m: Model) -> None:
        x = m.add("Relu", m.batch_norm(m.conv(m.input("n", 3, "h", "w"), 3, 4), 4))
        y = m.conv(m.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 4, 6)
        y = m.add("ConvTranspose", y, m.random(6, 4, 2, 2), m.random(4), strides=[2, 2])
        y = m.conv(m.add("Concat", x, y, axis=1), 8, 2)
        m.output(m.add("Sigmoid", y), m.add("ReduceMean", y, axes=[2, 3], keepdims=0))

    net = fastconv.onnx.load(build(unet).save(tmp_path))
    assert net.inputs[0].shape == (None, 3, None, None)
    for shape in ((2, 3, 8, 6), (1, 3, 16, 20)):
        x = np.random.default_rng(0).uniform(-1, 1, shape)
        for result, y in zip(net(x), expected(build(unet).proto(), {"x": x}), strict=True):
            np.testing.assert_allclose(result, y, rtol=1e-9, atol=1e-12)


def test_shuffled_pixels_and_channels_in_free_image_sizes(tmp_path: Path) -> None:
    def shuffle(m: Model) -> None:
        y = m.conv(m.input("n", 4, "h", "w"), 4, 18)
        m.output(m.add("DepthToSpace", y, blocksize=3, mode="CRD"), m.add("DepthToSpace", y, blocksize=3))

    net = fastconv.onnx.load(build(shuffle).save(tmp_path))
    for shape in ((2, 4, 8, 6), (1, 4, 5, 7)):
        x = np.random.default_rng(0).uniform(-1, 1, shape)
        for result, y in zip(net(x), expected(build(shuffle).proto(), {"x": x}), strict=True):
            np.testing.assert_allclose(result, y, rtol=1e-9, atol=1e-12)

    def shuffle_channels(m: Model) -> None:
        channel_shuffle(m, "h", "w")

    net = fastconv.onnx.load(build(shuffle_channels).save(tmp_path))
    assert str(net).count("transpose ") == 3  # for the input, the shuffle and the output
    for shape in ((2, 4, 8, 6), (1, 4, 5, 7)):
        x = np.random.default_rng(0).uniform(-1, 1, shape)
        y = expected(build(shuffle_channels).proto(), {"x": x})[0]
        np.testing.assert_allclose(net(x), y, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("order", sorted(permutations(range(3))))
@pytest.mark.parametrize("inner_first", [True, False])
@pytest.mark.parametrize("divided", [True, False])
def test_the_parts_of_gelu_become_one_activation(
    tmp_path: Path, order: tuple[int, ...], inner_first: bool, divided: bool
) -> None:
    """Exporters write x * 0.5 * (1 + erf(x / sqrt(2))) with the factors in different orders."""
    m = Model("float32")
    x = m.conv(m.input("n", 2, 5, 4), 2, 3)
    root = m.add("Div", x, np.sqrt(2)) if divided else m.add("Mul", np.sqrt(0.5), x)
    gate = m.add("Add", *((m.add("Erf", root), 1.0) if inner_first else (1.0, m.add("Erf", root))))
    first, second, third = ([x, 0.5, gate][index] for index in order)
    product = m.add("Mul", first, second)
    m.output(m.add("Mul", *((product, third) if inner_first else (third, product))))
    net = fastconv.onnx.load(m.save(tmp_path))
    assert "gelu" in str(net) and len(net.profile(np.zeros((1, 2, 5, 4), np.float32)).steps) == 3
    images = np.random.default_rng(0).uniform(-2, 2, (2, 2, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(net(images), expected(m.proto(), {"x": images})[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("half, one, root", [(0.4, 1.0, 2.0), (0.5, 2.0, 2.0), (0.5, 1.0, 3.0)])
def test_the_erf_of_an_expression_other_than_gelu_is_refused(
    tmp_path: Path, half: float, one: float, root: float
) -> None:
    m = Model("float32")
    x = m.input("n", 3)
    m.output(m.add("Mul", m.add("Mul", x, half), m.add("Add", m.add("Erf", m.add("Div", x, np.sqrt(root))), one)))
    with pytest.raises(ValueError, match=r"'Erf_\d' \(Erf\): this operator is not supported"):
        fastconv.onnx.load(m.save(tmp_path))


def test_images_are_transposed_once(tmp_path: Path) -> None:
    """The network has one transposition for its input, and none for layers that normalise channels."""
    path = build(layer_normalization_of_channels).save(tmp_path)
    assert str(fastconv.onnx.load(path)).count("transpose ") == 2  # the second is for the output


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    m = Model("float32")
    a, b = m.input("n", 2, 5, 4, name="a"), m.input("n", 2, 5, 4, name="b")
    m.output(m.conv(m.add("Add", a, b), 2, 3), m.add("Mul", a, b))
    net = fastconv.onnx.load(m.save(tmp_path))
    arrays = {name: np.random.default_rng(i).random((2, 2, 5, 4), np.float32) for i, name in enumerate("ab")}
    assert [tensor.name for tensor in net.inputs] == ["a", "b"]
    for result, y in zip(net(arrays).values(), expected(m.proto(), arrays), strict=True):
        np.testing.assert_allclose(result, y, rtol=1e-5, atol=1e-6)


def test_a_saved_network_computes_the_same(tmp_path: Path) -> None:
    net = fastconv.onnx.load(build(residual_block).save(tmp_path))
    net.save(tmp_path / "saved.fastconv")
    x = np.random.default_rng(0).random((2, 3, 8, 8))
    np.testing.assert_array_equal(fastconv.load(tmp_path / "saved.fastconv")(x), net(x))
