"""Problems, their calls and the expected results.

A problem is a geometry and one of the many ways to write its arguments. `calls_of(problem)` turns it into calls of
fastconv's public functions, each with the reference's results and the allowed errors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import reference
from reference import Geometry, Pads, Pair, Sum

CONV = ("conv2d", "conv2d_backprop_input", "conv2d_backprop_filter", "conv2d_transpose")
DEPTHWISE = ("depthwise_conv2d", "depthwise_conv2d_backprop_input", "depthwise_conv2d_backprop_filter")
POOL = ("max_pool2d", "max_pool2d_with_argmax", "max_pool2d_grad", "avg_pool2d", "avg_pool2d_grad")
ADAPTIVE = ("adaptive_max_pool2d", "adaptive_max_pool2d_grad", "adaptive_avg_pool2d", "adaptive_avg_pool2d_grad")
CONV_MAX_POOL = ("conv2d_max_pool2d", "conv2d_max_pool2d_backprop")
FUNCTIONS = CONV + DEPTHWISE + POOL + ADAPTIVE + CONV_MAX_POOL
KINDS = ("conv", "winograd", "depthwise", "pool", "adaptive", "conv_max_pool")  # of random problems

# Bounds on the error of one element, in units of eps * sum(|x||w|). Winograd's algorithm spreads rounding errors over
# a tile, so its bound uses the largest sum near the element. "auto" chooses the algorithm only from 12 channels and
# filters on.
ERROR_BOUND = 16
WINOGRAD_AUTO_ERROR_BOUND = 64
WINOGRAD_ERROR_BOUND = 128


def kind_of(name: str) -> str:
    """The kind of problem that a function solves."""
    kinds = {"adaptive": ADAPTIVE, "pool": POOL, "depthwise": DEPTHWISE, "conv_max_pool": CONV_MAX_POOL}
    return next((kind for kind, names in kinds.items() if name in names), "conv")


@dataclass(frozen=True)
class Pooling:
    """The max pooling of a convolution's output."""

    kernel: Pair
    strides: Pair
    padding: Any


