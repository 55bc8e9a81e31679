"""Finds GELU in models that write it as several nodes, in its exact form or as the approximation by tanh.

GELU is ``0.5 * x * (1 + erf(x / sqrt(2)))`` or ``0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``.
Exporters write the factors and terms in any order, so the argument of erf or tanh is compared as a polynomial in x.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import onnx

from fastconv.onnx._matching import Nodes

Polynomial = dict[int, float]  # exponent -> coefficient

_LINEAR = math.sqrt(2 / math.pi)
# The attribute `approximate` and the argument of the function, for each function.
_FORMS: dict[str, tuple[str, Polynomial]] = {
    "Erf": ("none", {1: math.sqrt(0.5)}),
    "Tanh": ("tanh", {1: _LINEAR, 3: 0.044715 * _LINEAR}),
}
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Neg", "Pow")
_DEEPEST = 6  # nodes, from the result of GELU to the argument of its function


def find_gelu(nodes: Nodes) -> dict[str, Any]:
    """For each value that is the GELU of another value: a node that computes it."""
    found = {}
    for output, node in nodes.makers.items():
        if node.op_type not in ("Mul", "Div"):
            continue
        for gate, function in _gates(nodes, output, _DEEPEST):
            x = _argument(nodes, gate, function)
            if x is not None and _is_half_of_product(nodes, output, x, gate):
                approximate = _FORMS[nodes.makers[function].op_type][0]
                found[output] = onnx.helper.make_node("Gelu", [x], [output], name=node.name, approximate=approximate)
    return found


def _gates(nodes: Nodes, name: str, depth: int) -> Iterator[tuple[str, str]]:
    """The sums among the factors of a value that have erf or tanh as a term, each with the name of that term."""
    node = nodes.makers.get(name)
    if node is None or depth == 0:
        return
    if node.op_type in ("Add", "Sub"):
        yield from ((name, term) for term in node.input if getattr(nodes.makers.get(term), "op_type", "") in _FORMS)
    elif node.op_type in ("Mul", "Div"):
        for factor in node.input:
            yield from _gates(nodes, factor, depth - 1)


def _argument(nodes: Nodes, gate: str, function: str) -> str | None:
    """The value x, if the gate is ``1 + f(p(x))`` or ``1 - f(-p(x))`` with the polynomial of the function f."""
    sign = next((s for s in (1, -1) if _equal(_polynomial(nodes, gate, function), {0: 1, 1: s})), None)
    if sign is None:
        return None
    expected = {n: sign * factor for n, factor in _FORMS[nodes.makers[function].op_type][1].items()}
    source = nodes.makers[function].input[0]
    return next((x for x in _below(nodes, source, _DEEPEST) if _equal(_polynomial(nodes, source, x), expected)), None)


def _below(nodes: Nodes, name: str, depth: int) -> Iterator[str]:
    """A value, and the values from which it is computed by arithmetic."""
    yield name
    node = nodes.makers.get(name)
    if node is not None and depth > 0 and node.op_type in _ARITHMETIC:
        for source in dict.fromkeys(node.input):
            yield from _below(nodes, source, depth - 1)


def _is_half_of_product(nodes: Nodes, output: str, x: str, gate: str) -> bool:
    """Whether a value is ``0.5 * x * gate``."""
    factors = _factors(nodes, output, (x, gate), _DEEPEST)
    names = sorted(factor for factor in factors if isinstance(factor, str))
    number = math.prod(factor for factor in factors if not isinstance(factor, str))
    return names == sorted((x, gate)) and abs(number - 0.5) < 1e-6


def _factors(nodes: Nodes, name: str, whole: tuple[str, str], depth: int) -> list[str | float]:
    """The factors of a value: numbers, and names of values. The values `whole` are not split into factors."""
    number = nodes.number(name)
    if number is not None:
        return [number]
    node = nodes.makers.get(name)
    if name not in whole and node is not None and depth > 0:
        if node.op_type == "Mul":
            return [factor for source in node.input for factor in _factors(nodes, source, whole, depth - 1)]
        divisor = nodes.number(node.input[1]) if node.op_type == "Div" else None
        if divisor:
            return [1 / divisor, *_factors(nodes, node.input[0], whole, depth - 1)]
    return [name]


def _polynomial(nodes: Nodes, name: str, x: str, depth: int = _DEEPEST) -> Polynomial | None:
    """The value `name` as a polynomial in the value `x`. None if it is not such a polynomial."""
    if name == x:
        return {1: 1.0}
    number = nodes.number(name)
    if number is not None:
        return {0: number}
    node = nodes.makers.get(name)
    if node is None or depth == 0 or node.op_type not in _ARITHMETIC:
        return None
    parts = [_polynomial(nodes, source, x, depth - 1) for source in node.input]
    first, second = parts[0], parts[-1]
    if first is None or second is None:
        return None
    if node.op_type == "Neg":
        return _product(first, {0: -1.0})
    if node.op_type in ("Add", "Sub"):
        sign = 1 if node.op_type == "Add" else -1
        return {n: first.get(n, 0.0) + sign * second.get(n, 0.0) for n in {*first, *second}}
    if node.op_type == "Mul":
        return _product(first, second)
    number = second.get(0, 0.0)  # a divisor or an exponent must be a number
    if set(second) != {0} or number == 0:
        return None
    if node.op_type == "Div":
        return _product(first, {0: 1 / number})
    return {1: first, 2: _product(first, first), 3: _product(first, _product(first, first))}.get(number)  # type: ignore[call-overload, no-any-return]


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
    result: Polynomial = {}
    for n, p in a.items():
        for m, q in b.items():
            result[n + m] = result.get(n + m, 0.0) + p * q
    return result


def _equal(a: Polynomial | None, b: Polynomial) -> bool:
    """Whether the coefficients are equal, up to the rounding of float32."""
    return a is not None and all(abs(a.get(n, 0.0) - b.get(n, 0.0)) < 1e-6 for n in {*a, *b})
