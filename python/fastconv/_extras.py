"""How to install the packages that only a part of fastconv needs."""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """The command that installs the packages of an extra, wherever fastconv itself was installed from."""
    from importlib.metadata import requires  # not at the top, because it takes as long as the rest of fastconv

    packages = [line.split(";")[0].strip() for line in requires("fastconv") or [] if f'extra == "{extra}"' in line]
    return "run pip install " + " ".join(f"'{package}'" for package in packages)
