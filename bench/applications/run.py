"""Networks of keras.applications with random weights: stock layers against accelerated ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is loaded

import fastconv.keras
import keras
import numpy as np
import tensorflow as tf

from bench.applications.check import disagreements_in_float32, disagreements_in_float64
from bench.applications.networks import NETWORKS, build, images, labels, served
from bench.applications.tables import check_table, layers_table, times_table
from bench.command import Command
from bench.measure import geometric_mean, in_turn, ratio

TASKS = {"predict 1": 1, "predict 8": 8, "step 8": 8}  # name -> batch


def compare(calls: dict[str, Callable[[], Any]], options: Any) -> dict[str, Any]:
    """The times of stock's call and of ours, and their ratio. Both calls run twice before they are timed."""
    for call in [*calls.values()] * 2:
        call()
    result = in_turn(calls, options.rounds, options.seconds)
    return {**result, "ratio": ratio(result, "stock", "fastconv")}


def compare_task(models: dict[str, Any], task: str, options: Any) -> dict[str, Any]:
    """A task of two compiled models."""
    x, y = images(models["stock"], TASKS[task]), labels(TASKS[task])

    def call(model: Any) -> Callable[[], Any]:
        return (lambda: model.train_on_batch(x, y)) if task.startswith("step") else lambda: model.predict_on_batch(x)

    return compare({name: call(model) for name, model in models.items()}, options)


def compare_networks(network: str, options: Any) -> dict[str, Any]:
    stock = build(network, options.size)
    stock.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    models = {"stock": stock, "fastconv": fastconv.keras.accelerate(stock)}
    tasks = {task: compare_task(models, task, options) for task in options.task or TASKS}
    return {"layers_of_all": len(stock.layers), "layers_served": len(served(models["fastconv"])), "tasks": tasks}


def compare_layers(stock: Any, options: Any) -> list[dict[str, Any]]:
    """Each distinct layer that is ours, forward and with gradients. The smallest gain comes first."""
    ours = fastconv.keras.accelerate(stock)
    kinds: dict[str, list[Any]] = {}
    for layer in served(ours):
        config = {key: value for key, value in layer.get_config().items() if key != "name"}
        kinds.setdefault(str((type(layer).__name__, layer.input.shape, config)), []).append(layer)
    results = []
    for layer, *others in kinds.values():
        shape = options.layers, *layer.input.shape[1:]
        x = tf.constant(np.random.default_rng(0).uniform(-1, 1, shape), layer.compute_dtype)
        pair = {"stock": stock.get_layer(layer.name), "fastconv": layer}
        entry: dict[str, Any] = {"layer": layer.name, "kind": type(layer).__name__, "count": 1 + len(others)}
        entry["shape"] = _shape(layer)
        for direction, function in (("forward", _forward), ("with gradients", _with_gradients)):
            entry[direction] = compare({name: function(one, x) for name, one in pair.items()}, options)
        results.append(entry)
    return sorted(results, key=_gain)


def _gain(entry: dict[str, Any]) -> float:
    times = entry["with gradients"]
    return float(entry["count"] * (times["stock"]["median_us"] - times["fastconv"]["median_us"]))


def _shape(layer: Any) -> str:
    inputs, outputs, window = (
        "x".join(map(str, sizes))
        for sizes in (
            layer.input.shape[1:],
            layer.output.shape[1:],
            getattr(layer, "kernel_size", getattr(layer, "pool_size", ())),
        )
    )
    return f"{inputs} -> {outputs} {window} s={layer.strides[0]} {layer.padding}"


def _forward(layer: Any, x: tf.Tensor) -> Callable[[], Any]:
    return tf.function(lambda: layer(x))


def _with_gradients(layer: Any, x: tf.Tensor) -> Callable[[], Any]:
    @tf.function
    def run() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.gradient(y, [x, *(variable.value for variable in layer.trainable_variables)])

    return run


def check(network: str, size: int) -> dict[str, Any]:
    exact, wrong = disagreements_in_float64(network, size, 4)
    rounding = disagreements_in_float32(network, size, 4)
    return {"float64_error": exact, "float32": asdict(rounding), "wrong": wrong + rounding.wrong}


def measure(network: str, options: Any) -> dict[str, Any]:
    """One result of the JSON file."""
    if options.layers:
        return {"network": network, "layers": compare_layers(build(network, options.size), options)}
    checked = {} if options.no_check else {"check": check(network, options.check_size)}
    return {"network": network, **checked, **({} if options.check else compare_networks(network, options))}


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 if all results agree, else 1."""
    run = Command("applications", __doc__, "--rounds")
    run.add_several("--network", choices=NETWORKS)
    run.add_several("--task", choices=[*TASKS])
    run.add("--size", 224, "height and width of the images")
    run.add("--seconds", 20.0, "seconds after which a task ends, but not before three samples", type=float)
    run.add("--check", action="store_true", help="only compare results, in float64 and float32")
    run.add("--check-size", 64, "height and width of the images of --check")
    run.add("--no-check", action="store_true", help="only measure times")
    run.add("--layers", type=int, metavar="BATCH", help="only measure single layers, at this batch size")
    options = run.start(arguments)
    if min(options.size, options.check_size) < 32:
        run.parser.error("--size and --check-size must be at least 32")
    results = [measure(network, options) for network in run.track(options.network or NETWORKS)]
    timed = [result["tasks"] for result in results if "tasks" in result]
    means = {task: geometric_mean(times[task]["ratio"] for times in timed) for task in (timed[0] if timed else ())}
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__, "fastconv": fastconv.__version__}
    report = run.report(versions=versions, results=results, geometric_means=means)
    wrong = [f"{one['network']}, {what}" for one in results for what in one.get("check", {}).get("wrong", ())]
    tables = [times_table(report)] if timed else []
    tables += [check_table(report)] if "check" in results[0] else []
    tables += [layers_table(result) for result in results if "layers" in result]
    run.finish(report, tables, *(f"wrong: {what}" for what in wrong))
    return 1 if wrong else 0
