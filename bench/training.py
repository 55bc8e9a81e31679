"""Training and inference of whole networks: fastconv's Keras layers, stock Keras, PyTorch, JAX and NumPy, in turn."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.applications.task import Application
from bench.command import Command, load_digits
from bench.measure import measure, not_measured, ratio, rounds_of, summary
from bench.oracle import Array
from bench.processes import Library
from bench.table import Cell, Column, Table, ratio_cell, time_cell
from bench.tasks import NETWORKS, OTHER_TASK, TASKS, Task, task_arrays

CONTESTANTS = ("stock", "xla", "fastconv", "fused", "floor", "torch", "jax", "numpy")
KINDS = {"step": "bare training step", "epoch": "an epoch of fit", "predict": "inference (predict_on_batch)"}
RATIOS = (
    *(("stock", "fastconv"), ("xla", "fastconv"), ("torch", "fastconv"), ("jax", "fastconv")),
    *(("fastconv", "floor"), ("torch", "numpy")),
    *(("stock", "fused"), ("torch", "fused"), ("fused", "floor")),
)
INTER_OP = (1, 2, 4)


def command() -> Command:
    """All options."""
    result = Command("training", __doc__, "--rounds", "--threads", "--no-compile", "--data")
    result.add_several("--kind", choices=[*KINDS, "neighbours"])
    result.add_several("--network", choices=[*NETWORKS])
    result.add_several("--batch", type=int)
    result.add_several("--contestant", choices=CONTESTANTS)
    result.add("--epoch-rounds", 5, "epochs timed for each contestant")
    result.add("--images", 50_000, "images of an epoch")
    result.add_several("--inter-op", type=int)
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
    task: Task | Application,
    arrays: dict[str, Array],
    libraries: list[Library],
    rounds: int,
    difference: Callable[[Array, Array], float] = apart,
) -> dict[str, Any]:
    """One result of the JSON file; see README.md for its fields. The first contestant's result is the expected one."""
    expected: list[Array] = []

    def error(name: str, result: Array) -> float:
        if name == "floor":  # another network
            return 0.0
        expected.append(result)
        return difference(result, expected[0])

    found = measure(task, arrays, error, libraries, rounds)
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
            calls = {whose: functools.partial(library.command, "sample") for whose, library in pair.items()}
            samples = rounds_of(calls, rounds)
        times = {
            name: {whose: summary([sample[name] for sample in taken]) for whose, taken in samples.items()}
            for name in ("after", "beside")
        }
        results.append({"inter_op": inter_op, "threads": counts, **times})
    return results


def ratios_of(results: list[dict[str, Any]], ratios: Sequence[tuple[str, str]] = RATIOS) -> list[tuple[str, str]]:
    """Those of `ratios` whose contestants were measured."""
    names = {name for result in results for name in result["contestants"]}
    return [pair for pair in ratios if set(pair) <= names]


def task_table(report: dict[str, Any], kind: str, title: str = "", ratios: Sequence[tuple[str, str]] = RATIOS) -> Table:
    """The times of a kind of task, and the ratios of those that were measured."""
    results = [result for result in report["results"] if result["kind"] == kind]
    names = list(dict.fromkeys(name for result in results for name in result["contestants"]))

    def time(name: str) -> Column:
        return name, lambda result: _time(result["contestants"].get(name))

    def quotient(above: str, below: str) -> Column:
        judged = below in ("fastconv", "accelerated", "fused")
        return f"{above} / {below}", lambda result: ratio_cell(ratio(result["contestants"], above, below), judged)

    columns: list[Column] = [("ms", lambda result: f"{result['network']}, batch {result['batch']}")]
    columns += [*map(time, names), *(quotient(*pair) for pair in ratios_of(results, ratios))]
    return Table.of(f"{title or KINDS[kind]}, ms: median ±(IQR/median)", results, columns)


def _time(entry: dict[str, Any] | None) -> Cell:
    """The time, and the variant where there were several."""
    cell = time_cell(entry)
    several = entry is not None and len(entry.get("variants", ())) + len(entry.get("failed", ())) > 1
    return Cell(cell.text, f"{cell.note} {entry['variant']}") if entry and several else cell


def neighbours_table(report: dict[str, Any]) -> Table:
    def times(name: str) -> list[Column]:
        return [
            (f"{name}: stock", lambda result: time_cell(result[name]["stock"])),
            (f"{name}: fastconv", lambda result: time_cell(result[name]["fastconv"])),
            (f"{name}: fastconv / stock", lambda result: ratio_cell(ratio(result[name], "fastconv", "stock"), False)),
        ]

    columns: list[Column] = [
        ("ms", lambda result: f"inter_op {result['inter_op']}"),
        *times("after"),
        *times("beside"),
        ("threads: stock", lambda result: result["threads"]["stock"]),
        ("fastconv", lambda result: result["threads"]["fastconv"]),
    ]
    title = "a matmul of 512x512 after and beside a convolution, ms"
    return Table.of(title, report["neighbours"], columns)


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 1 if a result was wrong or fastconv does not load, else 0."""
    run = command()
    options = run.start(arguments)
    tasks = select(options)
    neighbours_too = "neighbours" in (options.kind or ["neighbours"])
    if not tasks and not neighbours_too:
        run.parser.error("no task fits --kind, --network and --batch")
    results: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        libraries = run.libraries(stack, list(options.contestant or CONTESTANTS)) if tasks else []
        digits = load_digits(options.data) if tasks else (np.empty(0), np.empty(0))
        for task in run.track(tasks):
            rounds = options.epoch_rounds if task.kind == "epoch" else options.rounds
            arrays = task_arrays(task, digits, options.images)
            results.append(measure_task(task, arrays, libraries, rounds))
    settings = (options.inter_op or INTER_OP) if neighbours_too else ()
    neighbours = measure_neighbours(settings, options.threads, run.cpus, options.rounds)
    report = run.report(results=results, neighbours=neighbours)
    tables = [task_table(report, kind) for kind in dict.fromkeys(result["kind"] for result in results)]
    tables += [neighbours_table(report)] if neighbours else []
    run.finish(report, tables, *not_measured(results, OTHER_TASK))
    return 1 if any(result["wrong"] for result in results) or "fastconv" in run.missing else 0
