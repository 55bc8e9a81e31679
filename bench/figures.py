"""The pictures of the pages. Each carries the digest of the results that it shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

from bench.names import SHOWN
from bench.training import KINDS

COLOURS = {
    "fastconv": "tab:blue",
    "fused": "tab:green",
    "stock": "tab:orange",
    "xla": "tab:brown",
    "torch": "tab:red",
    "jax": "tab:purple",
    "floor": "0.6",
    "numpy": "tab:cyan",
}
GREY, BLUE = "#9aa4b2", "#0b63ce"


def digest(report: dict[str, Any]) -> str:
    """A digest that ties a picture to the results it was drawn from."""
    return "results " + hashlib.sha256(json.dumps(report, sort_keys=True).encode()).hexdigest()[:24]


def _panels(bars: list[int], inches: float) -> tuple[Any, Any]:
    """A figure with panels one above the other. The height of a panel follows from its number of bars."""
    size = 9, inches * sum(bars) + len(bars) + 0.7
    figure, axes = pyplot.subplots(len(bars), figsize=size, height_ratios=bars, squeeze=False, layout="constrained")
    for axis in axes[:, 0]:
        axis.invert_yaxis()
        axis.axvline(1, color="black", linewidth=0.8)
    return figure, axes[:, 0]


def _save(figure: Any, report: dict[str, Any], path: Path, what: str = "") -> None:
    if what:
        machine, threads = report["machine"], report["options"]["threads"]
        figure.supxlabel(f"{what}; {machine['cpu']}, {threads} threads", fontsize=9)
    drawn_from = {"Description": digest(report)}
    figure.savefig(path, dpi=120, metadata=drawn_from | ({"Date": None} if path.suffix == ".svg" else {}))
    pyplot.close(figure)


def layers(report: dict[str, Any], path: Path) -> None:
    """Speed-ups of the layers marked as anchors, and of the pools."""
    results = [result for result in report["results"] if result["ratio_all"] is not None]
    results = [result for result in results if result["anchor"] or "pool" in result["direction"]]
    directions = list(dict.fromkeys(result["direction"] for result in results))
    heights = [sum(result["direction"] == direction for result in results) + 2 for direction in directions]
    figure, axes = _panels(heights, 0.32)
    for axis, direction in zip(axes, directions, strict=True):
        chosen = [result for result in results if result["direction"] == direction]
        rows = np.arange(len(chosen))
        for offset, key, label in ((-0.2, "framework", "best framework"), (0.2, "all", "best of all peers")):
            values = [result[f"ratio_{key}"] or np.nan for result in chosen]
            lengths = np.array(values) - 1  # on a logarithmic axis, bars have to start somewhere: at 1x
            axis.barh(rows + offset, lengths, 0.4, left=1, label=f"against the {label}")
        axis.set_yticks(rows, [f"{result['suite']} {result['layer']}" for result in chosen])
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}x")
        axis.set_title(direction)
    axes[0].legend()
    _save(figure, report, path, f"speed-up of fastconv, {report['options']['dtype']}")


def training(report: dict[str, Any], path: Path) -> None:
    """Times of all contestants, relative to ours, with milliseconds beside the bars."""
    results = [result for result in report["results"] if "fastconv" in result["contestants"]]
    kinds = list(dict.fromkeys(result["kind"] for result in results))
    heights = [sum(len(r["contestants"]) + 1 for r in results if r["kind"] == kind) for kind in kinds]
    figure, axes = _panels(heights, 0.22)
    shown: dict[str, Any] = {}
    for axis, kind in zip(axes, kinds, strict=True):
        row, ticks = 0.0, []
        for result in (result for result in results if result["kind"] == kind):
            ours = result["contestants"]["fastconv"]["median_us"]
            ticks.append((row + (len(result["contestants"]) - 1) / 2, f"{result['network']} {result['batch']}"))
            for name, entry in result["contestants"].items():
                bars = axis.barh(row, entry["median_us"] / ours, 0.9, color=COLOURS[name])
                axis.bar_label(bars, [f"{entry['median_us'] / 1000:.3g} ms"], fontsize=7, padding=2)
                shown.setdefault(name, bars[0])
                row += 1
            row += 1
        axis.set_yticks(*zip(*ticks, strict=True))
        axis.xaxis.set_major_formatter("{x:g}x")
        axis.margins(x=0.12)
        axis.set_xlim(left=0)
        axis.set_xticks(np.arange(0, np.ceil(axis.get_xlim()[1]) + 0.1))
        axis.set_title(KINDS[kind], loc="left")
    figure.legend(shown.values(), [SHOWN[name] for name in shown], loc="outside upper right", ncols=3)
    _save(figure, report, path, "time, relative to fastconv's")


def _duration(microseconds: float) -> str:
    return f"{microseconds * 1e-6:.3g} s" if microseconds >= 1e6 else f"{microseconds * 1e-3:.3g} ms"


def order(contestants: Iterable[str]) -> list[str]:
    """The contestants of the headline in the order of `SHOWN`, ours first."""
    return [name for name in SHOWN if name in contestants]


def headline(report: dict[str, Any], path: Path) -> None:
    """The README's picture: one panel for each task, a bar for each library, ours emphasised."""
    results = report["results"]
    across = min(3, len(results))
    down = -(-len(results) // across)
    note = "time, relative to fastconv; shorter is faster"
    with pyplot.rc_context({"svg.fonttype": "path", "svg.hashsalt": "fastconv", "font.size": 11}):
        figure, axes = pyplot.subplots(down, across, figsize=(3.6 * across, 2.2 * down + 0.2), squeeze=False)
        for axis in axes.flat[len(results) :]:
            axis.set_visible(False)
        for axis, result in zip(axes.flat, results, strict=False):
            entries = result["contestants"]
            names = order(entries)
            for row, name in enumerate(names):
                ours, entry = name == "fastconv", entries[name]
                weight = "bold" if ours else "normal"
                (bar,) = axis.barh(row, entry["ratio"], 0.72, color=BLUE if ours else GREY)
                time = f", {_duration(entry['median_us'])}" if "median_us" in entry else ""
                axis.text(bar.get_width(), row, f" {entry['ratio']:.3g}x{time}", va="center", weight=weight, size=9)
            axis.set_yticks(range(len(names)), [SHOWN[name] for name in names])
            axis.get_yticklabels()[0].set_weight("bold")
            axis.invert_yaxis()
            axis.set_xlim(0, 1.6 * max(entry["ratio"] for entry in entries.values()))
            axis.set_xticks([])
            axis.tick_params(left=False)
            axis.spines[["top", "right", "bottom"]].set_visible(False)
            axis.set_title(result["title"], loc="left", size=11)
        figure.text(0.995, 0.02 / down, note, ha="right", size=9, color="#57606a")
        figure.tight_layout(rect=(0, 0.06 / down, 1, 1))
        figure.set_facecolor("white")  # text on white stays readable on dark pages
        _save(figure, report, path)
