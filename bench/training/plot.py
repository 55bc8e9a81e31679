"""The picture: the time of every contestant, task by task, relative to ours."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

TITLES = {"step": "training step", "epoch": "epoch of fit", "predict": "inference"}
COLOURS = {
    "stock": "tab:orange",
    "fastconv": "tab:blue",
    "floor": "0.6",
    "torch": "tab:red",
    "jax": "tab:purple",
    "numpy": "tab:cyan",
}
LABELS = {
    "stock": "stock Keras",
    "floor": "floor: no convolution, no pooling",
    "numpy": "NumPy example",
    "torch": "PyTorch",
    "jax": "JAX",
}


def plot(report: dict[str, Any], path: str) -> None:
    """Write bars of the times, with milliseconds beside them, to `path`; the name's ending chooses the format."""
    results = [result for result in report["results"] if "fastconv" in result["contestants"]]
    if not results:
        raise ValueError("there is nothing to draw: ours must have been measured")
    kinds = list(dict.fromkeys(result["kind"] for result in results))
    heights = [sum(len(r["contestants"]) + 1 for r in results if r["kind"] == kind) for kind in kinds]
    figure, axes = pyplot.subplots(
        len(kinds), 1, figsize=(9, 0.22 * sum(heights) + 0.9 * len(kinds) + 0.8), height_ratios=heights, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    shown: dict[str, Any] = {}
    for axis, kind in zip(axes[:, 0], kinds, strict=True):
        row, ticks = 0.0, []
        for result in (result for result in results if result["kind"] == kind):
            ours = result["contestants"]["fastconv"]["median_ms"]
            ticks.append((row + (len(result["contestants"]) - 1) / 2, f"{result['network']} {result['batch']}"))
            for name, entry in result["contestants"].items():
                bars = axis.barh(row, entry["median_ms"] / ours, 0.9, color=COLOURS[name])
                axis.bar_label(bars, [f"{entry['median_ms']:.3g} ms"], fontsize=7, padding=2)
                shown.setdefault(name, bars[0])
                row += 1
            row += 1
        axis.set_yticks(*zip(*ticks, strict=True))
        axis.invert_yaxis()
        axis.axvline(1, color="black", linewidth=0.8)
        axis.xaxis.set_major_formatter("{x:g}x")
        axis.margins(x=0.12)
        axis.set_xlim(left=0)
        axis.set_xticks(np.arange(0, np.ceil(axis.get_xlim()[1]) + 0.1))
        axis.set_title(TITLES[kind], loc="left")
    figure.legend(shown.values(), [LABELS.get(name, name) for name in shown], loc="outside upper right", ncols=3)
    machine, options = report["machine"], report["options"]
    figure.supxlabel(f"time, relative to fastconv's; {machine['cpu']}, {options['threads']} threads", fontsize=9)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
