"""Wrong arguments of networks, and programs that cannot run, get clear errors instead of a crash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastconv import _core
from fastconv.network import Graph, Network, Node
from network_graphs import lenet, random
from processes import run_python


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (np.zeros((1, 28, 28, 1)), TypeError, ["images", "float32", "float64", "astype"]),
        (np.zeros((1, 28, 28, 1), np.int64), TypeError, ["images", "int64", "astype(np.float32)"]),
        (np.zeros((1, 28, 28, 1), ">f4"), TypeError, ["images", "byte order"]),
        (np.zeros((28, 28, 1), np.float32), ValueError, ["images", "(None, 28, 28, 1)", "(28, 28, 1)", "images[None]"]),
        (np.zeros((1, 28, 27, 1), np.float32), ValueError, ["images", "(1, 28, 27, 1)"]),
        (np.zeros((), np.float32), ValueError, ["images", "(None, 28, 28, 1)", "()"]),
        ([[1.0]], TypeError, ["images", "NumPy array"]),
        (None, TypeError, ["images", "NoneType"]),
        ([], TypeError, ["images"]),
        ({"image": np.zeros((1, 28, 28, 1), np.float32)}, ValueError, ["images", "image"]),
    ],
)
def test_wrong_inputs_are_refused(images: Any, error: type[Exception], words: list[str]) -> None:
    network = Network(lenet())
    for call in (network, network.predict):
        with pytest.raises(error) as raised:
            call(images)
        assert all(word in str(raised.value) for word in words), raised.value


@pytest.mark.parametrize(
    "call", [lambda net, count: net.predict(IMAGE, count), lambda net, count: net.profile(IMAGE, count)]
)
def test_wrong_counts_are_refused(call: Callable[[Network, Any], Any]) -> None:
    network = Network(lenet())
    with pytest.raises(ValueError, match=r"^(batch_size|repeats) must be at least 1, got 0"):
        call(network, 0)
    for count in (2.0, "4", None, True):
        with pytest.raises(TypeError, match=r"^(batch_size|repeats) must be an integer, got"):
            call(network, count)


IMAGE = random(1, 28, 28, 1)
SHAPE = [None, 6, 6, 2]
RELU = {"activation": ["relu"]}
FILTERS = np.ones((3, 3, 2, 4), np.float32)
HUGE = 2**40


def program(step: Any, constants: Any = (FILTERS,), shape: Any = SHAPE, outputs: Any = (("y", 1),)) -> Any:
    return _core.NetworkProgram(np.dtype(np.float32), [("x", shape)], list(constants), [step], list(outputs), False)


def step(operation: str, inputs: list[int | None], **attributes: Any) -> Any:
    return (operation, inputs, attributes, "here")


def conv(**attributes: Any) -> Any:
    return step("conv2d", [0, -1, None, None], **attributes)


BAD: list[tuple[Any, list[str]]] = [
    (step("conv3d", [0]), ["conv3d", "no operation"]),
    (step("activate", [1], **RELU), ["no value 1"]),
    (step("activate", [-2], **RELU), ["no value -2"]),
    (step("activate", [2**62], **RELU), ["no value"]),
    (step("activate", [None], **RELU), ["input", "missing"]),
    (step("activate", [], **RELU), ["number of inputs must be 1, got 0"]),
    (step("activate", [0, 0], **RELU), ["number of inputs must be 1, got 2"]),
    (step("concatenate", [], axis=0), ["1 or more"]),
    (step("activate", [0]), ["activation", "missing"]),
    (step("activate", [0], activation=["swish"]), ["activation", "swish"]),
    (step("activate", [0], activation="relu"), ["activation", "list"]),
    (step("activate", [0], activation=["clip", 2, 1]), ["clip"]),
    (step("activate", [0], activation=["relu", 1]), ["relu"]),
    (step("activate", [0], activation=["leaky_relu", float("nan")]), ["leaky_relu"]),
    (step("activate", [0], activation=["leaky_relu", "1"]), ["activation"]),
    (conv(stride=[1, 1]), ["stride", "strides"]),
    (conv(strides=1), ["strides", "1"]),
    (conv(strides=[0, 1]), ["strides", "0"]),
    (conv(strides=[1, 1.5]), ["strides"]),
    (conv(strides=[True, 1]), ["strides"]),
    (conv(dilations=[HUGE, HUGE]), ["window"]),
    (conv(padding="FULL"), ["padding", "FULL"]),
    (conv(padding=[1, 1]), ["padding"]),
    (conv(padding=[1, 1, 1, -1]), ["padding", "-1"]),
    (conv(padding=[HUGE**2 // 2**20] * 4), ["overflow"]),
    (step("conv2d", [0, 0, None, None]), ["filters", "constant"]),
    (step("conv2d", [0, None, None, None]), ["filters", "missing"]),
    (step("conv2d", [0, -1, -1, None]), ["bias"]),
    (step("conv2d", [0, -1, None, 0]), ["residual"]),
    (step("dense", [0, -1, None, None]), ["filters", "2 dimensions"]),
    (step("conv2d_transpose", [0, -1, None, None], groups=0), ["groups"]),
    (step("conv2d_transpose", [0, -1, None, None], output_padding=[-1, 0]), ["output_padding"]),
    (step("conv2d_max_pool2d", [0, -1, None], pool_size=[2, 2], activation=["tanh"]), ["activation"]),
    (step("max_pool2d", [0], ksize=[7, 7], padding=[7, 0, 0, 0]), ["padding"]),
    (step("max_pool2d", [0], ksize=[8, 8], ceil_mode=1), ["ceil_mode"]),
    (step("adaptive_avg_pool2d", [0], output_size=[0, 1]), ["output_size"]),
    (step("scale_shift", [0, -1, None]), ["scale", "1 dimension"]),
    (step("add", [0, -1]), ["broadcast"]),
    (step("concatenate", [0, -1], axis=3), ["differ"]),
    (step("concatenate", [0], axis=4), ["axis must be from -4 to 3, got 4"]),
    (step("pad", [0], paddings=[[0, 0]] * 3), ["paddings", "4"]),
    (step("pad", [0], paddings=[[0, -1]] * 4), ["paddings"]),
    (step("pad", [0], paddings=[[HUGE, HUGE]] * 4), ["overflow"]),
    (step("pad", [0], paddings=[[2**63 - 1, 0], [0, 0], [0, 0], [0, 0]]), ["overflow"]),
    (step("pad", [0], paddings=[[0, 0]] * 4, mode="wrap"), ["mode", "constant"]),
    (step("resize", [0]), ["size", "scales"]),
    (step("resize", [0], size=[1, 1], scales=[1, 1]), ["size", "scales"]),
    (step("resize", [0], size=[HUGE, 1]), ["at most"]),
    (step("resize", [0], scales=["inf", 1]), ["scales"]),
    (step("resize", [0], scales=[float("nan"), 1]), ["scales"]),
    (step("resize", [0], scales=[1e300, 1]), ["at most"]),
    (step("reshape", [0], shape=[-1, -1]), ["shape"]),
    (step("reshape", [0], shape=[-2]), ["shape"]),
    (step("reshape", [0], shape=[0, 5]), ["shape"]),
    (step("reshape", [0], shape=[HUGE, HUGE]), ["overflow"]),
    (step("reshape", [0], shape=[1] * 8 + [0, -1]), ["shape"]),
    (step("reshape", [0], shape=[1] * 8 + [-1]), ["dimensions"]),
    (step("transpose", [0], perm=[0, 1, 2]), ["perm"]),
    (step("transpose", [0], perm=[0, 1, 1, 2]), ["perm"]),
    (step("slice", [0], begin=[0] * 4, end=[1] * 3), ["begin"]),
    (step("slice", [0], begin=[0] * 4, end=[1] * 4, strides=[0] * 4), ["strides"]),
    (step("softmax", [0], axis=-5), ["axis must be from -4 to 3, got -5"]),
    (step("reduce", [0], method="median", axes=[0]), ["method", "mean"]),
    (step("reduce", [0], method="sum", axes=[1, -3]), ["axes", "once"]),
    (step("layer_normalization", [0, -1, None]), ["scale"]),
    (step("layer_normalization", [0, None, None], epsilon=-1), ["epsilon"]),
]


@pytest.mark.parametrize(("bad", "words"), BAD, ids=[f"{i}-{bad[0]}" for i, (bad, _) in enumerate(BAD)])
def test_wrong_steps_are_refused(bad: Any, words: list[str]) -> None:
    with pytest.raises(ValueError) as raised:
        program(bad)
    text = str(raised.value)
    assert "step 0" in text and bad[0] in text and all(word in text for word in words), text


def test_wrong_programs_are_refused() -> None:
    good = step("activate", [0], **RELU)
    program(good)
    for arguments, words in (
        ({"outputs": [("y", 2)]}, ["output 'y'", "no value 2"]),
        ({"outputs": [("y", -2)]}, ["no value -2"]),
        ({"shape": [None, -1]}, ["input 'x'", "negative"]),
        ({"shape": [-5]}, ["input 'x'", "negative"]),
        ({"shape": [1] * 9}, ["input 'x'", "at most 8 dimensions, got 9"]),
    ):
        with pytest.raises(ValueError) as raised:
            program(good, **arguments) and program(good, **arguments).run([np.zeros((1, 1), np.float32)])
        assert all(word in str(raised.value) for word in words), raised.value
    with pytest.raises(TypeError, match="constant 0"):
        program(good, constants=[np.zeros(3)])
    with pytest.raises(TypeError):
        program(step("activate", [0], activation=np.zeros(3)))
    deep: Any = ["relu"]
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ValueError, match="activation"):
        program(step("activate", [0], activation=deep))
    with pytest.raises(ValueError, match="overflow"):
        program(good, shape=[HUGE, HUGE, HUGE])


def test_inputs_of_huge_shapes_are_refused() -> None:
    """A broadcast view has a huge shape, but the memory of one number."""
    network = Network(lenet(np.float32, None))
    view = np.broadcast_to(np.float32(0), (1, 2**30, 2**30, 1))
    with pytest.raises((ValueError, MemoryError)):
        network(view)


def test_wrong_graphs_are_refused() -> None:
    graph = lenet()
    graph.nodes.append(Node("activate", [10**6], RELU, 0, "late"))
    with pytest.raises(ValueError, match="'late' reads value 1000000"):
        Network(graph)
    graph.nodes[-1] = Node("activate", [0], RELU, 0, "again")
    with pytest.raises(ValueError, match="defines value 0"):
        Network(graph)
    graph.nodes.pop()
    graph.outputs.append(("lost", 10**6))
    with pytest.raises(ValueError, match="output 'lost'"):
        Network(graph)
    graph.outputs[-1] = ("scores", graph.outputs[0][1])
    with pytest.raises(ValueError, match="names of the outputs must differ"):
        Network(graph)
    with pytest.raises(TypeError, match="graph must be a Graph"):
        Network("model.onnx")  # type: ignore[arg-type]


def test_a_step_that_refuses_a_batch_of_one() -> None:
    graph = Graph(np.dtype(np.float32))
    x = graph.input("x", (None, 3))
    graph.outputs.append(("y", graph.add("reshape", [x], (), "pairs", shape=[-1, 6])))
    network = Network(graph)
    assert network(random(4, 3)).shape == (2, 6)
    with pytest.raises(ValueError, match="step 0, reshape 'pairs'"):
        network(random(3, 3))


def test_random_wrong_programs_do_not_crash() -> None:
    """Attributes get arbitrary values. The program then runs, or raises ValueError or MemoryError."""
    code = """
