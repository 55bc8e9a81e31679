"""OpenVINO: inference of an ONNX model, filters packed when the model is compiled, input and output memory reused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openvino

from bench import contestants
from bench.contestants import Candidate, as_nhwc, existing, fetched, nchw
from bench.oracle import Array
from bench.serving.task import Served

FRAMEWORK = False


def setup(threads: int) -> str:
    return str(openvino.get_version()).partition("-")[0]


def candidates(task: Served, arrays: dict[str, Array]) -> Iterator[Candidate]:
    for layout in ("NCHW", "NHWC"):
        yield _request(task, layout, arrays["x"])


def _request(task: Served, layout: str, images: Array) -> Candidate:
    """The model with images in `layout`. Which layout is faster depends on the first and the last layer."""
    core = openvino.Core()
    model = core.read_model(existing(task.file("onnx")))
    if layout == "NHWC":
        steps = openvino.preprocess.PrePostProcessor(model)
        ends = [(steps.input(), model.input()), (steps.output(), model.output())]
        for end, port in ends:
            if len(port.shape) == 4:
                end.tensor().set_layout(openvino.Layout("NHWC"))
                end.model().set_layout(openvino.Layout("NCHW"))
        model = steps.build()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": contestants.threads(),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    x = images if layout == "NHWC" else nchw(images)
    tensor = openvino.Tensor(x, shared_memory=True)
    request.set_input_tensor(tensor)

    def run(kept: object = (x, tensor)) -> object:  # the request does not keep the memory of its input alive
        return request.infer()

    def fetch(_: object) -> Array:
        y = np.array(request.get_output_tensor().data)
        return y if layout == "NHWC" else as_nhwc(y)

    return fetched(layout, run, fetch)
