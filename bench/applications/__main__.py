"""The command line: ``python -m bench.applications --help``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import machine

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is loaded

import fastconv.keras
import keras
import tensorflow as tf

from bench.applications.check import disagreements_in_float32, disagreements_in_float64
from bench.applications.measure import TASKS, compiled, measure, measure_layers
from bench.applications.networks import NETWORKS, build, served


def parser() -> argparse.ArgumentParser:
    """All options."""
    result = argparse.ArgumentParser(
        prog="python -m bench.applications",
        description="Networks of keras.applications with random weights: stock layers against accelerated ones.",
    )
    result.add_argument("--network", choices=NETWORKS, action="append", help="may be repeated; default: all")
    result.add_argument("--task", choices=TASKS, action="append", help="may be repeated; default: all")
    result.add_argument("--size", type=int, default=224, help="height and width of the images (default: %(default)s)")
    result.add_argument("--rounds", type=int, default=15, help="samples of each, at most (default: %(default)s)")
    result.add_argument(
        "--seconds", type=float, default=20.0, help="after which a task ends, with three samples (default: %(default)s)"
    )
    result.add_argument("--check", action="store_true", help="only compare results, in float64 and float32")
    result.add_argument("--check-size", type=int, default=64, help="of the images for that (default: %(default)s)")
    result.add_argument("--no-check", action="store_true", help="only measure times")
    result.add_argument("--layers", type=int, metavar="BATCH", help="only measure single layers, at this batch")
    result.add_argument("--json", metavar="PATH", help="write everything that was measured")
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if all results agree."""
    options = parser().parse_args(arguments)
    if min(options.size, options.check_size) < 32 or options.rounds < 1:
        parser().error("--size and --check-size must be at least 32, and --rounds at least 1")
    console = Console(width=None if sys.stdout.isatty() else 160)
    warnings = machine.idle_warnings()
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
        console.print(f"{network} done", style="dim")
    report = {
        "command": ["python", "-m", "bench.applications", *(sys.argv[1:] if arguments is None else arguments)],
        "options": vars(options),
        "machine": machine.facts(),
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__, "fastconv": fastconv.__version__},
        "warnings": warnings,
        "results": results,
        "geometric_means": _means(results),
    }
    _print_report(console, report)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if any(result.get("check", {}).get("wrong") for result in results) else 0


def _check(network: str, size: int) -> dict[str, Any]:
    exact, wrong = disagreements_in_float64(network, size, 4)
    rounding = disagreements_in_float32(network, size, 4)
    return {"float64_error": exact, "float32": asdict(rounding), "wrong": wrong + rounding.wrong}


def _measure(network: str, options: argparse.Namespace) -> dict[str, Any]:
    stock = compiled(build(network, options.size))
    models = {"stock": stock, "fastconv": fastconv.keras.accelerate(stock)}
    tasks = {task: measure(models, task, options.rounds, options.seconds) for task in options.task or TASKS}
    return {"layers_of_all": len(stock.layers), "layers_served": len(served(models["fastconv"])), "tasks": tasks}


def _means(results: list[dict[str, Any]]) -> dict[str, float]:
    ratios: dict[str, list[float]] = {}
    for result in results:
        for task, times in result.get("tasks", {}).items():
            ratios.setdefault(task, []).append(times["ratio"])
    return {task: geometric_mean(values) for task, values in ratios.items()}


def _times(times: dict[str, Any]) -> list[str]:
    cells = []
    for whose in ("stock", "fastconv"):
        entry = times[whose]
        spread = (entry["q3_ms"] - entry["q1_ms"]) / entry["median_ms"]
        cells.append(f"{entry['median_ms']:.4g} [dim]±{spread:.0%}[/dim]")
    style = "red" if times["ratio"] < 1 else "green"
    return [*cells, f"[{style}]{times['ratio']:.2f}x[/{style}]"]


def _print_report(console: Console, report: dict[str, Any]) -> None:
    results = report["results"]
    if any("tasks" in result for result in results):
        _print_times(console, results, report["geometric_means"])
    if any("check" in result for result in results):
        _print_checks(console, results)
    for result in results:
        if "layers" in result:
            _print_layers(console, result)
    for warning in report["warnings"]:
        console.print(f"warning: {escape(warning)}", style="bold yellow")


def _print_times(console: Console, results: list[dict[str, Any]], means: dict[str, float]) -> None:
    table = Table(title="ms: median ±(IQR/median); stock / fastconv", title_justify="left")
    table.add_column("network")
    table.add_column("layers", justify="right")
    for task in means:
        for heading in (f"{task}: stock", "fastconv", "ratio"):
            table.add_column(heading, justify="right")
    for result in results:
        cells = [cell for times in result["tasks"].values() for cell in _times(times)]
        table.add_row(result["network"], f"{result['layers_served']}/{result['layers_of_all']}", *cells)
    table.add_section()
    table.add_row("geometric mean", "", *(cell for mean in means.values() for cell in ("", "", f"{mean:.2f}x")))
    console.print(table)


def _print_checks(console: Console, results: list[dict[str, Any]]) -> None:
    title = "outputs and gradients: the largest errors of a tensor; choices of ReLUs and max-pools unlike float64's"
    table = Table(title=title, title_justify="left")
    single = ("stock, float32", "ours", "times stock's, above 1e-5", "choices: stock", "ours")
    for heading in ("network", "from stock, float64", *single, "too far off"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for result in results:
        check = result["check"]
        rounding = check["float32"]
        table.add_row(
            result["network"],
            *(f"{error:.1e}" for error in (check["float64_error"], rounding["theirs"], rounding["ours"])),
            f"{rounding['times_stock']:.2f}",
            *map(str, rounding["other_choices"]),
            str(len(check["wrong"])),
        )
    console.print(table)
    for result in results:
        for sentence in result["check"]["wrong"]:
            console.print(f"wrong: {result['network']}, {escape(sentence)}", style="red")


def _print_layers(console: Console, result: dict[str, Any]) -> None:
    table = Table(title=f"{result['network']}, layer by layer, ms; the least gain first", title_justify="left")
    for heading in ("layer", "kind", "shape", "times"):
        table.add_column(heading)
    for direction in ("forward", "with gradients"):
        for heading in (f"{direction}: stock", "fastconv", "ratio"):
            table.add_column(heading, justify="right")
    for entry in result["layers"]:
        cells = [cell for direction in ("forward", "with gradients") for cell in _times(entry[direction])]
        table.add_row(entry["layer"], entry["kind"], entry["shape"], str(entry["count"]), *cells)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
