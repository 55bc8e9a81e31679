"""Shows the progress of a training: a bar during each epoch, and a line after it."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn


def figures(row: dict[str, float]) -> str:
    """The results of an epoch and its time, short enough for a terminal of 80 columns."""
    text = f"loss {row['loss']:.4f}, accuracy {row['accuracy']:.4f}"
    if "val_loss" in row:
        text += f"  (validation {row['val_loss']:.4f}, {row['val_accuracy']:.4f})"
    return f"{text}  {row['seconds']:.1f} s"


class EpochProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that shows the progress. Use it in a ``with`` statement, which removes the bar at its end.

    If the output is not a terminal, there is no bar. The number of the epoch is then printed at its start, and the
    results at its end.

    Parameters
    ----------
    rows : list of dict of str to float
        A list to which an earlier callback adds a row after each epoch.
    """

    def __init__(self, rows: list[dict[str, float]]) -> None:
        super().__init__()
        self._rows = rows
        self._epoch = ""
        self._console = Console(markup=False, highlight=False)
        self._bar = Progress(
            "{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("")

    def __enter__(self) -> EpochProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = f"Epoch {epoch + 1}/{self.params['epochs']}"
        if self._console.is_terminal:
            self._bar.reset(self._task, total=self.params["steps"], description=self._epoch)
        else:
            print(self._epoch, end="", flush=True)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._bar.advance(self._task)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        line = f"  {figures(self._rows[-1])}"
        if self._console.is_terminal:
            self._console.print(self._epoch + line, soft_wrap=True)
        else:
            print(line, flush=True)
