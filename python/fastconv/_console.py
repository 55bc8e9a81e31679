"""Prints tables: with rich in the style of ``keras.Model.summary``, else as plain columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(*([title] if title else []), columns([headings, *rows], text), sep="\n")
        return
    table = Table(title=title)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < text else "right")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, width=_WIDE)
    console.print(table)


def columns(rows: Sequence[Sequence[str]], text: int = 1) -> str:
    """Headings and rows in columns, as plain text. The first `text` columns are aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index < text else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def counted(count: int, noun: str) -> str:
    """A number with its noun, in the plural unless the number is 1."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"
