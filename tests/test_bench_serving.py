"""The benchmarks of serving: their layers, their ONNX models, and whole runs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import fastconv
import fastconv.keras
import numpy as np
import pytest
from test_bench import ROOT, run  # this import also puts the repository on the path

from bench import oracle
from bench.measure import measure
from bench.oracle import error_in_eps
from bench.processes import Library
from bench.serving import layers as served
from bench.serving.networks import error_of, times_table
from bench.serving.run import geometric_means as serving_means
from bench.serving.task import Served, write_network


def test_served_layers_agree() -> None:
    """The smallest layer of each kind agrees with the reference, and a wrong element is above the tolerance."""
    layers = sorted(served.read_layers(), key=lambda layer: layer.flops(1))
    assert {layer.activation for layer in layers} == set(served.ACTIVATIONS)
    kinds = {(layer.activation, layer.depthwise, layer.filters[:2] == (1, 1)): layer for layer in reversed(layers)}
    for layer in kinds.values():
        arrays = served.make_arrays(layer, 2)
        expected, bound = served.result_and_bound(layer, arrays)
        result = fastconv.Network(served.graph_of(layer, arrays))(arrays["x"])
        assert error_in_eps(result, expected, bound) <= 64, layer
        result[-1, -1, -1, -1] += 1e-3 * bound[-1, -1, -1, -1]
        assert not error_in_eps(result, expected, bound) <= oracle.TOLERANCE


def test_served_layers_are_chosen_once() -> None:
    networks = list(dict.fromkeys(layer.network for layer in served.read_layers()))
    assert networks == ["LeNet", "ResNet50", "MobileNetV2", "EfficientNetB0", "VGG16", "DenseNet121", "UNet"]
    chosen = served.find_layers(networks, "")
    assert len({(layer.size, layer.padding, str(layer)) for layer in chosen}) == len(chosen) > 150
    (stem,) = served.find_layers(["ResNet50"], "conv1_conv")
    assert stem.geometry.output == (112, 112) and stem.flops(8) == 2 * 8 * 112 * 112 * 64 * 7 * 7 * 3


def test_serving_means_are_geometric() -> None:
    results = [{"network": "a", "batch": batch, "ratio": ratio} for batch, ratio in ((1, 4.0), (8, 1.0), (8, None))]
    means = serving_means([*results, {"network": "b", "batch": 1, "ratio": 0.25}], [1, 8])
    assert means["all"] == {"mean": pytest.approx(1.0), "least": 0.25, "count": 3, "below": 1}
    assert means["a, batch 8"] == {"mean": pytest.approx(1.0), "least": 1.0, "count": 1, "below": 0}


def test_networks_are_listed_by_batch_with_their_means() -> None:
    def result(network: str, batch: int, ratio: float) -> dict[str, Any]:
        times = {"fastconv": {"median_us": 2000.0}, "openvino": {"median_us": 2000.0 * ratio}}
        return {"network": network, "batch": batch, "contestants": times, "ratio": ratio, "stock_ratio": None}

    found = times_table({"results": [result("A", 1, 4.0), result("A", 8, 3.0), result("B", 1, 1.0)]})
    assert list(found.head[:3]) == ["ms", "fastconv", "OpenVINO"]
    assert [[cell.text for cell in row] for row in found.rows] == [
        ["A, batch 1", "2", "8", "4.00x", "-"],
        ["B, batch 1", "2", "2", "1.00x", "-"],
        ["geometric mean, batch 1", "", "", "2.00x", "-"],
        ["A, batch 8", "2", "6", "3.00x", "-"],
        ["geometric mean, batch 8", "", "", "3.00x", "-"],
    ]


def test_outputs_are_compared_by_their_spread() -> None:
    expected = np.array([[100.0, 100.1]])
    assert error_of(expected + 1e-3, expected) == pytest.approx(1e-2)
    assert not error_of(expected * np.nan, expected) <= 1 and error_of(expected[:, :1], expected) == np.inf


def test_onnx_models_compute_the_same() -> None:
    """The exported operations, in ONNX's own reference implementation."""
    pytest.importorskip("onnx")
    import keras
    from onnx.reference import ReferenceEvaluator

    from bench.serving import models
    from bench.serving.export import onnx_model

    L = keras.layers
    inputs = keras.Input((11, 9, 3))
    x = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(inputs)))
    x = L.Activation("silu")(L.DepthwiseConv2D(3, padding="same")(x))
    gates = L.Reshape((1, 1, 8))(L.GlobalAveragePooling2D()(x))
    x = L.Multiply()([x, L.Conv2D(8, 1, activation="sigmoid")(gates)])
    x = L.Add()([x, L.Conv2D(8, 3, padding="same")(x)])
    x = L.Concatenate()([L.ReLU()(L.BatchNormalization()(x)), x])
    x = L.AveragePooling2D(2)(L.MaxPooling2D(3, 1, padding="same")(L.ReLU()(x)))
    outputs = L.Dense(5)(L.Dense(7, "relu")(L.Flatten()(x)))
    for model in (keras.Model(inputs, outputs), models.build("LeNet")):
        models.randomise(model)
        graph = fastconv.keras.freeze(model)._graph
        images = models.images(model, 2)
        (result,) = ReferenceEvaluator(onnx_model(graph, 2)).run(
            None, {graph.inputs[0][0]: images.transpose(0, 3, 1, 2)}
        )
        assert error_of(result, model.predict_on_batch(images)) <= 1e-5