@dataclass(frozen=True)
class Problem:
    """A geometry and the form of its arguments. `channels` and `filters` are totals over the groups."""

    seed: tuple[int, ...]
    dtype: str
    data_format: str
    n: int
    size: Pair
    channels: int
    kernel: Pair
    strides: Pair
    padding: Any
    dilations: Pair = (1, 1)
    filters: int = 0
    groups: int = 1
    depthwise: bool = False
    pool: bool = False
    bias: bool = False
    relu: bool = False
    algorithm: str = "auto"
    values: str = "normal"
    forms: int = 0  # which of the equivalent ways to write strides, dilations and ksize
    pooling: Pooling | None = None  # of a convolution's output
    ceil_mode: bool = False
    count_include_pad: bool = False
    adaptive: tuple[int | None, int | None] | None = None  # the output's size

    @property
    def pads(self) -> Pads:
        return reference.resolve_pads(
            self.padding, self.data_format, self.size, self.kernel, self.strides, self.dilations
        )

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.size, self.kernel, self.strides, self.pads, self.dilations)

    @property
    def windows(self) -> reference.Windows:
        """The windows of a pooling."""
        if self.adaptive is None:
            return self.geometry._replace(ceil_mode=self.ceil_mode, count_include_pad=self.count_include_pad)
        height, width = (self.size[i] if (given := self.adaptive[i]) is None else given for i in range(2))
        return reference.AdaptiveGeometry(self.size, (height, width))

    @property
    def output(self) -> Pair:
        return self.windows.output if self.pool else self.geometry.output

    @property
    def pooling_geometry(self) -> Geometry:
        assert self.pooling is not None
        kernel, strides, padding = self.pooling.kernel, self.pooling.strides, self.pooling.padding
        pads = reference.resolve_pads(padding, self.data_format, self.output, kernel, strides, (1, 1))
        return Geometry(self.output, kernel, strides, pads, (1, 1))

    @property
    def pooled_shape(self) -> tuple[int, ...]:
        return (self.n, *self.pooling_geometry.output, self.filters)

    @property
    def empty(self) -> bool:
        return self.n == 0 or 0 in (self.pooling_geometry.output if self.pooling else self.output)

    @property
    def dilated(self) -> bool:
        return any(self.dilations[i] > 1 and self.kernel[i] > 1 for i in range(2))

    @property
    def asymmetric(self) -> bool:
        return any(before != after for before, after in self.pads)

    @property
    def may_be_winograd(self) -> bool:
        served = self.kernel in ((3, 3), (5, 5)) and (1, 1, 1, 1, 1) == (*self.strides, *self.dilations, self.groups)
        return not self.pool and (self.algorithm == "winograd" or (self.algorithm == "auto" and served))

    @property
    def filter_shape(self) -> tuple[int, ...]:
        if self.depthwise:
            return (*self.kernel, self.channels, self.filters // self.channels)
        return (*self.kernel, self.channels // self.groups, self.filters)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """In NHWC, like `output_shape`."""
        return (self.n, *self.size, self.channels)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.n, *self.output, self.channels if self.pool else self.filters)

    def array(self, name: str, shape: Sequence[int]) -> np.ndarray:
        """The random array of that name, the same in every call."""
        rng = np.random.default_rng([*self.seed, *name.encode()])
        if self.values == "ties":
            result = rng.integers(-2, 3, shape).astype(self.dtype)
        else:
            result = rng.standard_normal(shape).astype(self.dtype)
        if self.values == "nan":
            result[rng.random(shape) < 0.1] = np.nan
        if self.values == "positive":
            result = rng.random(shape).astype(self.dtype)
        if self.values == "infinite":
            result[rng.random(shape) < 0.8] = -np.inf
        return result

    def to_format(self, x: np.ndarray) -> np.ndarray:
        """From NHWC to the problem's layout."""
        return x if self.data_format == "NHWC" else np.ascontiguousarray(np.moveaxis(x, 3, 1))

    def shape_in_format(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(shape) if self.data_format == "NHWC" else (shape[0], shape[3], shape[1], shape[2])

    def pair(self, values: Pair) -> Any:
        """Two numbers in one of the forms that an argument can have."""
        four = [1, *values, 1] if self.data_format == "NHWC" else [1, 1, *values]
        forms: list[Any] = [values, list(values), four, tuple(np.int64(v) for v in values), np.array(values)]
        if values[0] == values[1]:
            forms += [values[0], (values[0],)]
        return forms[self.forms % len(forms)]

    def mean_arguments(self) -> dict[str, Any]:
        """The arguments of an average pooling besides `window_arguments`."""
        return {"count_include_pad": True} if self.count_include_pad else {}

    def window_arguments(self) -> dict[str, Any]:
        if self.adaptive is not None:
            size = list(self.adaptive) if self.forms % 2 else self.adaptive
            same = self.adaptive[0] is not None and self.adaptive[0] == self.adaptive[1]
            return {"output_size": self.adaptive[0] if same else size, "data_format": self.data_format}
        arguments: dict[str, Any] = {
            "strides": self.pair(self.strides),
            "padding": self.padding,
            "data_format": self.data_format,
        }
        if self.pool:
            arguments["ksize"] = self.pair(self.kernel)
            if self.dilations != (1, 1) or self.forms % 3 == 0:
                arguments["dilations"] = self.pair(self.dilations)
            if self.ceil_mode or self.forms % 5 == 0:
                arguments["ceil_mode"] = self.ceil_mode
            if self.strides == self.kernel and self.forms % 2:
                arguments["strides"] = None
        else:
            arguments["dilations"] = self.pair(self.dilations)
            arguments["algorithm"] = self.algorithm
        return arguments


@dataclass(frozen=True)
class Call:
    """The call fastconv.<name>(**arguments), and (value, tolerance) of each expected result."""

    problem: Problem
    name: str
    arguments: dict[str, Any]
    expected: Callable[[], list[tuple[np.ndarray, np.ndarray]]]  # computed on first use

    def result_shapes(self) -> list[tuple[tuple[int, ...], str]]:
        """Shape and dtype of each result, without computing it."""
        problem = self.problem
        if self.name == "conv2d_max_pool2d":
            return [(problem.shape_in_format(problem.pooled_shape), problem.dtype), (problem.pooled_shape, "uint8")]
        if self.name == "conv2d_max_pool2d_backprop":
            shapes = problem.shape_in_format(problem.input_shape), problem.filter_shape, (problem.filters,)
            return [(shape, problem.dtype) for shape in shapes]
        if self.name.endswith("backprop_filter"):
            return [(problem.filter_shape, problem.dtype)]
        inward = self.name.endswith(("backprop_input", "transpose", "grad"))
        shape = problem.shape_in_format(problem.input_shape if inward else problem.output_shape)
        results = [(shape, problem.dtype)]
        return [*results, (shape, "int64")] if self.name == "max_pool2d_with_argmax" else results

    def in_data_format(self, result: int) -> bool:
        """Whether the dimensions of result number `result` are in the data format."""
        return not self.name.endswith("backprop_filter") and (self.name not in CONV_MAX_POOL or result == 0)

    def check(self, result: Any, where: str = "") -> float:
        """Raises AssertionError unless `result` is right; returns the largest error relative to the tolerance."""
        what = f"{where}\n{self}"
        results = result if isinstance(result, tuple) else (result,)
        expected = self.expected()
        assert len(results) == len(expected), f"number of results: {len(results)}, expected {len(expected)} {what}"
        worst = 0.0
        for got, (value, tolerance) in zip(results, expected, strict=True):
            assert isinstance(got, np.ndarray), f"got {type(got)} {what}"
            dtype = value.dtype if value.dtype.kind in "iu" else self.problem.dtype
            assert got.dtype == dtype, f"dtype {got.dtype} instead of {dtype} {what}"
            assert got.shape == value.shape, f"shape {got.shape} instead of {value.shape} {what}"
            with np.errstate(invalid="ignore", divide="ignore"):
                error = np.abs(got.astype(value.dtype) - value)
                same = (got == value) | (np.isnan(got) & np.isnan(value))
                right = same | (error <= tolerance)
                if not right.all():
                    at = tuple(int(i) for i in np.argwhere(~right)[0])
                    raise AssertionError(
                        f"wrong elements: {(~right).sum()} of {right.size}; the first, at {at}: got {got[at]!r}, "
                        f"expected {value[at]!r} within {tolerance[at]!r} {what}"
                    )
                ratio = np.where(same, 0.0, error / tolerance)
            worst = max(worst, float(ratio.max(initial=0.0)))
        return worst

    def __str__(self) -> str:
        return f"{self.name}: {self.problem}"


def largest_nearby(x: np.ndarray, reach: int) -> np.ndarray:
    """For each pixel of an NHWC array, the maximum of the pixels up to `reach` rows and columns away."""
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    size = 2 * reach + 1
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2)).max(axis=(-2, -1))


