"""Prints tables in the style of ``keras.Model.summary``. It needs rich, which Keras installs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

_WIDE = 1000  # columns: wide enough to keep each row of a table on one line of a file


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, text: int = 1
) -> None:
    """Print a table to standard output.

    Parameters
    ----------
    headings : sequence of str
    rows : iterable of sequences of str
    title : str, optional
    text : int
        The number of columns with text. They come first and are aligned to the left. The other columns have numbers,
        which are aligned to the right.
    """
    table = Table(title=title)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < text else "right")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, width=_WIDE)
    console.print(table)