PEER = """
from bench.contestants import existing

FRAMEWORK = False

def setup(threads):
    return "1.0"

def candidates(task, arrays):
    return [existing(task.file("onnx"))]
"""


def measure_flattened(network: Any, folder: Path) -> dict[str, Any]:
    """fastconv, and a peer that needs the ONNX model, on a network of Keras layers."""
    import keras

    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Flatten(), *network])
    images = np.ones((2, 4, 4, 2), np.float32)
    expected = model.predict_on_batch(images)
    task = Served("some", 2, str(folder))
    write_network(task, fastconv.keras.freeze(model)._graph)
    (folder / "onnx_peer.py").write_text(PEER, encoding="utf-8")
    cpus = sorted(os.sched_getaffinity(0))
    with Library("fastconv", 1, cpus) as ours, Library("peer", 1, cpus, "onnx_peer", folder) as peer:
        return measure(task, {"x": images}, lambda _, result: error_of(result, expected), [ours, peer], 2)


def test_peers_are_left_out_if_a_step_has_no_onnx_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    import keras

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    found = measure_flattened([keras.layers.Dense(3), keras.layers.Softmax(name="shares")], tmp_path)
    assert found["refused"] == {"peer": "there is no model.onnx: no ONNX form of softmax shares"}
    assert set(found["contestants"]) == {"fastconv"} and found["contestants"]["fastconv"]["median_us"] > 0


def test_peers_are_left_out_if_the_package_onnx_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "bench.serving.export", raising=False)
    found = measure_flattened([keras.layers.Dense(3)], tmp_path)
    assert found["refused"].keys() == {"peer"} and "onnx" in found["refused"]["peer"].partition(": ")[2]
    assert set(found["contestants"]) == {"fastconv"}


def test_serving_run(tmp_path: Path) -> None:
    data = tmp_path / "result.json"
    done = run("serving", "--network", "LeNet", "--batch", "2", "--rounds", "2", "--json", str(data))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "geometric mean" in done.stdout
    report = json.loads(data.read_text(encoding="utf-8"))
    assert [result["task"] for result in report["results"]] == ["LeNet conv1 batch 2", "LeNet conv2 batch 2"]
    for result in report["results"]:
        assert set(result["contestants"]) == set(report["versions"]), result["refused"]
        assert result["contestants"]["fastconv"]["gflops"] > 0


@pytest.mark.slow
def test_networks_run(tmp_path: Path) -> None:
    data, names = tmp_path / "result.json", ("fastconv", "stock", "accelerated")
    chosen = [option for name in names for option in ("--contestant", name)]
    options = ("--network", "LeNet", "--batch", "2", "--rounds", "2", "--json", str(data))
    done = run("networks", *chosen, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads(data.read_text(encoding="utf-8"))["results"]
    assert set(result["contestants"]) == set(names), result["refused"]
    times = {name: entry["median_us"] for name, entry in result["contestants"].items()}
    assert result["stock_ratio"] == pytest.approx(times["stock"] / times["fastconv"]) and result["ratio"] is None


@pytest.mark.parametrize(
    "options", [("serving", "--layer", "no such"), ("serving", "--batch", "0"), ("networks", "--batch", "0")]
)
def test_wrong_serving_options_are_refused(options: tuple[str, ...]) -> None:
    assert run(*options).returncode == 2
