"""Batches of `fastconv.Network`: threads compute parts, and the number of images may decide the algorithm."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastconv
import network_reference
import numpy as np
import pytest
from fastconv.network import Graph, Network
from network_graphs import lenet, random
from processes import run_python
from workers import ISAS

IMAGES = 8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parts_of_a_batch_change_no_bit(dtype: Any) -> None:
    """The batches divide evenly among the threads, divide unevenly, or are single images."""
    network = Network(lenet(dtype), batch_invariant=True)
    images = random(33, 28, 28, 1, dtype=dtype)
    singles = np.concatenate([network(image[None]) for image in images])
    for threads in (1, 2, 3, 8):
        with fastconv.threads(threads):
            for count in (1, 2, 3, 7, 8, 9, 16, 33):
                np.testing.assert_array_equal(network(images[:count]), singles[:count], err_msg=f"{threads} {count}")
            profile = network.profile(images[:16], repeats=2)
            assert all(step.seconds > 0 for step in profile.steps if step.operation != "reshape")


def test_parts_of_several_inputs_and_outputs() -> None:
    graph = Graph(np.dtype(np.float32))
    a, b = graph.input("a", (None, 5, 4, 3)), graph.input("b", (None, 60))
    flat = graph.add("reshape", [a], (), shape=[0, -1])
    total = graph.add("add", [flat, b], ())
    mean = graph.add("reduce", [a], (), method="mean", axes=[1, 2])
    for name, value in {"a": a, "flat": flat, "total": total, "again": total, "mean": mean}.items():
        graph.outputs.append((name, value))
    network = Network(graph)
    x, y = random(IMAGES, 5, 4, 3), random(IMAGES, 60)
    with fastconv.threads(4):
        outputs = network({"a": x, "b": y})
    for name, value in {"a": x, "flat": x.reshape(IMAGES, 60), "total": x.reshape(IMAGES, 60) + y}.items():
        np.testing.assert_array_equal(outputs[name], value)
    np.testing.assert_array_equal(outputs["again"], outputs["total"])
    np.testing.assert_allclose(outputs["mean"], x.mean((1, 2)), rtol=1e-5, atol=1e-6)


def constant_rows(graph: Graph, x: int) -> int:
    return graph.add("add", [x, graph.constant(np.arange(IMAGES * 6.0).reshape(IMAGES, 6))], ())


def square(graph: Graph, x: int) -> int:
    """(N, N) plus (N,), so a number of each image is added to all images."""
    wide = graph.add("concatenate", [x, graph.add("slice", [x], (), begin=[0, 0], end=[None, 2])], (), axis=1)
    return graph.add("add", [wide, graph.add("reduce", [x], (), method="sum", axes=[1])], ())


def two_in_a_row(graph: Graph, x: int) -> int:
    return graph.add("reshape", [graph.add("reshape", [x], (), shape=[IMAGES // 2, 12])], (), shape=[IMAGES, 6])


MIXING: dict[str, Callable[[Graph, int], int]] = {
    "softmax": lambda g, x: g.add("softmax", [x], (), axis=0),
    "sum": lambda g, x: g.add("add", [x, g.add("reduce", [x], (), method="sum", axes=[0], keepdims=True)], ()),
    "sum without the axis": lambda g, x: g.add("add", [x, g.add("reduce", [x], (), method="sum", axes=[0])], ()),
    "layer normalisation": lambda g, x: g.add("layer_normalization", [x, None, None], (), axis=0),
    "reversed": lambda g, x: g.add("slice", [x], (), begin=[None, 0], end=[None, 6], strides=[-1, 1]),
    "every second": lambda g, x: g.add("slice", [x], (), begin=[0, 0], end=[None, 6], strides=[2, 1]),
    "concatenated": lambda g, x: g.add("concatenate", [x, x], (), axis=0),
    "padded": lambda g, x: g.add("pad", [x], (), paddings=[[1, 1], [0, 0]], mode="edge"),
    "transposed": lambda g, x: g.add("transpose", [x], (), perm=[1, 0]),
    "constant rows": constant_rows,
    "square": square,
    "two in a row": two_in_a_row,
    "constant output": lambda g, x: g.constant(np.arange(IMAGES * 2.0).reshape(IMAGES, 2)),
}


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("name", MIXING)
def test_networks_that_mix_images_see_the_whole_batch(name: str, threads: int) -> None:
    graph = Graph(np.dtype(np.float64))
    x = graph.input("x", (IMAGES, 6))
    y = graph.add("activate", [x], (), activation=["tanh"])
    graph.outputs.append(("y", MIXING[name](graph, y)))
    array = random(IMAGES, 6, dtype=np.float64)
    expected = network_reference.run(graph, {"x": array})[graph.outputs[0][1]]
    with fastconv.threads(threads):
        np.testing.assert_allclose(Network(graph)(array), expected, rtol=1e-12, atol=1e-12)


def test_an_input_without_a_batch() -> None:
    """The second input is one row for all images."""
    graph = Graph(np.dtype(np.float32))
    x, row = graph.input("x", (None, 6)), graph.input("row", (1, 6))
    graph.outputs.append(("y", graph.add("multiply", [x, row], ())))
    images, factors = random(IMAGES, 6), random(1, 6)
    with fastconv.threads(2):
        np.testing.assert_array_equal(Network(graph)([images, factors]), images * factors)


def test_a_vector_is_not_divided_into_images() -> None:
    """The input of this dense layer is a single vector."""
    graph = Graph(np.dtype(np.float64))
    x = graph.input("x", (IMAGES,))
    matrix = random(IMAGES, IMAGES, dtype=np.float64)
    graph.outputs.append(("y", graph.add("dense", [x, graph.constant(matrix), None, None], ())))
    vector = random(IMAGES, dtype=np.float64)
    with fastconv.threads(2):
        np.testing.assert_allclose(Network(graph)(vector), vector @ matrix, rtol=1e-12)


BATCHES = """
import json
import numpy as np
from fastconv.network import Graph, Network

