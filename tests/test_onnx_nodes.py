"""ONNX's own tests of its operators, run by fastconv.onnx.

Each operator in `CONVERTERS` must give ONNX's results. It must refuse the modes that `NOT_SUPPORTED` lists. Other
operators must be refused or give ONNX's results.
"""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fastconv
import numpy as np
import onnx
import pytest
from fastconv.network.passes import simplify
from fastconv.onnx._importer import CONVERTERS, graph_of
from onnx import numpy_helper

FIRST_VERSION = (1, 20)  # of onnx. The tests of older versions need an old NumPy, and some expect other results.
FLOATS = (np.float32, np.float64)
# All inputs of these operators stay inputs of the model. Other operators keep only the first: the rest, such as filters
# and axes, become constants.
ALL_ARE_INPUTS = {"Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Concat"}

# Only the first output of these operators is tested. Further ones, such as the argmax, are not supported.
ONLY_FIRST_OUTPUT = {"LayerNormalization", "MaxPool", "Dropout"}

# Why fastconv refuses the cases with these names.
NOT_SUPPORTED = {
    "3 spatial dimensions": ["test_averagepool_3d_*", "test_maxpool_3d_*", "test_convtranspose_3d", "test_AvgPool3d*",
                             "test_Conv3d*", "test_MaxPool3d*"],
    "training": ["test_batchnorm_*_training_mode", "test_training_dropout*"],
    "a network computes in one type": ["test_cast_FLOAT_to_DOUBLE", "test_cast_DOUBLE_to_FLOAT",
                                       "test_castlike_FLOAT_to_DOUBLE*", "test_castlike_DOUBLE_to_FLOAT*"],
    "products of several matrices": ["test_matmul_3d", "test_matmul_4d", "test_matmul_bcast", "test_matmul_1d_3d",
                                     "test_matmul_4d_1d", "test_matmul_1d_1d"],
    "the extremum of no values": ["test_reduce_max_empty_set", "test_reduce_min_empty_set"],
    "reshaping no elements": ["test_reshape_allowzero_reordered"],
    "inputs other than tensors": ["test_identity_sequence", "test_identity_opt"],
    "cubic interpolation": ["test_resize_*_cubic*"],
    "antialiasing": ["test_resize_*_linear_antialias"],
    "coordinates": ["test_resize_tf_crop_and_resize*", "test_resize_*_half_pixel_symmetric"],
    "keeping the aspect ratio": ["test_resize_*_not_larger", "test_resize_*_not_smaller"],
    "swish with a factor": ["test_swiglu_alpha_expanded"],
}  # fmt: skip
# ONNX's expected values use the unrounded output size 2.4. PyTorch, ONNX Runtime and fastconv round it to 2.
ROUNDED_SIZE = "test_resize_downsample_scales_linear_align_corners"
# The expected values have only four digits.
FOUR_DIGITS = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}
# ONNX has no case in a single float type for these operators. The last two are fastconv's own. They stand for patterns
# of ONNX's operators.
WITHOUT_CASES = {"Cast", "CastLike", "ChannelShuffle", "NormalizeAxes"}


class Case(NamedTuple):
    name: str
    model: Any
    inputs: list[Any]
    outputs: list[Any]


def reason(name: str) -> str | None:
    """Why a case is refused."""
    return next(
        (why for why, names in NOT_SUPPORTED.items() if any(fnmatch.fnmatchcase(name, each) for each in names)), None
    )


def generated() -> Iterator[Case]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        for inputs, outputs in case.data_sets[:1]:
            yield Case(case.name, case.model, inputs, outputs)


def stored() -> Iterator[Case]:
    """Cases that PyTorch's exporter wrote, and some written by hand."""
    root = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for group in ("pytorch-converted", "pytorch-operator", "simple"):
        for folder in sorted((root / group).iterdir()):
            parts: list[list[Any]] = []
            for kind in ("input", "output"):
                count = len(list(folder.glob(f"test_data_set_0/{kind}_*.pb")))
                files = [folder / "test_data_set_0" / f"{kind}_{index}.pb" for index in range(count)]
                parts.append([onnx.TensorProto.FromString(file.read_bytes()) for file in files])
            yield Case(folder.name, onnx.load(folder / "model.onnx"), parts[0], parts[1])


