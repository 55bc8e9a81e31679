"""Operations that exporters write as several ONNX nodes become one operation of the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastconv.onnx
import numpy as np
import pytest
from onnx_models import Model, check


def operations(net: Any) -> list[str]:
    """All operations but transpositions and reshapes, each with its activation."""
    moves = ("transpose", "reshape")
    nodes = [node for node in net._graph.nodes if node.operation not in moves]
    return [" ".join([node.operation, *map(str, node.attributes.get("activation", [])[:1])]) for node in nodes]


# ---- GELU ------------------------------------------------------------------------------------------------------------


def cubic(m: Model, x: str) -> str:
    """The argument of tanh as PyTorch's exporter writes it, with the operator Pow."""
    return str(m.add("Mul", np.sqrt(2 / np.pi), m.add("Add", x, m.add("Mul", 0.044715, m.add("Pow", x, 3.0)))))


def cubic_by_products(m: Model, x: str) -> str:
    """The argument of tanh as PyTorch's older exporter writes it, with products."""
    cube = m.add("Mul", x, m.add("Mul", x, x))
    return str(m.add("Mul", np.sqrt(2 / np.pi), m.add("Add", x, m.add("Mul", 0.044715, cube))))


def cubic_by_factors(m: Model, x: str) -> str:
    """The argument of tanh as many models write it, factored."""
    rest = m.add("Add", m.add("Mul", m.add("Mul", x, 0.044715), x), 1.0)
    return str(m.add("Mul", m.add("Mul", x, np.sqrt(2 / np.pi)), rest))


@pytest.mark.parametrize("argument", [cubic, cubic_by_products, cubic_by_factors])
@pytest.mark.parametrize("form", range(4))
def test_gelu_by_tanh_becomes_one_activation(tmp_path: Path, argument: Callable[[Model, str], str], form: int) -> None:
    m = Model()
    x = m.conv(m.input("n", 2, 5, 4), 2, 3)
    tanh = m.add("Tanh", argument(m, x))
    gate = m.add("Add", 1.0, tanh) if form % 2 else m.add("Add", tanh, 1.0)
    m.output(
        [
            lambda: m.add("Mul", 0.5, m.add("Mul", x, gate)),
            lambda: m.add("Mul", m.add("Mul", x, 0.5), gate),
            lambda: m.add("Mul", x, m.add("Mul", 0.5, gate)),
            lambda: m.add("Div", m.add("Mul", gate, x), 2.0),
        ][form]()
    )
    assert operations(check(m, tmp_path, (2, 2, 5, 4))) == ["conv2d gelu_tanh"]


def test_gelu_by_the_complement_of_erf_becomes_one_activation(tmp_path: Path) -> None:
    """TensorFlow computes 0.5 * x * erfc(-x / sqrt(2)), and ONNX has no erfc."""
    m = Model()
    x = m.conv(m.input("n", 2, 5, 4), 2, 3)
    erfc = m.add("Sub", 1.0, m.add("Erf", m.add("Mul", m.add("Neg", x), np.sqrt(0.5))))
    m.output(m.add("Mul", m.add("Mul", 0.5, x), erfc))
    assert operations(check(m, tmp_path, (2, 2, 5, 4), single=True)) == ["conv2d gelu"]


@pytest.mark.parametrize(
    "half, one, factor, cube", [(0.4, 1.0, 0.8, 0.044715), (0.5, -1.0, None, 0.044715), (0.5, 1.0, None, 0.04)]
)
def test_an_expression_other_than_gelu_keeps_its_tanh(
    tmp_path: Path, half: float, one: float, factor: float | None, cube: float
) -> None:
    m = Model()
    x = m.conv(m.input("n", 2, 5, 4), 2, 3)
    total = m.add("Add", x, m.add("Mul", cube, m.add("Mul", x, m.add("Mul", x, x))))
    gate = m.add("Add", one, m.add("Tanh", m.add("Mul", factor or np.sqrt(2 / np.pi), total)))
    m.output(m.add("Mul", half, m.add("Mul", x, gate)))
    assert "tanh" in " ".join(operations(check(m, tmp_path, (2, 2, 5, 4)))).split()


def test_a_gate_of_another_value_is_not_gelu(tmp_path: Path) -> None:
    """The factor outside must be the value inside tanh."""
    m = Model()
    x, other = (m.conv(m.input("n", 2, 5, 4) if index == 0 else "x", 2, 3) for index in range(2))
    m.output(m.add("Mul", 0.5, m.add("Mul", other, m.add("Add", 1.0, m.add("Tanh", cubic_by_products(m, x))))))
    assert not any("gelu" in name for name in operations(check(m, tmp_path, (2, 2, 5, 4))))


# ---- Normalisation ---------------------------------------------------------------------------------------------------


def square_root(m: Model, x: str, mean: str, axes: list[int], power: bool = True) -> str:
    difference = m.add("Sub", x, mean)
    square = m.add("Pow", difference, 2.0) if power else m.add("Mul", difference, difference)
    return str(m.add("Sqrt", m.add("Add", m.add("ReduceMean", square, axes=axes), 1e-3)))


