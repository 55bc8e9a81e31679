"""One module for each library. Each is imported in a process of its own, see bench/workers.py.

A module has ``NAMES`` (its contestants), ``FRAMEWORK`` (whether it counts for the ratio to the best framework),
``setup(threads)``, which returns the library's version, and ``variants(name, case, arrays)``: the ways in which its
users would compute the case, of which the fastest is measured. It raises `NotServed` for a case that it cannot serve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.reference import Array


class NotServed(Exception):
    """The library has no such computation."""


@dataclass(frozen=True)
class Variant:
    """`run` is what is timed; `fetch` turns what it returned into an array in our layout."""

    label: str
    run: Callable[[], Any]
    fetch: Callable[[Any], Array]
