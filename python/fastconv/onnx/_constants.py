"""Shapes and constants of an ONNX model, as far as they are known before it runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from fastconv.network._graph import Shape

_LARGEST_FOLDED = 1 << 24  # elements: a small node must not make a huge constant

# Operators whose result may be much larger than their inputs.
_GROW = ("ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample")
# Operators that move sizes and do not change them. They also work where only some of the sizes are known.
_MOVES = ("Concat", "Gather", "Identity", "Slice", "Squeeze", "Unsqueeze")
_UNKNOWN = -(1 << 40)  # This number and those below it stand for sizes that are not known.


class Constants:
    """The values that follow from initializers and from the shapes of the model's inputs.

    Attributes
    ----------
    shapes, symbols, kinds : dict
        For each tensor that onnx could infer: its shape, the names of its sizes, its element type.
    """

    def __init__(self, model: Any) -> None:
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.shapes: dict[str, Shape] = {}
        self.symbols: dict[str, list[str]] = {}
        self.kinds: dict[str, int] = {}
        self._opsets = model.opset_import
        self._values: dict[str, Any] = {}
        self._partial: dict[str, Any] = {}  # sizes of which some are not known
        self._infer(model)
        while self._fold(model):
            self._infer(self._with_values(model))  # Sizes that are known now may lead to further shapes.

    def get(self, name: str) -> Any:
        """The value of a constant. None if it is not constant."""
        if name not in self._values and name in self.initializers:
            self._values[name] = _array(self.initializers[name])
        return self._values.get(name)

    def _infer(self, model: Any) -> None:
        try:
            graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        except Exception as error:  # onnx raises its own types
            raise ValueError(f"the ONNX model is broken: {(str(error).splitlines() or ['?'])[0]}") from error
        for entry in (*graph.input, *graph.value_info, *graph.output):
            kind = entry.type.tensor_type
            if entry.type.HasField("tensor_type") and kind.elem_type:
                self.kinds[entry.name] = kind.elem_type
            if entry.type.HasField("tensor_type") and kind.HasField("shape"):
                self.shapes[entry.name] = tuple(
                    size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else None
                    for size in kind.shape.dim
                )
                self.symbols[entry.name] = [size.dim_param for size in kind.shape.dim]

    def _with_values(self, model: Any) -> Any:
        """The model with sizes that are known now as initializers, instead of the nodes that compute them."""
        result = onnx.ModelProto()
        result.CopyFrom(model)
        del result.graph.node[:]
        for node in model.graph.node:
            values = {name: self._values.get(name) for name in node.output if name}
            if all(value is not None and value.dtype == np.int64 for value in values.values()):
                result.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in values.items())
            else:
                result.graph.node.append(node)
        return result

    def _fold(self, model: Any) -> bool:
        """Evaluate the nodes that depend on constants only. Nodes are in an order in which they can run.

        Returns whether sizes became known that onnx's inference of shapes did not know.
        """
        found = False
        for proto in model.graph.node:
            if any(name in self._values for name in proto.output):
                continue
            sizes = self._sizes_of(proto)
            if sizes is not None:
                found |= self._keep(proto.output[0], sizes)
                continue
            inputs = {name: self.get(name) for name in proto.input if name}
            movable = proto.op_type in _MOVES
            if movable:
                inputs = {name: self._partial.get(name) if v is None else v for name, v in inputs.items()}
            if any(value is None for value in inputs.values()) or "Random" in proto.op_type:
                continue
            if any(attribute.HasField("g") for attribute in proto.attribute):
                continue
            for name, value in zip(proto.output, self._evaluate(proto, inputs), strict=False):
                if movable and any(source in self._partial for source in inputs):
                    found |= self._keep(name, value)
                else:
                    self._values[name] = value
        return found

    def _keep(self, name: str, sizes: Any) -> bool:
        """Keep sizes. Returns whether all of them are known."""
        known = bool(np.all(sizes > _UNKNOWN))
        (self._values if known else self._partial)[name] = sizes
        return known

    def _sizes_of(self, proto: Any) -> Any:
        """The result of a Shape node."""
        if proto.op_type != "Shape" or proto.input[0] not in self.shapes:
            return None
        shape = self.shapes[proto.input[0]]
        bounds = {attribute.name: attribute.i for attribute in proto.attribute}
        sizes = np.array([_UNKNOWN if size is None else size for size in shape], np.int64)
        return sizes[bounds.get("start", 0) : bounds.get("end", len(shape))]

    def _is_huge(self, proto: Any) -> bool:
        """Whether the results are large, or may be."""
        shapes = [self.shapes.get(name) for name in proto.output if name]
        if any(shape is None or None in shape for shape in shapes):
            return proto.op_type in _GROW
        return any(math.prod(shape) > _LARGEST_FOLDED for shape in shapes)  # type: ignore[arg-type]

    def _evaluate(self, proto: Any, inputs: dict[str, Any]) -> list[Any]:
        if sum(np.asarray(value).size for value in inputs.values()) > _LARGEST_FOLDED or self._is_huge(proto):
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
        model = onnx.helper.make_model(graph, opset_imports=self._opsets)
        try:
            return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, inputs)]
        except Exception:  # an operator that the evaluator lacks: the node is converted or refused later
            return []


def _array(tensor: Any) -> Any:
    if min(tensor.dims, default=0) < 0:
        raise ValueError(f"the initializer {tensor.name!r} of the model has the shape {list(tensor.dims)}")
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # onnx and NumPy raise several types
        raise ValueError(f"the initializer {tensor.name!r} of the model is broken: {error}") from error
