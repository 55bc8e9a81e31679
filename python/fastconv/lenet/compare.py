"""Compares the training of the same model on Keras's layers and on fastconv's, epoch by epoch in turn."""

from __future__ import annotations

import math
import signal
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import keras

from fastconv._console import print_table
from fastconv.lenet.model import build, compile_model
from fastconv.lenet.progress import figures
from fastconv.lenet.train import Split, Watch, batches, ctrl_c_waits, fused

TITLES = {"keras": "Keras's layers", "fastconv": "fastconv's layers"}
# The largest allowed difference in test accuracy. Both models start from the same weights and see the same batches, but
# rounding errors grow during the training, so they may classify a few images differently.
ALLOWED = 0.003


@dataclass
class Run:
    """The results of one kind of layers: a row for each epoch, the seconds of each step, and accuracy and loss."""

    title: str
    history: list[dict[str, float]] = field(default_factory=list)
    steps: list[list[float]] = field(default_factory=list)
    test_accuracy: float = math.nan
    test_loss: float = math.nan

    @property
    def step_ms(self) -> float:
        """Median of all steps. If there are several epochs, the first, in which TensorFlow warms up, is left out."""
        return 1e3 * median(seconds for epoch in self.steps[1:] or self.steps for seconds in epoch)

    @property
    def epoch_seconds(self) -> float:
        """Median of the epochs. If there are several, the first, in which TensorFlow builds its graph, is left out."""
        return median(row["seconds"] for row in self.history[1:] or self.history)

    def metrics(self) -> dict[str, Any]:
        """The results as values for JSON. Numbers that are not finite become None."""
        finite = [{k: v if math.isfinite(v) else None for k, v in row.items()} for row in self.history]
        return {
            "ms_per_step": self.step_ms,
            "seconds_per_epoch": self.epoch_seconds,
            "test_accuracy": self.test_accuracy,
            "test_loss": self.test_loss if math.isfinite(self.test_loss) else None,
            "epochs": finite,
        }


class _StepClock(keras.callbacks.Callback):  # type: ignore[misc]
    """Measures the time from the end of a step to the end of the next. It includes all the work of `fit`."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._last = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now


def compare(split: Split, *, epochs: int, batch_size: int, learning_rate: float, seed: int) -> dict[str, Run]:
    """Train both models epoch by epoch in turn, and test them.

    Parameters
    ----------
    split : Split
    epochs : int
        Number of epochs. There is no early stopping.
    batch_size : int
    learning_rate : float
    seed : int
        Seed of the initial weights and of the order of the images. Both models use the same seed.

    Returns
    -------
    dict of str to Run
        "keras" and "fastconv".

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, between two steps.
    """
    keras.utils.set_random_seed(seed)
    with ctrl_c_waits():
        models = {name: build(name, seed) for name in TITLES}  # type: ignore[arg-type]
        for model in models.values():
            compile_model(model, learning_rate)
    data = {name: batches(*split.train, batch_size, seed) for name in TITLES}
    runs = {name: Run(title) for name, title in TITLES.items()}
    watch = Watch()
    before = signal.signal(signal.SIGINT, watch.handle)
    try:
        with fused(models["fastconv"]):
            for epoch in range(epochs):
                for name, run in runs.items():
                    clock = _StepClock()
                    models[name].fit(
                        data[name],
                        initial_epoch=epoch,
                        epochs=epoch + 1,
                        verbose=0,
                        callbacks=[clock, watch],
                        shuffle=False,  # the dataset shuffles
                    )
                    row = watch.rows[-1]
                    run.history.append(row)
                    run.steps.append(clock.seconds)
                    print(f"epoch {epoch + 1}/{epochs}  {run.title:17}  {figures(row)}", flush=True)
    finally:
        signal.signal(signal.SIGINT, before)
    for name, run in runs.items():
        loss, accuracy = models[name].evaluate(*split.test, batch_size=batch_size, verbose=0)
        run.test_accuracy, run.test_loss = float(accuracy), float(loss)
    return runs


def print_comparison(runs: dict[str, Run]) -> None:
    """Print the results of both runs side by side, with the ratio of the times."""
    stock, ours = runs["keras"], runs["fastconv"]

    def times(a: float, b: float, unit: str, digits: int) -> list[str]:
        return [f"{a:.{digits}f} {unit}", f"{b:.{digits}f} {unit}", f"{a / b:.2f}x"]

    print_table(
        ["", stock.title, ours.title, "ratio"],
        [
            ["step", *times(stock.step_ms, ours.step_ms, "ms", 3)],
            ["epoch", *times(stock.epoch_seconds, ours.epoch_seconds, "s", 2)],
            ["test loss", f"{stock.test_loss:.4f}", f"{ours.test_loss:.4f}", ""],
            ["test accuracy", f"{stock.test_accuracy:.4f}", f"{ours.test_accuracy:.4f}", ""],
        ],
    )


def require_same_accuracy(runs: dict[str, Run], test_images: int) -> None:
    """Print that both runs reached the same accuracy, or raise ValueError.

    The accuracies count as the same if they are at most 0.3 points apart. With few test images, two standard errors of
    their difference are allowed.
    """
    stock, ours = runs["keras"].test_accuracy, runs["fastconv"].test_accuracy
    mean = (stock + ours) / 2
    allowed = max(ALLOWED, 2 * math.sqrt(2 * mean * (1 - mean) / test_images))
    apart = f"{100 * abs(stock - ours):.2f} points apart, {100 * allowed:.2f} allowed"
    if not abs(stock - ours) <= allowed:
        raise ValueError(f"the accuracies differ: {apart}")
    print(f"the same accuracy: {apart}")
