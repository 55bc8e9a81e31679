"""Networks of keras.applications with random weights: stock layers against accelerated ones."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from bench.applications.tables import KINDS, check_table, layers_table, means_of, times_table
from bench.applications.task import Application
from bench.command import Command
from bench.measure import in_turn, not_measured
from bench.processes import Library, quiet
from bench.tasks import OTHER_TASK
from bench.training import measure_task

with quiet():  # TensorFlow logs while it loads
    import fastconv.keras
    import keras
    import tensorflow as tf

    from bench.applications.check import disagreements_in_float32, disagreements_in_float64
    from bench.applications.networks import NETWORKS, SMALL_NETWORKS, build, describe, images, labels, served
    from bench.serving.models import randomise

CONTESTANTS = ("stock", "xla", "accelerated", "fused", "torch")
BATCH, SMALL_BATCH, SMALL_SIZE = 8, 64, 32
STATISTICS_SIZE = 96  # of the images whose statistics the small networks get


def compare(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """The times of stock's call and of ours. Both run twice before they are timed."""
    for call in [*calls.values()] * 2:
        call()
    return in_turn(calls, rounds)


def random_weights(network: str, size: int) -> dict[str, Any]:
    """The weights w0, w1, ... The statistics of few pixels would make the outputs sensitive to rounding errors."""
    model = build(network, STATISTICS_SIZE if network in SMALL_NETWORKS else size)
    randomise(model)
    return {f"w{number}": weight for number, weight in enumerate(model.get_weights())}


def measure_network(network: str, options: Any, libraries: list[Library]) -> Iterator[dict[str, Any]]:
    """Yields the result of each kind of task, as the JSON file stores it."""
    small = network in SMALL_NETWORKS
    size = SMALL_SIZE if small else options.size
    batch = options.batch or (SMALL_BATCH if small else BATCH)
    with quiet():  # TensorFlow logs when it first computes something
        arrays = random_weights(network, size)
        stock = build(network, size)
    arrays |= {"x": images(stock, batch), "y": labels(batch)}
    nodes = describe(stock)
    for kind in options.task or KINDS:
        task = Application(kind, network, size, batch, nodes)
        yield {"size": size, **measure_task(task, arrays, libraries, options.rounds)}


def layers(options: Any, network: str) -> dict[str, Any]:
    """Each distinct layer that is ours, forward and with gradients. The smallest gain comes first."""
    stock = build(network, options.size)
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
            entry[direction] = compare({name: function(one, x) for name, one in pair.items()}, options.rounds)
        results.append(entry)
    return {"network": network, "layers": sorted(results, key=_gain)}


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
    """One result of the JSON file of --check."""
    exact, wrong = disagreements_in_float64(network, size, 4)
    rounding = disagreements_in_float32(network, size, 4)
    return {
        "network": network,
        "float64_error": exact,
        "float32": asdict(rounding),
        "wrong": [f"{network}, {what}" for what in wrong + rounding.wrong],
    }


def command() -> Command:
    """All options."""
    run = Command("applications", __doc__, "--threads")
    run.add("--rounds", 5, "samples of each contestant")
    run.add_several("--network", choices=[*NETWORKS, *SMALL_NETWORKS])
    run.add_several("--task", choices=[*KINDS])
    run.add_several("--contestant", choices=CONTESTANTS)
    run.add("--size", 224, "height and width of the images, except those of the small networks")
    run.add("--batch", type=int, help=f"images of a batch; default: {BATCH}, and {SMALL_BATCH} of the small networks")
    run.add("--check", action="store_true", help="only compare results, in float64 and float32")
    run.add("--check-size", 64, "height and width of the images of --check")
    run.add("--layers", type=int, metavar="BATCH", help="only measure single layers, at this batch size")
    return run


def measure_networks(run: Command, networks: list[str]) -> list[dict[str, Any]]:
    """The results of all networks, from contestants in processes of their own."""
    with contextlib.ExitStack() as stack:
        libraries = run.libraries(stack, list(run.options.contestant or CONTESTANTS))
        return [result for one in run.track(networks) for result in measure_network(one, run.options, libraries)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 if all results agree, else 1."""
    run = command()
    options = run.start(arguments)
    if min(options.size, options.check_size) < 32:
        run.parser.error("--size and --check-size must be at least 32")
    small = () if options.check or options.layers else SMALL_NETWORKS
    networks = options.network or [*NETWORKS, *small]
    run.versions.update(tensorflow=tf.__version__, keras=keras.__version__, fastconv=fastconv.__version__)
    remarks: list[str] = []
    if options.check or options.layers:
        one = functools.partial(check, size=options.check_size) if options.check else functools.partial(layers, options)
        results = [one(network) for network in run.track(networks)]
        report = run.report(results=results)
        tables = [check_table(report)] if options.check else [layers_table(result) for result in results]
        wrong = [what for result in results for what in result.get("wrong", ())]
        remarks = [f"wrong: {what}" for what in wrong]
    else:
        results = measure_networks(run, networks)
        kinds = options.task or [*KINDS]
        report = run.report(results=results, means={kind: means_of(results, kind) for kind in kinds})
        tables = [times_table(report, kind) for kind in kinds]
        wrong = [name for result in results for name in result["wrong"]]
        remarks = [*not_measured(results, OTHER_TASK)]
    run.finish(report, tables, *remarks)
    return 1 if wrong else 0
