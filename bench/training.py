"""Training and inference of whole networks: fastconv's Keras layers, stock Keras, PyTorch, JAX and NumPy, in turn."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.progress import track

from bench.command import Command, load_digits
from bench.measure import measure, ratio, summary
from bench.oracle import Array
from bench.processes import Library
from bench.table import Cell, Table, ratio_cell, time_cell
from bench.tasks import NETWORKS, OTHER_TASK, TASKS, Task, task_arrays

CONTESTANTS = ("stock", "fastconv", "floor", "torch", "jax", "numpy")
KINDS = {"step": "bare training step", "epoch": "an epoch of fit", "predict": "inference (predict_on_batch)"}
RATIOS = (("stock", "fastconv"), ("torch", "fastconv"), ("jax", "fastconv"), ("fastconv", "floor"), ("torch", "numpy"))
INTER_OP = (1, 2, 4)


def command() -> Command:
    """All options."""
    result = Command("training", __doc__)
    result.add_choices("--kind", [*KINDS, "neighbours"])
    result.add_choices("--network", NETWORKS)
    result.add("--batch", type=int, action="append", help="may be repeated; default: all")
    result.add_choices("--contestant", CONTESTANTS)
    result.add("--epoch-rounds", type=int, default=5, help="samples of epochs (default: %(default)s)")
    result.add("--images", type=int, default=50_000, help="of an epoch (default: %(default)s)")
    result.add("--inter-op", type=int, action="append", help=f"of the neighbours; may be repeated; default: {INTER_OP}")
    result.add_threads()
    result.add("--no-compile", action="store_true", help="leave out torch.compile, which takes a minute a task")
    result.add_data()
    return result


def select(options: Any) -> list[Task]:
    """The tasks that the options ask for."""
    return [
        task
        for task in TASKS
        if task.kind in (options.kind or KINDS)
        and task.network in (options.network or NETWORKS)
        and (not options.batch or task.batch in options.batch)
    ]


def apart(found: Array, expected: Array) -> float:
    """The largest difference, relative to the largest value; infinite if the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def measure_task(
    task: Task, libraries: list[Library], digits: tuple[Array, Array], images: int, rounds: int
) -> dict[str, Any]:
    """One result of the JSON file; see README.md for its fields."""
    expected: list[Array] = []  # the first contestant's result

    def error(name: str, result: Array) -> float:
        if name == "floor":  # another network
            return 0.0
        expected.append(result)
        return apart(result, expected[0])

    found = measure(task, task_arrays(task, digits, images), error, libraries, rounds)
    return {"task": str(task), "kind": task.kind, "network": task.network, "batch": task.batch, **found}


def measure_neighbours(settings: Sequence[int], threads: int, cpus: list[int], rounds: int) -> list[dict[str, Any]]:
    """For each inter_op, two processes in turn: one with the stock op, one with ours."""
    results = []
    for inter_op in settings:
        with contextlib.ExitStack() as stack:
            pair = {}
            for whose in ("stock", "fastconv"):
                pair[whose] = stack.enter_context(Library(whose, threads, cpus, "bench.contestants.neighbours"))
                pair[whose].command("start", whose, inter_op)
            counts = {whose: library.command("threads") for whose, library in pair.items()}
            samples: dict[str, list[dict[str, float]]] = {whose: [] for whose in pair}
            for _ in range(rounds):
                for whose, library in pair.items():
                    samples[whose].append(library.command("sample"))
        times = {
            name: {whose: summary([sample[name] for sample in taken]) for whose, taken in samples.items()}
            for name in ("after", "beside")
        }
        results.append({"inter_op": inter_op, "threads": counts, **times})
    return results


def task_table(report: dict[str, Any], kind: str) -> Table:
    """The times of a kind of task, and the ratios of those that were measured."""
    results = [result for result in report["results"] if result["kind"] == kind]
    names = list(dict.fromkeys(name for result in results for name in result["contestants"]))
    pairs = [pair for pair in RATIOS if set(pair) <= set(names)]
    head = ["ms", *names, *(f"{above} / {below}" for above, below in pairs)]
    table = Table(f"{KINDS[kind]}, ms: median ±(IQR/median)", head)
    for result in results:
        entries = result["contestants"]
        times = [_time(entries.get(name)) for name in names]
        found = [ratio_cell(ratio(entries, *pair), pair[1] == "fastconv") for pair in pairs]
        table.add(f"{result['network']}, batch {result['batch']}", *times, *found)
    return table


def _time(entry: dict[str, Any] | None) -> Cell:
    """The time, and the variant where there were several."""
    cell = time_cell(entry)
    several = entry is not None and len(entry["variants"]) + len(entry["failed"]) > 1
    return Cell(cell.text, f"{cell.note} {entry['variant']}") if entry and several else cell


def neighbours_table(report: dict[str, Any]) -> Table:
    heads = [f"{name}: {whose}" for name in ("after", "beside") for whose in ("stock", "fastconv", "fastconv / stock")]
    head = ["ms", *heads, "threads: stock", "fastconv"]
    table = Table("a matmul of 512x512 after and beside a convolution, ms", head)
    for result in report["neighbours"]:
        cells = []
        for name in ("after", "beside"):
            times = [time_cell(result[name][whose]) for whose in ("stock", "fastconv")]
            cells += [*times, ratio_cell(ratio(result[name], "fastconv", "stock"), judged=False)]
        threads = result["threads"]
        table.add(f"inter_op {result['inter_op']}", *cells, str(threads["stock"]), str(threads["fastconv"]))
    return table


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if all went well, 1 if a result was wrong or ours could not be measured."""
    run = command()
    options = run.start(arguments, "epoch_rounds", "images")
    tasks = select(options)
    neighbours_too = "neighbours" in (options.kind or ["neighbours"])
    if not tasks and not neighbours_too:
        run.parser.error("no task fits these options")
    if options.no_compile:
        os.environ["BENCH_NO_COMPILE"] = "1"  # inherited by PyTorch's process
    digits = load_digits(options.data) if tasks else None
    results: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        wanted = list(options.contestant or CONTESTANTS) if tasks else []
        libraries = run.libraries(stack, wanted)
        for task in track(tasks, "measuring", console=run.progress, transient=True):
            assert digits is not None
            rounds = options.epoch_rounds if task.kind == "epoch" else options.rounds
            results.append(measure_task(task, libraries, digits, options.images, rounds))
    settings = (options.inter_op or INTER_OP) if neighbours_too else ()
    neighbours = measure_neighbours(settings, options.threads, run.cpus, options.rounds)
    report = run.report(results=results, neighbours=neighbours)
    for kind in dict.fromkeys(result["kind"] for result in results):
        task_table(report, kind).print(run.console)
    if neighbours:
        neighbours_table(report).print(run.console)
    for result in results:
        for name, reason in result["refused"].items():
            if name in result["wrong"] or reason != OTHER_TASK:
                run.console.print(f"not measured: {name}, {result['task']}: {reason}", markup=False)
        for name, entry in result["contestants"].items():
            for label, reason in entry["failed"].items():
                run.console.print(f"failed: {name} {label}, {result['task']}: {reason}", markup=False)
    for warning in run.warnings:
        run.warn(warning)
    run.write(report)
    return 1 if any(result["wrong"] for result in results) or "fastconv" in run.missing else 0