def tolerance_of(problem: Problem, magnitude: np.ndarray, filter_gradient: bool = False) -> np.ndarray:
    """The error allowed for a sum whose terms' absolute values add up to `magnitude`, in NHWC or (R, S, C, K)."""
    bound = ERROR_BOUND
    if problem.may_be_winograd:
        bound = WINOGRAD_ERROR_BOUND if problem.algorithm == "winograd" else WINOGRAD_AUTO_ERROR_BOUND
        if filter_gradient:
            magnitude = np.broadcast_to(magnitude.max(axis=(0, 1)), magnitude.shape)
        elif magnitude.size:
            magnitude = largest_nearby(magnitude, 3)  # a tile has at most 4x4 pixels
    return bound * np.finfo(problem.dtype).eps * magnitude


def _conv_call(problem: Problem, name: str) -> Call:
    geometry, groups = problem.geometry, problem.groups
    x = problem.array("input", problem.input_shape)
    w = problem.array("filters", problem.filter_shape)
    dy = problem.array("out_backprop", problem.output_shape)
    bias = problem.array("bias", (problem.filters,)) if problem.bias else None
    input_sizes = problem.shape_in_format(problem.input_shape)
    kind = name.removeprefix("depthwise_")
    arguments = problem.window_arguments()
    if kind == "conv2d":
        arguments |= {"input": problem.to_format(x), "filters": w, "bias": bias}
        arguments["activation"] = "relu" if problem.relu else (None, "linear")[problem.forms % 2]
    elif kind == "conv2d_backprop_input":
        arguments |= {"input_sizes": input_sizes, "filters": w, "out_backprop": problem.to_format(dy)}
    elif kind == "conv2d_transpose":
        arguments |= {"input": problem.to_format(dy), "filters": w, "output_shape": input_sizes}
    else:
        assert kind == "conv2d_backprop_filter"
        arguments |= {"input": problem.to_format(x), "filter_sizes": w.shape, "out_backprop": problem.to_format(dy)}

    @cache
    def expected() -> list[tuple[np.ndarray, np.ndarray]]:
        if name == "conv2d":
            sums = reference.conv2d(x, w, geometry, bias, problem.relu)
        elif name == "depthwise_conv2d":
            sums = reference.depthwise_conv2d(x, w, geometry, bias, problem.relu)
        elif name in ("conv2d_backprop_input", "conv2d_transpose"):
            sums = reference.conv2d_backprop_input(w, dy, geometry, groups)
        elif name == "conv2d_backprop_filter":
            sums = reference.conv2d_backprop_filter(x, dy, geometry, groups)
        elif name == "depthwise_conv2d_backprop_input":
            sums = reference.depthwise_conv2d_backprop_input(w, dy, geometry)
        else:
            sums = reference.depthwise_conv2d_backprop_filter(x, dy, geometry)
        if kind == "conv2d_backprop_filter":
            return [(sums.value, tolerance_of(problem, sums.magnitude, filter_gradient=True))]
        return [(problem.to_format(sums.value), problem.to_format(tolerance_of(problem, sums.magnitude)))]

    return Call(problem, name, arguments, expected)