def array(value: Any) -> Any:
    """A tensor as an array. None for a sequence or an optional value."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) else None


def of_floats(case: Case) -> bool:
    """Whether the first input and the first output are floats. The others may have other types."""
    return bool(
        case.inputs
        and case.inputs[0] is not None
        and case.outputs[0] is not None
        and case.inputs[0].dtype in FLOATS
        and case.outputs[0].dtype in FLOATS
    )


@pytest.fixture(scope="module")
def cases(not_run: set[str]) -> list[Case]:
    """All cases that compute floats from floats."""
    if tuple(map(int, onnx.__version__.split(".")[:2])) < FIRST_VERSION:
        not_run.add(f"ONNX's own tests of operators: onnx {onnx.__version__} is too old")
        pytest.skip("the tests need onnx 1.20 or newer")
    found = []
    for case in (*generated(), *stored()):
        case = case._replace(inputs=[array(x) for x in case.inputs], outputs=[array(y) for y in case.outputs])
        if case.model.graph.node and of_floats(case):
            found.append(case)
    return found


def network(case: Case) -> tuple[fastconv.Network, list[Any]]:
    """The network, and the arrays for its inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    if len(graph.node) == 1 and graph.node[0].op_type in ONLY_FIRST_OUTPUT:
        del graph.output[1:], graph.node[0].output[1:]
    given = {tensor.name for tensor in graph.initializer}
    arrays = []
    for entry, value in zip([entry for entry in graph.input if entry.name not in given], case.inputs, strict=False):
        if not arrays or (graph.node[0].op_type in ALL_ARE_INPUTS and value.dtype in FLOATS):
            arrays.append(value)
        elif value is not None:
            graph.initializer.append(numpy_helper.from_array(value, entry.name))
            graph.input.remove(entry)
    built = graph_of(model)
    simplify(built)
    return fastconv.Network(built), arrays


def difference(case: Case) -> str | None:
    """How the network's result differs from ONNX's. The network may refuse the case with a ValueError."""
    net, arrays = network(case)
    results = net(arrays) if len(net.outputs) > 1 else [net(arrays)]
    for result, expected in zip(results, case.outputs, strict=False):
        if (result.shape, result.dtype) != (expected.shape, expected.dtype):
            return f"{result.dtype} {result.shape}, expected {expected.dtype} {expected.shape}"
        single = expected.dtype == np.float32
        rtol = 1e-3 if case.name in FOUR_DIGITS else 1e-5 if single else 1e-9
        try:
            np.testing.assert_allclose(result, expected, rtol=rtol, atol=1e-5 if single else 1e-12)
        except AssertionError as error:
            return str(error)
    return None


@pytest.mark.parametrize("operator", sorted(CONVERTERS))
def test_supported_operators_give_the_results_of_onnx(cases: list[Case], operator: str) -> None:
    chosen = [
        case
        for case in cases
        if case.model.graph.node[0].op_type == operator
        and {node.op_type for node in case.model.graph.node} <= set(CONVERTERS)
        and case.name != ROUNDED_SIZE
    ]
    passed, problems = 0, []
    for case in chosen:
        expected = reason(case.name)
        try:
            why = difference(case)
        except ValueError as error:
            if expected is None:
                problems.append(f"{case.name} is refused: {error}")
            continue
        if expected is not None:
            problems.append(f"{case.name} is not refused, but should be because of: {expected}")
        elif why is not None:
            problems.append(f"{case.name}: {why}")
        passed += 1
    assert not problems, "\n".join(problems)
    assert passed or operator in WITHOUT_CASES, f"no case of {operator} was tested"


def test_all_cases_are_refused_or_give_the_results_of_onnx(cases: list[Case]) -> None:
    """These include operators that onnx evaluates because their inputs are constant, and functions of operators."""
    problems, refused = [], 0
    for case in cases:
        if case.name == ROUNDED_SIZE:
            continue
        try:
            why = difference(case)
        except ValueError:
            refused += 1
            continue
        if why is not None:
            problems.append(f"{case.name}: {why}")
    assert not problems, "\n".join(problems)
    assert refused > 100


def test_resize_rounds_the_output_size(cases: list[Case]) -> None:
    (case,) = (case for case in cases if case.name == ROUNDED_SIZE)
    net, arrays = network(case)
    np.testing.assert_array_equal(net(arrays), [[[[1, 4]]]])


def test_every_reason_to_refuse_has_a_case(cases: list[Case]) -> None:
    names = {case.name for case in cases}
    unused = [each for patterns in NOT_SUPPORTED.values() for each in patterns if not fnmatch.filter(names, each)]
    assert set(unused) <= {"test_identity_sequence", "test_identity_opt"}
