"""All that fastconv uses of TensorFlow beyond its public API. Everything here has a fallback."""

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

#: Records an operation on gradient tapes. Without it, convolutions do not compute the ReLU after them.
tapes: Any = record

#: Whether a tape records. Without it, the gradients of max-poolings are slower.
may_be_differentiated: Callable[[], bool] = could_possibly_record

#: Whether XLA will compile the graph that is being traced. Without it, TensorFlow raises its own error later.
is_for_xla: Callable[[Any], bool] = GraphOrParentsInXlaContext


def attribute_scope(name: str, text: str) -> AbstractContextManager[Any]:
    """A scope in which the ops of a graph get this attribute, with "_" before its name. Converters print it."""
    scope = None if tf.executing_eagerly() else getattr(tf.compat.v1.get_default_graph(), "_attr_scope", None)
    return nullcontext() if scope is None else scope({f"_{name}": tf.compat.v1.AttrValue(s=text.encode())})


def is_from_tape(op: Any) -> bool:
    """Whether a tape, not ``tf.gradients``, computes the gradient of `op`. Only a tape knows which inputs need one."""
    return hasattr(op, "skip_input_indices")


def is_skipped(op: Any, index: int) -> bool:
    """Whether a tape knows that the gradient with respect to an input of `op` is not needed."""
    return index in getattr(op, "skip_input_indices", ())
