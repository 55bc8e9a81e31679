"""Converts the arguments of Python functions to the inputs of ops."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf

import fastconv._core as _core
from fastconv._core import PackedFilters
from fastconv.tensorflow._geometry_code import no_elements
from fastconv.tensorflow._tensorflow_internals import is_for_xla


@cache
def _limit_threads() -> None:
    """Use no more threads than TensorFlow's setting allows. This setting cannot change once a tensor exists."""
    if threads := tf.config.threading.get_intra_op_parallelism_threads():
        _core.limit_host_threads(threads)


def left_out(dtype: tf.DType) -> tf.Tensor:
    """A placeholder for an optional input that is not given. `optional_tensor` refuses its shape."""
    return no_elements([0, 0], dtype)


def optional_tensor(name: str, value: Any, other: tuple[str, tf.Tensor]) -> tf.Tensor:
    """`value` as a tensor of the dtype of `other`, or a placeholder if it is None."""
    if value is None:
        return left_out(other[1].dtype)
    tensor = float_tensor(name, value, other)
    if not is_given(tensor):
        raise ValueError(f"{name} must not have shape (0, 0), which stands for an argument that is left out; pass None")
    return tensor


def is_given(tensor: tf.Tensor) -> bool:
    """Whether a tensor is not the placeholder of an optional input."""
    return tensor.shape.rank is None or tensor.shape.as_list() != [0, 0]


def is_constant(tensor: tf.Tensor) -> bool:
    """Whether a tensor is a constant of the graph that is being built."""
    if tf.executing_eagerly() or hasattr(tensor, "numpy"):  # eager tensors have no op, not even inside a graph
        return False
    return bool(tensor.op.type == "Const")


def lent_shape(name: str, sizes: Any, *, spatial: bool = False) -> tf.Tensor:
    """A tensor of shape (0, *sizes), from which an op reads the sizes. With `spatial`, two sizes are enough."""
    counts = "2 or 4" if spatial else "4"
    if sizes is None:
        raise TypeError(f"{name} must be {counts} integers, got None")
    if isinstance(sizes, tf.TensorShape):
        sizes = sizes.as_list()
    if isinstance(sizes, (list, tuple)) and len(sizes) == 0:
        raise ValueError(f"{name} must be {counts} integers, got an empty sequence")
    if isinstance(sizes, (list, tuple)) and not any(tf.is_tensor(size) for size in sizes):
        for size in sizes:
            if isinstance(size, (bool, np.bool_)) or not isinstance(size, (int, np.integer)):
                raise TypeError(f"{name} must be {counts} integers, got {size!r} among them")
    sizes = tf.convert_to_tensor(sizes)
    if not sizes.dtype.is_integer:
        raise TypeError(f"{name} must be {counts} integers, got a tensor of {sizes.dtype.name}")
    allowed = (None, 2, 4) if spatial else (None, 4)
    if sizes.shape.rank not in (None, 1) or sizes.shape.num_elements() not in allowed:
        raise ValueError(f"{name} must be {counts} integers, got a tensor of shape {sizes.shape}")
    static = tf.get_static_value(sizes)
    if static is not None and (static < 0).any():
        raise ValueError(f"{name} must not be negative, got {static.tolist()}")
    if sizes.shape.num_elements() is None:  # known only when the graph runs
        count = tf.size(sizes)
        fits = tf.reduce_any(tf.equal(count, [number for number in allowed if number is not None]))
        with tf.control_dependencies([tf.debugging.Assert(fits, [f"{name} must be {counts} integers, got", count])]):
            sizes = tf.identity(sizes)
    # int32 and int64 are not cast. Otherwise the constant folding of TensorFlow 2.21 breaks other ops of the graph.
    sizes = sizes if sizes.dtype in (tf.int32, tf.int64) else tf.cast(sizes, tf.int64)
    return tf.fill(tf.concat([tf.constant([0], sizes.dtype), sizes], 0), tf.zeros((), tf.uint8))


def _refuse_xla() -> None:
    if is_for_xla(tf.compat.v1.get_default_graph()):
        raise NotImplementedError(
            "XLA cannot compile fastconv's ops. Either use tf.function without jit_compile=True, or use the functions "
            "of tf.nn and the layers of keras.layers"
        )


def _converted(name: str, value: Any, other: tuple[str, tf.Tensor] | None) -> tf.Tensor:
    hint = other[1].dtype if other else tf.float32
    if isinstance(value, (np.ndarray, np.generic)):
        hint = None  # with a hint, TensorFlow would cast the array
    try:
        return tf.convert_to_tensor(value, dtype_hint=hint)
    except (TypeError, ValueError):
        if not isinstance(value, PackedFilters):
            raise
        raise TypeError(
            f"{name} must be a tensor of float32 or float64, got PackedFilters, which only fastconv's functions for "
            "NumPy arrays take; pass the array of filters instead (a tf.function packs constant filters only once)"
        ) from None


def float_tensor(name: str, value: Any, other: tuple[str, tf.Tensor] | None = None) -> tf.Tensor:
    """`value` as a floating-point tensor. Its dtype must be that of `other`, the call's first tensor."""
    if value is None:
        raise TypeError(f"{name} must be a tensor of float32 or float64, got None")
    eager = tf.executing_eagerly()
    # An eager tensor needs no conversion. tf.convert_to_tensor would find that out, but take longer than a small op.
    result = value if eager and isinstance(value, tf.Tensor) else _converted(name, value, other)
    _limit_threads()
    if not eager:
        _refuse_xla()
    if result.dtype not in (tf.float32, tf.float64):
        raise TypeError(
            f"{name} must be float32 or float64, got {result.dtype.name}; cast it with tf.cast({name}, tf.float32)"
        )
    if other and result.dtype != other[1].dtype:
        raise TypeError(
            f"{name} is {result.dtype.name} but {other[0]} is {other[1].dtype.name}; cast one of them, for example "
            f"with tf.cast({name}, tf.{other[1].dtype.name})"
        )
    return result


def byte_tensor(name: str, value: Any) -> tf.Tensor:
    """`value` as a tensor of uint8."""
    if value is None:
        raise TypeError(f"{name} must be a tensor of uint8, got None")
    result = tf.convert_to_tensor(value)
    if result.dtype != tf.uint8:
        raise TypeError(f"{name} must be uint8, got {result.dtype.name}; cast it with tf.cast({name}, tf.uint8)")
    return result
