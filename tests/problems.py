"""Random problems, seeded and small, with many awkward cases. Each gives calls and their expected results.

A problem is a geometry and one of the many ways to write its arguments. `calls_of(problem)` turns it into calls of
fastconv's public functions, each with the reference's answer and the error it allows.
"""

from __future__ import annotations

import dataclasses
import itertools
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

# Bounds on the error of one element, in units of eps * sum(|x||w|). Winograd's algorithm spreads its rounding errors
# over a tile, so its bound takes the largest sum nearby. Where "auto" chooses it, many channels average them out.
ERROR_BOUND = 16
WINOGRAD_AUTO_ERROR_BOUND = 64
WINOGRAD_ERROR_BOUND = 128

MOST_PRODUCTS = 3_000_000
MOST_VALUES = 60_000


def kind_of(name: str) -> str:
    """The kind of problem that a function is for."""
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
        """Of a pooling."""
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
        """In NHWC, as `output_shape`."""
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
        """What an average pooling takes besides `window_arguments`."""
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
        """Whether the order of that result's dimensions depends on the data format."""
        return not self.name.endswith("backprop_filter") and (self.name not in CONV_MAX_POOL or result == 0)

    def check(self, result: Any, where: str = "") -> float:
        """Raises AssertionError unless `result` is right; returns the largest error relative to the tolerance."""
        what = f"{where}\n{self}"
        results = result if isinstance(result, tuple) else (result,)
        expected = self.expected()
        assert len(results) == len(expected), f"{len(results)} results instead of {len(expected)} {what}"
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
                        f"{(~right).sum()} of {right.size} elements are wrong; the first, at {at}: got {got[at]!r}, "
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
            magnitude = largest_nearby(magnitude, 3)  # a tile has 4x4 pixels
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
    maps = problem.array("maps", problem.output_shape)  # the pooling's input, of a gradient
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
        dy = reference.max_pool2d_grad(maps, grad, pooling)  # where windows overlap, these are already sums
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


# ---- Random choice --------------------------------------------------------------------------------------------------


