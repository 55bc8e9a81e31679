"""Shared by the commands: options, the libraries' processes, the report and its file."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import track

from bench import machine
from bench.peak import fma_peak
from bench.processes import Library, LibraryError
from bench.table import Table

CPUS = sorted(os.sched_getaffinity(0))


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


# Options of several commands: name -> default, help, and other arguments of add_argument.
OPTIONS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "--rounds": (15, "samples of each contestant", {}),
    "--threads": (
        len(CPUS),
        "threads of every contestant",
        {"choices": range(1, len(CPUS) + 1)},
    ),
    "--layer": ("", "only layers whose 'suite name' contains this", {}),
    "--no-compile": (None, "leave out torch.compile, which takes a minute for each task", {"action": "store_true"}),
    "--data": (None, "the digits: an .npz file or a folder; default: as for fastconv lenet", {}),
}


class Command:
    """A command line ``python -m bench NAME``, and the run that it starts. `shared` names options in `OPTIONS`.

    A run that times nothing does not need an idle machine.
    """

    def __init__(self, name: str, description: str | None, *shared: str, timed: bool = True) -> None:
        self.name = name
        self.timed = timed
        self.parser = argparse.ArgumentParser(prog=f"python -m bench {name}", description=description)
        self.versions: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        for option in shared:
            default, text, more = OPTIONS[option]
            self.add(option, default, text, **more)
        self.add("--json", help="write everything that was measured", metavar="PATH")

    def add(self, option: str, default: Any = None, help: str = "", **more: Any) -> None:
        """Add an option. If the default is an integer, so is the value, and it must be at least 1."""
        kind = {"type": positive} if isinstance(default, int) else {}
        shown = " (default: %(default)s)" if default else ""
        self.parser.add_argument(option, default=default, help=help + shown, **{**kind, **more})

    def add_several(self, option: str, **more: Any) -> None:
        """Add an option that may be repeated."""
        self.parser.add_argument(option, action="append", help="may be repeated; default: all", **more)

    def start(self, arguments: list[str] | None) -> argparse.Namespace:
        """Parse the options, warn if the machine is busy, and set the variables that libraries read when they load."""
        self.arguments = sys.argv[2:] if arguments is None else arguments
        self.options = options = self.parser.parse_args(self.arguments)
        self.console = Console(width=None if sys.stdout.isatty() else 200)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        if hasattr(options, "threads"):
            self.cpus = CPUS[: options.threads]
            os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "FASTCONV_NUM_THREADS"), str(options.threads)))
        if getattr(options, "no_compile", False):
            os.environ["BENCH_NO_COMPILE"] = "1"  # inherited by PyTorch's process
        self.warnings: list[str] = []
        self._steal = machine.steal()
        if self.timed:
            for warning in machine.idle_warnings():
                self.warn(warning)
        return options

    def libraries(self, stack: contextlib.ExitStack, names: Sequence[str]) -> list[Library]:
        """The processes of the libraries that load. The report has their versions, and why the others do not load."""
        found: list[Library] = []
        for name in names:
            try:
                found.append(stack.enter_context(Library(name, self.options.threads, self.cpus)))
                self.versions[name] = found[-1].version
            except LibraryError as error:
                self.missing[name] = str(error)
                self.console.print(f"{name} is left out, because it does not load: {error}", markup=False)
        return found

    def peak(self, stack: contextlib.ExitStack, dtype: str = "float32") -> tuple[str, Callable[[], float]]:
        """The ISA of fastconv's process, and a function that measures the FMA peak with it."""
        isa = self.versions.get("fastconv", "").partition("(")[2].rstrip(")")
        return isa, stack.enter_context(fma_peak(isa, dtype, self.cpus))

    def peaks(self, isa: str, before: float, after: float) -> dict[str, Any]:
        """The FMA peaks for the report. Warns if the peak changed during the run."""
        if abs(after / before - 1) > 0.05:
            self.warn(f"the FMA peak changed by {after / before - 1:+.0%} during the run")
        return {"isa": isa, "before": before, "after": after}

    def track(self, tasks: Sequence[Any]) -> Iterable[Any]:
        """The tasks, with a progress bar."""
        return track(tasks, "measuring", console=Console(stderr=True), transient=True)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self.console.print(f"warning: {escape(text)}", style="bold yellow")

    def report(self, **parts: Any) -> dict[str, Any]:
        """`parts`, and how they were measured."""
        steal = machine.steal_since(self._steal)
        if self.timed and steal > machine.STEAL_LIMIT:
            self.warn(f"the host gave {steal:.1%} of the CPUs' time to others during the run")
        return {
            "command": shlex.join(["python", "-m", "bench", self.name, *self.arguments]),
            "options": vars(self.options),
            "machine": {**machine.facts(), "steal": steal},
            "warnings": self.warnings,
            "versions": self.versions,
            "missing": self.missing,
            **parts,
        }

    def finish(self, report: dict[str, Any], tables: Iterable[Table], *remarks: str) -> None:
        """Print the tables, the remarks and the warnings, and write the file."""
        for table in tables:
            table.print(self.console)
        for remark in remarks:
            self.console.print(remark, markup=False)
        for warning in report["warnings"]:
            self.console.print(f"warning: {escape(warning)}", style="bold yellow")
        if self.options.json:
            Path(self.options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def load_digits(path: str | None) -> tuple[Any, Any]:
    """MNIST's training images and labels."""
    from fastconv.lenet import load_digits

    digits = load_digits(path)
    return digits.train_images, digits.train_labels
