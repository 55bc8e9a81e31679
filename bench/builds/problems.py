"""Random calls of all of fastconv's functions, the same for everyone who draws them.

Most problems are small. The families of convolutions are there so that every algorithm and every kernel has its share,
in the forward direction and in both gradients. Some calls are spoilt on purpose: an error is a result, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
Random = np.random.Generator

CONV = ("conv2d", "conv2d_backprop_input", "conv2d_backprop_filter", "conv2d_transpose")
DEPTHWISE = ("depthwise_conv2d", "depthwise_conv2d_backprop_input", "depthwise_conv2d_backprop_filter")
POOL = ("max_pool2d", "max_pool2d_with_argmax", "max_pool2d_grad", "avg_pool2d", "avg_pool2d_grad")
CONV_MAX_POOL = ("conv2d_max_pool2d", "conv2d_max_pool2d_backprop")
FUNCTIONS = CONV + DEPTHWISE + POOL + CONV_MAX_POOL
# Of 27 problems, how many are calls of each function.
SHARES = dict.fromkeys(FUNCTIONS, 1) | dict(zip(CONV + CONV_MAX_POOL, (5, 4, 4, 1, 2, 3), strict=True))
TAKE_PACKED = (
    "conv2d", "conv2d_backprop_input", "conv2d_transpose", "depthwise_conv2d", "depthwise_conv2d_backprop_input",
    "conv2d_max_pool2d",
)  # fmt: skip

MOST_PRODUCTS = 24_000_000
MOST_VALUES = 400_000
SPOILT = 0.05
STRIDED = 0.1  # of the arrays


@dataclass(frozen=True)
class Drawn:
    """An array that whoever needs it draws; `strided`: it is a view into a larger one."""

    shape: tuple[int, ...]
    dtype: str
    values: str
    strided: bool = False

    def draw(self, random: Random) -> npt.NDArray[Any]:
        shape = (*self.shape[:-1], 2 * self.shape[-1]) if self.strided else self.shape
        kind = np.float32 if self.dtype == "float32" else np.float64
        array = random.standard_normal(shape, kind).astype(self.dtype)
        if self.values == "nan":
            array[random.random(shape) < 0.02] = np.nan
        elif self.values == "infinite":
            array[random.random(shape) < 0.02] = np.inf
            array[random.random(shape) < 0.02] = -np.inf
        elif self.values == "ties":
            array = np.round(array).astype(self.dtype)
        elif self.values == "subnormal":
            array *= np.finfo(self.dtype).tiny
        return array[..., ::2] if self.strided else array

    def __repr__(self) -> str:
        return f"<{self.dtype} {self.shape} {self.values}{' strided' * self.strided}>"


@dataclass(frozen=True)
class Problem:
    """fastconv.<function>(**arguments). Arrays are Drawn, in the order of the arguments."""

    seed: int
    index: int
    function: str
    arguments: dict[str, Any]

    def draw_arguments(self) -> dict[str, Any]:
        random = np.random.default_rng([self.seed, self.index, 1])
        return {
            name: value.draw(random) if isinstance(value, Drawn) else value for name, value in self.arguments.items()
        }

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"problem {self.index} of seed {self.seed}: {self.function}({arguments})"


# ---- geometry -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """How a window moves over an image."""

    size: Pair
    kernel: Pair
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    padding: Any = "VALID"
    pads: Pads = ((0, 0), (0, 0))

    def output(self, axis: int) -> int:
        extent = (self.kernel[axis] - 1) * self.dilations[axis] + 1
        return (self.size[axis] + sum(self.pads[axis]) - extent) // self.strides[axis] + 1

    @property
    def outputs(self) -> Pair:
        return self.output(0), self.output(1)


@dataclass(frozen=True)
class Layer:
    """A convolution. `channels` and `filters` are totals over the groups."""

    n: int
    window: Window
    channels: int
    filters: int
    groups: int = 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.n, *self.window.size, self.channels

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.n, *self.window.outputs, self.filters

    @property
    def filter_shape(self) -> tuple[int, ...]:
        return *self.window.kernel, self.channels // self.groups, self.filters

    @property
    def fits(self) -> bool:
        """Whether it has an output and is not too much work."""
        if min(self.window.outputs) < 0:
            return False
        values = max(int(np.prod(shape)) for shape in (self.input_shape, self.output_shape))
        products = int(np.prod(self.output_shape)) * int(np.prod(self.filter_shape[:3]))
        return values <= MOST_VALUES and products <= MOST_PRODUCTS

    @property
    def winograd_serves(self) -> bool:
        window = self.window
        steps = (*window.strides, *window.dilations, self.groups)
        return window.kernel in ((3, 3), (5, 5)) and set(steps) == {1}


def pick(random: Random, *choices: Any) -> Any:
    return choices[int(random.integers(len(choices)))]


def pick_pair(random: Random, *choices: int) -> Pair:
    """Equal numbers more often than two draws would be."""
    first: int = pick(random, *choices)
    return first, first if random.random() < 0.5 else pick(random, *choices)


def between(random: Random, least: int, most: int) -> int:
    return int(random.integers(least, most + 1))


def same_pads(window: Window) -> Pads:
    found = []
    for axis in range(2):
        extent = (window.kernel[axis] - 1) * window.dilations[axis] + 1
        outputs = -(-window.size[axis] // window.strides[axis])
        both = max(0, (outputs - 1) * window.strides[axis] + extent - window.size[axis])
        found.append((both // 2, both - both // 2))
    return found[0], found[1]


def pad(random: Random, window: Window, data_format: str, smaller: bool = False) -> Window:
    """The window with some padding, in one of the forms that it can be written in. `smaller`: than the window."""
    style = random.random()
    if style < 0.3:
        return replace(window, padding=pick(random, "VALID", "valid"))
    if style < 0.65:
        return replace(window, padding=pick(random, "SAME", "same"), pads=same_pads(window))
    extents = [(window.kernel[axis] - 1) * window.dilations[axis] + 1 for axis in range(2)]
    (top, bottom), (left, right) = (
        [between(random, 0, min(extent - 1 if smaller else extent + 1, 4)) for _ in range(2)] for extent in extents
    )
    if random.random() < 0.4:
        bottom, right = top, left
    four = [[0, 0], [top, bottom], [left, right], [0, 0]]
    forms: list[Any] = [((top, bottom), (left, right)), four if data_format == "NHWC" else [four[0], *four[:3]]]
    if top == bottom and left == right:
        forms.append((top, left))
        if top == left:
            forms.append(top)
    return replace(window, padding=pick(random, *forms), pads=((top, bottom), (left, right)))


# ---- families of convolutions ---------------------------------------------------------------------------------------


def tiny(random: Random) -> Layer:
    size = between(random, 1, 9), between(random, 1, 9)
    window = Window(size, pick_pair(random, 1, 2, 3), pick_pair(random, 1, 1, 2), pick_pair(random, 1, 1, 2))
    return Layer(pick(random, 0, 1, 1, 2), window, between(random, 1, 5), between(random, 1, 9))


def mixed(random: Random) -> Layer:
    """All that geometry allows, groups included."""
    window = Window(
        (between(random, 1, 20), between(random, 1, 20)), pick_pair(random, 1, 2, 3, 3, 4, 5, 7),
        pick_pair(random, 1, 1, 2, 3), pick_pair(random, 1, 1, 2, 3),
    )  # fmt: skip
    groups = pick(random, 1, 1, 2, 3, 5, 8)
    channels, filters = (groups * pick(random, 1, 2, 3, 6, 8, 16, 17, 33) for _ in range(2))
    return Layer(pick(random, 1, 1, 2, 3, 5), window, channels, filters, groups)


def small_k(random: Random) -> Layer:
    """Few filters, whose kernels have vectors along pixels."""
    window = Window((between(random, 3, 40), between(random, 3, 40)), pick(random, (3, 3), (3, 3), (5, 5), (3, 5)))
    return Layer(pick(random, 1, 1, 2, 5, 9), window, pick(random, 1, 1, 2, 3, 6, 8, 13), between(random, 1, 16))


def dot_products(random: Random) -> Layer:
    """So few filters that vectors go along the window."""
    window = Window(
        (between(random, 2, 14), between(random, 2, 14)), pick_pair(random, 1, 3, 5), pick_pair(random, 1, 2)
    )
    return Layer(pick(random, 1, 1, 2), window, between(random, 24, 300), between(random, 1, 5))


def winograd(random: Random) -> Layer:
    window = Window((between(random, 5, 18), between(random, 5, 18)), pick(random, (3, 3), (3, 3), (5, 5)))
    return Layer(pick(random, 0, 1, 1, 2, 3), window, between(random, 30, 140), between(random, 30, 140))


def winograd_streamed(random: Random) -> Layer:
    """Transformed filters that are too large to be stored for so few tiles."""
    window = Window((between(random, 5, 9), between(random, 5, 9)), (3, 3))
    return Layer(1, window, between(random, 170, 300), between(random, 170, 300))


def pointwise(random: Random) -> Layer:
    window = Window((between(random, 1, 16), between(random, 1, 16)), (1, 1), pick_pair(random, 1, 1, 2))
    return Layer(pick(random, 1, 2, 3), window, between(random, 1, 200), between(random, 1, 200))


def pointwise_streamed(random: Random) -> Layer:
    """1x1 windows with so many filters for few pixels that each task packs its own."""
    window = Window((between(random, 1, 7), between(random, 1, 7)), (1, 1), pick_pair(random, 1, 1, 2))
    return Layer(pick(random, 1, 1, 2), window, between(random, 16, 300), between(random, 260, 1100))


def large_window(random: Random) -> Layer:
    kernel = between(random, 7, 15), between(random, 7, 15)
    size = kernel[0] + between(random, -2, 14), kernel[1] + between(random, -2, 14)
    window = Window(size, kernel, pick_pair(random, 1, 1, 2, 4))
    return Layer(pick(random, 1, 2), window, between(random, 1, 20), between(random, 1, 40))


def huge_window(random: Random) -> Layer:
    """More elements than one sum may have."""
    kernel = pick(random, (33, 33), (40, 27), (27, 41), (1, 1030), (1100, 1))
    size = kernel[0] + between(random, 0, 5), kernel[1] + between(random, 0, 5)
    return Layer(1, Window(size, kernel, pick_pair(random, 1, 1, 2)), between(random, 1, 4), between(random, 1, 20))


def wide(random: Random) -> Layer:
    """Rows that are cut, and whose borders alone are copied."""
    window = Window(
        (between(random, 2, 9), between(random, 48, 230)), pick_pair(random, 2, 3, 5), pick_pair(random, 1, 1, 2)
    )
    return Layer(1, window, between(random, 1, 40), between(random, 1, 70))


def strided(random: Random) -> Layer:
    """Its input gradient falls apart into one convolution for each residue of the strides."""
    window = Window(
        (between(random, 4, 24), between(random, 4, 24)),
        pick_pair(random, 1, 2, 3, 4, 5, 6, 7),
        pick_pair(random, 2, 2, 3),
    )
    return Layer(pick(random, 1, 1, 2), window, between(random, 1, 100), between(random, 1, 100))


FAMILIES: tuple[Callable[[Random], Layer], ...] = (
    tiny, tiny, mixed, mixed, mixed, small_k, small_k, small_k, dot_products, winograd, winograd, winograd_streamed,
    pointwise, pointwise_streamed, large_window, huge_window, wide, strided, strided,
)  # fmt: skip
FAMILIES_BEFORE_POOL: tuple[Callable[[Random], Layer], ...] = (
    tiny,
    small_k,
    small_k,
    small_k,
    mixed,
    winograd,
    strided,
)


def depthwise(random: Random) -> Layer:
    """Filters as a convolution of C groups has them."""
    channels = pick(random, 1, 3, 6, 8, 16, 17, 31, 33, 64, 100, 140, 520, 640)
    most = 8 if channels > 500 else 20
    window = Window(
        (between(random, 1, most), between(random, 1, most)), pick_pair(random, 1, 2, 3, 3, 3, 5, 7),
        pick_pair(random, 1, 1, 2, 3), pick_pair(random, 1, 1, 1, 2),
    )  # fmt: skip
    return Layer(pick(random, 0, 1, 1, 2, 3), window, channels, channels * pick(random, 1, 1, 1, 2, 3), channels)


def draw_layer(random: Random, families: Sequence[Callable[[Random], Layer]], data_format: str, inward: bool) -> Layer:
    """`inward`: of an input gradient, for which channels and filters change their parts."""
    family = families[int(random.integers(len(families)))]
    while True:
        layer = family(random)
        if inward and layer.groups == 1 and random.random() < 0.5:
            layer = replace(layer, channels=layer.filters, filters=layer.channels)
        layer = replace(layer, window=pad(random, layer.window, data_format))
        if layer.fits:
            return layer


# ---- calls ----------------------------------------------------------------------------------------------------------


class Caller:
    """The arguments of one problem: dtype, data format and kind of values are those of all its arrays."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.dtype: str = pick(random, "float32", "float32", "float64")
        self.data_format: str = pick(random, "NHWC", "NHWC", "NCHW")
        self.values: str = "normal"
        if random.random() < 0.25:
            self.values = pick(random, "nan", "nan", "infinite", "ties", "subnormal")

    def array(self, shape: Sequence[int]) -> Drawn:
        return Drawn(tuple(shape), self.dtype, self.values, self.random.random() < STRIDED and shape[-1] > 0)

    def in_format(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(shape) if self.data_format == "NHWC" else (shape[0], shape[3], shape[1], shape[2])

    def image(self, shape: Sequence[int]) -> Drawn:
        return self.array(self.in_format(shape))

    def pair(self, values: Pair) -> Any:
        """One of the forms that two numbers can be written in."""
        four = (1, *values, 1) if self.data_format == "NHWC" else (1, 1, *values)
        forms: list[Any] = [values, list(values), four]
        return pick(self.random, *forms, *([values[0]] * 3 if values[0] == values[1] else []))

    def window_arguments(self, layer: Layer) -> dict[str, Any]:
        window, algorithm = layer.window, "auto"
        if layer.winograd_serves and self.random.random() < 0.2:
            algorithm = "winograd"
        elif self.random.random() < 0.2:
            algorithm = "direct"
        return {
            "strides": self.pair(window.strides), "padding": window.padding, "data_format": self.data_format,
            "dilations": self.pair(window.dilations), "algorithm": algorithm,
        }  # fmt: skip

    def epilogue(self, layer: Layer) -> dict[str, Any]:
        bias = self.array((layer.filters,)) if self.random.random() < 0.5 else None
        return {"bias": bias, "activation": pick(self.random, None, "linear", "relu", "relu")}

    def convolution(self, function: str) -> dict[str, Any]:
        is_depthwise = function in DEPTHWISE
        inward = function.endswith(("backprop_input", "transpose"))
        layer = draw_layer(self.random, (depthwise,) if is_depthwise else FAMILIES, self.data_format, inward)
        filter_shape = layer.filter_shape
        if is_depthwise:
            filter_shape = (*layer.window.kernel, layer.channels, layer.filters // layer.channels)
        more = self.window_arguments(layer)
        if function.endswith("backprop_input"):
            sizes = self.in_format(layer.input_shape)
            return {
                "input_sizes": sizes, "filters": self.array(filter_shape),
                "out_backprop": self.image(layer.output_shape), **more,
            }  # fmt: skip
        if function.endswith("backprop_filter"):
            dy = self.image(layer.output_shape)
            return {"input": self.image(layer.input_shape), "filter_sizes": filter_shape, "out_backprop": dy, **more}
        if function.endswith("transpose"):
            whole = self.in_format(layer.input_shape)
            shape = pick(self.random, whole, layer.window.size) if layer.groups == 1 else whole
            small, filters = self.image(layer.output_shape), self.array(filter_shape)
            return {"input": small, "filters": filters, "output_shape": shape, **more}
        large, filters = self.image(layer.input_shape), self.array(filter_shape)
        return {"input": large, "filters": filters, **more, **self.epilogue(layer)}

    def pool_window(self, size: Pair, largest: int) -> Window:
        while True:
            kernel = pick_pair(self.random, 1, 2, 2, 3, 3, min(5, largest), largest)
            strides = kernel if self.random.random() < 0.4 else pick_pair(self.random, 1, 2, 3)
            window = pad(self.random, Window(size, kernel, strides), self.data_format, smaller=True)
            if min(window.outputs) >= 0:
                return window

    def pool(self, function: str) -> dict[str, Any]:
        size = between(self.random, 1, 24), between(self.random, 1, 24)
        window = self.pool_window(size, 9)
        channels = pick(self.random, 1, 1, 3, 6, 8, 16, 17, 32, 33, 64, 65, 140)
        n = pick(self.random, 0, 1, 1, 2, 3)
        large, small = (n, *size, channels), (n, *window.outputs, channels)
        more = {"ksize": self.pair(window.kernel), "padding": window.padding, "data_format": self.data_format}
        if window.strides != window.kernel or self.random.random() < 0.5:
            more["strides"] = self.pair(window.strides)
        if function == "avg_pool2d_grad":
            return {"orig_input_shape": self.in_format(large), "grad": self.image(small), **more}
        if function == "max_pool2d_grad":
            return {
                "orig_input": self.image(large),
                "orig_output": self.image(small),
                "grad": self.image(small),
                **more,
            }
        if function == "max_pool2d_with_argmax":
            more["include_batch_in_index"] = bool(self.random.random() < 0.4)
        return {"input": self.image(large), **more}

    def convolution_and_pool(self, function: str) -> dict[str, Any]:
        """Of the gradient: what its forward pass takes, and `grad`. Whoever computes it finds the maxima first."""
        while True:
            layer = draw_layer(self.random, FAMILIES_BEFORE_POOL, self.data_format, inward=False)
            if self.random.random() < 0.5:
                layer = replace(layer, n=between(self.random, 2, 40))
            if layer.fits and min(layer.window.outputs) > 0:
                break
        window = self.pool_window(layer.window.outputs, 4)
        arguments = {"input": self.image(layer.input_shape), "filters": self.array(layer.filter_shape)}
        if function.endswith("backprop"):
            arguments["grad"] = self.image((layer.n, *window.outputs, layer.filters))
        more = {"ksize": self.pair(window.kernel), "pool_padding": window.padding, **self.window_arguments(layer)}
        if window.strides != window.kernel or self.random.random() < 0.5:
            more["pool_strides"] = self.pair(window.strides)
        if function.endswith("backprop"):
            return {**arguments, **more, "input_gradient": bool(self.random.random() < 0.6)}
        return {**arguments, **more, **self.epilogue(layer)}

    def arguments(self, function: str) -> dict[str, Any]:
        if function in POOL:
            return self.pool(function)
        if function in CONV_MAX_POOL:
            return self.convolution_and_pool(function)
        return self.convolution(function)

    def spoil(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments with one of them wrong."""
        arrays = [name for name, value in arguments.items() if isinstance(value, Drawn)]
        name = arrays[int(self.random.integers(len(arrays)))]
        array: Drawn = arguments[name]
        wrong: dict[str, list[Any]] = {
            name: [
                replace(array, dtype="float16"), replace(array, shape=array.shape[1:] or (1, 1)), [1.0, 2.0], None,
                replace(array, dtype="float64" if array.dtype == "float32" else "float32"),
                replace(array, shape=(*array.shape[:-1], array.shape[-1] + 1)),
            ],
            "strides": [0, (1, 2, 3), "2"], "padding": ["FULL", -1, ((1, 2), (3,)), 1 << 40], "dilations": [0, -1, 1.5],
            "data_format": ["NHCW", 3], "algorithm": ["fft", "winograd", None], "activation": ["tanh"],
            "ksize": [0, (2, 2, 2, 2), 1 << 33], "pool_strides": [0], "pool_padding": [7, "full"],
            "input_sizes": [(1, 2, 3), (1, 2, 3, 4)], "filter_sizes": [(3, 3, 1), (3, 3, 7, 2)],
            "output_shape": [(1,), (1, 2)], "orig_input_shape": [3, (1, 1, 1, 1)],
        }  # fmt: skip
        chosen = pick(self.random, name, *(other for other in wrong if other in arguments and other not in arrays))
        return {**arguments, chosen: pick(self.random, *wrong[chosen])}


def draw(seed: int, index: int) -> Problem:
    """Problem `index`, which depends on these two numbers only."""
    random = np.random.default_rng([seed, index])
    function: str = pick(random, *(name for name, share in SHARES.items() for _ in range(share)))
    caller = Caller(random)
    arguments = caller.arguments(function)
    if random.random() < SPOILT:
        arguments = caller.spoil(arguments)
    return Problem(seed, index, function, arguments)
