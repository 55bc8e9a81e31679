"""Walks the nodes of an ONNX model and builds the graph of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from fastconv.network._graph import Graph, Shape
from fastconv.onnx._tensors import Builder, Tensor, Unsupported

Converter = Callable[["Node", Builder], "Tensor | list[Tensor]"]
CONVERTERS: dict[str, Converter] = {}

_TYPES: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.DOUBLE: np.dtype(np.float64),
}
_LARGEST_FOLDED = 1 << 24  # elements: a small node must not make a huge constant


def converts(*operators: str) -> Callable[[Converter], Converter]:
    """Register a function for operators of ONNX."""

    def register(function: Converter) -> Converter:
        CONVERTERS.update(dict.fromkeys(operators, function))
        return function

    return register


class Node:
    """One node of the model, as its converter sees it."""

    def __init__(self, importer: _Importer, proto: Any) -> None:
        self.importer = importer
        self.proto = proto
        self.name = proto.name or proto.output[0]
        self.opset = importer.opset
        self._attributes = {attribute.name: attribute for attribute in proto.attribute}

    def attribute(self, name: str, default: Any = None) -> Any:
        if name not in self._attributes:
            return default
        value = onnx.helper.get_attribute_value(self._attributes[name])
        return value.decode() if isinstance(value, bytes) else value

    def given(self, index: int) -> bool:
        return index < len(self.proto.input) and bool(self.proto.input[index])

    def count(self) -> int:
        return len(self.proto.input)

    def is_constant(self, index: int) -> bool:
        return self.given(index) and self.importer.constant(self.proto.input[index]) is not None

    def constant(self, index: int, what: str) -> Any:
        """The value of an input that must be known now. None if it is left out."""
        if not self.given(index):
            return None
        value = self.importer.constant(self.proto.input[index])
        if value is None:
            raise Unsupported(f"its {what} must be an initializer or follow from constants")
        return value

    def tensor(self, index: int = 0) -> Tensor:
        if not self.given(index):
            raise Unsupported(f"its input {index} is missing")
        return self.importer.tensor(self.proto.input[index])

    def shape(self, output: int = 0) -> Shape | None:
        """The shape of an output, as far as onnx could infer it."""
        return self.importer.shapes.get(self.proto.output[output])


def graph_of(model: Any) -> Graph:
    """The graph of a model, with all its nodes."""
    from fastconv.onnx import _convolutions, _elementwise, _normalization, _pooling, _shapes  # noqa: F401

    return _Importer(model).run()


class _Importer:
    def __init__(self, model: Any) -> None:
        self.model = _with_shapes(model)
        graph = self.model.graph
        self.opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
        self.constants: dict[str, Any] = {}
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = [entry for entry in graph.input if entry.name not in self.initializers]
        self.shapes = {
            entry.name: _shape(entry) for entry in (*graph.input, *graph.value_info, *graph.output) if _has_shape(entry)
        }
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.tensors: dict[str, Tensor] = {}
        self.problems: dict[str, str] = {}
        self.graph = Graph(self._dtype())
        self._fold_constants()

    def _dtype(self) -> np.dtype[Any]:
        types = {entry.type.tensor_type.elem_type for entry in self.inputs}
        if len(types) != 1 or not types <= set(_TYPES):
            names = ", ".join(sorted(onnx.TensorProto.DataType.Name(kind) for kind in types)) or "none"
            raise ValueError(f"the inputs of the model must all be FLOAT or all be DOUBLE, got {names}")
        return _TYPES[types.pop()]

    def run(self) -> Graph:
        for entry in self.inputs:
            shape = self.shapes.get(entry.name)
            if shape is None:
                raise ValueError(
                    f"the model does not say how many dimensions its input {entry.name!r} has: export it with the "
                    "shapes of its inputs"
                )
            self.tensors[entry.name] = Tensor(self.graph.input(entry.name, shape), shape)
        for entry in self.model.graph.output:
            self._need(entry.name)
        if self.problems:
            lines = "".join(f"\n- {problem}" for problem in self.problems.values() if problem)
            raise ValueError(f"the model cannot be loaded, because of these nodes:{lines}")
        for entry in self.model.graph.output:
            value = Builder(self.graph, "").plain(self.tensors[entry.name])
            self.graph.outputs.append((entry.name, value.index))
        return self.graph

    def _need(self, output: str) -> None:
        """Convert the nodes on which an output depends, in an order in which they can run."""
        stack = [output]
        while stack:
            name = stack[-1]
            node = self.makers.get(name)
            if name in self.tensors or name in self.problems or self.constant(name) is not None or node is None:
                if name not in self.tensors and name not in self.problems:
                    self._constant_tensor(name)
                stack.pop()
                continue
            missing = [
                source
                for source in node.input
                if source
                and source not in self.tensors
                and source not in self.problems
                and self.constant(source) is None
                and source in self.makers
            ]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            self._convert(node)

    def _convert(self, proto: Any) -> None:
        node = Node(self, proto)
        outputs = [name for name in proto.output if name]
        try:
            convert = CONVERTERS.get(proto.op_type) if proto.domain in ("", "ai.onnx") else None
            if convert is None:
                raise Unsupported("this operator is not supported")
            if any(source in self.problems for source in proto.input):
                self.problems.update(dict.fromkeys(outputs, ""))
                return
            result = convert(node, Builder(self.graph, node.name))
        except Unsupported as reason:
            operator = f"{proto.domain}.{proto.op_type}" if proto.domain else proto.op_type
            self.problems.update(dict.fromkeys(outputs, ""))
            self.problems[proto.output[0]] = f"{node.name!r} ({operator}): {reason}"
            return
        results = result if isinstance(result, list) else [result]
        if len(results) < len(outputs):
            self.problems[outputs[len(results)]] = (
                f"{node.name!r} ({proto.op_type}): only its first output is supported"
            )
        self.tensors.update(zip(outputs, results, strict=False))

    def tensor(self, name: str) -> Tensor:
        if name not in self.tensors:
            self._constant_tensor(name)
        return self.tensors[name]

    def _constant_tensor(self, name: str) -> None:
        value = self.constant(name)
        if value is None or not np.issubdtype(value.dtype, np.floating):
            raise ValueError(
                f"the model is broken: nothing computes {name!r}" if value is None else f"{name!r} is {value.dtype}"
            )
        self.tensors[name] = Tensor(self.graph.constant(value), value.shape)

    def constant(self, name: str) -> Any:
        """The value of an initializer, or of a node whose inputs are all constant. None if it is not constant."""
        if name not in self.constants and name in self.initializers:
            self.constants[name] = numpy_helper.to_array(self.initializers[name])
        return self.constants.get(name)

    def _fold_constants(self) -> None:
        """Evaluate the nodes that depend on constants only. Nodes are in an order in which they can run."""
        for proto in self.model.graph.node:
            known = self._known_shape(proto)
            if known is not None:
                self.constants[proto.output[0]] = known
                continue
            inputs = {name: self.constant(name) for name in proto.input if name}
            if any(value is None for value in inputs.values()) or "Random" in proto.op_type:
                continue
            if not any(attribute.HasField("g") for attribute in proto.attribute):
                self.constants.update(zip(proto.output, self._evaluate(proto, inputs), strict=False))

    def _known_shape(self, proto: Any) -> Any:
        """The result of a Shape node, if the shape is known."""
        if proto.op_type != "Shape":
            return None
        shape = self.shapes.get(proto.input[0])
        if shape is None or None in shape:
            return None
        node = Node(self, proto)
        return np.asarray(shape, np.int64)[node.attribute("start", 0) : node.attribute("end", len(shape))]

    def _evaluate(self, proto: Any, inputs: dict[str, Any]) -> list[Any]:
        if sum(np.asarray(value).size for value in inputs.values()) > _LARGEST_FOLDED:
            return []
        graph = onnx.helper.make_graph(
            [proto],
            "constant",
            [
                onnx.helper.make_tensor_value_info(s, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
                for s, v in inputs.items()
            ],
            [onnx.ValueInfoProto(name=name) for name in proto.output if name],
        )
        model = onnx.helper.make_model(graph, opset_imports=self.model.opset_import)
        try:
            return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, inputs)]
        except Exception:  # an operator that the evaluator lacks: the node is converted or refused later
            return []


def _with_shapes(model: Any) -> Any:
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # onnx raises its own types
        raise ValueError(f"the ONNX model is broken: {str(error).splitlines()[0]}") from error


def _has_shape(entry: Any) -> bool:
    return bool(entry.type.HasField("tensor_type") and entry.type.tensor_type.HasField("shape"))


def _shape(entry: Any) -> Shape:
    sizes = entry.type.tensor_type.shape.dim
    return tuple(size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else None for size in sizes)