def test_layer_normalisation_by_a_quotient_becomes_one_operation(tmp_path: Path) -> None:
    """As PyTorch's exporter writes it for operator sets before 17."""
    m = Model(opset=14)
    x = m.add("Transpose", m.conv(m.input("n", 3, 6, 5), 3, 4), perm=[0, 2, 3, 1])
    mean = m.add("ReduceMean", x, axes=[-1])
    y = m.add("Div", m.add("Sub", x, mean), square_root(m, x, mean, [-1]))
    y = m.add("Add", m.add("Mul", y, m.random(4)), m.random(4))
    m.output(m.add("Transpose", y, perm=[0, 3, 1, 2]))
    found = operations(check(m, tmp_path, (2, 3, 6, 5)))
    assert found[:2] == ["conv2d", "layer_normalization"]


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("offset", ["none", "sum", "difference"])
@pytest.mark.parametrize("inverse", ["Reciprocal", "Div"])
def test_layer_normalisation_by_a_factor_becomes_one_operation(
    tmp_path: Path, scale: bool, offset: str, inverse: str
) -> None:
    """As tf2onnx writes TensorFlow's x * f + (offset - mean * f), over the channels of NCHW images."""
    m = Model(opset=14)
    x = m.conv(m.input("n", 3, 6, 5), 3, 4)
    mean = m.add("ReduceMean", x, axes=[1])
    root = square_root(m, x, m.add("Reshape", mean, [-1, 1, 6, 5]), [1], power=False)
    factor = m.add("Reciprocal", root) if inverse == "Reciprocal" else m.add("Div", 1.0, root)
    if scale:
        factor = m.add("Mul", factor, m.random(1, 4, 1, 1))
    if offset == "difference":
        rest = m.add("Sub", m.random(1, 4, 1, 1), m.add("Mul", mean, factor))
    else:
        rest = m.add("Mul", m.add("Neg", mean), factor)
        rest = rest if offset == "none" else m.add("Add", rest, m.random(1, 4, 1, 1))
    m.output(m.add("Add", m.add("Mul", x, factor), rest))
    found = operations(check(m, tmp_path, (2, 3, 6, 5)))
    assert found[:2] == ["conv2d", "layer_normalization"]


def test_a_deviation_of_another_value_is_refused(tmp_path: Path) -> None:
    m = Model()
    x, y = (m.conv(m.input("n", 3, 6, 5) if index == 0 else "x", 3, 4) for index in range(2))
    root = square_root(m, y, m.add("ReduceMean", y, axes=[1]), [1], power=False)
    m.output(m.add("Div", m.add("Sub", x, m.add("ReduceMean", x, axes=[1])), root))
    with pytest.raises(ValueError, match=r"\(Sqrt\): this operator is not supported"):
        fastconv.onnx.load(m.save(tmp_path))


def test_a_message_names_the_last_node_of_a_normalisation(tmp_path: Path) -> None:
    m = Model()
    x = m.conv(m.input("n", 3, 6, 5), 3, 4)
    mean = m.add("ReduceMean", x, axes=[2])
    m.output(m.add("Div", m.add("Sub", x, mean), square_root(m, x, mean, [2])))
    last = m.nodes[-1].name
    with pytest.raises(ValueError, match=rf"'{last}' \(Div, together with nodes before it\): it normalises the"):
        fastconv.onnx.load(m.save(tmp_path))


@pytest.mark.parametrize("sizes, copied", [((6, 5), True), ((6, 5), False), (("h", "w"), True)])
def test_group_normalisation_by_instance_normalisation(tmp_path: Path, sizes: tuple[Any, Any], copied: bool) -> None:
    """As PyTorch's exporter writes it for operator sets before 21."""
    m = Model(opset=18)
    x = m.conv(m.input("n", 3, *sizes), 3, 8)
    y = m.add("InstanceNormalization", m.add("Reshape", x, [0, 2, -1]), m.random(2), m.random(2), epsilon=1e-3)
    y = m.add("Reshape", y, m.add("Shape", x) if copied else [-1, 8, 6, 5])
    y = m.add("Add", m.add("Mul", y, m.random(8, 1, 1)), m.random(8, 1, 1))
    m.output(m.conv(y, 8, 3))
    net = check(m, tmp_path, (2, 3, 6, 5))
    assert operations(net)[:2] == ["conv2d", "layer_normalization"]
    assert [node.operation for node in net._graph.nodes].count("transpose") == 4  # two at the input and the output


@pytest.mark.parametrize("opset, scales", [(18, 2), (21, 6)])
def test_group_normalisation_scales_groups_or_channels(tmp_path: Path, opset: int, scales: int) -> None:
    """There is one scale for each group before operator set 21, and one for each channel from then on."""
    m = Model(opset=opset)
    x = m.conv(m.input("n", 3, "h", "w"), 3, 6)
    m.output(m.add("GroupNormalization", x, m.random(scales), m.random(scales), num_groups=2))
    check(m, tmp_path, (2, 3, 6, 5), (1, 3, 4, 7), single=True)


def test_instance_normalisation(tmp_path: Path) -> None:
    m = Model()
    x = m.conv(m.input("n", 3, "h", "w"), 3, 4)
    y = m.add("Relu", m.add("InstanceNormalization", x, m.random(4), m.random(4), epsilon=1e-3))
    m.output(m.add("InstanceNormalization", y, m.constant(np.ones(4)), m.constant(np.zeros(4))))
    check(m, tmp_path, (2, 3, 6, 5), (1, 3, 4, 7))


def test_groups_that_do_not_divide_the_channels_are_refused(tmp_path: Path) -> None:
    m = Model(opset=21)
    x = m.conv(m.input("n", 3, 6, 5), 3, 4)
    m.output(m.add("GroupNormalization", x, m.random(4), m.random(4), num_groups=3))
    with pytest.raises(ValueError, match=r"\(GroupNormalization\): its input .* cannot be divided into 3 groups"):
        fastconv.onnx.load(m.save(tmp_path))
