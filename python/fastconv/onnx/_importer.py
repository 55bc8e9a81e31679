"""Walks the nodes of an ONNX model and builds the graph of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from fastconv.network._graph import Graph, Shape
from fastconv.onnx._channel_shuffle import find_channel_shuffles
from fastconv.onnx._constants import Constants
from fastconv.onnx._gelu import find_gelu
from fastconv.onnx._layer_norm import find_group_normalization, find_layer_normalization
from fastconv.onnx._matching import Nodes
from fastconv.onnx._sizes import Size
from fastconv.onnx._tensors import Builder, Tensor, Unsupported

Converter = Callable[["Node", Builder], "Tensor | list[Tensor]"]
CONVERTERS: dict[str, Converter] = {}

_TYPES: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.DOUBLE: np.dtype(np.float64),
}


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
        self.name = _name(proto)
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
        """The value of an input, which must be constant. None if the input is left out."""
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

    def sizes(self, index: int, what: str) -> list[int | Size]:
        """Integers of an input. Some may be sizes that are known only when the network runs."""
        sizes = self.importer.constants.sizes(self.proto.input[index]) if self.given(index) else None
        if sizes is None:
            raise Unsupported(f"its {what} must be an initializer or follow from the shapes of the model's inputs")
        return sizes

    def sizes_before(self) -> list[int | Size]:
        """The shape of the first input."""
        return self.importer.constants.shape_of(self.proto.input[0]) or []

    def sizes_after(self) -> list[int | Size]:
        """The shape of the first output, as far as onnx could infer it."""
        return self.importer.constants.shape_of(self.proto.output[0]) or []

    def dtype(self) -> np.dtype[Any] | None:
        """The type of the first output. None if the type is unknown, or neither float32 nor float64."""
        return self.importer.types.get(self.proto.output[0])


def graph_of(model: Any) -> Graph:
    """The graph of a model, with all its nodes."""
    return _Importer(model).run()


class _Importer:
    def __init__(self, model: Any) -> None:
        _check_order(model.graph)
        self.model = model
        graph = model.graph
        self.opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
        self.constants = Constants(model)
        self.shapes, self.symbols = self.constants.shapes, self.constants.symbols
        self.types = {name: _TYPES.get(kind) for name, kind in self.constants.kinds.items()}
        initializers = {tensor.name for tensor in graph.initializer}
        self.inputs = [entry for entry in graph.input if entry.name not in initializers]
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.tensors: dict[str, Tensor] = {}
        self.problems: dict[str, str] = {}
        self.graph = Graph(self._dtype())
        self.original = self.makers  # messages name these nodes, which the user can find in the model
        nodes = Nodes(self.original, self.constant)
        self.makers = {
            **self.original,
            **find_gelu(nodes),
            **find_channel_shuffles(self.original, self.constants),
            **find_layer_normalization(nodes, self.constants),
            **find_group_normalization(nodes, self.constants),
        }

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
                    self._constant_output(name)
                stack.pop()
                continue
            missing = [source for source in node.input if self._must_be_converted(source)]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            self._convert(node)

    def _constant_output(self, name: str) -> None:
        try:
            self._constant_tensor(name)
        except Unsupported as reason:
            self.problems[name] = f"the output {name!r}: {reason}"

    def _must_be_converted(self, name: str) -> bool:
        """Whether a node must compute this value. Integers are sizes, which follow from the shapes of tensors."""
        return (
            name in self.makers
            and name not in self.tensors
            and name not in self.problems
            and self.constant(name) is None
            and self.types.get(name, self.graph.dtype) is not None
        )

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
            self.problems.update(dict.fromkeys(outputs, ""))
            self.problems[outputs[0]] = f"{node.name!r} ({self._operator(proto)}): {reason}"
            return
        results = result if isinstance(result, list) else [result]
        self.tensors.update((name, y) for name, y in zip(proto.output, results, strict=False) if name)
        more = [name for name in proto.output[len(results) :] if name]
        if more:
            self.problems.update(dict.fromkeys(more, ""))
            self.problems[more[0]] = f"{node.name!r} ({proto.op_type}): only its first output is supported"

    def _operator(self, proto: Any) -> str:
        """The operator for messages. If the node replaces several nodes of the model, that of the last of them."""
        last = self.original[next(name for name in proto.output if name)]
        operator = f"{last.domain}.{last.op_type}" if last.domain else last.op_type
        return operator if last is proto else f"{operator}, together with nodes before it"

    def tensor(self, name: str) -> Tensor:
        if name not in self.tensors:
            self._constant_tensor(name)
        return self.tensors[name]

    def _constant_tensor(self, name: str) -> None:
        value = self.constant(name)
        if value is None and name not in self.makers:
            raise ValueError(f"the model is broken: nothing computes {name!r}")
        if value is None or not np.issubdtype(value.dtype, np.floating):
            raise Unsupported(f"{name!r} is neither float32 nor float64")
        self.tensors[name] = Tensor(self.graph.constant(value), value.shape)

    def constant(self, name: str) -> Any:
        """The value of an initializer, or of a node whose inputs are all constant. None if it is not constant."""
        return self.constants.get(name)


def _check_order(graph: Any) -> None:
    """Each value must be computed once, before it is used. So no value depends on itself."""
    known = {entry.name for entry in (*graph.input, *graph.initializer)} | {""}
    for node in graph.node:
        for name in node.input:
            if name not in known:
                raise ValueError(f"the ONNX model is broken: nothing computes {name!r} before {_name(node)!r} uses it")
        for name in node.output:
            if name and name in known:
                raise ValueError(f"the ONNX model is broken: {_name(node)!r} computes {name!r}, which already exists")
            known.add(name)
    for entry in graph.output:
        if entry.name not in known:
            raise ValueError(f"the ONNX model is broken: nothing computes its output {entry.name!r}")


def _name(proto: Any) -> str:
    """The name of a node. Some exporters name only the outputs."""
    return str(proto.name or next(iter(proto.output), proto.op_type))
