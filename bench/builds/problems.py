"""Random calls of all of fastconv's functions, repeatable from a seed.

Some calls have wrong arguments on purpose: an error is a result, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.builds.layers import BEFORE_POOL, FAMILIES, Dice, Layer, Pair, Window, depthwise, draw_layer, pad

CONV = ("conv2d", "conv2d_backprop_input", "conv2d_backprop_filter", "conv2d_transpose")
DEPTHWISE = ("depthwise_conv2d", "depthwise_conv2d_backprop_input", "depthwise_conv2d_backprop_filter")
POOL = ("max_pool2d", "max_pool2d_with_argmax", "max_pool2d_grad", "avg_pool2d", "avg_pool2d_grad")
CONV_MAX_POOL = ("conv2d_max_pool2d", "conv2d_max_pool2d_backprop")
FUNCTIONS = CONV + DEPTHWISE + POOL + CONV_MAX_POOL
# How often each function is called.
SHARES = dict.fromkeys(FUNCTIONS, 1) | dict(zip(CONV + CONV_MAX_POOL, (5, 4, 4, 1, 2, 3), strict=True))

UNUSUAL = 0.25  # the share of problems with NaN, infinity, ties or subnormal numbers
SPOILT = 0.05  # the share of problems with a wrong or rare argument
STRIDED = 0.1  # the share of arrays that are views


@dataclass(frozen=True)
class Drawn:
    """The description of an array that `draw` makes. If `strided`, the array is a view of a larger array."""

    shape: tuple[int, ...]
    dtype: str
    values: str
    strided: bool = False

    def draw(self, random: np.random.Generator) -> npt.NDArray[Any]:
        shape = (*self.shape[:-1], 2 * self.shape[-1]) if self.strided else self.shape
        array = random.standard_normal(shape, np.float32 if self.dtype == "float32" else np.float64).astype(self.dtype)
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
    """A call ``fastconv.<function>(**arguments)``, with `Drawn` in place of arrays."""

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


class Caller:
    """Draws the arguments of one problem. All arrays have the same dtype, data format and kind of values."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.dtype: str = dice.pick("float32", "float32", "float64")
        self.data_format: str = dice.pick("NHWC", "NHWC", "NCHW")
        unusual = dice.chance(UNUSUAL)
        self.values: str = dice.pick("nan", "nan", "infinite", "ties", "subnormal") if unusual else "normal"

    def array(self, shape: Sequence[int]) -> Drawn:
        return Drawn(tuple(shape), self.dtype, self.values, self.dice.chance(STRIDED))

    def in_format(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(shape) if self.data_format == "NHWC" else (shape[0], shape[3], shape[1], shape[2])

    def image(self, shape: Sequence[int]) -> Drawn:
        return self.array(self.in_format(shape))

    def pair(self, values: Pair) -> Any:
        """Two numbers in one of the forms that fastconv accepts."""
        four = (1, *values, 1) if self.data_format == "NHWC" else (1, 1, *values)
        forms: list[Any] = [values, list(values), four]
        return self.dice.pick(*forms, *([values[0]] * 3 if values[0] == values[1] else []))

    def how(self, layer: Layer) -> dict[str, Any]:
        """The arguments that every convolution has."""
        window, algorithm = layer.window, "auto"
        if layer.winograd_serves and self.dice.chance(0.2):
            algorithm = "winograd"
        elif self.dice.chance(0.2):
            algorithm = "direct"
        return {
            "strides": self.pair(window.strides), "padding": window.padding, "data_format": self.data_format,
            "dilations": self.pair(window.dilations), "algorithm": algorithm,
        }  # fmt: skip

    def epilogue(self, layer: Layer) -> dict[str, Any]:
        bias = self.array((layer.filters,)) if self.dice.chance(0.5) else None
        return {"bias": bias, "activation": self.dice.pick(None, "linear", "relu", "relu")}

    def convolution(self, function: str) -> dict[str, Any]:
        inward = function.endswith(("backprop_input", "transpose"))
        layer = draw_layer(self.dice, (depthwise,) if function in DEPTHWISE else FAMILIES, self.data_format, inward)
        filter_shape, input_sizes = layer.filter_shape, self.in_format(layer.input_shape)
        if function in DEPTHWISE:
            filter_shape = (*layer.window.kernel, layer.channels, layer.filters // layer.channels)
        x, w, dy = self.image(layer.input_shape), self.array(filter_shape), self.image(layer.output_shape)
        if function.endswith("backprop_input"):
            return {"input_sizes": input_sizes, "filters": w, "out_backprop": dy, **self.how(layer)}
        if function.endswith("backprop_filter"):
            return {"input": x, "filter_sizes": filter_shape, "out_backprop": dy, **self.how(layer)}
        if function.endswith("transpose"):
            shape = self.dice.pick(input_sizes, layer.window.size) if layer.groups == 1 else input_sizes
            return {"input": dy, "filters": w, "output_shape": shape, **self.how(layer)}
        return {"input": x, "filters": w, **self.how(layer), **self.epilogue(layer)}

    def pool_window(self, size: Pair, largest: int, padded: float) -> Window:
        """A random window of a pool; `padded` is the share of windows with padding."""
        while True:
            kernel = self.dice.pair(1, 2, 2, 3, 3, min(5, largest), largest)
            strides = kernel if self.dice.chance(0.4) else self.dice.pair(1, 2, 3)
            window = Window(size, kernel, strides)
            if self.dice.chance(padded):
                window = pad(self.dice, window, self.data_format, smaller=True)
            if min(window.output) >= 0:
                return window

    def pool(self, function: str) -> dict[str, Any]:
        window = self.pool_window(self.dice.size(1, 40), 9, padded=1)
        channels, n = self.dice.pick(1, 1, 3, 6, 8, 16, 17, 32, 33, 64, 65, 140), self.dice.pick(0, 1, 1, 2, 3)
        large, small = (n, *window.size, channels), (n, *window.output, channels)
        how = {"ksize": self.pair(window.kernel), "padding": window.padding, "data_format": self.data_format}
        if window.strides != window.kernel or self.dice.chance(0.5):
            how["strides"] = self.pair(window.strides)
        if function == "avg_pool2d_grad":
            return {"orig_input_shape": self.in_format(large), "grad": self.image(small), **how}
        if function == "max_pool2d_grad":
            return {"orig_input": self.image(large), "orig_output": self.image(small), "grad": self.image(small), **how}
        if function == "max_pool2d_with_argmax":
            how["include_batch_in_index"] = self.dice.chance(0.4)
        return {"input": self.image(large), **how}

    def convolution_and_pool(self, function: str) -> dict[str, Any]:
        """The gradient's arguments include those of the forward pass, which finds the maxima."""
        common = self.dice.chance(0.6)  # an ordinary layer, which has special kernels
        if common:
            self.data_format = "NHWC"
        while True:
            layer = draw_layer(self.dice, BEFORE_POOL, self.data_format)
            if self.dice.chance(0.5):
                layer = replace(layer, n=self.dice.between(2, 40))
            if layer.fits and min(layer.window.output) > 0:
                break
        window = self.pool_window(layer.window.output, 4, padded=0.1 if common else 0.8)
        arrays = {"input": self.image(layer.input_shape), "filters": self.array(layer.filter_shape)}
        how = {"pool_size": self.pair(window.kernel), "pool_padding": window.padding, **self.how(layer)}
        if common:
            how["algorithm"] = "auto"
        if window.strides != window.kernel or self.dice.chance(0.5):
            how["pool_strides"] = self.pair(window.strides)
        if function == "conv2d_max_pool2d":
            return {**arrays, **how, **self.epilogue(layer)}
        grad = self.image((layer.n, *window.output, layer.filters))
        return {**arrays, "grad": grad, **how, "input_gradient": self.dice.chance(0.6)}

    def arguments(self, function: str) -> dict[str, Any]:
        if function in POOL:
            return self.pool(function)
        return self.convolution_and_pool(function) if function in CONV_MAX_POOL else self.convolution(function)

    def spoil(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments with one of them replaced by a wrong or rare value."""
        name: str = self.dice.pick(*(name for name, value in arguments.items() if isinstance(value, Drawn)))
        array: Drawn = arguments[name]
        wrong: dict[str, list[Any]] = {
            name: [
                replace(array, dtype="float16"), replace(array, shape=array.shape[1:] or (1, 1)), [1.0, 2.0], None,
                replace(array, dtype="float64" if array.dtype == "float32" else "float32"),
                replace(array, shape=(*array.shape[:-1], array.shape[-1] + 1)),
            ],
            "strides": [0, (1, 2, 3), "2"], "padding": ["FULL", -1, ((1, 2), (3,)), 1 << 40], "dilations": [0, -1, 1.5],
            "data_format": ["NHCW", 3], "algorithm": ["fft", "winograd", None], "activation": ["tanh"],
            "ksize": [0, (2, 2, 2, 2), 1 << 33], "pool_size": [0, (2, 2, 2, 2), 1 << 33],
            "pool_strides": [0], "pool_padding": [7, "full"],
            "input_sizes": [(1, 2, 3), (1, 2, 3, 4)], "filter_sizes": [(3, 3, 1), (3, 3, 7, 2)],
            "output_shape": [(1,), (1, 2)], "orig_input_shape": [3, (1, 1, 1, 1)],
        }  # fmt: skip
        chosen = self.dice.pick(*(other for other in wrong if other in arguments))
        return {**arguments, chosen: self.dice.pick(*wrong[chosen])}


def draw(seed: int, index: int) -> Problem:
    """Problem `index`, which depends only on `seed` and `index`."""
    dice = Dice(seed, index)
    function: str = dice.pick(*(name for name, share in SHARES.items() for _ in range(share)))
    caller = Caller(dice)
    arguments = caller.arguments(function)
    if dice.chance(SPOILT):
        arguments = caller.spoil(arguments)
    return Problem(seed, index, function, arguments)
