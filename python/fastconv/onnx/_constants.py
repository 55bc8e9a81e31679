"""Shapes and constants of an ONNX model, as far as they are known before it runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from fastconv.network._graph import Shape
from fastconv.onnx._sizes import Size, Sizes, computed, sizes_of, unknown

_LARGEST_FOLDED = 1 << 24  # elements: a small node must not make a huge constant

# Operators whose result may be much larger than their inputs.
_GROW = ("ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample")


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
        self._partial: dict[str, Sizes] = {}  # tensors of sizes, some of which are not known
        self._makers = {name: node for node in model.graph.node for name in node.output if name}
        self._infer(model)
        while self._fold(model):
            self._infer(self._with_values(model))  # newly known sizes may lead to more shapes

    def get(self, name: str) -> Any:
        """The value of a constant. None if it is not constant."""
        if name not in self._values and name in self.initializers:
            self._values[name] = _array(self.initializers[name])
        return self._values.get(name)

    def sizes(self, name: str) -> list[int | Size] | None:
        """The integers of a constant, or of a tensor in which only some are known. None for other tensors."""
        value = self._partial.get(name)
        if value is None:
            value = self.get(name)
        if value is None or (value.dtype != object and not np.issubdtype(value.dtype, np.integer)):
            return None
        return list(sizes_of(value).ravel())

    def shape_of(self, name: str, depth: int = 20) -> list[int | Size] | None:
        """The shape of a tensor. Sizes that are known to be equal compare equal, even if they are not known themselves.

        `depth` is the number of successive transposed convolutions through which sizes are followed.
        """
        shape, symbols = self.shapes.get(name), self.symbols.get(name, ())
        if shape is None:
            return None
        enlarged = self._transposed_convolution(name, depth)
        return [
            enlarged.get(axis, unknown(symbol or f"{axis} of {name}")) if size is None else size
            for axis, (size, symbol) in enumerate(zip(shape, symbols, strict=True))
        ]

    def _transposed_convolution(self, name: str, depth: int) -> dict[int, int | Size]:
        """The sizes of the result of a transposed convolution, which onnx does not compute."""
        node = self._makers.get(name)
        if node is None or node.op_type != "ConvTranspose" or depth == 0:
            return {}
        before = self.shape_of(node.input[0], depth - 1)
        if before is None:
            return {}
        options = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        weights = self.initializers.get(node.input[1])
        kernel = options.get("kernel_shape", [] if weights is None else weights.dims[2:])
        if options.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or "output_shape" in options:
            return {}
        sizes = {}
        for axis, size in enumerate(kernel):
            stride, dilation, more, first, last = (
                options[what][at] if what in options else default
                for what, at, default in (
                    ("strides", axis, 1),
                    ("dilations", axis, 1),
                    ("output_padding", axis, 0),
                    ("pads", axis, 0),
                    ("pads", axis + len(kernel), 0),
                )
            )
            sizes[axis + 2] = (before[axis + 2] - 1) * stride + (size - 1) * dilation + 1 + more - first - last
        return sizes

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
        """The model, with initializers in place of the nodes that compute sizes that are known now."""
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

        Returns whether sizes became known that onnx's shape inference did not find.
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
            if any(value is None for value in inputs.values()) or "Random" in proto.op_type:
                continue
            if any(attribute.HasField("g") for attribute in proto.attribute):
                continue
            self._values.update(zip(proto.output, self._evaluate(proto, inputs), strict=False))
        return found

    def _keep(self, name: str, sizes: Sizes) -> bool:
        """Keep sizes. Returns whether all of them are known."""
        if any(isinstance(size, Size) for size in sizes.ravel()):
            self._partial[name] = sizes
            return False
        kind = self.kinds.get(name, onnx.TensorProto.INT64)
        self._values[name] = sizes.astype(np.int64).astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
        return True

    def _sizes_of(self, proto: Any) -> Sizes | None:
        """The result of a node that computes with sizes, some of which are not known."""
        if proto.op_type == "Shape":
            shape = self.shape_of(proto.input[0])
            bounds = {attribute.name: attribute.i for attribute in proto.attribute}
            return None if shape is None else sizes_of(shape)[bounds.get("start", 0) : bounds.get("end", len(shape))]
        if len(proto.output) != 1 or not any(name in self._partial for name in proto.input):
            return None
        sources = [self.sizes(name) for name in proto.input]
        if any(value is None for name, value in zip(proto.input, sources, strict=True) if name):
            return None
        shapes = [np.shape(self._partial[name] if name in self._partial else self.get(name)) for name in proto.input]
        return computed(
            proto, [None if v is None else sizes_of(v).reshape(shape) for v, shape in zip(sources, shapes, strict=True)]
        )

    def _is_huge(self, proto: Any) -> bool:
        """Whether the results of a node are too large to fold, or may be."""
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
        raise ValueError(f"the initializer {tensor.name!r} of the model has a negative size: {list(tensor.dims)}")
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # onnx and NumPy raise several types
        raise ValueError(f"the initializer {tensor.name!r} of the model is broken: {error}") from error
