"""A table, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as TerminalTable


@dataclass(frozen=True)
class Cell:
    """A text, a note that only the terminal shows, and whether the terminal colours it as good or bad news."""

    text: str
    note: str = ""
    good: bool | None = None

    @property
    def markup(self) -> str:
        text = escape(self.text)
        if self.good is not None:
            colour = "green" if self.good else "red"
            text = f"[{colour}]{text}[/{colour}]"
        return f"{text} [dim]{escape(self.note)}[/dim]" if self.note else text


Column = tuple[str, Callable[[Any], Any]]  # a heading, and the cell or text of a result


@dataclass
class Table:
    """Headings and rows. The first `left` columns hold words, the others numbers."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    left: int = 1

    @classmethod
    def of(cls, title: str, results: Iterable[Any], columns: Sequence[Column], left: int = 1) -> Table:
        """A row for each result."""
        table = cls(title, [heading for heading, _ in columns], left=left)
        for result in results:
            table.add(*(value(result) for _, value in columns))
        return table

    def add(self, *cells: Any) -> None:
        self.rows.append([cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in cells])

    def markdown(self) -> str:
        """The table without its title."""
        rule = ["---" if column < self.left else "---:" for column in range(len(self.head))]
        texts = [[cell.text for cell in row] for row in self.rows]
        return "\n".join("| " + " | ".join(row) + " |" for row in [list(self.head), rule, *texts])

    def print(self, console: Console) -> None:
        table = TerminalTable(title=self.title, title_justify="left")
        for column, heading in enumerate(self.head):
            table.add_column(heading, justify="left" if column < self.left else "right")
        for row in self.rows:
            table.add_row(*(cell.markup for cell in row))
        console.print(table)


def time_cell(entry: dict[str, Any] | None, unit: str = "ms") -> Cell:
    """A median with its spread, or a dash for a contestant that was not measured."""
    if entry is None:
        return Cell("-")
    value = entry["median_us"]
    shown = value / 1000 if unit == "ms" else value
    if unit == "ms" and shown < 9999.5:
        text = f"{shown:.4g}"
    else:
        text = f"{shown:.{1 if shown < 100 else 0}f}"
    spread = f"±{(entry['q3_us'] - entry['q1_us']) / value:.0%}" if "q1_us" in entry else ""
    return Cell(text, spread)


def ratio_cell(value: float | None, judged: bool = True) -> Cell:
    """A ratio. If it is `judged`, it is red below 1 and otherwise green."""
    if value is None:
        return Cell("-")
    return Cell(f"{value:.2f}x", good=value >= 1 if judged else None)
