"""ONNX Runtime, forward only: a model of one node, filters packed when the session starts, output memory reused."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnxruntime

from bench.cases import Case
from bench.contestants import Candidate, NotServed, fetched
from bench.oracle import Array

FRAMEWORK = False
_threads = 1


def setup(threads: int) -> str:
    global _threads
    _threads = threads
    onnxruntime.set_default_logger_severity(3)
    return str(onnxruntime.__version__)


def candidates(case: Case, arrays: dict[str, Array]) -> list[Candidate]:
    layer = case.layer
    if case.direction not in ("forward", "max-pool"):
        raise NotServed("inference only")
    attributes = {
        "kernel_shape": [layer.r, layer.s],
        "strides": [layer.stride] * 2,
        "pads": [layer.pad] * 4,
    }
    weights = []
    if layer.pool:
        node = onnx.helper.make_node("MaxPool", ["x"], ["y"], **attributes)
    else:
        w = arrays["w"].reshape(layer.r, layer.s, -1, layer.k).transpose(3, 2, 0, 1)
        weights = [onnx.numpy_helper.from_array(np.ascontiguousarray(w), "w")]
        node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], group=layer.groups, **attributes)
    x = np.ascontiguousarray(arrays["x"].transpose(0, 3, 1, 2))
    shape = (layer.n, layer.channels_out, layer.p, layer.q)
    kind = onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = onnx.helper.make_graph(
        [node],
        "layer",
        [onnx.helper.make_tensor_value_info("x", kind, x.shape)],
        [onnx.helper.make_tensor_value_info("y", kind, shape)],
        weights,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, x.dtype.type, "cpu")
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    binding.bind_ortvalue_output("y", output)
    run = functools.partial(session.run_with_iobinding, binding)
    return [fetched("session", run, lambda _: np.ascontiguousarray(output.numpy().transpose(0, 2, 3, 1)))]
