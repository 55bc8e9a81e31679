"""The README's headline: a training step of LeNet-5 and of a bigger CNN, single layers, and inference of networks.

All libraries run in processes of their own, in turn. The FMA peak of the CPU is measured before and after. If it
changed by more than 3 %, the machine was not quiet and everything is measured again, up to five times. If no run is
quiet, the run with the smallest change is kept, with the spread over all runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from bench.cases import CONVOLUTION, Case, cases
from bench.command import Command, load_digits
from bench.layers import NETWORKS, find_layers
from bench.measure import geometric_mean, ratio
from bench.processes import Library
from bench.serving.networks import measure_network
from bench.single_layers import measure_case
from bench.table import Column, Table, ratio_cell
from bench.tasks import Task, task_arrays
from bench.training import measure_task

TRAINING = ("fastconv", "stock", "xla", "torch", "jax")
LAYERS = ("fastconv", "stock", "torch", "jax")
INFERENCE = ("fastconv", "stock", "onnxruntime", "openvino")
CONTESTANTS = tuple(dict.fromkeys((*TRAINING, *LAYERS, *INFERENCE)))
SERVED, BATCH = ("ResNet50", "MobileNetV2"), 8
TITLES = {
    Task("step", "lenet", 128): "LeNet-5, training step",
    Task("step", "cnn", 64): "Bigger CNN, training step",
}
QUIET = 0.03  # the largest change of the peak in a quiet run


def change(peak: dict[str, float]) -> float:
    """The relative change of the peak during a run."""
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


def task_result(title: str, measured: dict[str, Any]) -> dict[str, Any]:
    entries = measured["contestants"]
    found = {name: {"ratio": ratio(entries, name, "fastconv"), **entry} for name, entry in entries.items()}
    return {"title": title, "task": measured["task"], "contestants": found}


def measure_once(
    run: Command, libraries: list[Library], layers: list[Case], digits: tuple[Any, Any], peak: Callable[[], float]
) -> dict[str, Any]:
    """One run: the results, the peak before and after, and which contestants were wrong."""
    trainers, layered, servers = (
        [one for one in libraries if one.name in names] for names in (TRAINING, LAYERS, INFERENCE)
    )
    rounds, before = run.options.rounds, peak()
    steps = [measure_task(task, task_arrays(task, digits, 0), trainers, rounds) for task in TITLES]
    measured = [measure_case(case, layered, rounds) for case in run.track(layers)]
    networks = [] if run.options.no_networks else SERVED
    served = [measure_network(network, BATCH, servers, rounds) for network in networks]
    results = [task_result(title, found) for title, found in zip(TITLES.values(), steps, strict=True)]
    results += [layers_result(measured)] if measured else []
    results += [task_result(f"{found['network']}, inference", found) for found in served]
    wrong = [f"{name}, {found['task']}" for found in [*steps, *measured, *served] for name in found["wrong"]]
    return {"peak": {"before": before, "after": peak()}, "results": results, "wrong": wrong}


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
    def relative(name: str) -> Column:
        return name, lambda result: ratio_cell(result["contestants"].get(name, {}).get("ratio"), False)

    names = [name for name in CONTESTANTS if any(name in result["contestants"] for result in report["results"])]
    columns: list[Column] = [("", lambda result: result["title"]), *map(relative, names)]
    return Table.of("time, relative to fastconv's", report["results"], columns)


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 if all results were right and a run was quiet, else 1."""
    run = Command("headline", __doc__, "--rounds", "--layer", "--threads", "--no-compile", "--data")
    run.add("--runs", 5, "the most runs; the first quiet run is the last")
    run.add("--no-layers", action="store_true", help="leave out the single layers")
    run.add("--no-networks", action="store_true", help="leave out the inference of whole networks")
    options = run.start(arguments)
    layers = [one for one in find_layers(NETWORKS, options.layer) if one.anchor and not options.no_layers]
    chosen = cases(layers, list(CONVOLUTION), "float32", "auto")
    digits = load_digits(options.data)
    runs: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        libraries = run.libraries(stack, CONTESTANTS)
        if "fastconv" in run.missing:
            return 1
        _, peak = run.peak(stack)
        while len(runs) < options.runs and (not runs or change(quietest(runs)["peak"]) > QUIET):
            runs.append(measure_once(run, libraries, chosen, digits, peak))
            run.console.print(f"run {len(runs)}: the FMA peak changed by {change(runs[-1]['peak']):.1%}")
    best = quietest(runs)
    wrong = best.pop("wrong")
    quiet = change(best["peak"]) <= QUIET
    if not quiet:
        run.warn(
            f"the FMA peak changed by more than {QUIET:.0%} in every run; the report has the quietest of {len(runs)}"
        )
    report = run.report(quiet=quiet, runs=len(runs), spread=spread(runs), **best)
    run.finish(report, [table(report)], *(f"wrong: {what}" for what in wrong))
    return 0 if quiet and not wrong else 1
