"""Finds GELU where a model spells it out: ``x * 0.5 * (1 + erf(x / sqrt(2)))``, with the factors in any order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx


def find_gelu(makers: Mapping[str, Any], constant: Callable[[str], Any]) -> dict[str, Any]:
    """For each value that is the GELU of another one, the node that computes it.

    Parameters
    ----------
    makers : dict
        For each value, the node that computes it in the model.
    constant : callable
        Returns the value of a constant, and None for other values.
    """
    found = {}
    for output, node in makers.items():
        if node.op_type != "Mul":
            continue
        for factors in _products(makers, node):
            x = _argument(makers, constant, factors)
            if x is not None:
                found[output] = onnx.helper.make_node("Gelu", [x], [output], name=node.name)
    return found


def _products(makers: Mapping[str, Any], node: Any) -> Iterator[list[str]]:
    """The three factors of a product of a product."""
    for side in (0, 1):
        inner = makers.get(node.input[side])
        if inner is not None and inner.op_type == "Mul":
            yield [node.input[1 - side], *inner.input]


def _argument(makers: Mapping[str, Any], constant: Callable[[str], Any], factors: Sequence[str]) -> str | None:
    """The value x if the factors are x, 0.5 and 1 + erf(x / sqrt(2))."""
    for x in factors:
        others = list(factors)
        others.remove(x)
        for half, sum_ in (others, others[::-1]):
            if not _equals(constant(half), 0.5):
                continue
            erf = _operand(makers, constant, sum_, "Add", 1.0)
            maker = makers.get(erf) if erf is not None else None
            if maker is not None and maker.op_type == "Erf" and _over_root(makers, constant, maker.input[0]) == x:
                return x
    return None


def _over_root(makers: Mapping[str, Any], constant: Callable[[str], Any], name: str) -> str | None:
    """The value x if `name` is x / sqrt(2)."""
    node = makers.get(name)
    if node is not None and node.op_type == "Div" and _equals(constant(node.input[1]), math.sqrt(2)):
        return str(node.input[0])
    return _operand(makers, constant, name, "Mul", math.sqrt(0.5))


def _operand(
    makers: Mapping[str, Any], constant: Callable[[str], Any], name: str, operator: str, other: float
) -> str | None:
    """The first or second input of a node whose other input is this constant."""
    node = makers.get(name)
    if node is None or node.op_type != operator:
        return None
    for side in (0, 1):
        if _equals(constant(node.input[side]), other):
            return str(node.input[1 - side])
    return None


def _equals(value: Any, expected: float) -> bool:
    """Whether it is this number, up to the rounding of float32."""
    return value is not None and np.size(value) == 1 and abs(float(np.ravel(value)[0]) - expected) < 1e-6
