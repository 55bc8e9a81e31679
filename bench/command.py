"""Shared by the commands: options, warnings, the report and its file."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from bench import machine
from bench.processes import Library, LibraryError


class Command:
    """A command line ``python -m bench NAME``, and the run that it starts."""

    def __init__(self, name: str, description: str | None, rounds: int | None = 15) -> None:
        self.name = name
        self.parser = argparse.ArgumentParser(prog=f"python -m bench {name}", description=description)
        self.add = self.parser.add_argument
        self.versions: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        if rounds is not None:
            self.add("--rounds", type=int, default=rounds, help="samples of each contestant (default: %(default)s)")
        self.add("--json", metavar="PATH", help="write everything that was measured")

    def add_choices(self, option: str, choices: Any) -> None:
        """An option that may be given several times."""
        self.add(option, choices=[*choices], action="append", help="may be repeated; default: all")

    def add_threads(self) -> None:
        cpus = len(os.sched_getaffinity(0))
        self.add("--threads", type=int, default=cpus, help="of every contestant (default: the %(default)s CPUs)")

    def add_data(self) -> None:
        self.add("--data", help="the digits: an .npz file or a folder (default: as fastconv lenet)")

    def start(self, arguments: list[str] | None, *positive: str) -> argparse.Namespace:
        """Parse; refuse what is not `positive`; warn if the machine is busy; set what libraries read when they load."""
        self.arguments = sys.argv[2:] if arguments is None else arguments
        options = self.parser.parse_args(self.arguments)
        for name in ("rounds", *positive):
            if getattr(options, name, 1) < 1:
                self.parser.error(f"--{name.replace('_', '-')} must be at least 1")
        self.options = options
        self.console = Console(width=None if sys.stdout.isatty() else 200)
        self.progress = Console(stderr=True)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        if hasattr(options, "threads"):
            allowed = sorted(os.sched_getaffinity(0))
            if not 1 <= options.threads <= len(allowed):
                self.parser.error(
                    f"--threads must be from 1 to {len(allowed)}, the number of CPUs that this process may use"
                )
            self.cpus = allowed[: options.threads]
            os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "FASTCONV_NUM_THREADS"), str(options.threads)))
        self.warnings = machine.idle_warnings()
        for warning in self.warnings:
            self.warn(warning)
        return options

    def libraries(self, stack: contextlib.ExitStack, names: Sequence[str]) -> list[Library]:
        """The processes of all libraries that load. The report lists their versions, and why the others do not load."""
        found: list[Library] = []
        for name in names:
            try:
                found.append(stack.enter_context(Library(name, self.options.threads, self.cpus)))
                self.versions[name] = found[-1].version
            except LibraryError as error:
                self.missing[name] = str(error)
                self.console.print(f"without {name}: {error}", markup=False)
        return found

    def warn(self, text: str) -> None:
        self.console.print(f"warning: {escape(text)}", style="bold yellow")

    def report(self, **parts: Any) -> dict[str, Any]:
        """`parts`, and how they were measured."""
        return {
            "command": shlex.join(["python", "-m", "bench", self.name, *self.arguments]),
            "options": vars(self.options),
            "machine": machine.facts(),
            "warnings": self.warnings,
            "versions": self.versions,
            "missing": self.missing,
            **parts,
        }

    def write(self, report: dict[str, Any]) -> None:
        if self.options.json:
            Path(self.options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def load_digits(path: str | None) -> tuple[Any, Any]:
    """MNIST's training images and labels."""
    from fastconv.lenet import load_digits

    digits = load_digits(path)
    return digits.train_images, digits.train_labels