def _pool_call(problem: Problem, function: str) -> Call:
    geometry, name = problem.windows, function.removeprefix("adaptive_")
    x = problem.array("input", problem.input_shape)
    grad = np.random.default_rng(problem.seed).standard_normal(problem.output_shape).astype(problem.dtype)
    arguments = problem.window_arguments()
    if name.startswith("avg"):
        arguments |= problem.mean_arguments()
    include_batch = name == "max_pool2d_with_argmax" and problem.forms % 3 == 0
    if name == "avg_pool2d_grad":
        arguments |= {
            "orig_input_shape": problem.shape_in_format(problem.input_shape),
            "grad": problem.to_format(grad),
        }
    elif name == "max_pool2d_grad":
        output = reference.max_pool2d(x, geometry).value
        arguments |= {
            "orig_input": problem.to_format(x),
            "orig_output": problem.to_format(output),
            "grad": problem.to_format(grad),
        }
    else:
        arguments["input"] = problem.to_format(x)
        if include_batch:
            arguments["include_batch_in_index"] = True

    def bounded(sums: Sum) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(problem.to_format(sums.value), problem.to_format(tolerance_of(problem, sums.magnitude)))]

    @cache
    def expected() -> list[tuple[np.ndarray, np.ndarray]]:
        if name == "avg_pool2d":
            return bounded(reference.avg_pool2d(x, geometry))
        if name == "avg_pool2d_grad":
            return bounded(reference.avg_pool2d_grad(grad, geometry))
        if name == "max_pool2d_grad":
            return bounded(reference.max_pool2d_grad(x, grad, geometry))
        value, argmax = reference.max_pool2d(x, geometry)
        if include_batch:
            image = problem.size[0] * problem.size[1] * problem.channels
            argmax = argmax + image * np.arange(problem.n).reshape(-1, 1, 1, 1)
        results = [problem.to_format(value), problem.to_format(argmax)]
        exact = [(result, np.zeros(result.shape, result.dtype)) for result in results]
        return exact if name == "max_pool2d_with_argmax" else exact[:1]

    return Call(problem, function, arguments, expected)


