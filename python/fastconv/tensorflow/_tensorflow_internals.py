"""All that fastconv uses of TensorFlow beyond its public API. Everything here has a fallback."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
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

#: Records operations on gradient tapes. Without this module, no op computes the layers after it.
tapes: Any = record

#: Whether a tape may be recording. Without this function, the gradients of max-poolings are slower,
#: and in training, a convolution before a frozen normalisation runs twice.
may_be_differentiated: Callable[[], bool] = could_possibly_record

#: Whether XLA will compile the graph that is being traced. Without this function, TensorFlow's own error comes later.
is_for_xla: Callable[[Any], bool] = GraphOrParentsInXlaContext


def attribute_scope(name: str, text: str) -> AbstractContextManager[Any]:
    """A scope in which new ops of a graph get this attribute, with "_" before its name. Converters print it."""
    scope = None if tf.executing_eagerly() else getattr(tf.compat.v1.get_default_graph(), "_attr_scope", None)
    return nullcontext() if scope is None else scope({f"_{name}": tf.compat.v1.AttrValue(s=text.encode())})


def is_symbolic(tensor: Any) -> bool:
    """Whether a tensor has an op. Eager tensors have none, not even inside a graph."""
    return isinstance(tensor, tf.Tensor) and not tf.executing_eagerly() and not hasattr(tensor, "numpy")


def is_from_tape(op: Any) -> bool:
    """Whether a tape, not ``tf.gradients``, computes the gradient of `op`. Only tapes skip unneeded gradients."""
    return hasattr(op, "skip_input_indices")


def is_skipped(op: Any, index: int) -> bool:
    """Whether a tape has marked the gradient with respect to an input of `op` as not needed."""
    return index in getattr(op, "skip_input_indices", ())


class NotVectorizable(Exception):
    """An op cannot be vectorized. TensorFlow then runs a loop."""


#: A function that takes an op in a loop, the op's inputs and the number of iterations, and returns the stacked outputs.
#: Each input is a pair of a tensor and a flag. The flag is True for a stack of the tensors of all iterations.
VectorizeOp = Callable[[Any, list[tuple[tf.Tensor, bool]], Any], list[tf.Tensor]]


def register_vectorization(op_type: str, vectorize: VectorizeOp) -> None:
    """Let `vectorize` replace the ops of a type in ``tf.vectorized_map``. Without it, TensorFlow runs a loop."""
    try:
        from tensorflow.python.ops.parallel_for.pfor import ConversionNotImplementedError, RegisterPFor, wrap
    except ImportError:
        return

    def converter(given: Any) -> list[Any]:
        try:
            inputs = [(x.t, x.is_stacked) for x in given.inputs]
            op, length = given.op, given.pfor.loop_len_vector
        except AttributeError as error:
            raise ConversionNotImplementedError(str(error)) from error
        known = tf.get_static_value(length)
        try:
            outputs = vectorize(op, inputs, length[0] if known is None else int(known[0]))
        except NotVectorizable as error:
            raise ConversionNotImplementedError(f"{op_type} is not vectorized: {error}") from error
        return [wrap(y, True) for y in outputs]

    with suppress(AssertionError):  # already registered, because fastconv was imported before
        RegisterPFor(op_type)(converter)


def register_flops(op_type: str, count: Callable[[Any], int]) -> None:
    """Register the floating-point operations of an op for TensorFlow's profiler, which otherwise counts none."""
    try:
        from tensorflow.python.framework.ops import OpStats, RegisterStatistics
    except ImportError:
        return

    def statistics(graph: tf.Graph, node: Any) -> Any:
        return OpStats("flops", count(graph.get_operation_by_name(node.name)))

    with suppress(KeyError):  # already registered, because fastconv was imported before
        RegisterStatistics(op_type, "flops")(statistics)
