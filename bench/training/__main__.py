"""The command line: ``python -m bench.training --help``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from bench import machine
from bench.training import markdown
from bench.training.marks import judge
from bench.training.measure import MODULES, measure, measure_neighbours, start
from bench.training.report import print_report
from bench.training.tasks import NETWORKS, TASKS, Task
from bench.workers import Library, LibraryError

KINDS = ("step", "epoch", "predict", "neighbours")


def parser() -> argparse.ArgumentParser:
    """All options."""
    result = argparse.ArgumentParser(
        prog="python -m bench.training",
        description="Whole networks, trained and asked: fastconv's Keras layers, stock Keras, PyTorch, JAX, and the "
        "NumPy example, in turn.",
    )
    result.add_argument("--kind", choices=KINDS, action="append", help="may be repeated; default: all")
    result.add_argument("--network", choices=[*NETWORKS], action="append", help="may be repeated; default: all")
    result.add_argument("--batch", type=int, action="append", help="may be repeated; default: all")
    result.add_argument("--contestant", choices=[*MODULES], action="append", help="may be repeated; default: all")
    result.add_argument("--rounds", type=int, default=15, help="samples of each contestant (default: %(default)s)")
    result.add_argument("--epoch-rounds", type=int, default=5, help="the same of epochs (default: %(default)s)")
    result.add_argument("--images", type=int, default=50_000, help="of an epoch (default: %(default)s)")
    cpus = len(os.sched_getaffinity(0))
    result.add_argument("--threads", type=int, default=cpus, help="of everybody (default: the %(default)s CPUs)")
    result.add_argument(
        "--no-compile", action="store_true", help="leave out torch.compile, which takes a minute a task"
    )
    result.add_argument("--data", help="the digits: an .npz or a folder (default: as fastconv lenet)")
    result.add_argument("--json", metavar="PATH", help="write everything that was measured")
    result.add_argument("--markdown", metavar="PATH", help="write the tables as Markdown")
    result.add_argument("--plot", metavar="PATH", help="write a picture of the times")
    return result


def select(options: argparse.Namespace) -> list[Task]:
    """The tasks that the options ask for."""
    return [
        task
        for task in TASKS
        if task.kind in (options.kind or KINDS)
        and task.network in (options.network or NETWORKS)
        and (not options.batch or task.batch in options.batch)
    ]


def _check(options: argparse.Namespace, allowed: list[int]) -> None:
    if not 1 <= options.threads <= len(allowed):
        parser().error(f"--threads must be 1 to {len(allowed)}, the CPUs that this process may use")
    if min(options.rounds, options.epoch_rounds, options.images) < 1:
        parser().error("--rounds, --epoch-rounds and --images must be at least 1")
    if options.plot and "fastconv" not in (options.contestant or MODULES):
        parser().error("--plot needs the contestant fastconv: the picture is relative to it")


def _digits(path: str | None) -> tuple[Any, Any]:
    from fastconv.lenet import load_digits

    digits = load_digits(path)
    return digits.train_images, digits.train_labels


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if all went well, 1 if a result was wrong or ours could not be measured."""
    options = parser().parse_args(arguments)
    allowed = sorted(os.sched_getaffinity(0))
    _check(options, allowed)
    tasks = select(options)
    neighbours_too = "neighbours" in (options.kind or KINDS)
    if not tasks and not neighbours_too:
        parser().error("no task fits these options")
    # Read when a library is loaded, which happens in processes that inherit them.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "FASTCONV_NUM_THREADS"), str(options.threads)))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.no_compile:
        os.environ["BENCH_NO_COMPILE"] = "1"
    console = Console(width=None if sys.stdout.isatty() else 200)
    warnings = machine.idle_warnings()
    for warning in warnings:
        console.print(f"warning: {warning}", style="bold yellow")
    digits = _digits(options.data) if tasks else None
    cpus = allowed[: options.threads]
    results: list[dict[str, Any]] = []
    versions, missing = {}, {}
    with contextlib.ExitStack() as stack:
        libraries: list[Library] = []
        for name in options.contestant or MODULES if tasks else ():
            try:
                libraries.append(stack.enter_context(start(name, options.threads, cpus)))
                versions[name] = libraries[-1].version
            except LibraryError as error:
                missing[name] = str(error)
                console.print(f"without {name}: {error}", markup=False)
        for task in track(tasks, "measuring", console=Console(stderr=True), transient=True):
            rounds = options.epoch_rounds if task.kind == "epoch" else options.rounds
            results.append(measure(task, libraries, digits, options.images, rounds))
    neighbours = measure_neighbours(options.threads, cpus, options.rounds) if neighbours_too else []
    report = {
        "command": ["python", "-m", "bench.training", *(sys.argv[1:] if arguments is None else arguments)],
        "options": vars(options),
        "machine": machine.facts(),
        "versions": versions,
        "missing": missing,
        "warnings": warnings,
        "results": results,
        "neighbours": neighbours,
    }
    report["marks"] = judge(report)
    print_report(console, report)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        markdown.write(report, options.markdown)
    if options.plot:
        from bench.training.plot import plot  # matplotlib is loaded only if it is needed

        plot(report, options.plot)
    return 1 if any(result["wrong"] for result in results) or "fastconv" in missing else 0


if __name__ == "__main__":
    sys.exit(main())
