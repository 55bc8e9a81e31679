"""ONNX Runtime, forward only: a model of one node, filters packed when the session starts, output memory reused."""

from __future__ import annotations

import functools

import onnx
import onnxruntime

from bench import contestants
from bench.cases import Case
from bench.contestants import INFERENCE_ONLY, Candidate, NotServed, channels_first, channels_last, fetched
from bench.oracle import Array

FRAMEWORK = False


def setup(threads: int) -> str:
    onnxruntime.set_default_logger_severity(3)
    return str(onnxruntime.__version__)


def model(case: Case, arrays: dict[str, Array]) -> bytes:
    """A model of one node, y = f(x), on `channels_first` arrays."""
    layer, helper = case.layer, onnx.helper
    attributes = {"kernel_shape": [layer.r, layer.s], "strides": [layer.stride] * 2, "pads": [layer.pad] * 4}
    weights = [] if layer.pool else [onnx.numpy_helper.from_array(arrays["w"], "w")]
    if layer.pool:
        node = helper.make_node("MaxPool", ["x"], ["y"], **attributes)
    else:
        node = helper.make_node("Conv", ["x", "w"], ["y"], group=layer.groups, **attributes)
    kind = helper.np_dtype_to_tensor_dtype(arrays["x"].dtype)
    x, y = (helper.make_tensor_value_info(name, kind, arrays[of].shape) for name, of in (("x", "x"), ("y", "dy")))
    graph = helper.make_graph([node], "layer", [x], [y], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def candidates(case: Case, arrays: dict[str, Array]) -> list[Candidate]:
    if case.direction not in ("forward", "max-pool"):
        raise NotServed(INFERENCE_ONLY)
    arrays = channels_first(case, arrays)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = contestants.threads()
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model(case, arrays), options, providers=["CPUExecutionProvider"])
    x = onnxruntime.OrtValue.ortvalue_from_numpy(arrays["x"])
    y = onnxruntime.OrtValue.ortvalue_from_shape_and_type(arrays["dy"].shape, arrays["dy"].dtype.type, "cpu")
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", y)
    run = functools.partial(session.run_with_iobinding, binding)
    return [fetched("session", run, lambda _: channels_last(case, y.numpy()))]