def _pick(rng: np.random.Generator, *choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def _padding_form(rng: np.random.Generator, pads: Pads, data_format: str) -> Any:
    """One of the ways to write explicit padding."""
    (top, bottom), (left, right) = pads
    forms: list[Any] = [pads, [[top, bottom], [left, right]]]
    if data_format == "NHWC":
        forms.append([[0, 0], [top, bottom], [left, right], [0, 0]])
    else:
        forms.append([[0, 0], [0, 0], [top, bottom], [left, right]])
    if top == bottom and left == right:
        forms.append((top, left))
        if top == left:
            forms.append(top)
    return _pick(rng, *forms)


def _with_random_pooling(rng: np.random.Generator, problem: Problem) -> Problem | None:
    """As _random_problem, with a max pooling of the output. Most are common layers, and many of those are small."""
    if rng.random() < 0.6:
        channels, filters = _pick(rng, 1, 1, 2, 3, 6, 6, 8, 17), _pick(rng, 1, 5, 6, 8, 16, 16, 17, 33)
        padding = problem.padding if isinstance(problem.padding, str) else problem.pads
        problem = dataclasses.replace(
            problem, data_format="NHWC", channels=channels, filters=filters, strides=(1, 1), dilations=(1, 1),
            groups=1, padding=padding, algorithm="auto",
        )  # fmt: skip
    kernel = (_pick(rng, 1, 2, 2, 2, 3), _pick(rng, 1, 2, 2, 2, 3))
    strides = kernel if rng.random() < 0.6 else (_pick(rng, 1, 2, 3), _pick(rng, 1, 2, 3))
    padding = "VALID"
    if rng.random() < 0.4:
        drawn = [int(rng.integers(kernel[i // 2])) for i in range(4)]
        explicit = _padding_form(rng, ((drawn[0], drawn[1]), (drawn[2], drawn[3])), problem.data_format)
        padding = _pick(rng, "SAME", explicit)
    problem = dataclasses.replace(problem, pooling=Pooling(kernel, strides, padding))
    if min(problem.output) < 0 or min(problem.pooling_geometry.output) < 0:
        return None
    if 0 in problem.output and 0 not in problem.pooling_geometry.output:
        return None
    products = int(np.prod(problem.output_shape)) * int(np.prod(problem.filter_shape[:3]))
    values = max(int(np.prod(problem.input_shape)), int(np.prod(problem.output_shape)))
    return problem if products <= MOST_PRODUCTS and values <= MOST_VALUES else None


def _random_problem(rng: np.random.Generator, seed: tuple[int, ...], dtype: str, kind: str) -> Problem | None:
    """None if the draw has a negative output size or is too much work."""
    if kind == "conv_max_pool":
        problem = _random_problem(rng, seed, dtype, "conv")
        return problem and _with_random_pooling(rng, problem)
    if kind == "adaptive":
        return _random_adaptive(rng, seed, dtype)
    pool = kind == "pool"
    data_format = _pick(rng, "NHWC", "NCHW")
    kernel = (_pick(rng, 1, 2, 2, 3, 3, 3, 4, 5, 7), _pick(rng, 1, 2, 2, 3, 3, 3, 4, 5, 7))
    strides = (_pick(rng, 1, 1, 1, 2, 2, 3, 5), _pick(rng, 1, 1, 1, 2, 2, 3, 5))
    if kind == "winograd":
        kernel, strides = _pick(rng, (3, 3), (3, 3), (5, 5)), (1, 1)
    if pool and rng.random() < 0.4:
        strides = kernel
    dilations = (1, 1)
    if kind in ("conv", "depthwise") and rng.random() < 0.4:
        dilations = (_pick(rng, 1, 2, 3, 4), _pick(rng, 1, 2, 3, 4))
    if pool and rng.random() < 0.3:
        dilations = (_pick(rng, 1, 2, 3), _pick(rng, 1, 2, 3))
    size = (int(rng.integers(1, 13)), int(rng.integers(1, 13)))
    if rng.random() < 0.2:
        size = (size[0], int(rng.integers(13, 41)))
    n = _pick(rng, 1, 1, 2, 3, 5)

    padding: Any
    style = rng.random()
    if style < 0.15:
        padding = _pick(rng, "VALID", "valid")
    elif style < 0.35:
        padding = _pick(rng, "SAME", "same")
    else:
        most = [reference.extent(kernel[i], dilations[i]) + (-1 if pool else 1) for i in range(2)]
        drawn = [int(rng.integers(0, most[i // 2] + 1)) for i in range(4)]
        if style < 0.5:
            drawn[1], drawn[3] = drawn[0], drawn[2]
        padding = _padding_form(rng, ((drawn[0], drawn[1]), (drawn[2], drawn[3])), data_format)

    if rng.random() < 0.2:
        if rng.random() < 0.3:
            n = 0
        elif not pool and rng.random() < 0.1:
            size = _pick(rng, (0, size[1]), (size[0], 0), (0, 0))
        else:  # on one axis, the window is too large by up to a stride
            axis = _pick(rng, 0, 1)
            pads = reference.resolve_pads(padding, data_format, size, kernel, strides, dilations)
            room = reference.extent(kernel[axis], dilations[axis]) - sum(pads[axis])
            short = max(0, room - int(rng.integers(1, strides[axis] + 1)))
            size = (short, size[1]) if axis == 0 else (size[0], short)

    filters = groups = 1
    if pool:
        channels = _pick(rng, 1, 1, 3, 3, 6, 6, 17, 17, 2, 4, 8, 16, 32, 33, 64, 65, 100, 140)
    elif kind == "depthwise":
        channels = _pick(rng, 1, 3, 3, 6, 6, 17, 17, 2, 4, 8, 16, 31, 33, 64, 100, 140)
        groups, filters = channels, channels * _pick(rng, 1, 1, 1, 2, 3, 5)
    elif kind == "conv" and rng.random() < 0.32:
        groups = _pick(rng, 2, 3, 3, 5, 6, 17)
        channels = groups * _pick(rng, 1, 1, 2, 3, 6, 17)
        filters = groups * _pick(rng, 1, 1, 2, 3, 5, 17, 33)
    else:
        channels = _pick(rng, 1, 1, 3, 3, 6, 6, 17, 17, 2, 5, 8, 16, 33, 64, 140)
        filters = _pick(rng, 1, 2, 3, 5, 6, 8, 10, 16, 17, 31, 33, 48, 65, 100, 140)

    problem = Problem(
        seed, dtype, data_format, n, size, channels, kernel, strides, padding, dilations, filters, groups,
        depthwise=kind == "depthwise", pool=pool, bias=bool(rng.random() < 0.5), relu=bool(rng.random() < 0.3),
        algorithm="winograd" if kind == "winograd" else "auto" if pool else _pick(rng, "auto", "direct"),
        values=_pick(rng, "normal", "normal", "ties", "nan", "infinite") if pool else "normal",
        forms=int(rng.integers(1000)), ceil_mode=pool and bool(rng.random() < 0.3),
        count_include_pad=pool and bool(rng.random() < 0.3),
    )  # fmt: skip
    if min(problem.output) < 0 or (pool and not every_window_meets_the_input(problem)):
        return None
    products = int(np.prod(problem.output_shape)) * int(np.prod(problem.filter_shape[:3] if not pool else kernel))
    values = max(int(np.prod(problem.input_shape)), int(np.prod(problem.output_shape)))
    return problem if products <= MOST_PRODUCTS and values <= MOST_VALUES else None


def every_window_meets_the_input(problem: Problem) -> bool:
    """Whether each window has a pixel of the input. If not, fastconv refuses the pooling."""
    return bool(problem.windows._replace(count_include_pad=False).counted().all())  # type: ignore[call-arg]


def _random_adaptive(rng: np.random.Generator, seed: tuple[int, ...], dtype: str) -> Problem | None:
    size = (int(rng.integers(1, 13)), int(rng.integers(13, 30) if rng.random() < 0.1 else rng.integers(1, 13)))
    output: list[int | None] = [None, None]
    for i in range(2):
        divisors = [d for d in range(1, size[i] + 1) if size[i] % d == 0]
        output[i] = _pick(rng, None, 1, int(rng.choice(divisors)), *(int(rng.integers(1, 14)) for _ in range(5)))
    if rng.random() < 0.1:
        output[_pick(rng, 0, 1)] = 0
    return Problem(
        seed, dtype, _pick(rng, "NHWC", "NCHW"), _pick(rng, 0, 1, 1, 2, 2, 3, 5), size,
        _pick(rng, 1, 1, 3, 3, 6, 6, 17, 17, 2, 4, 8, 16, 33, 65, 100), (1, 1), (1, 1), "VALID", pool=True,
        values=_pick(rng, "normal", "normal", "ties", "nan", "infinite"), forms=int(rng.integers(1000)),
        adaptive=(output[0], output[1]),
    )  # fmt: skip


def draw_problems(seed: int, dtype: str, kind: str) -> Iterator[Problem]:
    """An endless series of problems of a `kind` of KINDS. Problem i depends only on (seed, i), `dtype` and `kind`."""
    for index in itertools.count():
        rng = np.random.default_rng([seed, index, *kind.encode(), *dtype.encode()])
        problem = None
        while problem is None:
            problem = _random_problem(rng, (seed, index), dtype, kind)
        yield problem


def random_problems(count: int, seed: int, dtype: str, kind: str) -> list[Problem]:
    return list(itertools.islice(draw_problems(seed, dtype, kind), count))


def shares(problems: list[Problem]) -> dict[str, float]:
    """The share of the problems that has each awkward property."""

    def share(has: Callable[[Problem], bool]) -> float:
        return sum(has(p) for p in problems) / len(problems)

    def extents(p: Problem) -> Pair:
        y, x = (reference.extent(p.kernel[i], p.dilations[i]) for i in range(2))
        return y, x

    return {
        "grouped": share(lambda p: p.groups > 1),
        "dilated": share(lambda p: p.dilated),
        "asymmetric": share(lambda p: p.asymmetric),
        "empty": share(lambda p: p.empty),
        "no images": share(lambda p: p.n == 0),
        "odd channels": share(lambda p: p.channels // p.groups in (1, 3, 6, 17)),
        "window larger than the input": share(lambda p: any(extents(p)[i] > p.size[i] for i in range(2))),
        "stride larger than the window": share(lambda p: any(p.strides[i] > extents(p)[i] for i in range(2))),
        "uncovered last rows": share(
            lambda p: not p.empty and any(
                (p.output[i] - 1) * p.strides[i] - p.pads[i][0] + extents(p)[i] < p.size[i] for i in range(2)
            )
        ),
        "rounded up": share(
            lambda p: p.ceil_mode and p.output != dataclasses.replace(p, ceil_mode=False).output
        ),
        "padding counted": share(lambda p: p.count_include_pad and any(map(any, p.pads))),
        "windows of several sizes": share(
            lambda p: p.adaptive is not None and any(o and s % o for o, s in zip(p.output, p.size, strict=True))
        ),
        "many channels": share(lambda p: p.channels > 64 or p.filters > 64),
        "wide": share(lambda p: p.size[1] > 20),
        "padded max pooling": share(lambda p: p.pooling is not None and any(map(any, p.pooling_geometry.pads))),
        "overlapping max pooling windows": share(
            lambda p: p.pooling is not None and any(p.pooling.strides[i] < p.pooling.kernel[i] for i in range(2))
        ),
        "common small layer": share(
            lambda p: p.data_format == "NHWC" and p.groups == 1 and p.algorithm == "auto" and not p.empty
            and (*p.strides, *p.dilations) == (1, 1, 1, 1) and p.channels * p.kernel[1] <= 24
        ),
    }  # fmt: skip
