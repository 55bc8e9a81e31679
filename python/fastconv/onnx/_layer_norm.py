"""Finds layer and group normalisation in models that write it as several nodes."""

from __future__ import annotations

from typing import Any, NamedTuple

import onnx

from fastconv.network._graph import Shape
from fastconv.onnx._constants import Constants
from fastconv.onnx._matching import Nodes


class _Deviation(NamedTuple):
    """A square root ``sqrt(variance(x, axes) + epsilon)``."""

    x: str
    mean: str
    axes: list[int]
    epsilon: str


def find_layer_normalization(nodes: Nodes, constants: Constants) -> dict[str, Any]:
    """For each value that is the layer normalisation of another value: a node that computes it.

    The node's operator is `NormalizeAxes`, which ONNX does not have: it normalises any axes. The result is
    ``(x - mean) / d`` or ``x * f + (offset - mean * f)`` with ``f = scale / d``. Here ``d`` is the square root of the
    variance plus epsilon.
    """
    finder = _Finder(nodes, constants)
    found = {}
    for output, node in nodes.makers.items():
        match = finder.quotient(output) if node.op_type == "Div" else finder.affine(output)
        if match is not None:
            deviation, scale, offset = match
            found[output] = onnx.helper.make_node(
                "NormalizeAxes",
                [deviation.x, scale, offset, deviation.epsilon],
                [output],
                name=node.name,
                axes=deviation.axes,
            )
    return found


_Match = tuple[_Deviation, str, str]


class _Finder:
    def __init__(self, nodes: Nodes, constants: Constants) -> None:
        self.nodes = nodes
        self.constants = constants

    def quotient(self, output: str) -> _Match | None:
        """Match ``(x - mean) / d``."""
        above, below = self.nodes.makers[output].input
        deviation = self._deviation(below)
        difference = self.nodes.inputs(above, "Sub")
        if deviation is None or difference is None or difference[0] != deviation.x:
            return None
        return (deviation, "", "") if self._same_mean(difference[1], deviation) else None

    def affine(self, output: str) -> _Match | None:
        """Match ``x * f + (offset - mean * f)``."""
        for product, rest in self.nodes.pairs(output, "Add"):
            for x, factor in self.nodes.pairs(product, "Mul"):
                deviation, scale = self._factor(factor)
                if deviation is not None and deviation.x == x:
                    offset = self._offset(rest, factor, deviation)
                    if offset is not None:
                        return deviation, scale, offset
        return None

    def _factor(self, name: str) -> tuple[_Deviation | None, str]:
        """Match ``1 / d`` or ``scale / d`` with a constant scale."""
        for factor, scale in self.nodes.pairs(name, "Mul"):
            if self.nodes.constant(scale) is not None:
                return self._deviation(self._inverse(factor)), scale
        return self._deviation(self._inverse(name)), ""

    def _inverse(self, name: str) -> str | None:
        quotient = self.nodes.inputs(name, "Div")
        if quotient is not None and self.nodes.number(quotient[0]) == 1:
            return quotient[1]
        return self.nodes.input(name, "Reciprocal")

    def _offset(self, name: str, factor: str, deviation: _Deviation) -> str | None:
        """The name of the constant in ``offset - mean * f``. Empty for ``-mean * f``, None if neither matches."""
        difference = self.nodes.inputs(name, "Sub")
        if difference is not None and self.nodes.constant(difference[0]) is not None:
            return difference[0] if self._is_mean_times(difference[1], factor, deviation, 1) else None
        if self._is_mean_times(name, factor, deviation, -1):
            return ""
        for product, offset in self.nodes.pairs(name, "Add"):
            if self.nodes.constant(offset) is not None and self._is_mean_times(product, factor, deviation, -1):
                return offset
        return None

    def _is_mean_times(self, name: str, factor: str, deviation: _Deviation, sign: int) -> bool:
        for other, mean in self.nodes.pairs(name, "Mul"):
            negated = mean if sign > 0 else self.nodes.input(mean, "Neg")
            if other == factor and negated is not None and self._same_mean(negated, deviation):
                return True
        return False

    def _deviation(self, name: str | None) -> _Deviation | None:
        for variance, epsilon in self.nodes.pairs(self.nodes.input(name, "Sqrt"), "Add"):
            axes = self._mean_axes(variance)
            difference = self._squared(self.nodes.input(variance, "ReduceMean"))
            terms = self.nodes.inputs(difference, "Sub")
            if self.nodes.number(epsilon) is None or axes is None or terms is None:
                continue
            for x, mean in (terms, terms[::-1]):
                found = _Deviation(x, self._unreshaped(mean), axes, epsilon)
                if self.nodes.input(found.mean, "ReduceMean") == x and self._mean_axes(found.mean) == axes:
                    return found
        return None

    def _squared(self, name: str | None) -> str | None:
        power = self.nodes.inputs(name, "Pow")
        if power is not None:
            return power[0] if self.nodes.number(power[1]) == 2 else None
        product = self.nodes.inputs(name, "Mul")
        return product[0] if product is not None and product[0] == product[1] else None

    def _mean_axes(self, name: str) -> list[int] | None:
        """The axes of a mean that keeps its dimensions, counted from the first one."""
        inputs = self.nodes.inputs(name, "ReduceMean")
        shape = None if inputs is None else self.constants.shapes.get(inputs[0])
        if inputs is None or shape is None or not self.nodes.attribute(name, "keepdims", 1):
            return None
        axes = self.nodes.attribute(name, "axes")
        if axes is None and len(inputs) > 1:
            axes = self.nodes.constant(inputs[1])
        return None if axes is None or not len(axes) else sorted(int(axis) % len(shape) for axis in axes)

    def _same_mean(self, name: str, deviation: _Deviation) -> bool:
        return self._unreshaped(name) == deviation.mean

    def _unreshaped(self, name: str) -> str:
        """The input of the Reshape that computes the value, if it changes no size. Otherwise the value itself."""
        source = self.nodes.input(name, "Reshape")
        if source is None:
            return name
        before, after = self.constants.shapes.get(source), self.constants.shapes.get(name)
        return source if before is not None and before == after and before.count(None) < 2 else name


