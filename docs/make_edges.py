"""Draws edges.png for learn.md: a handwritten 7 under two edge filters, without and with padding. Prints its numbers.

Run in an environment with fastconv and matplotlib: ``python docs/make_edges.py [folder for edges.png]``
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import fastconv
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from fastconv.lenet import mnist_subset

Image = npt.NDArray[np.float32]

VERTICAL: Image = np.array([[1, 0, -1], [1, 0, -1], [1, 0, -1]], np.float32)
FILTERS = {"vertical": VERTICAL, "horizontal": np.ascontiguousarray(VERTICAL.T)}


def seven() -> Image:
    """The third 7 of `mnist_subset`, cut out to its ink, so that it touches all borders. 0 to 255."""
    images, labels = mnist_subset()
    image = images[np.flatnonzero(labels == 7)[2]].astype(np.float32)
    rows, columns = (np.flatnonzero(image.max(axis)) for axis in (1, 0))
    return np.ascontiguousarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def filtered(image: Image, window: Image, padding: str) -> Image:
    """The convolution of one image with one window, as a batch of 1 with 1 channel."""
    return fastconv.conv2d(image[None, :, :, None], window[:, :, None, None], padding=padding)[0, :, :, 0]


def show(axes: Any, image: Image, title: str, **how: Any) -> None:
    axes.imshow(image, interpolation="nearest", **how)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


def draw(image: Image, folder: Path) -> None:
    """Draw edges.png. All panels have the same scale; grey marks what an output without padding lacks."""
    height, width = image.shape
    figure, rows = plt.subplots(2, 3, figsize=(8.2, 5.2), layout="constrained")
    for row, (name, window) in zip(rows, FILTERS.items(), strict=True):
        show(row[0], image, f"a 7: {height} x {width}", cmap="gray", vmin=0, vmax=255)
        for axes, padding in zip(row[1:], ("VALID", "SAME"), strict=True):
            result = filtered(image, window, padding)
            rim = (height - result.shape[0]) // 2
            extent = (rim - 0.5, width - rim - 0.5, height - rim - 0.5, rim - 0.5)
            title = f"{name} edges, {padding}: {result.shape[0]} x {result.shape[1]}"
            show(axes, result, title, cmap="RdBu_r", vmin=-765, vmax=765, extent=extent)
            axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), facecolor="#b8b8b8")
    figure.savefig(folder / "edges.png", dpi=100)


def main(folder: Path) -> None:
    image = seven()
    draw(image, folder)
    print("filter      padding  output    least  greatest  not zero")
    for name, window in FILTERS.items():
        for padding in ("VALID", "SAME"):
            result = filtered(image, window, padding)
            height, width = result.shape
            print(
                f"{name:<10}  {padding:<7}  {height} x {width}  {result.min():6.0f}  {result.max():8.0f}  "
                f"{np.count_nonzero(result):8d}"
            )

    print()
    print("receptive field (rows 0 to 2, columns 3 to 5), times the horizontal filter:")
    patch = image[:3, 3:6]
    for numbers, weights in zip(patch, FILTERS["horizontal"], strict=True):
        print(
            "  ".join(f"{number:4.0f}" for number in numbers), " x ", "  ".join(f"{weight:2.0f}" for weight in weights)
        )
    total = (patch * FILTERS["horizontal"]).sum()
    print(f"sum {total:.0f} = output[0, 3] without padding = output[1, 4] with padding")
    if any(
        filtered(image, FILTERS["horizontal"], padding)[rim, 3 + rim] != total
        for rim, padding in enumerate(("VALID", "SAME"))
    ):
        raise SystemExit("fastconv.conv2d does not agree with the sum")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
