"""The reference for fastconv.Network: runs the graph of a network in float64 with plain NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import reference
from fastconv.network import Graph, Node

Array = np.ndarray
erf = np.vectorize(math.erf, otypes=[np.float64])

ACTIVATIONS: dict[str, Callable[..., Array]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "elu": lambda x, alpha: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
    "gelu": lambda x: x * 0.5 * (1 + erf(x / np.sqrt(2))),
    "gelu_tanh": lambda x: x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "tanh": np.tanh,
    "clip": lambda x, low, high: np.clip(x, float(low), float(high)),
}
ARITHMETIC: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def window(shape: Sequence[int], kernel: Sequence[int], attributes: dict[str, Any], prefix: str = "") -> Any:
    strides = attributes.get(f"{prefix}strides") or (kernel if "ksize" in attributes or prefix else (1, 1))
    dilations = (1, 1) if prefix else attributes.get("dilations", (1, 1))
    padding = attributes.get(f"{prefix}padding", "VALID")
    if padding == "VALID":
        pads = ((0, 0), (0, 0))
    elif padding == "SAME":
        pads = tuple(reference.same_pads(shape[1 + i], kernel[i], strides[i], dilations[i]) for i in range(2))
    else:
        pads = (tuple(padding[:2]), tuple(padding[2:]))
    return reference.Geometry(
        tuple(shape[1:3]),
        tuple(kernel),
        tuple(strides),
        pads,
        tuple(dilations),
        not prefix and attributes.get("ceil_mode", False),
        not prefix and attributes.get("count_include_pad", False),
    )


def biased(x: Array, bias: Array | None, residual: Array | None = None) -> Array:
    x = x if bias is None else x + bias
    return x if residual is None else x + residual


def conv2d(attributes: dict[str, Any], x: Array, filters: Array, bias: Any = None, residual: Any = None) -> Array:
    return biased(reference.conv2d(x, filters, window(x.shape, filters.shape[:2], attributes)).value, bias, residual)


def depthwise_conv2d(a: dict[str, Any], x: Array, filters: Array, bias: Any = None, residual: Any = None) -> Array:
    return biased(reference.depthwise_conv2d(x, filters, window(x.shape, filters.shape[:2], a)).value, bias, residual)


def conv2d_transpose(a: dict[str, Any], x: Array, filters: Array, bias: Any = None, residual: Any = None) -> Array:
    """Each input pixel adds the filters, multiplied by its value, to the output."""
    (sh, sw), (dh, dw) = a.get("strides", (1, 1)), a.get("dilations", (1, 1))
    padding = a.get("padding", "VALID")
    top, bottom, left, right = (0, 0, 0, 0) if padding == "VALID" else padding
    oh, ow = a.get("output_padding", (0, 0))
    groups = a.get("groups", 1)
    n, p, q, channels = x.shape
    r, s, k, _ = filters.shape
    height, width = (p - 1) * sh + (r - 1) * dh + 1, (q - 1) * sw + (s - 1) * dw + 1
    y = np.zeros((n, height + oh, width + ow, k * groups))
    for g in range(groups):
        inputs = slice(g * channels // groups, (g + 1) * channels // groups)
        for i in range(r):
            for j in range(s):
                y[
                    :,
                    i * dh : i * dh + (p - 1) * sh + 1 : sh,
                    j * dw : j * dw + (q - 1) * sw + 1 : sw,
                    g * k : (g + 1) * k,
                ] += x[..., inputs] @ filters[i, j, :, inputs].T
    return biased(y[:, top : height + oh - bottom, left : width + ow - right], bias, residual)


def conv2d_max_pool2d(a: dict[str, Any], x: Array, filters: Array, bias: Any = None) -> Array:
    y = ACTIVATIONS[a.get("activation", ["linear"])[0]](conv2d(a, x, filters, bias))
    return reference.max_pool2d(y, window(y.shape, a["pool_size"], a, "pool_")).value


def max_pool2d(a: dict[str, Any], x: Array) -> Array:
    return reference.max_pool2d(x, window(x.shape, a["ksize"], a)).value


def avg_pool2d(a: dict[str, Any], x: Array) -> Array:
    return reference.avg_pool2d(x, window(x.shape, a["ksize"], a)).value


def adaptive_max_pool2d(a: dict[str, Any], x: Array) -> Array:
    return reference.max_pool2d(x, reference.AdaptiveGeometry(x.shape[1:3], tuple(a["output_size"]))).value


def adaptive_avg_pool2d(a: dict[str, Any], x: Array) -> Array:
    return reference.avg_pool2d(x, reference.AdaptiveGeometry(x.shape[1:3], tuple(a["output_size"]))).value


def dense(a: dict[str, Any], x: Array, filters: Array, bias: Any = None, residual: Any = None) -> Array:
    return biased(x @ filters, bias, residual)


def scale_shift(a: dict[str, Any], x: Array, scale: Any, shift: Any) -> Array:
    return (x if scale is None else x * scale) + (0 if shift is None else shift)


def pad(a: dict[str, Any], x: Array) -> Array:
    mode = a.get("mode", "constant")
    if mode == "constant":
        return np.pad(x, a["paddings"], constant_values=float(a.get("value", 0)))
    return np.pad(x, a["paddings"], mode=mode)


def resize(a: dict[str, Any], x: Array) -> Array:
    """Pixel by pixel, from ONNX's definition."""
    sizes = a.get("size") or [math.floor(x.shape[1 + i] * a["scales"][i]) for i in range(2)]
    for axis, size in enumerate(sizes, 1):
        length = x.shape[axis]
        scale = size / length if a.get("size") else a["scales"][axis - 1]
        parts = []
        for i in range(size):
            kind = a.get("coordinates", "half_pixel")
            at = {
                "half_pixel": (i + 0.5) / scale - 0.5,
                "pytorch_half_pixel": (i + 0.5) / scale - 0.5 if size > 1 else 0.0,
                "align_corners": i * (length - 1) / (size - 1) if size > 1 else 0.0,
                "asymmetric": i / scale,
            }[kind]
            if a.get("method", "nearest") == "nearest":
                rounded = {
                    "floor": math.floor(at),
                    "ceil": math.ceil(at),
                    "round_prefer_floor": math.ceil(at - 0.5),
                    "round_prefer_ceil": math.floor(at + 0.5),
                }[a.get("rounding", "round_prefer_floor")]
                parts.append(np.take(x, min(max(rounded, 0), length - 1), axis))
                continue
            at = min(max(at, 0.0), length - 1.0)
            low = math.floor(at)
            high = min(low + 1, length - 1)
            parts.append(np.take(x, low, axis) * (1 - (at - low)) + np.take(x, high, axis) * (at - low))
        x = np.stack(parts, axis) if parts else np.take(x, [], axis)
    return x


