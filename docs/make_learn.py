"""Draws most pictures of learn.md. make_edges.py and make_trained.py draw the others. All show real digits.

Run in an environment with fastconv and matplotlib: ``python docs/make_learn.py [folder for the pictures]``
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastconv
import matplotlib.pyplot as plt
import numpy as np
from fastconv.lenet import mnist_subset
from make_edges import FILTERS, Image, filtered, seven, show
from matplotlib.patches import Rectangle
from PIL import Image as Picture

WINDOW = "#e66100"  # orange: the window, and what belongs to it
INK = "#222222"
MAPS: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -765, "vmax": 765}
GRAY: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255}


def outline(axes: Any, row: float, column: float, size: int, color: str = WINDOW, width: float = 2) -> Any:
    """A square around size x size pixels, of which (row, column) is the first."""
    return axes.add_patch(Rectangle((column - 0.5, row - 0.5), size, size, fill=False, ec=color, lw=width, zorder=3))


def write_numbers(axes: Any, values: Image, form: str, is_dark: Callable[[float], bool], size: int = 8) -> None:
    """Write each value into its pixel, apart from NaN: white on dark pixels, and black on others."""
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = "white" if is_dark(float(value)) else "black"
            axes.text(column, row, form.format(value), ha="center", va="center", fontsize=size, color=color)


def sliding(image: Image, folder: Path) -> None:
    """The animation: the window slides over a corner of the 7, and the output grows."""
    corner = np.ascontiguousarray(image[:7, 10:18])
    result = filtered(corner, FILTERS["vertical"], "VALID")
    frames = []
    for row, column in np.ndindex(*result.shape):
        figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.6), layout="constrained")
        show(left, corner, "image", **GRAY)
        write_numbers(left, corner, "{:.0f}", lambda value: value < 128)
        outline(left, row, column, 3, width=3)
        known = np.full(result.shape, np.nan, np.float32)
        done = row * result.shape[1] + column + 1
        known.ravel()[:done] = result.ravel()[:done]
        show(right, known, "output", **MAPS)
        right.set_facecolor("#dddddd")
        write_numbers(right, known, "{:.0f}", lambda value: abs(value) > 450)
        outline(right, row, column, 1, width=3)
        sums = (corner[row : row + 3, column : column + 3] * FILTERS["vertical"]).sum(0)
        text = f"left column {sums[0]:.0f}, right column {sums[2]:.0f}: sum {result[row, column]:.0f}"
        figure.suptitle(text, fontsize=11)
        figure.canvas.draw()
        frames.append(Picture.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()))
        plt.close(figure)
    palette = frames[-1].quantize(48)
    frames = [frame.quantize(palette=palette, dither=Picture.Dither.NONE) for frame in frames]
    times = [700] * (len(frames) - 1) + [4000]
    how: dict[str, Any] = {"append_images": frames[1:], "duration": times, "loop": 0, "optimize": True}
    frames[0].save(folder / "sliding.gif", save_all=True, **how)


def relu(image: Image, folder: Path) -> None:
    edges = filtered(image, FILTERS["vertical"], "SAME")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(8.2, 2.9), layout="constrained")
    show(left, edges, "vertical edges", **MAPS)
    x = np.linspace(-765, 765, 101)
    middle.plot(x, np.maximum(x, 0), color=INK, lw=2)
    middle.set_title("max(x, 0)", fontsize=10)
    middle.set_xlabel("x")
    middle.set_xticks([-765, 0, 765])
    middle.set_yticks([0, 765])
    middle.set_box_aspect(0.75)
    show(right, fastconv.activate(edges[None, :, :, None], "relu")[0, :, :, 0], "after ReLU", **MAPS)
    figure.savefig(folder / "relu.png", dpi=100)
    plt.close(figure)


def pooling(image: Image, folder: Path) -> None:
    """A corner of an edge map, its maxima, and where their gradients go."""
    edges = np.ascontiguousarray(filtered(image, FILTERS["vertical"], "SAME")[2:10, 8:16])
    x = edges[None, :, :, None]
    pooled, taps = fastconv.max_pool2d_with_argmax(x, 2)
    upstream = np.arange(1, 17, dtype=np.float32).reshape(pooled.shape)
    back = fastconv.max_pool2d_grad(x, pooled, upstream, 2)[0, :, :, 0]
    figure, panels = plt.subplots(1, 4, figsize=(8.4, 2.7), layout="constrained")
    show(panels[0], edges, "edges: 8 x 8", **MAPS)
    show(panels[1], pooled[0, :, :, 0], "maxima: 4 x 4", **MAPS)
    show(panels[2], upstream[0, :, :, 0], "gradient: 4 x 4", cmap="Oranges", vmin=0, vmax=20)
    show(panels[3], back, "passed on: 8 x 8", cmap="Oranges", vmin=0, vmax=20)
    for values, axes in ((upstream[0, :, :, 0], panels[2]), (np.where(back, back, np.nan), panels[3])):
        write_numbers(axes, values, "{:.0f}", lambda value: value > 13)
    for axes in (panels[0], panels[3]):
        for row in range(0, 8, 2):
            for column in range(0, 8, 2):
                outline(axes, row, column, 2, "#999999", 1)
    for at in taps.ravel():
        outline(panels[0], at // 8, at % 8, 1)
    figure.savefig(folder / "pooling.png", dpi=100)
    plt.close(figure)


def learning(image: Image, folder: Path) -> None:
    """A window learns to find vertical edges from an example, as a block of learn.md computes it."""
    x = image[None, :, :, None] / np.float32(255)
    target = fastconv.conv2d(x, FILTERS["vertical"][:, :, None, None])
    window = np.random.default_rng(0).standard_normal((3, 3, 1, 1)).astype(np.float32)
    kept = {}
    for step in range(301):
        output = fastconv.conv2d(x, window)
        if step in (0, 10, 50, 300):
            kept[step] = (window[:, :, 0, 0].copy(), output[0, :, :, 0])
        gradient = 2 * (output - target) / target.size
        window -= 0.5 * fastconv.conv2d_backprop_filter(x, window.shape, gradient)
    kept["target"] = (FILTERS["vertical"], target[0, :, :, 0])
    figure, rows = plt.subplots(2, len(kept), figsize=(8.4, 3.6), layout="constrained")
    for column, (step, (weights, output)) in zip(rows.T, kept.items(), strict=True):
        title = step if step == "target" else f"step {step}"
        show(column[0], weights, title, cmap="RdBu_r", vmin=-2, vmax=2)
        write_numbers(column[0], weights, "{:.1f}", lambda value: abs(value) > 1.3, 9)
        show(column[1], output, "", cmap="RdBu_r", vmin=-3, vmax=3)
    figure.savefig(folder / "learning.png", dpi=100)
    plt.close(figure)


def lenet_numpy() -> Any:
    """The module examples/lenet_numpy.py."""
    path = Path(__file__).parents[1] / "examples" / "lenet_numpy.py"
    spec = importlib.util.spec_from_file_location("lenet_numpy", path)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def trained_lenet() -> tuple[Any, Any, Any]:
    """LeNet-5 from examples/lenet_numpy.py, trained on 4,000 digits; other digits and their labels."""
    example = lenet_numpy()
    pixels, labels = mnist_subset()
    test = np.arange(len(labels)) % 5 == 2
    images, classes = example.prepare(pixels, labels)
    model, random = example.LeNet(), np.random.default_rng(1)
    train = np.flatnonzero(~test)
    for _ in range(10):
        for chosen in np.array_split(random.permutation(train), len(train) // 100):
            model.step(images[chosen], classes[chosen])
    print(
        f"LeNet-5 on 4,000 digits: {example.accuracy(model, images[test], classes[test]):.3f} of 1,000 others are right"
    )
    return model, images[test], labels[test]


def lenet(model: Any, image: Image, folder: Path) -> Image:
    """What each layer of LeNet-5 makes of a digit. Returns the logits."""
    w = model.w
    conv1 = fastconv.conv2d(image[None], w["conv1"], bias=w["bias1"])
    pool1 = fastconv.max_pool2d(conv1, 2)
    conv2 = fastconv.conv2d(pool1, w["conv2"], bias=w["bias2"])
    pool2 = fastconv.max_pool2d(conv2, 2)
    hidden1 = np.maximum(pool2.reshape(1, 400) @ w["dense1"] + w["bias3"], 0)
    hidden2 = np.maximum(hidden1 @ w["dense2"] + w["bias4"], 0)
    logits = hidden2 @ w["logits"] + w["bias5"]
    figure = plt.figure(figsize=(8.6, 5.2))
    axes = figure.add_axes((0.01, 0.68, 0.16, 0.26))
    show(axes, image[:, :, 0], "a digit: 28 x 28", cmap="gray")
    parts = [(conv1, 0.20, 0.62, "convolution: 6 maps of 26 x 26", 3), (pool1, 0.48, 0.62, "maxima: 6 of 13 x 13", 3)]
    parts += [(conv2, 0.01, 0.05, "convolution: 16 maps of 11 x 11", 4), (pool2, 0.32, 0.05, "maxima: 16 of 5 x 5", 4)]
    for maps, left, bottom, title, columns in parts:
        limit = float(abs(maps).max())
        cell, rows = (0.084, 2) if columns == 3 else (0.066, 4)
        height = cell * 8.6 / 5.2
        for i in range(maps.shape[3]):
            place = (left + i % columns * cell, bottom + (rows - 1 - i // columns) * height, cell * 0.95, height * 0.95)
            show(figure.add_axes(place), maps[0, :, :, i], "", cmap="RdBu_r", vmin=-limit, vmax=limit)
        figure.text(left, bottom + rows * height + 0.015, title, fontsize=10)
    for values, left, title in ((hidden1, 0.64, "120"), (hidden2, 0.70, "84")):
        axes = figure.add_axes((left, 0.05, 0.03, 0.44))
        axes.imshow(values.T, aspect="auto", cmap="Greys", interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=10)
    figure.text(0.64, 0.55, "dense", fontsize=10)
    axes = figure.add_axes((0.80, 0.05, 0.18, 0.44))
    probabilities = np.exp(logits[0] - logits.max()) / np.exp(logits[0] - logits.max()).sum()
    bars(axes, probabilities, "probabilities", 1.25, "{:.2f}")
    figure.savefig(folder / "lenet.png", dpi=100)
    plt.close(figure)
    return np.asarray(logits[0])


def bars(axes: Any, values: Image, title: str, limit: float, form: str) -> None:
    """One horizontal bar for each class. The largest one is orange."""
    colors = [WINDOW if value == values.max() else "#7f8c9b" for value in values]
    axes.barh(range(10), values, color=colors)
    axes.set(yticks=range(10), xticks=[], ylim=(9.6, -0.6), xlim=(min(float(values.min()) * 1.5, 0), limit))
    axes.set_title(title, fontsize=10)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    for i, value in enumerate(values):
        axes.text(max(value, 0) + limit / 50, i, form.format(value), va="center", fontsize=8)


def softmax(image: Image, logits: Image, folder: Path) -> None:
    figure, panels = plt.subplots(1, 3, figsize=(8.2, 2.9), layout="constrained", width_ratios=(1, 1.2, 1.2))
    show(panels[0], image[:, :, 0], "a digit", cmap="gray")
    exponentials = np.exp(logits - logits.max())
    bars(panels[1], logits, "logits", float(logits.max()) * 1.3, "{:.1f}")
    bars(panels[2], exponentials / exponentials.sum(), "softmax", 1.25, "{:.4f}")
    figure.savefig(folder / "softmax.png", dpi=100)
    plt.close(figure)


def receptive(image: Image, folder: Path) -> None:
    """The pixels on which one value depends, after each of LeNet's first four layers."""
    figure, axes = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
    show(axes, image[:, :, 0], "", cmap="gray")
    parts = [("conv1", 3, "#e66100"), ("pool1", 4, "#ffd23f"), ("conv2", 8, "#56b4e9"), ("pool2", 10, "#cc79a7")]
    for name, size, color in parts:
        outline(axes, 8, 12, size, color, 2.5).set_label(f"{name}: {size} x {size}")
    figure.legend(loc="outside right center", frameon=False, fontsize=11)
    figure.savefig(folder / "receptive.png", dpi=100)
    plt.close(figure)


def main(folder: Path) -> None:
    image = seven()
    sliding(image, folder)
    relu(image, folder)
    pooling(image, folder)
    learning(image, folder)
    model, images, labels = trained_lenet()
    digit = images[np.flatnonzero(labels == 7)[11]]
    softmax(digit, lenet(model, digit, folder), folder)
    receptive(digit, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
