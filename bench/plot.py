"""The picture: how much faster ours is than the best framework and than the best of all, layer by layer."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot


def plot(report: dict[str, Any], path: str) -> None:
    """Write bars of the ratios to `path`; the name's ending chooses the format."""
    results = [result for result in report["results"] if result["ratio_all"] is not None]
    directions = list(dict.fromkeys(result["direction"] for result in results))
    heights = [sum(result["direction"] == direction for result in results) for direction in directions]
    if not results:
        raise ValueError("there is no ratio to draw: ours and at least one peer must have been measured")
    figure, axes = pyplot.subplots(
        len(directions),
        1,
        figsize=(9, 0.32 * sum(heights) + 1.2 * len(directions) + 0.5),
        height_ratios=[count + 2 for count in heights],
        squeeze=False,
        layout="constrained",
    )
    for axis, direction in zip(axes[:, 0], directions, strict=True):
        chosen = [result for result in results if result["direction"] == direction]
        rows = np.arange(len(chosen))
        for offset, key, label in ((-0.2, "framework", "best framework"), (0.2, "all", "best of all peers")):
            values = [result[f"ratio_{key}"] or np.nan for result in chosen]
            axis.barh(rows + offset, values, 0.4, label=f"against the {label}")
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_yticks(rows, [f"{result['suite']} {result['layer']}" for result in chosen])
        axis.invert_yaxis()
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}x")
        axis.set_title(direction)
    axes[0, 0].legend()
    machine, options = report["machine"], report["options"]
    figure.supxlabel(f"speed-up of fastconv; {machine['cpu']}, {options['threads']} threads, {options['dtype']}")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
