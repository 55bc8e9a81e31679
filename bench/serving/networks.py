"""Whole networks at inference: fastconv.Network, Keras stock and accelerated, and inference libraries in turn."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any

import numpy as np

from bench.command import Command
from bench.contestants import write_reason
from bench.measure import measure, not_measured
from bench.names import SHOWN
from bench.oracle import Array
from bench.processes import Library
from bench.serving.run import BATCHES, NOT_RESTRICTED, means_table
from bench.serving.task import OTHER_FORM, OURS, Served, best_of, means_of, write_network
from bench.single_layers import RESTRICTIONS
from bench.table import Column, Table, ratio_cell, time_cell

NETWORKS = ("LeNet", "ResNet50", "MobileNetV2", "EfficientNetB0", "VGG16", "DenseNet121", "Xception")
RIVALS = ("onnxruntime", "openvino")  # fastconv is compared with the faster of these
CONTESTANTS = (OURS, *RIVALS, "litert", "stock", "xla", "accelerated")


def error_of(result: Array, expected: Array) -> float:
    """The largest difference, relative to the spread of the expected outputs; infinite if the shapes differ."""
    if result.shape != expected.shape:
        return float("inf")
    return float(np.max(np.abs(result - expected)) / np.ptp(expected))


def write_tflite(task: Served, model: Any) -> None:
    """Write ``model.tflite``, for this batch size."""
    import tensorflow as tf

    path = task.file("tflite")
    if not hasattr(tf, "lite"):
        write_reason(path, f"TensorFlow {tf.__version__} has no tensorflow.lite")
        return
    shape = tf.TensorSpec((task.batch, *model.input_shape[1:]), tf.float32)
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(shape)
    variables = tf.Module()
    variables.held = [weight.value for weight in model.weights]  # the converter does not find them in a Keras model
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], variables)
    path.write_bytes(converter.convert())


def measure_network(network: str, batch: int, libraries: list[Library], rounds: int) -> dict[str, Any]:
    """One result of the JSON file."""
    import fastconv.keras

    from bench.serving import models

    model = models.build(network)
    images = models.images(model, batch)
    expected = np.asarray(model(images, training=False))
    with tempfile.TemporaryDirectory() as folder:
        task = Served(network, batch, folder)
        write_network(task, fastconv.keras.freeze(model)._graph)
        if any(library.name == "litert" for library in libraries):
            write_tflite(task, model)
        del model
        found = measure(task, {"x": images}, lambda name, result: error_of(result, expected), libraries, rounds)
    stock = best_of(found["contestants"], ["stock"])["ratio"]
    rivals = best_of(found["contestants"], RIVALS)
    return {"task": str(task), "network": network, "batch": batch, **found, **rivals, "stock_ratio": stock}


def times_table(report: dict[str, Any]) -> Table:
    """The times and ratios of all networks, and below each batch size the geometric means of the ratios."""
    results = report["results"]
    names = [name for name in CONTESTANTS if any(name in result["contestants"] for result in results)]

    def time(name: str) -> Column:
        return SHOWN[name], lambda result: time_cell(result["contestants"].get(name))

    columns: list[Column] = [
        ("ms", lambda result: f"{result['network']}, batch {result['batch']}"),
        *map(time, names),
        ("the better of ONNX Runtime and OpenVINO / fastconv", lambda result: ratio_cell(result["ratio"])),
        ("stock Keras / fastconv", lambda result: ratio_cell(result["stock_ratio"])),
    ]
    table = Table("inference, ms: median ±(IQR/median)", [heading for heading, _ in columns])
    for batch in dict.fromkeys(result["batch"] for result in results):
        chosen = [result for result in results if result["batch"] == batch]
        table.rows += Table.of("", chosen, columns).rows
        means = (ratio_cell(means_of(chosen, key)["mean"]) for key in ("ratio", "stock_ratio"))
        table.add(f"geometric mean, batch {batch}", *("" for _ in names), *means)
    return table


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 1 if a result was wrong or fastconv does not load, else 0."""
    run = Command("networks", __doc__, "--rounds", "--threads")
    run.add_several("--network", choices=NETWORKS)
    run.add_several("--batch", type=int)
    run.add_several("--contestant", choices=CONTESTANTS)
    run.add("--isa", choices=sorted(RESTRICTIONS), help="restrict fastconv, OpenVINO and TensorFlow's oneDNN")
    options = run.start(arguments)
    batches = options.batch or list(BATCHES)
    if min(batches) < 1:
        run.parser.error("--batch must be at least 1")
    os.environ.update(RESTRICTIONS.get(options.isa, {}))  # inherited by the libraries' processes
    if options.isa:
        run.warn(NOT_RESTRICTED)
    with contextlib.ExitStack() as stack:
        libraries = run.libraries(stack, list(options.contestant or CONTESTANTS))
        isa, peak = run.peak(stack)
        before = peak()
        tasks = run.track([(network, batch) for network in options.network or NETWORKS for batch in batches])
        results = [measure_network(network, batch, libraries, options.rounds) for network, batch in tasks]
        after = peak()
    means = {}
    for batch in batches:
        chosen = [result for result in results if result["batch"] == batch]
        means[f"the better of ONNX Runtime and OpenVINO / fastconv, batch {batch}"] = means_of(chosen, "ratio")
        means[f"stock Keras / fastconv, batch {batch}"] = means_of(chosen, "stock_ratio")
    report = run.report(peak=run.peaks(isa, before, after), geometric_means=means, results=results)
    run.finish(report, [times_table(report), means_table(means)], *not_measured(results, OTHER_FORM))
    return 1 if "fastconv" in run.missing or any(result["wrong"] for result in results) else 0
