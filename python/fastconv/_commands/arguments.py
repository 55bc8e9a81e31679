"""Converts the words of a command line. Each error names what would do."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

_MOST = 2**62  # of a size; the core refuses sizes that are too large for it


_EXAMPLES = "examples:"


class Formatter(argparse.HelpFormatter):
    """Wraps texts, but keeps the lines of examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_EXAMPLES) else super()._fill_text(text, width, indent)


def examples(*lines: str) -> str:
    """The last part of a command's ``--help``, for `Formatter`."""
    return "\n  ".join([_EXAMPLES, *lines])


def path(text: str) -> Path:
    """A path, which must not be empty."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(text)


def integer(least: int, largest: int) -> Callable[[str], int]:
    """A converter to whole numbers in a range."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= largest:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {largest}, got {text!r}")
        return value

    return convert


def learning_rate(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and at most 1000, got {text!r}")
    return value


def sizes(counts: tuple[int, ...], example: str, separator: str = "x") -> Callable[[str], tuple[int, ...]]:
    """A converter to whole numbers that are joined by a separator, such as ``8x56x56x64``."""

    def convert(text: str) -> tuple[int, ...]:
        words = text.split(separator)
        if len(words) not in counts or not all(re.fullmatch(r"\d{1,18}", word) for word in words):
            numbers = " or ".join(map(str, counts))
            joined = f" joined by {separator!r}" if max(counts) > 1 else ""
            raise argparse.ArgumentTypeError(
                f"must be {numbers} whole numbers{joined}, such as {example}, got {text!r}"
            )
        return tuple(min(int(word), _MOST) for word in words)

    return convert


def padding(text: str) -> str | int | tuple[int, ...]:
    """VALID or SAME, one number, two numbers (height and width), or four (top, bottom, left, right)."""
    if text.upper() in ("VALID", "SAME"):
        return text.upper()
    for counts, separator in (((1, 2), "x"), ((4,), ",")):
        try:
            found = sizes(counts, "", separator)(text)
        except argparse.ArgumentTypeError:
            continue
        return found[0] if len(found) == 1 else found
    raise argparse.ArgumentTypeError(
        f"must be VALID, SAME, a number, HEIGHTxWIDTH or TOP,BOTTOM,LEFT,RIGHT, got {text!r}"
    )
