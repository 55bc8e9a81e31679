"""How to install the packages that only a part of fastconv needs."""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """The command that installs the packages of an extra of pyproject.toml."""
    return f"run pip install '.[{extra}]' in the folder of fastconv's sources"
