"""What the time of LeNet-5's training step is spent on, op by op: ``python -m bench.training.profile --help``.

TensorFlow's profiler records each op that runs, on stock Keras's layers and on ours. Ops run side by side and the
profiler takes time itself, so that the sum of a column is neither the time of a step nor of its CPUs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import machine

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
WARM, STEPS = 50, 50


def _ops(directory: str) -> dict[str, list[float]]:
    """Microseconds of each run of each op, from the profiler's file."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    (path,) = Path(directory).glob("**/*.xplane.pb")
    space = xplane_pb2.XSpace()
    space.ParseFromString(path.read_bytes())
    found = defaultdict(list)
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name, colon, op = plane.event_metadata[event.metadata_id].name.partition(":")
                if colon and op.isidentifier() and " " not in name:
                    found[op].append(event.duration_ps * 1e-6)
    return found


def profile(name: str, batch: int, digits: tuple[Any, Any]) -> tuple[float, dict[str, float]]:
    """Microseconds of a step without the profiler, and of each kind of op in it with the profiler."""
    import tensorflow as tf

    from bench.training.contestants import ours, stock
    from bench.training.tasks import Task, task_arrays

    task = Task("step", "lenet", batch)
    module = {"stock": stock, "fastconv": ours}[name]
    (candidate,) = module.candidates(task, task_arrays(task, digits, 0))
    candidate.check()
    for _ in range(WARM):
        candidate.run()
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        candidate.run()
        seconds.append(time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as directory:
        tf.profiler.experimental.start(directory)
        for _ in range(STEPS):
            candidate.run()
        tf.profiler.experimental.stop()
        ops = _ops(directory)
    return statistics.median(seconds) * 1e6, {op: sum(times) / STEPS for op, times in ops.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.training.profile", description="Where the time of LeNet-5's training step goes."
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rows", type=int, default=14, help="ops shown of each kind of layers (default: %(default)s)")
    cpus = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cpus, help="default: the %(default)s CPUs")
    parser.add_argument("--data", help="the digits: an .npz or a folder (default: as fastconv lenet)")
    options = parser.parse_args(arguments)
    from fastconv.lenet import load_digits

    from bench.training.contestants import on_keras

    on_keras.setup(options.threads)
    digits = load_digits(options.data)
    console = Console(width=None if sys.stdout.isatty() else 120)
    for warning in machine.idle_warnings():
        console.print(f"warning: {warning}", style="bold yellow")
    for name in ("stock", "fastconv"):
        step, ops = profile(name, options.batch, (digits.train_images, digits.train_labels))
        table = Table(title=f"{name}: a step takes {step:.0f} us; with the profiler:", title_justify="left")
        table.add_column("op")
        table.add_column("us a step", justify="right")
        shown = sorted(ops, key=lambda op: -ops[op])
        for op in shown[: options.rows]:
            table.add_row(op, f"{ops[op]:.0f}")
        rest = shown[options.rows :]
        table.add_row(f"{len(rest)} others", f"{sum(ops[op] for op in rest):.0f}")
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
