"""The ratios that were promised, and what a run says about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mark:
    """`value` of a report, None if the run did not measure it; at least `least`, or at most if `at_most`."""

    what: str
    value: Callable[[dict[str, Any]], float | None]
    least: float
    goal: float
    at_most: bool = False
    unit: str = "x"

    def met(self, value: float, limit: float) -> bool:
        return value <= limit if self.at_most else value >= limit


def median(report: dict[str, Any], task: str, name: str) -> float | None:
    """Milliseconds, None if the run has none."""
    for result in report["results"]:
        if result["task"] == task and name in result["contestants"]:
            return float(result["contestants"][name]["median_ms"])
    return None


def ratio(task: str, above: str, below: str) -> Callable[[dict[str, Any]], float | None]:
    def value(report: dict[str, Any]) -> float | None:
        a, b = median(report, task, above), median(report, task, below)
        return a / b if a is not None and b is not None else None

    return value


def _neighbours(name: str, inter_op: int) -> Callable[[dict[str, Any]], float | None]:
    def value(report: dict[str, Any]) -> float | None:
        for result in report["neighbours"]:
            if result["inter_op"] == inter_op:
                return float(result[name]["fastconv"]["median_ms"] / result[name]["stock"]["median_ms"])
        return None

    return value


def more_threads(report: dict[str, Any]) -> float | None:
    """The most, over all settings of inter_op, that a process with our ops has above one with stock ops."""
    counts = [result["threads"] for result in report["neighbours"]]
    return max((float(count["fastconv"] - count["stock"]) for count in counts), default=None)


def marks(cpus: int) -> list[Mark]:
    """All of them; one depends on the number of CPUs."""
    step, cnn = "step lenet 128", "step cnn 64"
    found = [
        Mark("training step, LeNet, batch 128: stock / ours", ratio(step, "stock", "fastconv"), 2.8, 4),
        Mark("training step, LeNet, batch 128: PyTorch / ours", ratio(step, "torch", "fastconv"), 2.8, 4),
        Mark("training step, LeNet, batch 128: ours / floor", ratio(step, "fastconv", "floor"), 1.8, 1.3, True),
        Mark("fit epoch, LeNet, batch 128: stock / ours", ratio("epoch lenet 128", "stock", "fastconv"), 2.2, 3),
        Mark("training step, bigger CNN: stock / ours", ratio(cnn, "stock", "fastconv"), 1.7, 2.5),
        Mark("training step, bigger CNN: PyTorch / ours", ratio(cnn, "torch", "fastconv"), 1.2, 1.8),
        Mark("predict_on_batch, batch 1: stock / ours", ratio("predict lenet 1", "stock", "fastconv"), 1.0, 1.3),
        Mark("predict_on_batch, batch 128: stock / ours", ratio("predict lenet 128", "stock", "fastconv"), 1.5, 3),
        Mark("NumPy step, LeNet, batch 128: PyTorch / NumPy", ratio(step, "torch", "numpy"), 3, 8),
    ]
    for name, what, least in (("after", "matmul after the op", 1.05), ("beside", "matmul beside the op", 1.0)):
        for inter_op in (1, 2):
            value = _neighbours(name, inter_op)
            found.append(Mark(f"{what}, inter_op {inter_op}: ours / stock", value, least, 1.0, True))
    found.append(Mark("threads above stock TensorFlow's", more_threads, cpus, cpus, True, ""))
    return found


def judge(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Every mark with its value in this run, and whether it is met."""
    rows = []
    for mark in marks(report["options"]["threads"]):
        value = mark.value(report)
        row = {"what": mark.what, "value": value, "limit": mark.least, "goal": mark.goal, "at_most": mark.at_most}
        met = None if value is None else mark.met(value, mark.least)
        reached = None if value is None else mark.met(value, mark.goal)
        rows.append({**row, "unit": mark.unit, "met": met, "goal_met": reached})
    return rows
