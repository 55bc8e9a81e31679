"""The README's headline: a training step of LeNet-5 and of a bigger CNN, and single layers, on four libraries.

Stock Keras, PyTorch, JAX and fastconv run in processes of their own, in turn. The FMA peak of the CPU is measured
before and after. If it changed by more than 3 %, the machine was not quiet and everything is measured again, up to
five times. If no run is quiet, the one with the smallest change is kept, with the spread of all.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from rich.progress import track

from bench.cases import CONVOLUTION, Case, cases
from bench.command import Command, load_digits
from bench.layers import NETWORKS, read_suite
from bench.measure import geometric_mean, ratio
from bench.peak import ISAS, Peak
from bench.processes import Library
from bench.single_layers import measure_case
from bench.table import Table, ratio_cell
from bench.tasks import Task
from bench.training import measure_task

CONTESTANTS = ("fastconv", "stock", "torch", "jax")
TITLES = {
    Task("step", "lenet", 128): "LeNet-5, training step",
    Task("step", "cnn", 64): "Bigger CNN, training step",
}
QUIET = 0.03  # change of the peak


def change(peak: dict[str, float]) -> float:
    """How far the peak after a run is from that before it."""
    return abs(peak["after"] / peak["before"] - 1)


def layers_result(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """The geometric means of the layers' ratios; only layers that all contestants computed count."""
    names = list(dict.fromkeys(name for result in measured for name in result["contestants"]))
    complete = [result["contestants"] for result in measured if set(names) <= set(result["contestants"])]
    found = {}
    for name in names:
        ratios = [value for entries in complete if (value := ratio(entries, name, "fastconv")) is not None]
        found[name] = {"ratio": geometric_mean(ratios)}
    return {"title": f"{len(complete)} single layers, mean", "layers": len(complete), "contestants": found}


def task_result(task: Task, measured: dict[str, Any]) -> dict[str, Any]:
    entries = measured["contestants"]
    found = {name: {"ratio": ratio(entries, name, "fastconv"), **entry} for name, entry in entries.items()}
    return {"title": TITLES[task], "task": str(task), "contestants": found}


def measure_once(
    libraries: list[Library], chosen: list[Case], digits: tuple[Any, Any], rounds: int, peak: Peak, run: Command
) -> dict[str, Any]:
    """One run: the results, their ratios by title, and the peak before and after."""
    before = peak.measure()
    wrong: list[str] = []
    results = []
    for task in TITLES:
        measured = measure_task(task, libraries, digits, 0, rounds)
        wrong += [f"{name}, {task}" for name in measured["wrong"]]
        results.append(task_result(task, measured))
    progress = track(chosen, "layers", console=run.progress, transient=True)
    layers = [measure_case(case, libraries, rounds) for case in progress]
    wrong += [f"{name}, {one['suite']} {one['layer']} {one['direction']}" for one in layers for name in one["wrong"]]
    if layers:
        results.append(layers_result(layers))
    return {"peak": {"before": before, "after": peak.measure()}, "results": results, "wrong": wrong}


def quietest(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return min(runs, key=lambda one: change(one["peak"]))


def spread(runs: list[dict[str, Any]]) -> list[dict[str, list[float]]]:
    """For each task the least and the largest ratio of each contestant over all runs."""
    found = []
    for together in zip(*(one["results"] for one in runs), strict=True):
        names = [name for name in together[0]["contestants"] if name != "fastconv"]
        ratios = {name: [result["contestants"][name]["ratio"] for result in together] for name in names}
        found.append({name: [min(values), max(values)] for name, values in ratios.items()})
    return found


def table(report: dict[str, Any]) -> Table:
    names = [name for name in CONTESTANTS if name in report["results"][0]["contestants"]]
    found = Table("time, relative to fastconv's", ["", *names])
    for result in report["results"]:
        found.add(result["title"], *(ratio_cell(result["contestants"][name]["ratio"], False) for name in names))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if all results were right and the machine was quiet."""
    run = Command("headline", __doc__)
    run.add("--runs", type=int, default=5, help="at most, until one is quiet (default: %(default)s)")
    run.add("--no-layers", action="store_true", help="only the training steps")
    run.add("--layer", default="", help="only layers whose 'suite name' contains this")
    run.add("--no-compile", action="store_true", help="leave out torch.compile")
    run.add_threads()
    run.add_data()
    options = run.start(arguments, "runs")
    if options.no_compile:
        os.environ["BENCH_NO_COMPILE"] = "1"  # inherited by PyTorch's process
    layers = [layer for name in NETWORKS for layer in read_suite(name) if layer.anchor]
    layers = [layer for layer in layers if options.layer in f"{layer.suite} {layer.name}" and not options.no_layers]
    chosen = cases(layers, list(CONVOLUTION), "float32", "auto")
    digits = load_digits(options.data)
    runs: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        libraries = run.libraries(stack, CONTESTANTS)
        if "fastconv" in run.missing:
            return 1
        isa = libraries[0].version.partition("(")[2].rstrip(")")
        peak = stack.enter_context(Peak(isa if isa in ISAS else "baseline", "float32", options.threads, run.cpus))
        while len(runs) < options.runs and (not runs or change(quietest(runs)["peak"]) > QUIET):
            runs.append(measure_once(libraries, chosen, digits, options.rounds, peak, run))
            run.console.print(f"run {len(runs)}: the FMA peak changed by {change(runs[-1]['peak']):.1%}")
    best = quietest(runs)
    wrong = best.pop("wrong")
    quiet = change(best["peak"]) <= QUIET
    report = run.report(quiet=quiet, runs=len(runs), spread=spread(runs), **best)
    table(report).print(run.console)
    for what in wrong:
        run.console.print(f"wrong: {what}", style="red")
    if not quiet:
        run.warn(f"no run of {len(runs)} kept the FMA peak within {QUIET:.0%}; this is the quietest")
    run.write(report)
    return 0 if quiet and not wrong else 1
