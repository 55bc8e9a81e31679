"""Shows the progress of `Network.predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator


def reported(firsts: Iterable[int], batch_size: int, count: int) -> Iterator[int]:
    """Yield the first image of each batch, and show on standard error how many images are done.

    The progress is a bar if rich is installed and standard error is a terminal. Otherwise it is a line of numbers.
    """
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
    except ImportError:
        terminal = False
    else:
        console = Console(stderr=True)
        terminal = console.is_terminal
    if not terminal:
        for first in firsts:
            yield first
            done = min(first + batch_size, count)
            print(f"\r{done}/{count}", end="\n" if done == count else "", file=sys.stderr, flush=True)
        return
    with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("", total=count)
        for first in firsts:
            yield first
            bar.update(task, completed=min(first + batch_size, count))
