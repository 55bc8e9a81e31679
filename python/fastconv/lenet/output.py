"""The folder of `--out`. It is checked before the training and filled after it. No file of the user is lost."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FILES = (
    "model.keras",
    "model_stock.keras",
    "model.fastconv",
    "history.csv",
    "metrics.json",
    "curves.png",
    "features.png",
    "confusion.png",
    "mistakes.png",
    "explore.html",
)
COMPARE_FILES = ("compare.png", "compare.json")


def check_out(directory: Path, force: bool, names: Sequence[str] = FILES) -> None:
    """Raise ValueError unless the results can be written to `directory` later. This function writes nothing.

    Parameters
    ----------
    directory : Path
        A folder that does not exist yet or is empty. With `force`, any folder: files of the same names will be
        replaced, and others kept.
    force : bool
    names : sequence of str, optional
        Names of the files that will be written.

    Raises
    ------
    ValueError
    """
    if directory.exists():
        if not directory.is_dir():
            raise ValueError(f"--out {directory} is a file; give a folder that is empty or does not exist yet")
        try:
            occupied = any(directory.iterdir())
        except OSError as error:
            raise ValueError(f"--out {directory} cannot be read: {error.strerror}") from error
        if occupied and not force:
            raise ValueError(
                f"--out {directory} is not empty; give another folder, or --force to overwrite its results"
            )
        for name in names:
            if (directory / name).is_dir():
                raise ValueError(
                    f"--out {directory}: {name} is a folder; move it away, so that a file of that name can be written"
                )
        nearest = directory
    else:
        if directory.is_symlink():
            raise ValueError(f"--out {directory} is a broken link; give a folder that is empty or does not exist yet")
        nearest = next(parent for parent in directory.absolute().parents if os.path.lexists(parent))
        if not nearest.is_dir():
            raise ValueError(f"--out {directory}: {nearest} is not a folder; give another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"--out {directory}: no permission to write into {nearest}")


def write_all(directory: Path, force: bool, writers: dict[str, Callable[[Path], None]]) -> None:
    """Write all files into a temporary folder inside `directory`, and then move them to `directory`.

    The temporary folder is inside `directory`, because files can only be renamed within a file system. If another
    process has created one of the files during the training, the results stay in the temporary folder.

    Parameters
    ----------
    directory : Path
        A folder that `check_out` has accepted.
    force : bool
        Whether to replace files of the same names.
    writers : dict of str to callable
        For each file name, a function that writes the file to a path.

    Raises
    ------
    ValueError
        If writing failed. Existing files are then unchanged.
    """
    temporary: Path | None = None
    keep = False
    try:
        directory.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=directory))
        for name, write in writers.items():
            write(temporary / name)
        if not force and (there := [name for name in writers if os.path.lexists(directory / name)]):
            keep = True
            raise ValueError(
                f"--out {directory}: another process wrote {', '.join(there)} during the training; "
                f"the results are in {temporary}"
            )
        for name in writers:
            os.replace(temporary / name, directory / name)
    except OSError as error:
        raise ValueError(f"--out {directory} cannot be written: {error}") from error
    finally:
        if temporary is not None and not keep:
            shutil.rmtree(temporary, ignore_errors=True)


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """Write one line for each epoch: epoch, accuracy, loss, val_accuracy, val_loss, seconds."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(history[0]))
        table.writeheader()
        table.writerows(history)


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write the metrics as JSON. Numbers that are not finite, such as those of a diverged training, become null."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
    path.write_text(json.dumps(finite, indent=2, allow_nan=False) + "\n", encoding="utf-8")
