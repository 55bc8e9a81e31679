"""How fastconv and its peers compute a layer. Each library is imported in a process of its own.

A contestant's function gets a layer, a direction, arrays and a number of threads. It returns the calls with which a
user of the library would compute the layer, by name: a function without arguments, and a function that makes an array
in the order NHWC of its result. Conversions of the arrays are made before the calls.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import fastconv
from fastconv._commands.layer import Layer

Array = npt.NDArray[np.floating[Any]]
Calls = dict[str, tuple[Callable[[], Any], Callable[[Any], Array]]]


class NotComputed(ValueError):
    """Why a library does not compute a layer, for the user."""


class Arrays(NamedTuple):
    """Input x, filters w, and the output's gradient dy. Images are NHWC."""

    x: Array
    w: Array
    dy: Array


def make_arrays(layer: Layer) -> Arrays:
    """Normally distributed values, the same in each process."""
    random = np.random.default_rng(0)
    shapes = (_nhwc_shape(layer, layer.input), layer.filters, _nhwc_shape(layer, layer.output))
    return Arrays(*(random.standard_normal(shape).astype(layer.dtype) for shape in shapes))


def _nhwc_shape(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape in the order of the layer, as NHWC."""
    return shape if layer.data_format == "NHWC" else (shape[0], *shape[2:], shape[1])


def _nchw(array: Array) -> Array:
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))


def _nhwc(array: Array) -> Array:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def fastconv_calls(layer: Layer, direction: str, arrays: Arrays, threads: int) -> Calls:
    """The results are written into an array that exists."""
    fastconv.set_num_threads(threads)
    x, w, dy = arrays
    fetch: Callable[[Array], Array] = np.asarray
    if layer.data_format == "NCHW":
        x, dy = _nchw(x), _nchw(dy)
        fetch = np.asarray if direction == "filter gradient" else _nhwc
    name, operands, shape = {
        "forward": ("conv2d", (x, w), layer.output),
        "input gradient": ("conv2d_backprop_input", (layer.input, w, dy), layer.input),
        "filter gradient": ("conv2d_backprop_filter", (x, layer.filters, dy), layer.filters),
    }[direction]
    function = getattr(fastconv, f"depthwise_{name}" if layer.depthwise else name)
    rest = (layer.strides, layer.padding, layer.data_format, layer.dilations)
    out = np.empty(shape, layer.dtype)
    return {"": (functools.partial(function, *operands, *rest, algorithm=layer.algorithm, out=out), fetch)}


def _pads(layer: Layer) -> tuple[tuple[int, int], tuple[int, int]]:
    rows, columns = layer.axes
    return (rows.before, rows.after), (columns.before, columns.after)


def _padding_word(layer: Layer) -> str | None:
    """VALID or SAME if the layer pads like this, also if its padding is given in numbers."""
    words = ("VALID", "SAME")
    return next((word for word in words if _pads(layer._replace(padding=word)) == _pads(layer)), None)


def tensorflow_calls(layer: Layer, direction: str, arrays: Arrays, threads: int) -> Calls:
    """The ops, called directly and in a tf.function."""
    tf = importlib.import_module("tensorflow")
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    x, w, dy = (tf.constant(array) for array in arrays)
    ending, operands = {
        "forward": ("", {"input": x, "filter": w}),
        "input gradient": (
            "BackpropInput",
            {"input_sizes": tf.constant(arrays.x.shape), "filter": w, "out_backprop": dy},
        ),
        "filter gradient": (
            "BackpropFilter",
            {"input": x, "filter_sizes": tf.constant(layer.filters), "out_backprop": dy},
        ),
    }[direction]
    op = getattr(tf.raw_ops, ("DepthwiseConv2dNative" if layer.depthwise else "Conv2D") + ending)
    word = _padding_word(layer)
    explicit = [0, 0, *(size for pair in _pads(layer) for size in pair), 0, 0]
    padding = {"padding": word} if word else {"padding": "EXPLICIT", "explicit_paddings": explicit}
    steps = {"strides": [1, *layer.strides, 1], "dilations": [1, *layer.dilations, 1]}

    def call() -> Any:
        return op(**operands, **steps, **padding)

    return {name: (run, lambda y: y.numpy()) for name, run in (("op", call), ("tf.function", tf.function(call)))}


def torch_calls(layer: Layer, direction: str, arrays: Arrays, threads: int) -> Calls:
    """Eager calls in both memory formats. The gradients are the op that autograd calls."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    pads = _pads(layer)
    if any(before != after for before, after in pads):
        raise NotComputed("PyTorch's convolutions pad both sides of an axis alike")
    r, s = layer.filters[:2]
    filters = arrays.w.reshape(r, s, -1, layer.channels_out).transpose(3, 2, 0, 1)
    groups = arrays.x.shape[3] // filters.shape[1]
    steps = layer.strides, [before for before, _ in pads], layer.dilations

    def fetch(result: Any) -> Array:
        if direction != "filter gradient":
            return _nhwc(result.numpy())
        return np.ascontiguousarray(result.numpy().transpose(2, 3, 1, 0)).reshape(layer.filters)

    calls: Calls = {}
    for name in ("contiguous_format", "channels_last"):
        x, w, dy = (
            torch.from_numpy(np.ascontiguousarray(array)).contiguous(memory_format=getattr(torch, name))
            for array in (_nchw(arrays.x), filters, _nchw(arrays.dy))
        )
        mask = [direction == "input gradient", direction == "filter gradient", False]
        if direction == "forward":
            run = functools.partial(torch.nn.functional.conv2d, x, w, None, *steps, groups)
        else:
            backward = torch.ops.aten.convolution_backward
            gradients = functools.partial(backward, dy, x, w, None, *steps, False, [0, 0], groups, mask)
            run = functools.partial(_element, gradients, mask.index(True))
        calls[name] = (torch.inference_mode()(run), fetch)
    return calls


def _element(call: Callable[[], Any], index: int) -> Any:
    return call()[index]


def scipy_calls(layer: Layer, direction: str, arrays: Arrays, threads: int) -> Calls:
    """One image of one channel after the other, on one thread."""
    signal, ndimage = (importlib.import_module(f"scipy.{name}") for name in ("signal", "ndimage"))
    word = _padding_word(layer)
    odd = all(size % 2 for size in layer.filters[:2])
    plain = layer.strides == layer.dilations == (1, 1) and (word == "VALID" or (word == "SAME" and odd))
    if direction != "forward" or arrays.x.shape[3] != 1 or layer.channels_out != 1 or not plain:
        raise NotComputed("SciPy computes forward passes of one channel and one filter at stride 1, VALID or SAME")
    mode, kernel = str(word).lower(), arrays.w[:, :, 0, 0]

    def each(correlate: Callable[..., Array]) -> Array:
        return np.stack([correlate(image[:, :, 0], kernel) for image in arrays.x])[..., None]

    ways = {
        "correlate2d": functools.partial(signal.correlate2d, mode=mode),
        "correlate by FFT": functools.partial(signal.correlate, mode=mode, method="fft"),
    }
    if odd and _pads(layer) == _pads(layer._replace(padding="SAME")):
        ways["ndimage.correlate"] = functools.partial(ndimage.correlate, mode="constant")
    return {name: (functools.partial(each, way), np.asarray) for name, way in ways.items()}


CALLS = {
    "fastconv": fastconv_calls,
    "tensorflow": tensorflow_calls,
    "torch": torch_calls,
    "scipy": scipy_calls,
}
PEERS = tuple(CALLS)[1:]
