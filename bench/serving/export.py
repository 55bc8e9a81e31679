"""Writes a frozen network as an ONNX model, in the form that PyTorch exports: images as (N,C,H,W), a fixed batch size.

Batch normalisation is folded as in the frozen network. Residual additions and activations are nodes of their own, which
the libraries fuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from fastconv.network import Graph, Node
from onnx import helper, numpy_helper

from bench.contestants import nchw
from bench.oracle import Array, reference

ELEMENTWISE = {"add": "Add", "multiply": "Mul"}
ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid"}


def onnx_model(graph: Graph, batch: int) -> bytes:
    """The model; NotImplementedError if an operation has no counterpart here."""
    return _Export(graph, batch).model()


def _input(node: Node, position: int = 0) -> int:
    """The index of the value at an input that the node must have."""
    index = node.inputs[position]
    assert index is not None
    return index


class _Export:
    def __init__(self, graph: Graph, batch: int) -> None:
        self._graph = graph
        self._batch = batch
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._names = {index: name for name, index in (*graph.inputs, *graph.outputs)}
        self._flattened: dict[int, Sequence[int]] = {}  # values that are flattened images -> (H, W, C) of the images

    def model(self) -> bytes:
        for node in self._graph.nodes:
            method = getattr(self, f"_{node.operation}", None)
            if node.operation in ELEMENTWISE:
                method = self._elementwise
            if method is None:
                raise NotImplementedError(f"no ONNX form of {node.operation} {node.name}")
            method(node)
        inputs, outputs = (
            [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, self._shape(index)) for name, index in ends]
            for ends in (self._graph.inputs, self._graph.outputs)
        )
        graph = helper.make_graph(self._nodes, "network", inputs, outputs, self._constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(made.SerializeToString())

    def _shape(self, index: int) -> list[int]:
        """The shape of a value, images as (N,C,H,W)."""
        _, *rest = self._graph.values[index].shape
        if len(rest) == 3:
            rest = [rest[2], rest[0], rest[1]]
        return [self._batch, *(size or 0 for size in rest)]

    def _name(self, index: int) -> str:
        """The name of a value. A constant is added to the model, in the layout of ONNX."""
        array = self._graph.array(index)
        if array is None:
            return self._names.setdefault(index, f"v{index}")
        if array.ndim not in (0, 1, 4):
            raise NotImplementedError(f"no ONNX form of a constant of shape {array.shape}")
        if array.ndim == 1:
            array = array.reshape(1, 1, 1, -1)
        return self._constant(nchw(array) if array.ndim == 4 else array)

    def _constant(self, array: Array) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _emit(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add an ONNX node. Returns the name of its output."""
        output = output or f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def _finish(self, node: Node, value: str) -> None:
        """Add the residual and activation of a node; `value` is the result of the ONNX node before them."""
        if node.operation in ("conv2d", "depthwise_conv2d", "dense") and node.inputs[3] is not None:
            value = self._emit("Add", [value, self._name(node.inputs[3])])
        self._activation(node, value, self._name(node.output))

    def _activation(self, node: Node, value: str, output: str) -> str:
        kind = node.attributes.get("activation", ["linear"])[0]
        if kind == "linear":  # the output of the node before gets the name
            self._nodes[-1].output[0] = output
            return output
        if kind == "relu6":
            limits = [self._constant(np.array(limit, np.float32)) for limit in (0, 6)]
            return self._emit("Clip", [value, *limits], output)
        if kind == "silu":
            return self._emit("Mul", [value, self._emit("Sigmoid", [value])], output)
        if kind not in ACTIVATIONS:
            raise NotImplementedError(f"no ONNX form of the activation {kind} of {node.name}")
        return self._emit(ACTIVATIONS[kind], [value], output)

    def _window(self, node: Node, kernel: Sequence[int], strides: Sequence[int]) -> dict[str, Any]:
        """The attributes of a convolution or pool."""
        size = self._graph.values[_input(node)].shape[1:3]
        padding, dilations = node.attributes.get("padding", "VALID"), node.attributes.get("dilations", [1, 1])
        if isinstance(padding, str):
            pads = reference.resolve_pads(padding, "NHWC", size, kernel, strides, dilations)
            padding = [pad for pair in pads for pad in pair]
        top, bottom, left, right = padding
        ours = {"kernel_shape": list(kernel), "strides": list(strides), "pads": [top, left, bottom, right]}
        return ours if list(dilations) == [1, 1] else {**ours, "dilations": list(dilations)}

    def _bias(self, node: Node) -> list[str]:
        """The name of a constant bias, if the node has a bias."""
        bias = self._graph.array(node.inputs[2])
        if bias is None and node.inputs[2] is not None:
            raise NotImplementedError(f"no ONNX form of the computed bias of {node.name}")
        return [] if bias is None else [self._constant(bias)]

    def _convolution(self, node: Node) -> str:
        x, filters = _input(node), self._graph.array(_input(node, 1))
        assert filters is not None
        channels = int(self._graph.values[x].shape[3] or 0)
        if node.operation == "depthwise_conv2d":
            filters = filters.reshape(*filters.shape[:2], 1, -1)
        inputs = [self._name(x), self._constant(filters.transpose(3, 2, 0, 1))]
        inputs += self._bias(node)
        window = self._window(node, filters.shape[:2], node.attributes.get("strides", [1, 1]))
        return self._emit("Conv", inputs, group=channels // filters.shape[2], **window)

    def _conv2d(self, node: Node) -> None:
        self._finish(node, self._convolution(node))

    _depthwise_conv2d = _conv2d

    def _conv2d_max_pool2d(self, node: Node) -> None:
        value = self._activation(node, self._convolution(node), f"a{node.output}")
        sizes = node.attributes["pool_size"]
        if node.attributes.get("pool_padding", "VALID") not in ("VALID", [0, 0, 0, 0]):
            raise NotImplementedError(f"no ONNX form of the padding of {node.name}")
        strides = node.attributes.get("pool_strides", sizes)
        self._emit("MaxPool", [value], self._name(node.output), kernel_shape=list(sizes), strides=list(strides))

    def _pool(self, node: Node) -> None:
        kind = {"max_pool2d": "MaxPool", "avg_pool2d": "AveragePool"}[node.operation]
        for option in ("ceil_mode", "count_include_pad"):
            if node.attributes.get(option):
                raise NotImplementedError(f"no ONNX form of {option} of {node.name}")
        sizes = node.attributes["ksize"]
        window = self._window(node, sizes, node.attributes.get("strides", sizes))
        self._emit(kind, [self._name(_input(node))], self._name(node.output), **window)

    _max_pool2d = _avg_pool2d = _pool

    def _dense(self, node: Node) -> None:
        x, filters = _input(node), self._graph.array(_input(node, 1))
        assert filters is not None
        if x in self._flattened:  # in the order (C, H, W), as PyTorch flattens
            filters = filters.reshape(*self._flattened[x], -1).transpose(2, 0, 1, 3).reshape(filters.shape)
        inputs = [self._name(x), self._constant(filters.T)]
        inputs += self._bias(node)
        self._finish(node, self._emit("Gemm", inputs, transB=1))

    def _activate(self, node: Node) -> None:
        self._finish(node, self._name(_input(node)))

    def _elementwise(self, node: Node) -> None:
        self._finish(
            node,
            self._emit(ELEMENTWISE[node.operation], [self._name(_input(node, i)) for i in range(len(node.inputs))]),
        )

    def _scale_shift(self, node: Node) -> None:
        x = _input(node)
        channels = int(self._graph.values[x].shape[-1] or 0)
        given = [self._graph.array(index) for index in node.inputs[1:]]
        values = [
            np.full(channels, fill, np.float32) if a is None else a for a, fill in zip(given, (1, 0), strict=True)
        ]
        statistics = [np.zeros(channels, np.float32), np.ones(channels, np.float32)]
        inputs = [self._name(x), *(self._constant(array) for array in (*values, *statistics))]
        self._finish(node, self._emit("BatchNormalization", inputs, epsilon=0.0))

    def _concatenate(self, node: Node) -> None:
        rank = len(self._graph.values[node.output].shape)
        if rank != 4 or node.attributes["axis"] not in (3, -1):
            raise NotImplementedError(f"no ONNX form of the concatenation {node.name}")
        self._emit(
            "Concat", [self._name(_input(node, i)) for i in range(len(node.inputs))], self._name(node.output), axis=1
        )

    def _reduce(self, node: Node) -> None:
        if node.attributes["method"] != "mean" or list(node.attributes["axes"]) != [1, 2]:
            raise NotImplementedError(f"no ONNX form of the reduction {node.name}")
        value, output = self._name(_input(node)), self._name(node.output)
        if node.attributes.get("keepdims"):
            self._emit("GlobalAveragePool", [value], output)
        else:
            self._emit("Flatten", [self._emit("GlobalAveragePool", [value])], output, axis=1)

    def _reshape(self, node: Node) -> None:
        """Flattened images, or vectors as images of one pixel."""
        x = _input(node)
        before, after = (self._graph.values[index].shape[1:] for index in (x, node.output))
        if len(before) == 3 and len(after) == 1:
            self._flattened[node.output] = [size or 0 for size in before]
            self._emit("Flatten", [self._name(x)], self._name(node.output), axis=1)
        elif len(before) == 1 and after[:2] == (1, 1):
            shape = self._constant(np.array(self._shape(node.output)))
            self._emit("Reshape", [self._name(x), shape], self._name(node.output))
        else:
            raise NotImplementedError(f"no ONNX form of the reshape {node.name} from {before} to {after}")
