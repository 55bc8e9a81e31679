"""A build of fastconv in a folder of its own, and the processes that compute with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]


def check_home(package: ModuleType, folder: str) -> None:
    """Raise BuildError if Python imported another fastconv than the build's."""
    home = Path(str(package.__file__)).resolve().parent
    if Path(folder).resolve() not in home.parents:
        raise BuildError(f"Python imports {home} in place of the package in {folder}")


class BuildError(RuntimeError):
    """A build that cannot be used, or whose process died."""


@dataclass(frozen=True)
class Build:
    """`folder` holds the package; `environment` is set for its processes."""

    name: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def variables(self, **more: str) -> dict[str, str]:
        """The environment of a process that imports fastconv from the folder."""
        path = os.pathsep.join([str(self.folder.resolve()), str(ROOT)])
        return {**os.environ, "PYTHONPATH": path, **self.environment, **more}

    def answers(self, command: str, *arguments: object, **more: str) -> Iterator[Any]:
        """The answers of bench/builds/child.py; BuildError after the last answer if the process fails."""
        line = [sys.executable, "-m", "bench.builds.child", str(self.folder), command, *map(str, arguments)]
        with subprocess.Popen(line, cwd=ROOT, env=self.variables(**more), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for answer in process.stdout:
                yield json.loads(answer)
        if process.returncode != 0:
            raise BuildError(f"the process of build '{self.name}' ended with status {process.returncode}")

    def isas(self) -> list[str]:
        """The instruction sets of the build that this CPU supports."""
        (config,) = self.answers("config")
        available: list[str] = config["isa_available"]
        return available
