"""The functions of fastconv as native TensorFlow ops with gradients.

Same names and meaning as the functions of `fastconv` on NumPy arrays; they take and give float32 or float64 tensors,
work eagerly, in ``tf.function`` and ``tf.data``, and have gradients of any order, all on fastconv's kernels. What is
wrong with an argument is a ``TypeError`` or ``ValueError`` while a graph is traced, and a
``tf.errors.InvalidArgumentError`` when an op runs. The ops compute on the CPU, off Python's lock, on fastconv's own
thread pool: on as many threads as `fastconv.set_num_threads` and
``tf.config.threading.set_intra_op_parallelism_threads`` both allow, for all ops that run at once together.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import fastconv._core as _core

try:
    import tensorflow as tf
except ModuleNotFoundError as error:
    if error.name != "tensorflow":
        raise
    raise ModuleNotFoundError(
        "fastconv.tensorflow needs TensorFlow 2.16 or later: pip install 'fastconv[tensorflow]'", name="tensorflow"
    ) from None

try:  # whether a tape records; not public, and so not relied upon: max-pooling is slower to differentiate without
    from tensorflow.python.eager.record import could_possibly_record as _may_be_differentiated
except ImportError:

    def _may_be_differentiated() -> bool:
        return False


try:  # whether XLA will compile what is being traced; not public: without it, TensorFlow's own error comes later
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext as _is_for_xla
except ImportError:

    def _is_for_xla(graph: Any) -> bool:
        return False


__all__ = [
    "avg_pool2d",
    "avg_pool2d_grad",
    "conv2d",
    "conv2d_backprop_filter",
    "conv2d_backprop_input",
    "conv2d_transpose",
    "depthwise_conv2d",
    "depthwise_conv2d_backprop_filter",
    "depthwise_conv2d_backprop_input",
    "max_pool2d",
    "max_pool2d_grad",
    "max_pool2d_with_argmax",
]

_library = Path(_core.__file__).with_name("libfastconv_tensorflow.so")
if not _library.exists():
    raise ImportError(f"fastconv.tensorflow needs Linux, where its ops are built; this is {sys.platform}")
_ops = tf.load_op_library(str(_library))


_MOST_TAPS = 255  # of a window, for FastconvMaxPool2DWithTaps, which numbers them in a byte

# ---- From Python arguments to the inputs of the ops ------------------------------------------------------------------


@cache
def _limit_threads() -> None:
    """As TensorFlow was told, which it can't be any more once there are tensors."""
    if threads := tf.config.threading.get_intra_op_parallelism_threads():
        _core.limit_host_threads(threads)


@cache
def _eager_zeros(shape: tuple[int, ...], dtype: tf.DType) -> tf.Tensor:
    return tf.fill(shape, tf.zeros((), dtype))


