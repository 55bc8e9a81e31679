"""Draws the learning curves, the learned filters, the feature maps of a digit, and the mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def _save(figure: Any, path: Path) -> None:
    FigureCanvasAgg(figure)  # opens no window, whatever backend the user has set
    figure.savefig(path, format="png", dpi=110)


def draw_curves(path: Path, history: list[dict[str, float]]) -> None:
    """Draw loss and accuracy over the epochs, training and validation."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    best = min(history, key=lambda row: row["val_loss"])["epoch"]
    for axes, key in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, [row[key] for row in history], "o-", ms=3, label="training")
        axes.plot(epochs, [row[f"val_{key}"] for row in history], "o-", ms=3, label="validation")
        axes.axvline(best, color="0.6", ls=":", label="best weights")
        axes.set(xlabel="epoch", ylabel=key)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def draw_features(path: Path, model: Any, image: npt.NDArray[np.float32]) -> None:
    """Draw the learned filters, and the output of each layer for an image of shape (28, 28, 1)."""
    names = ("conv1", "pool1", "conv2", "pool2")
    outputs = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names])(
        image[None], training=False
    )
    maps = {name: keras.ops.convert_to_numpy(output)[0] for name, output in zip(names, outputs, strict=True)}
    guess = int(np.argmax(keras.ops.convert_to_numpy(model(image[None], training=False))))
    first = keras.ops.convert_to_numpy(model.get_layer("conv1").kernel)
    second = keras.ops.convert_to_numpy(model.get_layer("conv2").kernel)

    rows: list[tuple[str, list[npt.NDArray[Any]], str]] = [
        (
            "conv1: 6 filters 3x3 (red is positive, blue negative)",
            [first[:, :, 0, i] for i in range(first.shape[3])],
            "coolwarm",
        ),
        ("conv1: 6 maps 26x26 (bright is large)", list(np.moveaxis(maps["conv1"], 2, 0)), "gray"),
        ("pool1: 6 maps 13x13", list(np.moveaxis(maps["pool1"], 2, 0)), "gray"),
        # Each filter of the second layer has a 3x3 window for each of its six input maps. They are drawn as a column.
        ("conv2: 16 filters 3x3x6", [_column(second[..., i]) for i in range(second.shape[3])], "coolwarm"),
        ("conv2: 16 maps 11x11", list(np.moveaxis(maps["conv2"], 2, 0)), "gray"),
        ("pool2: 16 maps 5x5", list(np.moveaxis(maps["pool2"], 2, 0)), "gray"),
    ]
    figure = Figure(figsize=(12, 14), layout="constrained")
    heights = [2.2, *(3.5 if "x6" in title else 1.6 if len(images) == 6 else 1.1 for title, images, _ in rows)]
    panels: Any = figure.subfigures(len(rows) + 1, 1, height_ratios=heights)
    panels[0].suptitle(f"A test image, classified as {guess}", fontsize=10)
    axes = panels[0].subplots()
    axes.imshow(image[..., 0], cmap="gray", interpolation="nearest")
    axes.axis("off")
    for panel, (title, images, colours) in zip(panels[1:], rows, strict=True):
        panel.suptitle(title, fontsize=10)
        # Filters are scaled around zero: red is positive, blue negative, white 0. Maps are scaled from their least to
        # their largest value.
        largest = max(float(np.abs(picture[np.isfinite(picture)]).max(initial=0)) for picture in images)
        around = {"vmin": -largest, "vmax": largest} if colours == "coolwarm" else {}
        for place, picture in zip(panel.subplots(1, len(images)), images, strict=True):
            place.imshow(picture, cmap=matplotlib.colormaps[colours], interpolation="nearest", **around)
            place.axis("off")
    _save(figure, path)


def draw_confusion(path: Path, labels: npt.NDArray[np.int64], logits: npt.NDArray[np.float32]) -> None:
    """Draw how many images of each class were classified as each class."""
    counts = np.zeros((10, 10), np.int64)
    np.add.at(counts, (labels, logits.argmax(axis=1)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # The diagonal would drown the mistakes in a common scale, so it stays empty.
    mistakes = np.where(np.eye(10, dtype=bool), np.nan, shares)
    figure = Figure(figsize=(7, 6.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(mistakes, cmap="Oranges", vmin=0, vmax=max(float(np.nanmax(mistakes)), 1e-9))
    for label, row in enumerate(counts):
        for guess, count in enumerate(row):
            dark = label != guess and mistakes[label, guess] > 0.6 * np.nanmax(mistakes)
            axes.text(
                *(guess, label, f"{count:,}" if count else "·"),
                ha="center",
                va="center",
                color="white" if dark else "black" if count else "0.6",
                weight="bold" if label == guess else "normal",
            )
    right = int(np.trace(counts))
    axes.set(
        title=f"{counts.sum():,} test images: {right:,} right, {counts.sum() - right:,} wrong (in colour)",
        xlabel="what the network says",
        ylabel="what it is",
        xticks=range(10),
        yticks=range(10),
    )
    _save(figure, path)


def draw_mistakes(
    path: Path,
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    logits: npt.NDArray[np.float32],
) -> None:
    """Draw up to 24 misclassified images of shape (28, 28, 1), those with the highest probability first."""
    with np.errstate(invalid="ignore"):  # logits of a diverged training need not be finite
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
    guesses = logits.argmax(axis=1)
    wrong = np.flatnonzero(guesses != labels)
    wrong = wrong[np.argsort(-probabilities[wrong, guesses[wrong]], kind="stable")][:24]
    figure = Figure(figsize=(10, 7.4), layout="constrained")
    figure.suptitle("The most confident mistakes" if len(wrong) else "No mistake among the test images")
    places: Any = figure.subplots(4, 6)
    for axes in places.flat:
        axes.axis("off")
    for axes, index in zip(places.flat, wrong, strict=False):
        axes.imshow(images[index, ..., 0], cmap="gray_r", interpolation="nearest")
        guess = guesses[index]
        axes.set_title(f"{labels[index]}, taken for {guess} ({100 * probabilities[index, guess]:.1f} %)", fontsize=9)
    _save(figure, path)


def draw_comparison(path: Path, runs: dict[str, Any]) -> None:
    """Draw the training loss of two runs (`fastconv.lenet.compare.Run`) over time, and the time of a step."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for name, run in runs.items():
        seconds = np.cumsum([row["seconds"] for row in run.history])
        left.plot(seconds, [row["loss"] for row in run.history], "o-", ms=3, label=run.title)
        bars = right.bar(run.title, run.step_ms, label=name)
        right.bar_label(bars, [f"{run.step_ms:.2f} ms"])
    left.set(xlabel="seconds of training", ylabel="loss after each epoch", xlim=(0, None))
    left.grid(alpha=0.3)
    left.legend()
    right.set(ylabel="ms, median of the training steps")
    right.margins(y=0.1)
    _save(figure, path)


def _column(kernel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Stack the windows of a filter (H, W, C). Lines of NaN separate them and are drawn empty."""
    height, width, channels = kernel.shape
    column = np.full((channels * (height + 1) - 1, width), np.nan)
    for channel in range(channels):
        column[channel * (height + 1) :][:height] = kernel[:, :, channel]
    return column