import resource
import sys
import fastconv, numpy as np
import test_network_operations as operations
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # so that huge tensors give a MemoryError
fastconv.set_num_threads(1)
VALUES = [-(2**63), -(2**31), -7, -1, 0, 1, 2, 3, 5, 9, 2**31, 2**33, 2**62, 2**63 - 1, None, True, 0.5, -1e300, "inf",
          "SAME", "relu", "", [], [1], [0, 0], [3, 2**62], [-1, -1], [[1, 2]], [2**62] * 4, [None] * 3, [-(2**63)] * 4]
counts = {}

def changed(rng, value):
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = int(rng.integers(len(value)))
        return [*value[:at], changed(rng, value[at]), *value[at + 1 :]]
    return operations.pick(rng, VALUES)

for i in range(int(sys.argv[1])):
    rng = np.random.default_rng(i)
    name = operations.pick(rng, sorted(operations.DRAW))
    case = operations.DRAW[name](rng)
    attributes, inputs = dict(case.attributes), list(case.inputs)
    for _ in range(int(rng.integers(1, 3))):
        if attributes and rng.random() < 0.7:
            key = operations.pick(rng, sorted(attributes))
            attributes[key] = changed(rng, attributes[key])
        else:
            at = int(rng.integers(len(inputs)))
            inputs[at] = operations.any_shape(rng, 0, 5)
    print(i, name, attributes, inputs, case.constants, flush=True)
    graph, arrays = operations.graph_of(name, case._replace(attributes=attributes, inputs=inputs), np.float32, rng)
    try:
        fastconv.Network(graph)(list(arrays.values()))
        result = "ran"
    except (ValueError, MemoryError) as error:
        result = type(error).__name__
    counts[result] = counts.get(result, 0) + 1
print(counts)
"""
    lines = run_python(code, "3000", folder=Path(__file__).parent).splitlines()
    assert "ran" in lines[-1] and "ValueError" in lines[-1], lines[-1]
