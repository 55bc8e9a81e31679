"""TensorFlow's ops for single layers: called directly, and inside a tf.function."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from bench.cases import Case
from bench.contestants import Candidate, fetched
from bench.layers import Layer
from bench.oracle import Array

FRAMEWORK = True


def setup(threads: int, inter_op: int = 1) -> str:
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(inter_op)
    return str(tf.__version__)


def _padding(layer: Layer) -> dict[str, Any]:
    if layer.pad == 0:
        return {"padding": "VALID"}
    if layer.stride == 1 and layer.r == layer.s == 2 * layer.pad + 1:
        return {"padding": "SAME"}
    pad = layer.pad
    return {"padding": "EXPLICIT", "explicit_paddings": [0, 0, pad, pad, pad, pad, 0, 0]}


def candidates(case: Case, arrays: dict[str, Array]) -> list[Candidate]:
    layer = case.layer
    convolution = "DepthwiseConv2dNative" if layer.depthwise else "Conv2D"
    window = {"ksize": [1, layer.r, layer.s, 1]}
    name, operands, more = {
        "forward": (convolution, {"input": "x", "filter": "w"}, {}),
        "input-gradient": (
            f"{convolution}BackpropInput",
            {"filter": "w", "out_backprop": "dy"},
            {"input_sizes": tf.constant(layer.input_shape)},
        ),
        "filter-gradient": (
            f"{convolution}BackpropFilter",
            {"input": "x", "out_backprop": "dy"},
            {"filter_sizes": tf.constant(layer.filter_shape)},
        ),
        "max-pool": ("MaxPool", {"input": "x"}, window),
        "max-pool-gradient": ("MaxPoolGrad", {"orig_input": "x", "orig_output": "y", "grad": "dy"}, window),
    }[case.direction]
    op, fixed = getattr(tf.raw_ops, name), {"strides": [1, layer.stride, layer.stride, 1], **_padding(layer), **more}

    def call(*tensors: Any) -> Any:
        return op(**dict(zip(operands, tensors, strict=True)), **fixed)

    tensors = [tf.constant(arrays[name]) for name in operands.values()]
    graph = tf.function(call).get_concrete_function(*[tf.TensorSpec(t.shape, t.dtype) for t in tensors])
    calls = {"op": call, "tf.function": graph}
    return [fetched(label, functools.partial(one, *tensors), lambda y: y.numpy()) for label, one in calls.items()]
