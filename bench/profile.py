"""Where the time of LeNet-5's training step goes, operation by operation, on stock Keras's layers and on fastconv's.

TensorFlow's profiler records each op that runs. Ops run side by side and the profiler takes time itself, so the sum of
a column is neither the time nor the CPU time of a step.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from bench.command import Command, load_digits
from bench.measure import duration
from bench.table import Table

WARM, STEPS = 50, 50


def _ops(directory: str) -> Counter[str]:
    """Microseconds of each op, from the profiler's file."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    (path,) = Path(directory).glob("**/*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    found: Counter[str] = Counter()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name, colon, op = plane.event_metadata[event.metadata_id].name.partition(":")
            if colon and op.isidentifier() and " " not in name:
                found[op] += event.duration_ps * 1e-6
    return found


def profile(source: Any, batch: int, digits: tuple[Any, Any]) -> dict[str, Any]:
    """Microseconds of a step without the profiler, and of each kind of op in it with the profiler."""
    import tensorflow as tf

    from bench.contestants.stock import network_candidates
    from bench.tasks import Task, task_arrays

    task = Task("step", "lenet", batch)
    (candidate,) = network_candidates(task, task_arrays(task, digits, 0), source)
    candidate.check()
    seconds = [duration(candidate.run) for _ in range(WARM + STEPS)][WARM:]
    with tempfile.TemporaryDirectory() as directory:
        tf.profiler.experimental.start(directory)
        for _ in range(STEPS):
            candidate.run()
        tf.profiler.experimental.stop()
        ops = {op: time / STEPS for op, time in _ops(directory).most_common()}
    return {"step_us": statistics.median(seconds) * 1e6, "ops_us": ops}


def table(report: dict[str, Any], layers: str) -> Table:
    result, rows = report["results"][layers], report["options"]["rows"]
    ops = list(result["ops_us"].items())
    found = Table(f"{layers}: a step takes {result['step_us']:.0f} us; with the profiler:", ["op", "us a step"])
    for op, time_us in ops[:rows]:
        found.add(op, f"{time_us:.0f}")
    if len(ops) > rows:
        found.add(f"{len(ops) - rows} others", f"{sum(time_us for _, time_us in ops[rows:]):.0f}")
    return found


def main(arguments: list[str] | None = None) -> int:
    run = Command("profile", __doc__, "--threads", "--data")
    run.add("--batch", 128)
    run.add("--rows", 14, "ops shown for each kind of layers")
    options = run.start(arguments)
    digits = load_digits(options.data)
    import fastconv.keras
    import keras

    from bench.contestants import stock

    version = stock.setup(options.threads)
    sources = {"stock": keras.layers, "fastconv": fastconv.keras}
    results = {layers: profile(source, options.batch, digits) for layers, source in sources.items()}
    report = run.report(versions={"tensorflow": version, "fastconv": fastconv.__version__}, results=results)
    run.finish(report, [table(report, layers) for layers in results])
    return 0
