"""TensorFlow's ops for single layers: called directly, and inside a tf.function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from bench.cases import Case
from bench.contestants import Candidate, fetched
from bench.layers import Layer
from bench.oracle import Array

FRAMEWORK = True


def setup(threads: int) -> str:
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return str(tf.__version__)


def _padding(layer: Layer) -> dict[str, Any]:
    if layer.pad == 0:
        return {"padding": "VALID"}
    if layer.stride == 1 and layer.r == layer.s == 2 * layer.pad + 1:
        return {"padding": "SAME"}
    pad = layer.pad
    return {"padding": "EXPLICIT", "explicit_paddings": [0, 0, pad, pad, pad, pad, 0, 0]}


def _op(case: Case, data: dict[str, Any]) -> tuple[Callable[..., Any], list[Any]]:
    """The op of a case as a function of tensors, and the tensors."""
    layer = case.layer
    raw = tf.raw_ops
    common = {"strides": [1, layer.stride, layer.stride, 1], **_padding(layer)}
    if layer.pool:
        common["ksize"] = [1, layer.r, layer.s, 1]
        if case.direction == "max-pool":
            return lambda x: raw.MaxPool(input=x, **common), [data["x"]]
        return (
            lambda x, y, dy: raw.MaxPoolGrad(orig_input=x, orig_output=y, grad=dy, **common),
            [data["x"], data["y"], data["dy"]],
        )
    operands = {
        "forward": {"input": "x", "filter": "w"},
        "input-gradient": {"filter": "w", "out_backprop": "dy"},
        "filter-gradient": {"input": "x", "out_backprop": "dy"},
    }[case.direction]
    sizes = {
        "forward": {},
        "input-gradient": {"input_sizes": tf.constant(layer.input_shape)},
        "filter-gradient": {"filter_sizes": tf.constant(layer.filter_shape)},
    }[case.direction]
    suffix = {"forward": "", "input-gradient": "BackpropInput", "filter-gradient": "BackpropFilter"}[case.direction]
    op = getattr(raw, ("DepthwiseConv2dNative" if layer.depthwise else "Conv2D") + suffix)

    def call(*tensors: Any) -> Any:
        return op(**dict(zip(operands, tensors, strict=True)), **sizes, **common)

    return call, [data[name] for name in operands.values()]


def candidates(case: Case, arrays: dict[str, Array]) -> list[Candidate]:
    call, tensors = _op(case, {key: tf.constant(array) for key, array in arrays.items()})
    graph = tf.function(call).get_concrete_function(*[tf.TensorSpec(t.shape, t.dtype) for t in tensors])

    def fetch(result: Any) -> Array:
        array: Array = result.numpy()
        return array

    return [
        fetched("op", functools.partial(call, *tensors), fetch),
        fetched("tf.function", functools.partial(graph, *tensors), fetch),
    ]
