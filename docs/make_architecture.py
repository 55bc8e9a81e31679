"""Draws architecture.png for architecture.md: front ends, operations and kernels, and the steps of one call.

Run in an environment with matplotlib: ``python docs/make_architecture.py [folder for architecture.png]``
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

WIDTH, HEIGHT = 100, 63
INK, CALL, OTHER = "#222222", "#b03a2e", "#666666"
FRONT_ENDS, CORE, KERNELS = "#dbe9f6", "#fdebd0", "#dff0d8"

STEPS = [
    ("1  problem", "validated, all\nsizes resolved", "operations/,\ncore/geometry.cpp"),
    ("2  plan", "from the cache, or\nof the cheapest\nalgorithm", "algorithms/"),
    ("3  packing", "where the\nplan wants it", "algorithms/"),
    ("4  parallel_for", "over the tasks\nof the plan", "core/threads/"),
    ("5  kernel table", "the best ISA that\nthe CPU has", "core/isa.cpp"),
]
SOURCES = "direct, small_k_reduce,\ndepthwise, winograd, pooling, ..."
ISAS = {"baseline": "128-bit vectors", "avx2": "256-bit vectors", "avx512": "512-bit vectors"}


def band(axes: Any, bottom: float, height: float, color: str, name: str, folder: str) -> None:
    shape = "round,pad=0,rounding_size=1"
    axes.add_patch(FancyBboxPatch((0.5, bottom), WIDTH - 1, height, boxstyle=shape, fc=color, ec="none"))
    line = bottom + height - 1.8
    axes.text(3, line, name, fontsize=11, weight="bold", va="center", color=INK)
    face = {"fontsize": 9, "family": "monospace"} if name else {"fontsize": 11, "weight": "bold"}
    axes.text(14, line, folder, va="center", color=INK, **face)


def box(axes: Any, left: float, bottom: float, width: float, height: float, *texts: str) -> None:
    """A box with a title, then its purpose, then its sources in a monospaced font; later texts may be left out."""
    shape = "round,pad=0,rounding_size=0.8"
    axes.add_patch(FancyBboxPatch((left, bottom), width, height, boxstyle=shape, fc="white", ec=INK, lw=1))
    center, top = left + width / 2, bottom + height
    styles = ({"weight": "bold", "fontsize": 10}, {"fontsize": 9}, {"fontsize": 8, "family": "monospace"})
    for text, style in zip(texts, styles, strict=False):
        top -= 1.0
        axes.text(center, top, text, ha="center", va="top", color=INK, linespacing=1.15, **style)
        top -= 2.1 * (1 + text.count("\n"))


def arrow(axes: Any, *points: tuple[float, float], color: str = CALL, style: str = "-") -> None:
    """Draw straight lines from point to point, with an arrowhead at the last."""
    axes.plot(*zip(*points[:-1], strict=True), color=color, lw=1.8, ls=style, solid_capstyle="butt")
    how = {"arrowstyle": "-|>", "color": color, "lw": 1.8, "ls": style, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=points[-1], xytext=points[-2], arrowprops=how)


def main(folder: Path) -> None:
    figure = plt.figure(figsize=(WIDTH / 10, HEIGHT / 10))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, HEIGHT)
    axes.axis("off")

    band(axes, 46.5, 16, FRONT_ENDS, "front ends", "cpp/frontends/")
    box(axes, 3, 48.5, 22, 10, "NumPy", "fastconv", "numpy/")
    box(axes, 30, 48.5, 34, 10, "TensorFlow and Keras", "fastconv.tensorflow, fastconv.keras", "tensorflow/")
    box(axes, 68, 48.5, 7, 10, "C", "c_api.h", "c/")
    box(axes, 79, 48.5, 14, 10, "output", "an array or tensor\nof the caller")

    band(axes, 22.5, 20, CORE, "", "operations, algorithms, core")
    width, step = 15.6, 18.6
    lefts = [3 + i * step for i in range(len(STEPS))]
    for left, texts in zip(lefts, STEPS, strict=True):
        box(axes, left, 24.5, width, 13.5, *texts)
    for left, following in pairwise(lefts):
        arrow(axes, (left + width, 31.5), (following, 31.5))

    band(axes, 0.5, 18, KERNELS, "kernels", "cpp/kernels/")
    axes.text(40, 16.7, "one source per family, compiled once per ISA", fontsize=9, va="center", color=INK)
    for i, (isa, vectors) in enumerate(ISAS.items()):
        box(axes, 3 + i * 31, 2.2, 28, 12, isa, vectors, SOURCES)

    arrow(axes, (9, 48.5), (9, 38))
    for front_end in (47, 71.5):
        arrow(axes, (front_end, 48.5), (front_end, 44.5), (9, 44.5))
    arrow(axes, (85.2, 24.5), (85.2, 14.2))
    arrow(axes, (93, 8), (96.5, 8), (96.5, 53.5), (93, 53.5))
    arrow(axes, (80, 24.5), (80, 19.7), (26, 19.7), (26, 14.2), color=OTHER, style="--")
    arrow(axes, (38, 19.7), (38, 14.2), color=OTHER, style="--")
    axes.text(12, 45.6, "arguments", fontsize=9, va="center", color=CALL)
    axes.text(95.5, 44.5, "6  kernels write the output", fontsize=9, va="center", ha="right", color=CALL)
    axes.text(78.5, 21.1, "on CPUs without AVX-512", fontsize=9, va="center", ha="right", color=OTHER)

    figure.savefig(folder / "architecture.png", dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