random = np.random.default_rng(0).standard_normal
images, filters = random((8, 7, 7, 320)).astype("f"), random((3, 3, 320, 320)).astype("f")
found = []
for invariant in (True, False):
    graph = Graph(np.dtype(np.float32))
    x = graph.input("x", (None, 7, 7, 320))
    y = graph.add("conv2d", [x, graph.constant(filters), None, None], (None, 7, 7, 320), padding="SAME")
    graph.outputs.append(("y", y))
    network = Network(graph, batch_invariant=invariant)
    assert network.batch_invariant is invariant
    whole, single = network(images), network(images[:1])
    error = float(np.linalg.norm(whole[:1] - single) / np.linalg.norm(single))
    algorithms = [network.profile(images[:count], repeats=1).steps[0].algorithm for count in (1, 8)]
    found.append([np.array_equal(whole[:1], single), error < 1e-5, *algorithms])
print(json.dumps(found))
"""


@pytest.mark.parametrize("isa", ISAS)
def test_the_batch_may_decide_the_algorithm(isa: str) -> None:
    """Transforming so many filters for one image of 7x7 pixels takes too long."""
    invariant, free = json.loads(run_python(BATCHES, FASTCONV_ISA=isa))
    assert invariant == [True, True, "winograd", "winograd"]
    assert free == [False, True, "direct", "winograd"]


def test_batch_invariance_survives_copies_and_files(tmp_path: Path) -> None:
    network = Network(lenet(), batch_invariant=True)
    assert pickle.loads(pickle.dumps(network)).batch_invariant
    network.save(tmp_path / "lenet.fastconv")
    assert fastconv.load(tmp_path / "lenet.fastconv", batch_invariant=True).batch_invariant
    assert not fastconv.load(tmp_path / "lenet.fastconv").batch_invariant
    with pytest.raises(TypeError, match="batch_invariant must be True or False, got 'no'"):
        fastconv.load(tmp_path / "lenet.fastconv", batch_invariant="no")  # type: ignore[arg-type]


THREADS = """
import fastconv
import numpy as np
from fastconv.network import Graph, Network

random = np.random.default_rng(0).standard_normal
graph = Graph(np.dtype(np.float32))
x = graph.input("x", (None, 6, 6, 320))
filters = graph.constant(random((3, 3, 320, 320)).astype("f"))
y = graph.add("conv2d", [x, filters, None, None], (None, 6, 6, 320), padding="SAME")
graph.outputs.append(("y", y))
large = graph.add("resize", [x], (), size=[22, 22], method="nearest")
graph.outputs.append(("mean", graph.add("reduce", [large], (), method="mean", axes=[1, 2])))
network = Network(graph)
images = random((12, 6, 6, 320)).astype("f")
found = []
for threads in (1, 2, 12):
    with fastconv.threads(threads):
        found.append(network(images)[0])
print(all(np.array_equal(found[0], other) for other in found[1:]))
print(network.profile(images[:1], repeats=1).steps[0].algorithm, network.profile(images, repeats=1).steps[0].algorithm)
"""


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa != "baseline"])
def test_the_number_of_threads_decides_nothing(isa: str) -> None:
    """More threads make smaller parts, for which another algorithm would be faster."""
    assert run_python(THREADS, FASTCONV_ISA=isa) == "True\ndirect winograd\n"
