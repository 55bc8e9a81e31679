"""All that fastconv uses of TensorFlow beyond its public API. Nothing here is relied upon: each has a fallback."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tensorflow as tf

try:
    from tensorflow.python.eager.record import could_possibly_record
except ImportError:

    def could_possibly_record() -> bool:
        return False


try:
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
except ImportError:

    def GraphOrParentsInXlaContext(graph: Any) -> bool:
        return False


try:
    from tensorflow.python.eager import record
except ImportError:
    record = None

#: Tells tapes of an operation by its outputs, inputs and gradient. Without it, no convolution computes a later ReLU.
tapes: Any = record

#: Whether a tape records. Without it, max-pooling is slower to differentiate.
may_be_differentiated: Callable[[], bool] = could_possibly_record

#: Whether XLA will compile what is being traced into a graph. Without it, TensorFlow's own error comes later.
is_for_xla: Callable[[Any], bool] = GraphOrParentsInXlaContext


def attribute_scope(name: str, text: str) -> AbstractContextManager[Any]:
    """In graphs, ops that are made in it have this attribute, "_" before its name, which converters print."""
    scope = None if tf.executing_eagerly() else getattr(tf.compat.v1.get_default_graph(), "_attr_scope", None)
    return nullcontext() if scope is None else scope({f"_{name}": tf.compat.v1.AttrValue(s=text.encode())})


def is_from_tape(op: Any) -> bool:
    """Whether a tape, not a graph, asks for the gradient of `op`. A graph prunes the gradients that nobody uses."""
    return hasattr(op, "skip_input_indices")


def is_skipped(op: Any, index: int) -> bool:
    """Whether nobody wants the gradient of an input of `op`, as far as a tape knows."""
    return index in getattr(op, "skip_input_indices", ())