def _conv_max_pool_call(problem: Problem, name: str) -> Call:
    assert problem.pooling is not None
    geometry, pooling = problem.geometry, problem.pooling_geometry
    if name == "conv2d_max_pool2d":  # integers: their sums are exact, so that all implementations find the same maxima
        problem = dataclasses.replace(problem, values="ties", algorithm="direct")
    x = problem.array("input", problem.input_shape)
    w = problem.array("filters", problem.filter_shape)
    bias = problem.array("bias", (problem.filters,)) if problem.bias else None
    maps = problem.array("maps", problem.output_shape)  # the pooling's input, for the gradient
    grad = problem.array("grad", problem.pooled_shape)
    arguments = problem.window_arguments() | {"input": problem.to_format(x), "filters": w}
    arguments["pool_size"] = problem.pair(problem.pooling.kernel)
    arguments["pool_padding"] = problem.pooling.padding
    if problem.pooling.strides != problem.pooling.kernel or problem.forms % 2:
        arguments["pool_strides"] = problem.pair(problem.pooling.strides)
    if name == "conv2d_max_pool2d":
        arguments |= {"bias": bias, "activation": "relu" if problem.relu else None}
    else:
        arguments |= {"taps": reference.max_pool2d_taps(maps, pooling), "grad": problem.to_format(grad)}

    @cache
    def expected() -> list[tuple[np.ndarray, np.ndarray]]:
        if name == "conv2d_max_pool2d":
            sums = reference.conv2d(x, w, geometry, bias, problem.relu).value.astype(problem.dtype)
            results = [
                problem.to_format(reference.max_pool2d(sums, pooling).value),
                reference.max_pool2d_taps(sums, pooling),
            ]
            return [(result, np.zeros(result.shape, result.dtype)) for result in results]
        dy = reference.max_pool2d_grad(maps, grad, pooling)  # already a sum where windows overlap
        dx = reference.conv2d_backprop_input(w, dy.value, geometry, problem.groups).value
        dx_size = reference.conv2d_backprop_input(np.abs(w), dy.magnitude, geometry, problem.groups).value
        dw = reference.conv2d_backprop_filter(x, dy.value, geometry, problem.groups).value
        dw_size = reference.conv2d_backprop_filter(np.abs(x), dy.magnitude, geometry, problem.groups).value
        db, db_size = (g.astype(np.float64).sum(axis=(0, 1, 2)) for g in (grad, np.abs(grad)))
        return [
            (problem.to_format(dx), problem.to_format(tolerance_of(problem, dx_size))),
            (dw, tolerance_of(problem, dw_size, filter_gradient=True)),
            (db, ERROR_BOUND * np.finfo(problem.dtype).eps * db_size),
        ]

    return Call(problem, name, arguments, expected)


def call_of(problem: Problem, name: str) -> Call:
    if problem.pooling is not None:
        return _conv_max_pool_call(problem, name)
    return _pool_call(problem, name) if problem.pool else _conv_call(problem, name)


def calls_of(problem: Problem) -> Iterator[Call]:
    """A call of every function that takes problems of this kind."""
    pools = POOL if problem.adaptive is None else ADAPTIVE
    for name in (
        CONV_MAX_POOL if problem.pooling else pools if problem.pool else DEPTHWISE if problem.depthwise else CONV
    ):
        yield call_of(problem, name)


def every_window_meets_the_input(problem: Problem) -> bool:
    """Whether each window has a pixel of the input. If not, fastconv refuses the pooling."""
    return bool(problem.windows._replace(count_include_pad=False).counted().all())  # type: ignore[call-arg]
