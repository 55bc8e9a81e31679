"""Tables on the terminal, in the style of ``keras.Model.summary``. Needs rich, which comes with Keras."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

_WIDE = 1000  # columns: no line of a table is broken in a file


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
        The number of columns with text, which come first. The others have numbers, which are aligned to the right.
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