def reshape(a: dict[str, Any], x: Array) -> Array:
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(a["shape"])])


def slice_(a: dict[str, Any], x: Array) -> Array:
    strides = a.get("strides") or [1] * x.ndim
    return x[tuple(slice(*ends) for ends in zip(a["begin"], a["end"], strides, strict=True))]


def softmax(a: dict[str, Any], x: Array) -> Array:
    powers = np.exp(x - x.max(a.get("axis", -1), keepdims=True))
    return powers / powers.sum(a.get("axis", -1), keepdims=True)


def reduce(a: dict[str, Any], x: Array) -> Array:
    return getattr(np, a["method"])(x, axis=tuple(a["axes"]), keepdims=a.get("keepdims", False))


def layer_normalization(a: dict[str, Any], x: Array, scale: Any = None, offset: Any = None) -> Array:
    axes = tuple(range(a.get("axis", -1) % x.ndim, x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + a.get("epsilon", 1e-5))
    return (y if scale is None else y * scale) + (0 if offset is None else offset)


OPERATIONS: dict[str, Callable[..., Array]] = {
    "conv2d": conv2d,
    "depthwise_conv2d": depthwise_conv2d,
    "conv2d_transpose": conv2d_transpose,
    "conv2d_max_pool2d": conv2d_max_pool2d,
    "dense": dense,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "adaptive_max_pool2d": adaptive_max_pool2d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "activate": lambda a, x: x,
    **{name: lambda a, x, y, f=f: f(x, y) for name, f in ARITHMETIC.items()},
    "scale_shift": scale_shift,
    "concatenate": lambda a, *x: np.concatenate(x, a["axis"]),
    "pad": pad,
    "resize": resize,
    "reshape": reshape,
    "transpose": lambda a, x: x.transpose(a["perm"]),
    "slice": slice_,
    "softmax": softmax,
    "log_softmax": lambda a, x: np.log(softmax(a, x)),
    "reduce": reduce,
    "layer_normalization": layer_normalization,
}


def run_node(node: Node, inputs: Sequence[Array | None]) -> Array:
    with np.errstate(all="ignore"):
        output = OPERATIONS[node.operation](node.attributes, *inputs)
        if node.operation != "conv2d_max_pool2d":
            name, *parameters = node.attributes.get("activation", ["linear"])
            output = ACTIVATIONS[name](output, *parameters)
    return output


def run(graph: Graph, inputs: dict[str, Array]) -> dict[int, Array]:
    """All values of the graph, by their index."""
    values = {i: value.array.astype(np.float64) for i, value in enumerate(graph.values) if value.array is not None}
    for name, index in graph.inputs:
        values[index] = inputs[name].astype(np.float64)
    for node in graph.nodes:
        values[node.output] = run_node(node, [None if index is None else values[index] for index in node.inputs])
    return values
