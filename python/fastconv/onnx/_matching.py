"""Helps to find operations that models write as several nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx


class Nodes:
    """The nodes of a model, by the values that they compute.

    Attributes
    ----------
    makers : dict
        For each value, the node that computes it.
    constant : callable
        Returns the value of a constant, and None for other values.
    """

    def __init__(self, makers: Mapping[str, Any], constant: Callable[[str], Any]) -> None:
        self.makers = makers
        self.constant = constant

    def inputs(self, name: str | None, operator: str) -> list[str] | None:
        """The inputs of the node that computes the value, if it has this operator."""
        node = self.makers.get(name)  # type: ignore[arg-type]
        return list(node.input) if node is not None and node.op_type == operator else None

    def input(self, name: str | None, operator: str) -> str | None:
        """The first input of the node that computes the value, if it has this operator."""
        inputs = self.inputs(name, operator)
        return None if inputs is None else inputs[0]

    def attribute(self, name: str, what: str, default: Any = None) -> Any:
        """An attribute of the node that computes the value."""
        found = (entry for entry in self.makers[name].attribute if entry.name == what)
        return next(map(onnx.helper.get_attribute_value, found), default)

    def number(self, name: str) -> float | None:
        """The value of a constant with one element."""
        value = self.constant(name)
        if value is None or np.size(value) != 1 or not np.issubdtype(value.dtype, np.number):
            return None
        return float(np.ravel(value)[0])

    def pairs(self, name: str | None, operator: str) -> list[tuple[str, str]]:
        """The two inputs of the node that computes the value, in both orders. Empty for other operators."""
        inputs = self.inputs(name, operator)
        return [] if inputs is None or len(inputs) != 2 else [(inputs[0], inputs[1]), (inputs[1], inputs[0])]
