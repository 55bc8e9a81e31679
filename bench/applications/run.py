"""Networks of keras.applications with random weights: stock layers against accelerated ones."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is loaded

import fastconv.keras
import keras
import tensorflow as tf

from bench.applications.check import disagreements_in_float32, disagreements_in_float64
from bench.applications.measure import TASKS, compiled, measure, measure_layers
from bench.applications.networks import NETWORKS, build, served
from bench.applications.tables import check_table, layers_table, times_table
from bench.command import Command
from bench.measure import geometric_mean


def command() -> Command:
    """All options."""
    result = Command("applications", __doc__)
    result.add_choices("--network", NETWORKS)
    result.add_choices("--task", TASKS)
    result.add("--size", type=int, default=224, help="height and width of the images (default: %(default)s)")
    result.add(
        "--seconds", type=float, default=20.0, help="after which a task ends, with three samples (default: %(default)s)"
    )
    result.add("--check", action="store_true", help="only compare results, in float64 and float32")
    result.add("--check-size", type=int, default=64, help="size of the images of that check (default: %(default)s)")
    result.add("--no-check", action="store_true", help="only measure times")
    result.add("--layers", type=int, metavar="BATCH", help="only measure single layers, at this batch")
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if all results agree."""
    run = command()
    options = run.start(arguments)
    if min(options.size, options.check_size) < 32:
        run.parser.error("--size and --check-size must be at least 32")
    results = []
    for network in options.network or NETWORKS:
        result: dict[str, Any] = {"network": network}
        if options.layers:
            stock = build(network, options.size)
            result["layers"] = measure_layers(stock, options.layers, options.rounds, options.seconds)
        else:
            if not options.no_check:
                result["check"] = _check(network, options.check_size)
            if not options.check:
                result.update(_measure(network, options))
        results.append(result)
        run.console.print(f"{network} done", style="dim")
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__, "fastconv": fastconv.__version__}
    report = run.report(versions=versions, results=results, geometric_means=_means(results))
    if any("tasks" in result for result in results):
        times_table(report).print(run.console)
    if any("check" in result for result in results):
        check_table(report).print(run.console)
    for result in results:
        if "layers" in result:
            layers_table(result).print(run.console)
        for sentence in result.get("check", {}).get("wrong", ()):
            run.console.print(f"wrong: {result['network']}, {sentence}", markup=False)
    for warning in run.warnings:
        run.warn(warning)
    run.write(report)
    return 1 if any(result.get("check", {}).get("wrong") for result in results) else 0


def _check(network: str, size: int) -> dict[str, Any]:
    exact, wrong = disagreements_in_float64(network, size, 4)
    rounding = disagreements_in_float32(network, size, 4)
    return {"float64_error": exact, "float32": asdict(rounding), "wrong": wrong + rounding.wrong}


def _measure(network: str, options: Any) -> dict[str, Any]:
    stock = compiled(build(network, options.size))
    models = {"stock": stock, "fastconv": fastconv.keras.accelerate(stock)}
    tasks = {task: measure(models, task, options.rounds, options.seconds) for task in options.task or TASKS}
    return {"layers_of_all": len(stock.layers), "layers_served": len(served(models["fastconv"])), "tasks": tasks}


def _means(results: list[dict[str, Any]]) -> dict[str, float | None]:
    ratios: dict[str, list[float]] = {}
    for result in results:
        for task, times in result.get("tasks", {}).items():
            ratios.setdefault(task, []).append(times["ratio"])
    return {task: geometric_mean(values) for task, values in ratios.items()}
