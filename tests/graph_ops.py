"""The fastconv ops in a TensorFlow graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def ops_of(function: Callable[..., Any], *arguments: Any) -> list[str]:
    """The types of our ops that the outputs of the graph need. TensorFlow prunes all others."""
    concrete = tf.function(function).get_concrete_function(*arguments)
    needed, waiting = set(), [tensor.op for tensor in concrete.graph.outputs]
    while waiting:
        op = waiting.pop()
        if op not in needed:
            needed.add(op)
            waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return sorted(op.type for op in needed if op.type.startswith("Fastconv"))