def find_group_normalization(nodes: Nodes, constants: Constants) -> dict[str, Any]:
    """For each value that is the group normalisation of another value: a node that computes it.

    Before ONNX had GroupNormalization, exporters reshaped each group to one channel for InstanceNormalization.
    """
    found = {}
    for output, node in nodes.makers.items():
        normalized = nodes.input(output, "Reshape")
        inputs = nodes.inputs(normalized, "InstanceNormalization")
        joined = nodes.inputs(inputs[0], "Reshape") if inputs is not None else None
        if normalized is None or inputs is None or joined is None:
            continue
        groups = _groups(constants.shapes.get(joined[0]), nodes.constant(joined[1]))
        if groups is None or not _restores(nodes, constants, node, joined[0]):
            continue
        found[output] = onnx.helper.make_node(
            "GroupNormalization", [joined[0], *inputs[1:]], [output], name=node.name, num_groups=groups,
            epsilon=nodes.attribute(normalized, "epsilon", 1e-5),
        )  # fmt: skip
    return found


def _groups(shape: Shape | None, joined: Any) -> int | None:
    """The number of groups, if images of this shape are reshaped to (N, groups, -1)."""
    if shape is None or len(shape) < 3 or joined is None or len(joined) != 3 or joined[2] != -1:
        return None
    groups = int(joined[1])
    if joined[0] not in (0, shape[0]) or shape[1] is None or groups < 1 or shape[1] % groups:
        return None
    return groups


def _restores(nodes: Nodes, constants: Constants, reshape: Any, x: str) -> bool:
    """Whether a Reshape gives its result the shape of the value `x`."""
    if nodes.input(reshape.input[1], "Shape") == x:
        attributes = {entry.name: entry.i for entry in nodes.makers[reshape.input[1]].attribute}
        return not attributes.get("start", 0) and "end" not in attributes
    before, after = constants.shapes.get(x), constants.shapes.get(reshape.output[0])
    return before is not None and after is not None and before[1:] == after[1:] and None not in before[1:]
