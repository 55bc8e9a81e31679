"""Every operation of a network agrees with the float64 reference, on random shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import fastconv
import network_reference
import numpy as np
import pytest
from fastconv import _core
from fastconv.network import Graph

Rng = np.random.Generator


class Case(NamedTuple):
    attributes: dict[str, Any]
    inputs: list[tuple[int, ...]]  # shapes of the tensors
    constants: list[tuple[int, ...] | None] = []  # noqa: RUF012  None: left out


ACTIVATIONS: list[list[Any]] = [
    ["linear"],
    ["relu"],
    ["relu6"],
    ["leaky_relu", 0.2],
    ["elu", 1.5],
    ["gelu"],
    ["gelu_tanh"],
    ["silu"],
    ["sigmoid"],
    ["hard_sigmoid", 0.2, 0.5],
    ["hard_swish"],
    ["tanh"],
    ["clip", -0.5, 1],
    ["clip", "-inf", 0.25],
]


def pick(rng: Rng, choices: list[Any]) -> Any:
    return choices[rng.integers(len(choices))]


def sizes(rng: Rng, rank: int, most: int = 7, least: int = 1) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.integers(least, most + 1, rank))


def maybe(rng: Rng, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    return shape if rng.random() < 0.7 else None


def windows(rng: Rng, height: int, width: int, kernel: tuple[int, ...], explicit: bool = False) -> dict[str, Any]:
    dilations = [
        int(rng.integers(1, 3)) if (k - 1) * 2 < size else 1 for k, size in zip(kernel, (height, width), strict=True)
    ]
    padding = pick(rng, ["VALID", "SAME", [int(rng.integers(0, k)) for k in kernel for _ in range(2)]])
    if explicit:
        padding = [0, 0, 0, 0]
    return {"strides": list(sizes(rng, 2, 3)), "padding": padding, "dilations": dilations}


def convolution(rng: Rng, depthwise: bool = False) -> Case:
    kernel = sizes(rng, 2, 4)
    n, h, w = (int(rng.integers(1, 4)), *(int(k + rng.integers(0, 12)) for k in kernel))
    groups = 1 if depthwise else pick(rng, [1, 1, 1, 2, 3])
    c, k = int(rng.integers(1, 9)) * groups, int(rng.integers(1, 20)) * groups
    filters = (*kernel, c, int(rng.integers(1, 4))) if depthwise else (*kernel, c // groups, k)
    attributes = {**windows(rng, h, w, kernel), "activation": pick(rng, ACTIVATIONS)}
    channels = c * filters[3] if depthwise else k
    case = Case(attributes, [(n, h, w, c)], [filters, maybe(rng, (channels,))])
    return with_residual(rng, "depthwise_conv2d" if depthwise else "conv2d", case)


def with_residual(rng: Rng, operation: str, case: Case) -> Case:
    """The case, half of the time with a residual, which `graph_of` passes to the operation after the constants."""
    if rng.random() < 0.5:
        return case
    x, *constants = [np.zeros(shape) for shape in (*case.inputs, *(c for c in case.constants if c is not None))]
    shape = network_reference.OPERATIONS[operation](case.attributes, x, *constants).shape
    return Case(case.attributes, [*case.inputs, shape], case.constants)


def transposed(rng: Rng) -> Case:
    n, p, q = sizes(rng, 3, 6)
    groups = pick(rng, [1, 1, 2])
    kernel = sizes(rng, 2, 4)
    strides, dilations = list(sizes(rng, 2, 3)), list(sizes(rng, 2, 2))
    reach = [(size - 1) * s + (k - 1) * d + 1 for size, s, k, d in zip((p, q), strides, kernel, dilations, strict=True)]
    pads = [int(rng.integers(0, max(1, min(k, r // 2)))) for k, r in zip(kernel, reach, strict=True) for _ in range(2)]
    attributes = {
        "strides": strides,
        "dilations": dilations,
        "padding": pick(rng, ["VALID", pads]),
        "output_padding": [int(rng.integers(0, s)) for s in strides],
        "groups": groups,
        "activation": pick(rng, ACTIVATIONS),
    }
    cin, cout = int(rng.integers(1, 9)) * groups, int(rng.integers(1, 9))
    case = Case(attributes, [(n, p, q, cin)], [(*kernel, cout, cin), maybe(rng, (cout * groups,))])
    return with_residual(rng, "conv2d_transpose", case)


def convolution_and_pool(rng: Rng) -> Case:
    kernel = sizes(rng, 2, 4)
    n, h, w = (int(rng.integers(1, 4)), *(int(k + rng.integers(3, 14)) for k in kernel))
    c, k = int(rng.integers(1, 5)), int(rng.integers(1, 20))
    attributes = {
        **windows(rng, h, w, kernel, explicit=True),
        "strides": [1, 1],
        "dilations": [1, 1],
        "activation": pick(rng, [["linear"], ["relu"]]),
        "pool_size": list(sizes(rng, 2, 3)),
        "pool_padding": pick(rng, ["VALID", "SAME"]),
    }
    if rng.random() < 0.5:
        attributes["pool_strides"] = list(sizes(rng, 2, 3))
    return Case(attributes, [(n, h, w, c)], [(*kernel, c, k), maybe(rng, (k,))])


def dense(rng: Rng) -> Case:
    c, k = (int(m) for m in rng.integers(1, 40, 2))
    shape = (*sizes(rng, int(rng.integers(0, 3))), c)
    case = Case({"activation": pick(rng, ACTIVATIONS)}, [shape], [(c, k), maybe(rng, (k,))])
    return with_residual(rng, "dense", case)


def pool(rng: Rng, average: bool) -> Case:
    kernel = sizes(rng, 2, 4)
    n, h, w = (int(rng.integers(1, 3)), *(int(2 * k + rng.integers(0, 10)) for k in kernel))
    attributes = {"ksize": list(kernel), **windows(rng, h, w, kernel), "ceil_mode": bool(rng.random() < 0.3)}
    if average:
        attributes["count_include_pad"] = bool(rng.random() < 0.5)
    if attributes["padding"] == "SAME":
        attributes["ceil_mode"] = False
    if rng.random() < 0.3:
        del attributes["strides"]
    return Case(attributes, [(n, h, w, int(rng.integers(1, 20)))])


def adaptive(rng: Rng) -> Case:
    shape = sizes(rng, 4, 12)
    return Case({"output_size": [int(rng.integers(1, shape[1 + i] + 1)) for i in range(2)]}, [shape])


def any_shape(rng: Rng, least: int = 1, most: int = 9) -> tuple[int, ...]:
    rank = int(rng.integers(least, 6))
    return sizes(rng, rank, most)


def arithmetic(rng: Rng) -> Case:
    shape = any_shape(rng)
    if rng.random() < 0.2:
        shape = (3, 1500, 5)
    a, b = ([1 if rng.random() < 0.3 else n for n in shape] for _ in range(2))
    a, b = a[int(rng.integers(0, len(a))) :], b
    pair = [tuple(a), tuple(b)] if rng.random() < 0.5 else [tuple(b), tuple(a)]
    attributes = {"activation": pick(rng, ACTIVATIONS)}
    return Case(attributes, pair) if rng.random() < 0.6 else Case(attributes, pair[:1], pair[1:])


def activate(rng: Rng) -> Case:
    return Case({"activation": pick(rng, ACTIVATIONS)}, [pick(rng, [any_shape(rng), (2, 3000)])])


def scale_shift(rng: Rng) -> Case:
    shape = (*any_shape(rng)[:-1], int(rng.integers(1, 70)))
    constants = [maybe(rng, shape[-1:]), maybe(rng, shape[-1:])]
    return Case({"activation": pick(rng, ACTIVATIONS)}, [shape], constants)


def concatenate(rng: Rng) -> Case:
    shape = any_shape(rng)
    axis = int(rng.integers(-len(shape), len(shape)))
    shapes = []
    for _ in range(int(rng.integers(1, 5))):
        other = list(shape)
        other[axis] = int(rng.integers(0, 40))
        shapes.append(tuple(other))
    return Case({"axis": axis}, shapes)


def pad(rng: Rng) -> Case:
    shape = any_shape(rng)
    mode = pick(rng, ["constant", "reflect", "edge"])
    paddings = [[int(p) for p in rng.integers(0, 5, 2)] if rng.random() < 0.6 else [0, 0] for _ in shape]
    attributes: dict[str, Any] = {"paddings": paddings, "mode": mode}
    if mode == "constant" and rng.random() < 0.5:
        attributes["value"] = pick(rng, [1.5, "-inf", -2])
    return Case(attributes, [shape])


def resize(rng: Rng) -> Case:
    shape = (*sizes(rng, 3, 9), int(rng.integers(1, 40)))
    attributes: dict[str, Any] = {
        "method": pick(rng, ["nearest", "bilinear"]),
        "coordinates": pick(rng, ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]),
        "rounding": pick(rng, ["floor", "round_prefer_floor", "round_prefer_ceil", "ceil"]),
    }
    if rng.random() < 0.5:
        attributes["size"] = list(sizes(rng, 2, 20))
    else:
        attributes["scales"] = [float(pick(rng, [0.5, 1.0, 1.6, 2, 3])) for _ in range(2)]
    return Case(attributes, [shape])


def reshape(rng: Rng) -> Case:
    shape = sizes(rng, 4, 6)
    a, b, c, d = shape
    return Case(
        {"shape": pick(rng, [[-1], [0, -1], [a * b, c, d], [0, 0, c * d, 1], [0, b * c, -1], [a, -1, d]])}, [shape]
    )


def transpose(rng: Rng) -> Case:
    shape = pick(rng, [any_shape(rng), (2, 30, 40), (65, 70), (3, 5, 300, 2)])
    return Case({"perm": [int(i) for i in rng.permutation(len(shape))]}, [shape])


def slice_(rng: Rng) -> Case:
    shape = any_shape(rng)
    ends = [[pick(rng, [None, int(rng.integers(-size - 2, size + 2))]) for size in shape] for _ in range(2)]
    strides = [pick(rng, [1, 1, 2, 3, -1, -2]) for _ in shape]
    return Case({"begin": ends[0], "end": ends[1], "strides": strides}, [shape])


def softmax(rng: Rng) -> Case:
    shape = pick(rng, [any_shape(rng), (4, 1000), (2, 40, 3)])
    return Case({"axis": int(rng.integers(-len(shape), len(shape)))}, [shape])


def reduce(rng: Rng) -> Case:
    shape = pick(rng, [any_shape(rng, most=6), (2, 100, 70), (3, 400), (2, 9, 300), (2, 1700, 3)])
    axes = [int(a) for a in rng.permutation(len(shape))[: int(rng.integers(1, len(shape) + 1))]]
    axes = [a - len(shape) if rng.random() < 0.3 else a for a in axes]
    method = pick(rng, ["mean", "sum", "max", "min", "prod"])
    return Case({"method": method, "axes": axes, "keepdims": bool(rng.random() < 0.5)}, [shape])


def layer_normalization(rng: Rng) -> Case:
    shape = pick(rng, [any_shape(rng), (5, 300)])
    axis = int(rng.integers(-len(shape), len(shape)))
    inner = shape[axis % len(shape) :]
    return Case({"axis": axis, "epsilon": 1e-3}, [shape], [maybe(rng, inner), maybe(rng, inner)])


DRAW: dict[str, Callable[[Rng], Case]] = {
    "conv2d": convolution,
    "depthwise_conv2d": lambda rng: convolution(rng, depthwise=True),
    "conv2d_transpose": transposed,
    "conv2d_max_pool2d": convolution_and_pool,
    "dense": dense,
    "max_pool2d": lambda rng: pool(rng, average=False),
    "avg_pool2d": lambda rng: pool(rng, average=True),
    "adaptive_max_pool2d": adaptive,
    "adaptive_avg_pool2d": adaptive,
    "activate": activate,
    **dict.fromkeys(network_reference.ARITHMETIC, arithmetic),
    "scale_shift": scale_shift,
    "concatenate": concatenate,
    "pad": pad,
    "resize": resize,
    "reshape": reshape,
    "transpose": transpose,
    "slice": slice_,
    "softmax": softmax,
    "log_softmax": softmax,
    "reduce": reduce,
    "layer_normalization": layer_normalization,
}


def graph_of(operation: str, case: Case, dtype: Any, rng: Rng) -> tuple[Graph, dict[str, np.ndarray]]:
    graph = Graph(np.dtype(dtype))
    arrays = {f"x{i}": rng.standard_normal(shape).astype(dtype) for i, shape in enumerate(case.inputs)}
    tensors = [graph.input(name, (None,) * array.ndim) for name, array in arrays.items()]
    constants = [None if shape is None else graph.constant(rng.standard_normal(shape)) for shape in case.constants]
    inputs: list[int | None] = [*tensors[:1], *constants, *tensors[1:]]
    count = len(specification(operation)["inputs"])
    if operation != "concatenate":
        inputs += [None] * (count - len(inputs))
    graph.outputs.append(("y", graph.add(operation, inputs, (), "node", **case.attributes)))
    return graph, arrays


def specification(operation: str) -> dict[str, Any]:
    return next(entry for entry in _core.network_operations() if entry["name"] == operation)


def check(operation: str, case: Case, dtype: Any, rng: Rng) -> None:
    graph, arrays = graph_of(operation, case, dtype, rng)
    expected = network_reference.run(graph, arrays)[graph.outputs[0][1]]
    actual = fastconv.Network(graph)(list(arrays.values()))
    assert actual.dtype == dtype and actual.shape == expected.shape, (case, actual.shape, expected.shape)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(actual), finite, err_msg=repr(case))
    scale = np.abs(expected, where=finite, out=np.zeros_like(expected)).max(initial=1.0)
    tolerance = (2e-5 if dtype == np.float32 else 1e-12) * scale
    if operation == "divide":  # the quotient by a small number is as inexact as the number
        tolerance = tolerance * 10
    error = np.abs(np.subtract(actual, expected, where=finite, out=np.zeros_like(expected))).max(initial=0.0)
    assert error <= tolerance, (case, error, tolerance)


def test_every_operation_is_drawn() -> None:
    assert [entry["name"] for entry in _core.network_operations()] and set(DRAW) == {
        entry["name"] for entry in _core.network_operations()
    }
    assert set(network_reference.OPERATIONS) == set(DRAW)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("operation", sorted(DRAW))
def test_operations_agree_with_the_reference(operation: str, dtype: Any, request: pytest.FixtureRequest) -> None:
    rng = np.random.default_rng([request.config.getoption("--seed"), sorted(DRAW).index(operation)])
    problems = request.config.getoption("--problems") or 40
    for _ in range(problems):
        check(operation, DRAW[operation](rng), dtype, rng)


@pytest.mark.parametrize("operation", sorted(DRAW))
def test_defaults_are_those_of_the_table(operation: str) -> None:
    """An attribute that is left out gives the same bits as the default that the table states."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        case = DRAW[operation](rng)
        defaults = {a["name"]: a["default"] for a in specification(operation)["attributes"] if "default" in a}
        required = {a["name"] for a in specification(operation)["attributes"]} - defaults.keys()
        assert required <= case.attributes.keys()
        full = case._replace(attributes={**defaults, **case.attributes})
        seed = int(rng.integers(1 << 30))
        outputs = []
        for one in (case, full):
            graph, arrays = graph_of(operation, one, np.float64, np.random.default_rng(seed))
            outputs.append(fastconv.Network(graph)(list(arrays.values())))
        np.testing.assert_array_equal(*outputs)
