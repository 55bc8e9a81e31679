"""Trains LeNet-5 with and without ReLU after its convolutions. Draws the results for learn.md and prints its table.

The trainings are those of ``examples/lenet_numpy.py``. The digits are those that ``fastconv lenet`` finds: the whole
MNIST, or 5,000 of its digits. Run in an environment with ``pip install '.[lenet]'``:

    python docs/make_trained.py FOLDER [--epochs 5] [--seeds 5] [--limit N] [--data mnist.npz]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from fastconv.lenet import load_digits
from fastconv.lenet.figures import draw_confusion, draw_mistakes
from make_learn import WINDOW, lenet_numpy

KINDS = {"nothing": (None, "#2b6cb0", "--"), "ReLU": ("relu", WINDOW, "-")}  # what follows the convolutions
BATCH = 128


class Training:
    """One training: the model, and the loss and the accuracy on the test digits for each epoch."""

    def __init__(self, example: Any, train: Any, test: Any, seed: int, activation: str | None, epochs: int) -> None:
        (images, labels), random = train, np.random.default_rng(seed)
        self.model = example.LeNet(seed, activation=activation)
        self.losses: list[float] = []
        self.accuracies: list[float] = []
        for _ in range(epochs):
            order = random.permutation(len(images))
            parts = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
            self.losses.append(float(np.mean([self.model.step(images[part], labels[part]) for part in parts])))
            self.accuracies.append(example.accuracy(self.model, *test))


def draw_curves(path: Path, runs: dict[str, list[Training]]) -> None:
    """Loss and test accuracy after each epoch: a thin line for each seed, and a thick one for their mean."""
    figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    for axes, name in zip(panels, ("losses", "accuracies"), strict=True):
        scale = 100 if name == "accuracies" else 1
        for kind, trainings in runs.items():
            _, color, style = KINDS[kind]
            values = scale * np.array([getattr(training, name) for training in trainings])
            epochs = np.arange(1, values.shape[1] + 1)
            axes.plot(epochs, values.T, color=color, ls=style, lw=0.8, alpha=0.45)
            label = "ReLU after the convolutions" if kind == "ReLU" else "no activation there"
            axes.plot(epochs, values.mean(0), style, color=color, lw=2.4, marker="o", ms=4, label=label)
        axes.set(xlabel="epoch", xticks=epochs)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=10)
    panels[0].set_title("loss in training", fontsize=11)
    panels[1].set_title("accuracy on test digits, %", fontsize=11)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def print_table(runs: dict[str, list[Training]]) -> None:
    final = {kind: 100 * np.array([one.accuracies[-1] for one in trainings]) for kind, trainings in runs.items()}
    print("| after the convolutions | accuracy, mean | least and greatest |")
    print("|------------------------|----------------|--------------------|")
    for kind, values in final.items():
        print(f"| {kind:<22} | {values.mean():.2f} %        | {values.min():.2f} to {values.max():.2f} %   |")
    gain = final["ReLU"] - final["nothing"]
    print()
    print(f"ReLU: {gain.mean():+.2f} points, better for {np.sum(gain > 0)} of {len(gain)} seeds")
    print("differences:", ", ".join(f"{value:+.2f}" for value in gain))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train LeNet-5 with and without ReLU after its convolutions.")
    parser.add_argument("folder", type=Path, help="for the pictures; it is created if it does not exist")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit", type=int, help="use only this many digits for training")
    parser.add_argument("--data", help="an .npz file in Keras's layout")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    digits, example = load_digits(options.data), lenet_numpy()
    print(f"data: {digits.source}")
    train = example.prepare(digits.train_images[: options.limit], digits.train_labels[: options.limit])
    test = example.prepare(digits.test_images, digits.test_labels)
    print(f"{len(train[0]):,} digits for training, {len(test[0]):,} for testing, {options.epochs} epochs")
    runs = {
        kind: [Training(example, train, test, seed + 1, activation, options.epochs) for seed in range(options.seeds)]
        for kind, (activation, _, _) in KINDS.items()
    }
    print_table(runs)
    draw_curves(options.folder / "trained.png", runs)
    logits = np.array(runs["nothing"][0].model.forward(test[0]))
    draw_confusion(options.folder / "confusion.png", digits.test_labels, logits)
    draw_mistakes(options.folder / "mistakes.png", test[0], digits.test_labels, logits)


if __name__ == "__main__":
    main()
