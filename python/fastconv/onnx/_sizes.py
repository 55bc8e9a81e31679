"""Sizes that are known only when a network runs, and what models compute from them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

# A model from a stranger must not make long names, large numbers or long sums.
_LONGEST_NAME = 200
_LARGEST = 1 << 62
_MOST_SIZES = 100

Sizes = npt.NDArray[Any]  # of objects: ints, and a Size for each size that is not known


class Size:
    """A sum of multiples of unknown sizes, at least one, and a number.

    Sums and multiples of sizes can be compared. Any other result is a new unknown size, named after the expression.
    """

    def __init__(self, terms: Mapping[str, int], number: int = 0) -> None:
        self.terms = dict(terms)
        self.number = number

    def __repr__(self) -> str:
        return "+".join([*(f"{n}*{name}" for name, n in sorted(self.terms.items())), str(self.number)])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and (self.terms, self.number) == (other.terms, other.number)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __add__(self, other: int | Size) -> int | Size:
        terms, number = (other.terms, other.number) if isinstance(other, Size) else ({}, int(other))
        total = {name: self.terms.get(name, 0) + terms.get(name, 0) for name in {*self.terms, *terms}}
        return _simple({name: n for name, n in total.items() if n}, self.number + number)

    def __mul__(self, other: int | Size) -> int | Size:
        if isinstance(other, Size):
            return unknown(" times ".join(sorted((f"({self!r})", f"({other!r})"))))
        return _simple({name: n * int(other) for name, n in self.terms.items() if other}, self.number * int(other))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> int | Size:
        return self * -1

    def __sub__(self, other: int | Size) -> int | Size:
        return self + -other

    def __rsub__(self, other: int) -> int | Size:
        return -self + other


def unknown(expression: str) -> Size:
    """The size with this name. A long name is replaced by a hash, because names grow with each operation."""
    long = len(expression) > _LONGEST_NAME
    return Size({hashlib.sha256(expression.encode()).hexdigest() if long else expression: 1})


def _simple(terms: dict[str, int], number: int) -> int | Size:
    return Size(terms, number) if terms else number


def _quotient(a: int | Size, b: int | Size) -> int | Size:
    """The quotient, which ONNX rounds towards zero."""
    if not isinstance(b, Size) and b != 0:
        if not isinstance(a, Size):
            return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        if not any(n % b for n in (*a.terms.values(), a.number)):
            return _simple({name: n // b for name, n in a.terms.items()}, a.number // b)
    return unknown(f"({a!r}) over ({b!r})")


def _extremum(name: str, choose: Callable[[int, int], int]) -> Callable[[Any, Any], int | Size]:
    def extremum(a: int | Size, b: int | Size) -> int | Size:
        if isinstance(a, Size) or isinstance(b, Size):
            return a if a == b else unknown(f"{name} of ({a!r}) and ({b!r})")
        return choose(a, b)

    return extremum


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": _quotient,
    "Max": _extremum("max", max),
    "Min": _extremum("min", min),
}
_INTEGERS = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)


def sizes_of(values: Any) -> Sizes:
    """An array of integers, as objects."""
    array = np.asarray(values)
    result = np.empty(array.shape, object)
    for index, value in np.ndenumerate(array):
        result[index] = value if isinstance(value, Size) else int(value)
    return result


def computed(proto: Any, inputs: Sequence[Sizes | None]) -> Sizes | None:
    """The result of a node that computes with sizes. None if its operator is not handled here, or if it is broken."""
    if any(value is not None and value.size > _MOST_SIZES for value in inputs):
        return None
    try:
        result = _computed(proto, inputs)
    except (IndexError, KeyError, TypeError, ValueError):
        return None
    return None if result is None or any(_is_large(size) for size in result.ravel()) else result


def _is_large(size: int | Size) -> bool:
    numbers = [size.number, *size.terms.values()] if isinstance(size, Size) else [size]
    return any(abs(number) > _LARGEST for number in numbers) or len(numbers) > _MOST_SIZES


def _computed(proto: Any, inputs: Sequence[Sizes | None]) -> Sizes | None:
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in proto.attribute}
    given = [value for value in inputs if value is not None]
    first, kind = given[0], proto.op_type
    if kind == "Identity" or (kind == "Cast" and attributes["to"] in _INTEGERS):
        return first
    if kind == "Concat":
        return np.concatenate(given, attributes["axis"])
    if kind == "Gather":
        return np.asarray(np.take(first, given[1].astype(np.int64), attributes.get("axis", 0)), object)
    if kind == "Neg":
        return sizes_of([-value for value in first.ravel()]).reshape(first.shape)
    if kind in _ARITHMETIC and len(given) == 2:
        return np.asarray(np.frompyfunc(_ARITHMETIC[kind], 2, 1)(*given), object)
    if kind not in ("Slice", "Squeeze", "Unsqueeze", "ReduceProd") or first.ndim > 1:
        return None
    if kind == "Slice":
        return _sliced(first, attributes, inputs)
    axes = attributes.get("axes", given[1].tolist() if len(given) > 1 else [0])
    if kind == "ReduceProd":
        return (
            sizes_of(np.prod(first)).reshape([1] * attributes.get("keepdims", 1)) if list(axes) in ([0], [-1]) else None
        )
    if kind == "Unsqueeze":
        return first.reshape([1]) if first.ndim == 0 and len(axes) == 1 else None
    return first.reshape([]) if first.size == 1 else None


def _sliced(values: Sizes, attributes: Mapping[str, Any], inputs: Sequence[Sizes | None]) -> Sizes | None:
    if len(inputs) > 1:
        starts, ends, _, steps = (*inputs[1:], None, None)[:4]
    else:
        starts, ends, steps = sizes_of(attributes["starts"]), sizes_of(attributes["ends"]), None
    if starts is None or ends is None or any(isinstance(bound, Size) for bound in (*starts, *ends)):
        return None
    return values[starts[0] : ends[0] : 1 if steps is None else steps[0]]
