"""What `fastconv.Network` promises: threads, shapes, memory, and clear errors for programs that cannot run."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import fastconv
import network_reference
import numpy as np
import pytest
from fastconv.network import Graph, Network
from network_graphs import lenet, random
from processes import run_python


def branches(dtype: Any = np.float64) -> tuple[Graph, list[int]]:
    """A graph with values of many sizes and lifetimes, and all of its values."""
    graph = Graph(np.dtype(dtype))
    x = graph.input("x", (None, 8, 8, 4))
    live = [x]
    rng = np.random.default_rng(3)
    for i in range(40):
        a, b = (live[int(rng.integers(max(0, len(live) - 6), len(live)))] for _ in range(2))
        kind = i % 5
        if kind == 0:
            live.append(graph.add("add", [a, b], (), f"add{i}", activation=["relu"]))
        elif kind == 1:
            live.append(graph.add("activate", [a], (), f"tanh{i}", activation=["tanh"]))
        elif kind == 2:
            filters = graph.constant(rng.standard_normal((3, 3, 4, 4)) / 6)
            live.append(graph.add("conv2d", [a, filters, None, b], (), f"conv{i}", padding="SAME"))
        elif kind == 3:
            both = graph.add("concatenate", [a, b], (), f"both{i}", axis=-1)
            live.append(graph.add("slice", [both], (), f"half{i}", begin=[0, 0, 0, 2], end=[None, None, None, 6]))
        else:
            flat = graph.add("reshape", [a], (), f"flat{i}", shape=[0, -1])
            flat = graph.add("scale_shift", [flat, None, graph.constant(rng.standard_normal(256))], (), f"shift{i}")
            live.append(graph.add("reshape", [flat], (), f"image{i}", shape=[0, 8, 8, 4]))
    return graph, live


def expected(graph: Graph, *arrays: np.ndarray) -> list[np.ndarray]:
    values = network_reference.run(graph, {name: a for (name, _), a in zip(graph.inputs, arrays, strict=True)})
    return [values[index] for _, index in graph.outputs]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lenet_gives_the_same_bits_in_any_batch(dtype: Any) -> None:
    graph = lenet(dtype)
    network = Network(graph)
    images = random(9, 28, 28, 1, dtype=dtype)
    whole = network(images)
    np.testing.assert_allclose(whole, expected(graph, images)[0], atol=1e-5 if dtype == np.float32 else 1e-14)
    for batch in (0, 1, 2, 5):
        part = network(images[:batch])
        assert part.shape == (batch, 10) and part.dtype == dtype
        np.testing.assert_array_equal(part, whole[:batch])
    np.testing.assert_array_equal(network.predict(images, batch_size=4), whole)
    np.testing.assert_array_equal(network.predict(images[:0]), whole[:0])


def test_images_of_any_size() -> None:
    graph = lenet(np.float64, None)
    network = Network(graph)
    for height, width in ((28, 28), (33, 17), (64, 28)):
        images = random(2, height, width, 1, dtype=np.float64)
        np.testing.assert_allclose(network(images), expected(graph, images)[0], atol=1e-14)


def test_a_shape_whose_schedule_was_dropped_gives_the_same_bits() -> None:
    graph = lenet(np.float64, None)
    network = Network(graph)
    images = {size: random(1, size, size + 2, 1, dtype=np.float64) for size in range(20, 34)}
    first = {size: network(array) for size, array in images.items()}
    for size in (20, 33, 21, 20):
        np.testing.assert_array_equal(network(images[size]), first[size])


def test_several_inputs_and_outputs() -> None:
    graph = Graph(np.dtype(np.float32))
    a, b = graph.input("a", (None, 3)), graph.input("b", (None, 3))
    graph.outputs += [("sum", graph.add("add", [a, b], ())), ("product", graph.add("multiply", [a, b], ()))]
    network = Network(graph)
    x, y = random(4, 3), random(4, 3)
    outputs = network([x, y])
    assert isinstance(outputs, list)
    np.testing.assert_array_equal(outputs[0], x + y)
    np.testing.assert_array_equal(outputs[1], x * y)
    named = network({"b": y, "a": x})
    assert list(named) == ["sum", "product"]
    np.testing.assert_array_equal(named["product"], x * y)
    np.testing.assert_array_equal(network.predict((x, y), batch_size=3)[0], x + y)
    assert [tensor.name for tensor in network.inputs] == ["a", "b"] and network.inputs[0].shape == (None, 3)


def test_outputs_that_no_step_writes_share_no_memory() -> None:
    """The outputs are an input, a constant, reshapes of these, and one value under several names."""
    graph = Graph(np.dtype(np.float32))
    x = graph.input("x", (None, 6))
    constant = graph.constant(np.arange(6))
    total = graph.add("add", [x, constant], ())
    for name, value in {
        "x": x,
        "constant": constant,
        "x reshaped": graph.add("reshape", [x], (), shape=[-1]),
        "constant reshaped": graph.add("reshape", [constant], (), shape=[2, 3]),
        "total": total,
        "total again": total,
        "total reshaped": graph.add("reshape", [total], (), shape=[0, 2, 3]),
    }.items():
        graph.outputs.append((name, value))
    array = random(2, 6)
    outputs = Network(graph)({"x": array})
    numbers = np.arange(6, dtype=np.float32)
    for name, value in {
        "x": array,
        "constant": numbers,
        "x reshaped": array.reshape(-1),
        "constant reshaped": numbers.reshape(2, 3),
        "total": array + numbers,
        "total again": array + numbers,
        "total reshaped": (array + numbers).reshape(2, 2, 3),
    }.items():
        np.testing.assert_array_equal(outputs[name], value, err_msg=name)
    arrays = [array, *outputs.values()]
    for i, one in enumerate(arrays):
        assert all(not np.shares_memory(one, other) for other in arrays[:i])


def test_reused_memory_changes_no_value() -> None:
    """With all values as outputs, none shares memory with another. With one output, most do."""
    graph, live = branches()
    array = random(3, 8, 8, 4, dtype=np.float64)
    reference = network_reference.run(graph, {"x": array})
    for value in live[1:]:
        graph.outputs[:] = [("y", value)]
        np.testing.assert_allclose(Network(graph)(array), reference[value], rtol=1e-10, atol=1e-10)
    graph.outputs[:] = [(str(value), value) for value in live]
    for value, output in zip(live, Network(graph)(array if len(live) < 2 else [array]), strict=True):
        np.testing.assert_allclose(output, reference[value], rtol=1e-10, atol=1e-10)


def test_values_share_memory() -> None:
    graph, live = branches()
    graph.outputs[:] = [("y", live[-1])]
    program = Network(graph)._program
    value = 3 * 8 * 8 * 4 * 8
    assert program.arena_bytes([[3, 8, 8, 4]]) < 12 * value
    assert any(step["in_place"] for step in program.describe([[3, 8, 8, 4]]))


@pytest.mark.parametrize("extra", ["", "late reader", "output", "other reader", "appended twice", "reshaped"])
def test_growing_concatenations_are_written_in_place(extra: str) -> None:
    """As in DenseNet, each layer reads all channels so far and appends some. New channels are written in place."""
    graph = Graph(np.dtype(np.float64))
    rng = np.random.default_rng(2)
    x = graph.input("x", (None, 7, 6, 5))
    whole, channels = graph.add("activate", [x], (), activation=["tanh"]), 5
    parts = []
    for i in range(6):
        scale, shift = (graph.constant(rng.standard_normal(channels)) for _ in range(2))
        read = graph.add("scale_shift", [whole, scale, shift], (), f"norm{i}", activation=["relu"])
        filters = graph.constant(rng.standard_normal((3, 3, channels, 2 + i)) / channels)
        new = graph.add("conv2d", [read, filters, None, None], (), f"conv{i}", padding="SAME")
        whole, channels = graph.add("concatenate", [whole, new], (), f"join{i}", axis=-1), channels + 2 + i
        parts.append(whole)
    graph.outputs.append(("mean", graph.add("reduce", [whole], (), method="mean", axes=[1, 2])))
    middle = parts[2]
    if extra == "late reader":
        total = graph.add("scale_shift", [middle, None, graph.constant(rng.standard_normal(14))], (), "late")
        graph.outputs.append(("late", graph.add("activate", [total], (), activation=["silu"])))
    elif extra == "output":
        graph.outputs.append(("middle", middle))
    elif extra == "other reader":
        graph.outputs.append(("pooled", graph.add("max_pool2d", [middle], (), ksize=[2, 2])))
    elif extra == "appended twice":
        graph.outputs.append(("twice", graph.add("concatenate", [middle, parts[0], middle], (), axis=3)))
    elif extra == "reshaped":
        graph.outputs.append(("flat", graph.add("reshape", [middle], (), shape=[0, -1])))
    network = Network(graph)
    array = random(2, 7, 6, 5, dtype=np.float64)
    for _ in range(2):  # the memory of the second call still holds the values of the first
        for output, right in zip(network({"x": array}).values(), expected(graph, array), strict=True):
            np.testing.assert_allclose(output, right, rtol=1e-10, atol=1e-10)
    steps = network._program.describe([[2, 7, 6, 5]])
    in_place = [step["in_place"] for step, node in zip(steps, graph.nodes, strict=True) if node.name.startswith("join")]
    # Other readers need a dense value.
    copied = {"": [0], "late reader": [0], "appended twice": [0, 1, 3]}.get(extra, [0, 3])
    assert [i for i, place in enumerate(in_place) if not place] == copied


def test_inputs_and_constants_are_not_overwritten() -> None:
    graph = Graph(np.dtype(np.float32))
    x = graph.input("x", (None, 50))
    constant = graph.constant(random(50))
    y = graph.add("activate", [x], (), activation=["relu"])
    z = graph.add("activate", [constant], (), activation=["relu"])
    graph.outputs.append(("y", graph.add("add", [y, z], ())))
    network = Network(graph)
    array, before = random(2, 50), graph.values[constant].array
    assert before is not None
    kept = array.copy(), before.copy()
    first = network(array)
    np.testing.assert_array_equal(network(array), first)
    np.testing.assert_array_equal(array, kept[0])
    np.testing.assert_array_equal(before, kept[1])


def test_callers_cannot_change_constants() -> None:
    filters = random(3, 3, 1, 2)
    graph = Graph(np.dtype(np.float32))
    x = graph.input("x", (None, 5, 5, 1))
    graph.outputs.append(("y", graph.add("conv2d", [x, graph.constant(filters), None, None], ())))
    network = Network(graph)
    array = random(1, 5, 5, 1)
    before = network(array)
    filters[:] = 0
    np.testing.assert_array_equal(network(array), before)


def test_threads_may_call_at_once() -> None:
    graph = lenet()
    network = Network(graph)
    batches = [random(n, 28, 28, 1) for n in (1, 2, 3, 1)]
    alone = [network(images) for images in batches]
    kept: list[list[np.ndarray]] = [[] for _ in batches]
    failures: list[BaseException] = []

    def call(i: int) -> None:
        try:
            for _ in range(60):
                kept[i].append(network(batches[i]))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for outputs, right in zip(kept, alone, strict=True):
        for output in outputs:  # all outputs are kept, so one that shared memory with a later call would be wrong
            np.testing.assert_array_equal(output, right)


def test_same_bits_for_any_number_of_threads() -> None:
    graph, live = branches(np.float32)
    graph.outputs[:] = [(str(value), value) for value in live[1:]]
    wide = graph.add("concatenate", live[-6:], (), axis=-1)
    big = graph.add("resize", [wide], (), size=[100, 90], method="bilinear")
    graph.outputs += [("big", big), ("mean", graph.add("reduce", [big], (), method="mean", axes=[1, 2]))]
    graph.outputs.append(("softmax", graph.add("softmax", [big], (), axis=1)))
    network = Network(graph)
    array = random(5, 8, 8, 4)
    results = []
    for count in (1, 2, 4):
        with fastconv.threads(count):
            results.append(network([array]))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_nan_passes_through() -> None:
    graph = lenet(np.float64)
    network = Network(graph)
    images = random(3, 28, 28, 1, dtype=np.float64)
    images[1, 14, 14, 0] = np.nan
    outputs = network(images)
    assert np.isnan(outputs[1]).all() and np.isfinite(outputs[[0, 2]]).all()
    names = ["relu", "relu6", "elu", "leaky_relu", "gelu", "gelu_tanh", "silu", "sigmoid", "hard_swish", "tanh"]
    for activation in [*([name] for name in names), ["clip", 0, 1], ["hard_sigmoid", 0.2, 0.5]]:
        graph = Graph(np.dtype(np.float32))
        x = graph.input("x", (None, 40))
        graph.outputs.append(("y", graph.add("activate", [x], (), activation=activation)))
        array = random(2, 40)
        array[0, 3] = array[1, 39] = np.nan
        np.testing.assert_array_equal(np.isnan(Network(graph)(array)), np.isnan(array), err_msg=str(activation))
    for method in ("max", "min", "sum", "mean", "prod"):
        for axes in ([0], [1]):
            graph = Graph(np.dtype(np.float32))
            x = graph.input("x", (None, 70))
            graph.outputs.append(("y", graph.add("reduce", [x], (), method=method, axes=axes)))
            array = random(50, 70)
            array[40, 69] = np.nan
            assert np.isnan(Network(graph)(array)).sum() == 1
    for operation in ("maximum", "minimum"):
        graph = Graph(np.dtype(np.float32))
        a, b = graph.input("a", (None, 20)), graph.input("b", (None, 20))
        graph.outputs.append(("y", graph.add(operation, [a, b], ())))
        one, two = random(1, 20), random(1, 20)
        one[0, 3] = two[0, 18] = np.nan
        assert np.flatnonzero(np.isnan(Network(graph)([one, two]))).tolist() == [3, 18]


def test_arrays_of_other_layouts_and_bytes_are_accepted() -> None:
    network = Network(lenet())
    images = random(4, 28, 28, 1)
    right = network(images)
    np.testing.assert_array_equal(network(np.asfortranarray(images)), right)
    np.testing.assert_array_equal(network(np.repeat(images, 2, 0)[::2]), right)
    images.flags.writeable = False
    np.testing.assert_array_equal(network([images]), right)
    pixels = (np.arange(4 * 28 * 28) % 256).astype(np.uint8).reshape(4, 28, 28, 1)
    np.testing.assert_array_equal(network(pixels), network(pixels.astype(np.float32)))
    np.testing.assert_array_equal(network.predict(pixels, batch_size=3), network(pixels))
    assert network.profile(pixels, repeats=1).seconds > 0


def test_copies_compute_the_same() -> None:
    """Other processes of multiprocessing get a network by pickle."""
    network = Network(lenet())
    images = random(2, 28, 28, 1)
    for copied in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        np.testing.assert_array_equal(copied(images), network(images))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 1), (64, 10), (100, 17), (400, 120), (1024, 40), (2048, 256)])
def test_the_batch_changes_no_bit_of_a_dense_layer(inputs: int, outputs: int, dtype: Any) -> None:
    graph = Graph(np.dtype(dtype))
    x = graph.input("x", (None, inputs))
    matrix, bias = graph.constant(random(inputs, outputs)), graph.constant(random(outputs))
    graph.outputs.append(("y", graph.add("dense", [x, matrix, bias, None], (), activation=["relu"])))
    network = Network(graph)
    images = random(70, inputs, dtype=dtype)
    whole = network(images)
    for batch in (1, 2, 7, 33):
        np.testing.assert_array_equal(network(images[:batch]), whole[:batch])


def test_progress_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    Network(lenet()).predict(random(5, 28, 28, 1), batch_size=2, progress=True)
    assert capsys.readouterr().err.split("\r")[1:] == ["2/5", "4/5", "5/5\n"]


def test_progress_is_a_bar_on_terminals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes standard error for a terminal
    monkeypatch.setenv("TERM", "xterm")
    Network(lenet()).predict(random(5, 28, 28, 1), batch_size=2, progress=True)
    text = capsys.readouterr().err
    assert "━" in text and "5/5" in text


# ---- Reports ---------------------------------------------------------------------------------------------------------


def test_a_network_prints_its_table() -> None:
    network = Network(lenet())
    text = str(network)
    lines = text.splitlines()
    assert lines[0].split() == ["operation", "name", "fused", "output", "algorithm", "MFLOPs", "parameters"]
    assert lines[2].split()[:3] == ["conv2d", "conv1", "relu"] and "N x 10" in lines[-2]
    assert "direct" in lines[2] and lines[2].split()[-2:] == ["0.24", "156"]
    parameters = 5 * 5 * 6 + 6 + 5 * 5 * 6 * 16 + 16 + 400 * 84 + 84 + 84 * 10
    assert lines[-1] == f"{parameters:,} parameters of float32"
    assert "images (None, 28, 28, 1) -> scores (None, 10)" in repr(network)
    assert "dense2" in str(Network(lenet(size=None)))


def test_a_profile_times_each_step() -> None:
    profile = Network(lenet()).profile(random(2, 28, 28, 1), repeats=2)
    assert [step.name for step in profile.steps] == [
        "conv1",
        "pool1",
        "conv2",
        "flatten",
        "dense1",
        "dense2",
        "softmax",
    ]
    assert profile.steps[0].shape == (2, 28, 28, 6) and profile.steps[0].operations == 2 * 2 * 28 * 28 * 6 * 25
    assert 0 < profile.seconds < 10 and all(step.seconds > 0 for step in profile.steps if step.operation != "reshape")
    assert profile.peak > 1e9
    lines = str(profile).splitlines()
    assert lines[0].split() == ["operation", "name", "output", "algorithm", "us", "time", "GFLOP/s", "of", "peak"]
    assert "us in all" in lines[-1] and all("%" in line for line in lines[2:-1])


# ---- Processes -------------------------------------------------------------------------------------------------------


def test_a_network_computes_in_a_forked_child() -> None:
    """Other threads of the parent are inside calls when the parent forks."""
    code = """
import os, threading
import numpy as np
import network_graphs
from fastconv.network import Network
network = Network(network_graphs.lenet())
images = network_graphs.random(2, 28, 28, 1)
right = network(images)
stop = threading.Event()
def work():
    n = 1
    while not stop.is_set():
        network(np.repeat(images, n % 12 + 1, 0)); n += 1
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(network(images), right) else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads: thread.join()
print("done")
"""
    assert "done" in run_python(code, folder=Path(__file__).parent)


def test_importing_fastconv_does_not_import_networks() -> None:
    code = "import sys, fastconv; print('fastconv.network' in sys.modules); fastconv.Network; print(fastconv.Network)"
    assert run_python(code).split("\n")[:2] == ["False", "<class 'fastconv.Network'>"]
