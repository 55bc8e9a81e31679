"""Small ONNX models for the tests of fastconv.onnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fastconv.onnx
import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = Any
Shape = Sequence[int | str]  # a string names an unknown size


class Model:
    """Collects nodes and weights. The values of weights are random, and equal for equal models."""

    def __init__(self, dtype: str = "float64", opset: int = 17) -> None:
        self.dtype = np.dtype(dtype)
        self.opset = opset
        self.kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def input(self, *shape: int | str, name: str = "x") -> str:
        self.inputs.append(helper.make_tensor_value_info(name, self.kind, shape))
        return name

    def constant(self, values: Any) -> str:
        """The name of a new initializer. Floats get the type of the model, and integers become int64."""
        array = np.asarray(values)
        array = array.astype(self.dtype if np.issubdtype(array.dtype, np.floating) else np.int64)
        self.weights.append(numpy_helper.from_array(array, f"constant_{len(self.weights)}"))
        return str(self.weights[-1].name)

    def random(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        return self.constant(self.rng.uniform(low, high, shape))

    def add(self, operator: str, *inputs: Any, count: int = 1, **attributes: Any) -> Any:
        """Append a node. Inputs other than names become constants. Returns the name or names of its outputs."""
        names = ["" if x is None else x if isinstance(x, str) else self.constant(x) for x in inputs]
        label = f"{operator}_{len(self.nodes)}"
        outputs = [f"{label}_{index}" for index in range(count)]
        self.nodes.append(helper.make_node(operator, names, outputs, name=label, **attributes))
        return outputs[0] if count == 1 else outputs

    def output(self, *names: str) -> Model:
        self.outputs += [helper.make_tensor_value_info(name, self.kind, None) for name in names]
        return self

    def conv(self, x: str, channels: int, filters: int, size: int = 3, groups: int = 1, **attributes: Any) -> str:
        attributes.setdefault("pads", [size // 2] * 4)
        if "auto_pad" in attributes:
            del attributes["pads"]
        weights = self.random(filters, channels // groups, size, size)
        return str(self.add("Conv", x, weights, self.random(filters), group=groups, **attributes))

    def batch_norm(self, x: str, channels: int) -> str:
        gamma, beta, mean = (self.random(channels) for _ in range(3))
        return str(self.add("BatchNormalization", x, gamma, beta, mean, self.random(channels, low=0.5, high=2.0)))

    def proto(self) -> Any:
        graph = helper.make_graph(self.nodes, "test", self.inputs, self.outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def save(self, folder: Path) -> Path:
        path = folder / "model.onnx"
        onnx.save(self.proto(), path)
        return path


def expected(model: Any, inputs: Mapping[str, Array]) -> list[Array]:
    """The outputs that onnx's own evaluator computes."""
    return list(ReferenceEvaluator(model).run(None, dict(inputs)))


def build(make: Callable[[Model], None], dtype: str = "float64", opset: int = 17) -> Model:
    model = Model(dtype, opset)
    make(model)
    return model


def check(m: Model, folder: Path, *shapes: tuple[int, ...], single: bool = False) -> Any:
    """Load a model as a network, and compare it with onnx's evaluator for inputs of these shapes.

    `single` is for models whose values onnx's evaluator rounds to float32. Returns the network.
    """
    net = fastconv.onnx.load(m.save(folder))
    for shape in shapes:
        x = np.random.default_rng(0).uniform(-2, 2, shape)
        results, correct = net(x), expected(m.proto(), {"x": x})
        for result, y in zip(results if len(correct) > 1 else [results], correct, strict=True):
            np.testing.assert_allclose(result, y, rtol=1e-9, atol=1e-6 if single else 1e-12)
    return net
