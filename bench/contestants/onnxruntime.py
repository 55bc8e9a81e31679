"""ONNX Runtime, forward only: a model of one node or a network, filters packed when the session starts.

The memory of the output is reused.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import onnx
import onnxruntime

from bench import contestants
from bench.cases import Case
from bench.contestants import (
    INFERENCE_ONLY,
    Candidate,
    NotServed,
    as_nhwc,
    channels_first,
    channels_last,
    existing,
    fetched,
    nchw,
)
from bench.oracle import Array
from bench.serving.task import Served

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


def candidates(task: Case | Served, arrays: dict[str, Array]) -> Iterator[Candidate]:
    if isinstance(task, Served):
        # ONNX Runtime's own layout, in blocks of channels, is not always faster.
        levels = onnxruntime.GraphOptimizationLevel
        for label, level in (("blocked", levels.ORT_ENABLE_ALL), ("plain", levels.ORT_ENABLE_EXTENDED)):
            yield _session(label, str(existing(task.file("onnx"))), nchw(arrays["x"]), as_nhwc, level)
        return
    if task.direction not in ("forward", "max-pool"):
        raise NotServed(INFERENCE_ONLY)
    arrays = channels_first(task, arrays)
    yield _session("session", model(task, arrays), arrays["x"], lambda y: channels_last(task, y))


def _session(
    label: str, source: str | bytes, images: Array, fetch: Callable[[Array], Array], level: Any = None
) -> Candidate:
    """A session for images of a fixed size, which writes into the same memory in every call."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = contestants.threads()
    options.inter_op_num_threads = 1
    if level is not None:
        options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    (input_,), (output,) = session.get_inputs(), session.get_outputs()
    x = onnxruntime.OrtValue.ortvalue_from_numpy(images)
    y = onnxruntime.OrtValue.ortvalue_from_shape_and_type(output.shape, images.dtype.type, "cpu")
    binding = session.io_binding()
    binding.bind_ortvalue_input(input_.name, x)
    binding.bind_ortvalue_output(output.name, y)
    return fetched(label, functools.partial(session.run_with_iobinding, binding), lambda _: fetch(y.numpy()))