def _no_elements(shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
    """A tensor without elements, whose shape is the message (tf.fill: NumPy has no arrays of some of these shapes)."""
    if tf.executing_eagerly():
        return _eager_zeros(tuple(shape), dtype)
    return tf.fill(tf.constant(shape, tf.int64), tf.zeros((), dtype))


def _geometry(numbers: Sequence[int]) -> tf.Tensor:
    return _no_elements(numbers, tf.uint8)


def _no_bias(dtype: tf.DType) -> tf.Tensor:
    """Of another rank than a bias, so that one with too few numbers is not taken for none."""
    return _no_elements([0, 0], dtype)


def _like(name: str, sizes: Any) -> tf.Tensor:
    """A tensor that lends its shape: (0, *sizes)."""
    if sizes is None:
        raise TypeError(f"{name} must be 4 integers, got None")
    if isinstance(sizes, tf.TensorShape):
        sizes = sizes.as_list()
    if isinstance(sizes, (list, tuple)) and not any(tf.is_tensor(size) for size in sizes):
        for size in sizes:
            if isinstance(size, (bool, np.bool_)) or not isinstance(size, (int, np.integer)):
                raise TypeError(f"{name}: expected an integer, got {size!r}")
            if size < 0:
                raise ValueError(f"{name} must not be negative, got {list(sizes)}")
    sizes = tf.convert_to_tensor(sizes)
    if not sizes.dtype.is_integer:
        raise TypeError(f"{name} must be integers, got {sizes.dtype.name}")
    if sizes.shape.rank not in (None, 1) or sizes.shape.num_elements() not in (None, 4):
        raise ValueError(f"{name} must be 4 numbers, got shape {sizes.shape}")
    # No cast of the usual integers: the constant folding of TensorFlow 2.21 then breaks other ops of the graph.
    sizes = sizes if sizes.dtype in (tf.int32, tf.int64) else tf.cast(sizes, tf.int64)
    return tf.fill(tf.concat([tf.constant([0], sizes.dtype), sizes], 0), tf.zeros((), tf.uint8))


def _refuse_xla() -> None:
    if not tf.executing_eagerly() and _is_for_xla(tf.compat.v1.get_default_graph()):
        raise NotImplementedError(
            "XLA cannot compile fastconv's ops, which are compiled already: use tf.function without jit_compile=True "
            "around them, or the functions of tf.nn and the layers of keras.layers inside it"
        )


def _tensor(name: str, value: Any, other: tuple[str, tf.Tensor] | None = None) -> tf.Tensor:
    """`value` as a floating-point tensor, of the dtype of the call's first tensor, `other`."""
    if value is None:
        raise TypeError(f"{name} must be a tensor of float32 or float64, got None")
    hint = other[1].dtype if other else tf.float32
    if isinstance(value, (np.ndarray, np.generic)):
        hint = None  # TensorFlow would cast it
    tensor = tf.convert_to_tensor(value, dtype_hint=hint)
    _limit_threads()
    _refuse_xla()
    if tensor.dtype not in (tf.float32, tf.float64):
        raise TypeError(
            f"{name} must be float32 or float64, got {tensor.dtype.name}; cast it with tf.cast({name}, tf.float32)"
        )
    if other and tensor.dtype != other[1].dtype:
        raise TypeError(
            f"{name} is {tensor.dtype.name} but {other[0]} is {other[1].dtype.name}; cast one of them, for example "
            f"with tf.cast({name}, tf.{other[1].dtype.name})"
        )
    return tensor


def _conv2d(
    input: Any,
    filters: Any,
    geometry: Sequence[int],
    bias: Any,
) -> tf.Tensor:
    input = _tensor("input", input)
    filters = _tensor("filters", filters, ("input", input))
    bias = _no_bias(input.dtype) if bias is None else _tensor("bias", bias, ("input", input))
    return _ops.fastconv_conv2d(input=input, filters=filters, bias=bias, geometry=_geometry(geometry))


def _backprop_input(name: str, input_sizes: Any, filters: Any, gradient: str, dy: Any, geometry: Any) -> tf.Tensor:
    dy = _tensor(gradient, dy)
    filters = _tensor("filters", filters, (gradient, dy))
    return _ops.fastconv_conv2d_backprop_input(
        like=_like(name, input_sizes), filters=filters, out_backprop=dy, geometry=_geometry(geometry)
    )


def _backprop_filter(input: Any, filter_sizes: Any, out_backprop: Any, geometry: Sequence[int]) -> tf.Tensor:
    input = _tensor("input", input)
    dy = _tensor("out_backprop", out_backprop, ("input", input))
    return _ops.fastconv_conv2d_backprop_filter(
        input=input, like=_like("filter_sizes", filter_sizes), out_backprop=dy, geometry=_geometry(geometry)
    )


# ---- The public functions --------------------------------------------------------------------------------------------


def conv2d(
    input: Any,
    filters: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = 1,
    *,
    bias: Any = None,
    activation: str | None = None,
    algorithm: str = "auto",
    name: str | None = None,
) -> tf.Tensor:
    """2-D convolution, with bias and ReLU in the same pass over memory; as `fastconv.conv2d` and ``tf.nn.conv2d``.

    Parameters
    ----------
    input : tensor of shape (N, H, W, C), float32 or float64
        (N, C, H, W) with ``data_format="NCHW"``, which TensorFlow's own CPU kernels lack.
    filters : tensor of shape (R, S, C/groups, K), same dtype
    strides, padding, data_format, dilations, activation, algorithm
        As in `fastconv.conv2d`.
    bias : tensor of shape (K,), same dtype, optional
    name : str, optional
        Of the scope of the ops.

    Returns
    -------
    tensor of shape (N, P, Q, K), the dtype of `input`

    Raises
    ------
    TypeError, ValueError, tf.errors.InvalidArgumentError
        If an argument is of a wrong kind or does not fit.
    """
    with tf.name_scope(name or "fastconv_conv2d"):
        numbers = _core.conv_geometry(strides, padding, data_format, dilations, algorithm, activation, False)
        return _conv2d(input, filters, numbers, bias)


def conv2d_backprop_input(
    input_sizes: Any,
    filters: Any,
    out_backprop: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = 1,
    *,
    algorithm: str = "auto",
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `conv2d` with respect to its input; as `fastconv.conv2d_backprop_input`.

    `input_sizes` is four integers or an integer tensor of shape (4,).
    """
    with tf.name_scope(name or "fastconv_conv2d_backprop_input"):
        numbers = _core.conv_geometry(strides, padding, data_format, dilations, algorithm, None, False)
        return _backprop_input("input_sizes", input_sizes, filters, "out_backprop", out_backprop, numbers)


def conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = 1,
    *,
    algorithm: str = "auto",
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `conv2d` with respect to its filters; as `fastconv.conv2d_backprop_filter`.

    `filter_sizes` is four integers or an integer tensor of shape (4,).
    """
    with tf.name_scope(name or "fastconv_conv2d_backprop_filter"):
        numbers = _core.conv_geometry(strides, padding, data_format, dilations, algorithm, None, False)
        return _backprop_filter(input, filter_sizes, out_backprop, numbers)


def depthwise_conv2d(
    input: Any,
    filters: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = 1,
    *,
    bias: Any = None,
    activation: str | None = None,
    algorithm: str = "auto",
    name: str | None = None,
) -> tf.Tensor:
    """Convolution of each channel with filters (R, S, C, M) of its own; as `fastconv.depthwise_conv2d`.

    The output has C*M channels, those of input channel c from c*M on, as in ``tf.nn.depthwise_conv2d``.
    """
    with tf.name_scope(name or "fastconv_depthwise_conv2d"):
        numbers = _core.conv_geometry(strides, padding, data_format, dilations, algorithm, activation, True)
        return _conv2d(input, filters, numbers, bias)


def depthwise_conv2d_backprop_input(
    input_sizes: Any,
    filters: Any,
    out_backprop: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = 1,
    *,
    algorithm: str = "auto",
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `depthwise_conv2d` with respect to its input."""
    with tf.name_scope(name or "fastconv_depthwise_conv2d_backprop_input"):
        numbers = _core.conv_geometry(strides, padding, data_format, dilations, algorithm, None, True)
        return _backprop_input("input_sizes", input_sizes, filters, "out_backprop", out_backprop, numbers)


def depthwise_conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = 1,
    *,
    algorithm: str = "auto",
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `depthwise_conv2d` with respect to its filters."""
    with tf.name_scope(name or "fastconv_depthwise_conv2d_backprop_filter"):
        numbers = _core.conv_geometry(strides, padding, data_format, dilations, algorithm, None, True)
        return _backprop_filter(input, filter_sizes, out_backprop, numbers)


def conv2d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NHWC",
    dilations: Any = 1,
    *,
    algorithm: str = "auto",
    name: str | None = None,
) -> tf.Tensor:
    """The transpose of `conv2d`, with filters (R, S, output channels, input channels); as ``tf.nn.conv2d_transpose``.

    `output_shape` is four integers or an integer tensor of shape (4,).
    """
    with tf.name_scope(name or "fastconv_conv2d_transpose"):
        numbers = _core.conv_geometry(strides, padding, data_format, dilations, algorithm, None, False)
        return _backprop_input("output_shape", output_shape, filters, "input", input, numbers)


def max_pool2d(
    input: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    *,
    name: str | None = None,
) -> tf.Tensor:
    """Maximum over each window; as `fastconv.max_pool2d` and ``tf.nn.max_pool2d``. `strides` default to `ksize`."""
    with tf.name_scope(name or "fastconv_max_pool2d"):
        numbers = _core.pool_geometry(ksize, strides, padding, data_format, False)
        x, geometry = _tensor("input", input), _geometry(numbers)
        if _may_be_differentiated() and numbers[4] * numbers[5] <= _MOST_TAPS:
            return _ops.fastconv_max_pool2d_with_taps(input=x, geometry=geometry).output
        return _ops.fastconv_max_pool2d(input=x, geometry=geometry)


def max_pool2d_with_argmax(
    input: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    include_batch_in_index: bool = False,
    *,
    name: str | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Maximum over each window, and where it was: ``(y*W + x)*C + c`` as int64, as ``tf.nn.max_pool_with_argmax``."""
    with tf.name_scope(name or "fastconv_max_pool2d_with_argmax"):
        numbers = _core.pool_geometry(ksize, strides, padding, data_format, include_batch_in_index)
        result = _ops.fastconv_max_pool2d_with_argmax(input=_tensor("input", input), geometry=_geometry(numbers))
        return result.output, result.argmax


def max_pool2d_grad(
    orig_input: Any,
    orig_output: Any,
    grad: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    *,
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `max_pool2d`; as `fastconv.max_pool2d_grad`."""
    with tf.name_scope(name or "fastconv_max_pool2d_grad"):
        numbers = _core.pool_geometry(ksize, strides, padding, data_format, False)
        x = _tensor("orig_input", orig_input)
        y = _tensor("orig_output", orig_output, ("orig_input", x))
        dy = _tensor("grad", grad, ("orig_input", x))
        return _ops.fastconv_max_pool2d_grad(orig_input=x, orig_output=y, grad=dy, geometry=_geometry(numbers))


def avg_pool2d(
    input: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    *,
    name: str | None = None,
) -> tf.Tensor:
    """Mean over the part of each window inside the input; as `fastconv.avg_pool2d` and ``tf.nn.avg_pool2d``."""
    with tf.name_scope(name or "fastconv_avg_pool2d"):
        numbers = _core.pool_geometry(ksize, strides, padding, data_format, False)
        return _ops.fastconv_avg_pool2d(input=_tensor("input", input), geometry=_geometry(numbers))


def avg_pool2d_grad(
    orig_input_shape: Any,
    grad: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    *,
    name: str | None = None,
) -> tf.Tensor:
    """Gradient of `avg_pool2d`; as `fastconv.avg_pool2d_grad`."""
    with tf.name_scope(name or "fastconv_avg_pool2d_grad"):
        numbers = _core.pool_geometry(ksize, strides, padding, data_format, False)
        return _ops.fastconv_avg_pool2d_grad(
            like=_like("orig_input_shape", orig_input_shape), grad=_tensor("grad", grad), geometry=_geometry(numbers)
        )


# ---- Gradients -------------------------------------------------------------------------------------------------------
# The numbers of a geometry (see attributes.h): 1 is the data format; 3 the activation of a convolution; 2 of a
# pooling says whether the arg max counts the batch.


def _numbers(geometry: tf.Tensor) -> list[int]:
    numbers: list[int] = geometry.shape.as_list()
    return numbers


def _with(geometry: tf.Tensor, index: int, value: int) -> tf.Tensor:
    numbers = _numbers(geometry)
    if numbers[index] == value:
        return geometry
    return _geometry([*numbers[:index], value, *numbers[index + 1 :]])


def _skips(op: Any, index: int) -> bool:
    """Whether nobody wants the gradient of an input; only a tape knows, else the graph prunes what is not used."""
    return index in getattr(op, "skip_input_indices", ())


def _scatter_behind(op: Any, dy: tf.Tensor) -> Any:
    """The op that gave `dy`, if it is the gradient of a max-pooling of a small layer's output, in a graph."""
    if tf.executing_eagerly() or hasattr(dy, "numpy"):  # an eager tensor has no op, not even inside a graph
        return None
    if not hasattr(op, "skip_input_indices"):  # of the fused op, a graph could not prune what nobody wants
        return None
    if dy.op.type != "FastconvMaxPool2DScatter" or _numbers(dy.op.inputs[3])[1] != _numbers(op.inputs[3])[1]:
        return None
    input, filters, _, geometry = op.inputs
    if not (input.shape[1:].is_fully_defined() and filters.shape.is_fully_defined()):
        return None
    # The batch does not matter. A ReLU's mask is where the pooling's output is not positive, if that is in this graph.
    sizes = [1, *input.shape[1:].as_list()], filters.shape.as_list()
    if not _core.max_pool_backprop_serves(_numbers(geometry), *sizes, input.dtype == tf.float64):
        return None
    relu, pool = _numbers(geometry)[3] == 1, dy.op.inputs[1].op
    if relu and not (pool.type == "FastconvMaxPool2DWithTaps" and pool.inputs[0] is op.outputs[0]):
        return None
    return dy.op


def _pooled_conv2d_gradient(op: Any, scatter: Any) -> list[tf.Tensor | None]:
    """As `_conv2d_gradient`, from what `scatter` would give it."""
    input, filters, bias, geometry = op.inputs
    _, taps, grad, pool_geometry = scatter.inputs
    if _numbers(geometry)[3] == 1:
        grad = tf.raw_ops.ReluGrad(gradients=grad, features=taps.op.outputs[0])
    given = {
        "input": input,
        "filters": filters,
        "taps": taps,
        "grad": grad,
        "geometry": _with(geometry, 3, 0),
        "pool_geometry": pool_geometry,
    }
    d_bias = d_input = None
    if _skips(op, 0):
        d_filters, d_bias = _ops.fastconv_conv2d_max_pool2d_backprop_filter_bias(**given)
    else:
        d_input, d_filters, d_bias = _ops.fastconv_conv2d_max_pool2d_backprop(**given)
    return [d_input, d_filters, d_bias if bias.shape.rank in (None, 1) else None, None]


def _conv2d_gradient(op: Any, dy: tf.Tensor) -> list[tf.Tensor | None]:
    input, filters, bias, geometry = op.inputs
    numbers = _numbers(geometry)
    d_input = d_filters = d_bias = None
    with_filters = not _skips(op, 1)
    with_bias = bias.shape.rank in (None, 1) and not _skips(op, 2)
    if with_filters and (scatter := _scatter_behind(op, dy)) is not None:
        return _pooled_conv2d_gradient(op, scatter)
    geometry = _with(geometry, 3, 0)
    if numbers[3] == 1 and with_bias:
        dy, d_bias = _ops.fastconv_relu_bias_grad(gradients=dy, features=op.outputs[0], geometry=geometry)
    elif numbers[3] == 1:
        dy = tf.raw_ops.ReluGrad(gradients=dy, features=op.outputs[0])
    elif with_bias and with_filters:
        d_filters, d_bias = _ops.fastconv_conv2d_backprop_filter_bias(
            input=input, like=filters, out_backprop=dy, geometry=geometry
        )
    elif with_bias:
        d_bias = tf.raw_ops.BiasAddGrad(out_backprop=dy, data_format="NCHW" if numbers[1] == 1 else "NHWC")
    if with_filters and d_filters is None:
        d_filters = _ops.fastconv_conv2d_backprop_filter(input=input, like=filters, out_backprop=dy, geometry=geometry)
    if not _skips(op, 0):
        d_input = _ops.fastconv_conv2d_backprop_input(like=input, filters=filters, out_backprop=dy, geometry=geometry)
    return [d_input, d_filters, d_bias, None]


def _relu_bias_gradient(op: Any, grad: tf.Tensor, grad_bias: tf.Tensor) -> list[tf.Tensor | None]:
    """Each gradient that passed the ReLU is in the output, and in its channel's sum."""
    _, features, geometry = op.inputs
    if _numbers(geometry)[1] == 1:
        grad_bias = tf.reshape(grad_bias, [-1, 1, 1])
    return [tf.raw_ops.ReluGrad(gradients=grad + grad_bias, features=features), None, None]


def _backprop_input_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    _, filters, dy, geometry = op.inputs
    bias = _no_bias(grad.dtype)
    return [
        None,
        _ops.fastconv_conv2d_backprop_filter(input=grad, like=filters, out_backprop=dy, geometry=geometry),
        _ops.fastconv_conv2d(input=grad, filters=filters, bias=bias, geometry=geometry),
        None,
    ]


def _backprop_filter_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    input, _, dy, geometry = op.inputs
    bias = _no_bias(grad.dtype)
    return [
        _ops.fastconv_conv2d_backprop_input(like=input, filters=grad, out_backprop=dy, geometry=geometry),
        None,
        _ops.fastconv_conv2d(input=input, filters=grad, bias=bias, geometry=geometry),
        None,
    ]


def _backprop_filter_bias_gradient(op: Any, grad: tf.Tensor, grad_bias: tf.Tensor) -> list[tf.Tensor | None]:
    input, _, dy, geometry = op.inputs
    return [
        _ops.fastconv_conv2d_backprop_input(like=input, filters=grad, out_backprop=dy, geometry=geometry),
        None,
        _ops.fastconv_conv2d(input=input, filters=grad, bias=grad_bias, geometry=geometry),
        None,
    ]


def _conv2d_max_pool2d_backprop_gradient(op: Any, *grads: tf.Tensor) -> list[tf.Tensor | None]:
    """All of these gradients are linear in what the pooling scatters, of which `scattered` is the gradient."""
    grad_input = grads[0] if len(grads) == 3 else None
    grad, grad_bias = grads[-2:]
    input, filters, taps, pooled, geometry, pool_geometry = op.inputs
    scattered = _ops.fastconv_conv2d(input=input, filters=grad, bias=grad_bias, geometry=geometry)
    if grad_input is not None:
        bias = _no_bias(grad.dtype)
        scattered += _ops.fastconv_conv2d(input=grad_input, filters=filters, bias=bias, geometry=geometry)
    dy = _ops.fastconv_max_pool2d_scatter(like=scattered, taps=taps, grad=pooled, geometry=pool_geometry)
    d_filters = None
    if grad_input is not None:
        d_filters = _ops.fastconv_conv2d_backprop_filter(
            input=grad_input, like=filters, out_backprop=dy, geometry=geometry
        )
    return [
        _ops.fastconv_conv2d_backprop_input(like=input, filters=grad, out_backprop=dy, geometry=geometry),
        d_filters,
        None,
        _ops.fastconv_max_pool2d_gather(values=scattered, taps=taps, geometry=pool_geometry),
        None,
        None,
    ]


def _max_pool2d_with_taps_gradient(op: Any, grad: tf.Tensor, _: Any) -> list[tf.Tensor | None]:
    input, geometry = op.inputs
    return [_ops.fastconv_max_pool2d_scatter(like=input, taps=op.outputs[1], grad=grad, geometry=geometry), None]


def _max_pool2d_scatter_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    _, taps, _, geometry = op.inputs
    return [None, None, _ops.fastconv_max_pool2d_gather(values=grad, taps=taps, geometry=geometry), None]


def _max_pool2d_gather_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    values, taps, geometry = op.inputs
    return [_ops.fastconv_max_pool2d_scatter(like=values, taps=taps, grad=grad, geometry=geometry), None, None]


def _max_pool2d_gradient(op: Any, grad: tf.Tensor, *_: Any) -> list[tf.Tensor | None]:
    input, geometry = op.inputs
    result = _ops.fastconv_max_pool2d_grad(
        orig_input=input, orig_output=op.outputs[0], grad=grad, geometry=_with(geometry, 2, 0)
    )
    return [result, None]


def _max_pool2d_grad_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    """The transpose of scattering to the maxima is gathering from them."""
    input, geometry = op.inputs[0], op.inputs[3]
    nchw = _numbers(geometry)[1] == 1
    where = _ops.fastconv_max_pool2d_with_argmax(input=input, geometry=_with(geometry, 2, 1)).argmax
    values = tf.transpose(grad, [0, 2, 3, 1]) if nchw else grad  # the arg max counts as NHWC
    return [None, None, tf.gather(tf.reshape(values, [-1]), where), None]


def _avg_pool2d_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    input, geometry = op.inputs
    return [_ops.fastconv_avg_pool2d_grad(like=input, grad=grad, geometry=geometry), None]


def _avg_pool2d_grad_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    return [None, _ops.fastconv_avg_pool2d(input=grad, geometry=op.inputs[2]), None]


def _register_gradients() -> None:
    for op, gradient in {
        "FastconvConv2D": _conv2d_gradient,
        "FastconvConv2DBackpropInput": _backprop_input_gradient,
        "FastconvConv2DBackpropFilter": _backprop_filter_gradient,
        "FastconvConv2DBackpropFilterBias": _backprop_filter_bias_gradient,
        "FastconvConv2DMaxPool2DBackprop": _conv2d_max_pool2d_backprop_gradient,
        "FastconvConv2DMaxPool2DBackpropFilterBias": _conv2d_max_pool2d_backprop_gradient,
        "FastconvReluBiasGrad": _relu_bias_gradient,
        "FastconvMaxPool2D": _max_pool2d_gradient,
        "FastconvMaxPool2DWithTaps": _max_pool2d_with_taps_gradient,
        "FastconvMaxPool2DScatter": _max_pool2d_scatter_gradient,
        "FastconvMaxPool2DGather": _max_pool2d_gather_gradient,
        "FastconvMaxPool2DWithArgmax": _max_pool2d_gradient,
        "FastconvMaxPool2DGrad": _max_pool2d_grad_gradient,
        "FastconvAvgPool2D": _avg_pool2d_gradient,
        "FastconvAvgPool2DGrad": _avg_pool2d_grad_gradient,
    }.items():
        try:
            tf.RegisterGradient(op)(gradient)
        except KeyError:  # this module was loaded before, and TensorFlow keeps its registry
            return


_register_gradients()
