"""LiteRT (formerly TensorFlow Lite): inference of whole networks, with XNNPACK, its default on CPUs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

try:
    import ai_edge_litert as package
    from ai_edge_litert.interpreter import Interpreter
except ImportError:  # older TensorFlow contains the interpreter
    import tensorflow as package

    Interpreter = package.lite.Interpreter

from bench import contestants
from bench.contestants import Candidate, NotServed, existing, fetched
from bench.oracle import Array
from bench.serving.task import OTHER_FORM, Served

FRAMEWORK = False


def setup(threads: int) -> str:
    return f"{package.__name__} {package.__version__}"


def candidates(task: Served, arrays: dict[str, Array]) -> list[Candidate]:
    if task.layer is not None:
        raise NotServed(OTHER_FORM)
    warnings.simplefilter("ignore")  # TensorFlow warns that ai_edge_litert will replace tf.lite
    interpreter = Interpreter(str(existing(task.file("tflite"))), num_threads=contestants.threads())
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], arrays["x"])
    output = interpreter.get_output_details()[0]["index"]

    def fetch(_: Any) -> Array:
        return np.array(interpreter.get_tensor(output))

    return [fetched("interpreter", interpreter.invoke, fetch)]
