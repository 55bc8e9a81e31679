"""The FMA peak of this machine at an ISA, a precision and a number of threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# Bytes of a vector, and the compiler's flags, for each ISA that fastconv.show_config() can name.
ISAS: dict[str, tuple[int, list[str]]] = {
    "baseline": (16, []),
    "avx2": (32, ["-mavx2", "-mfma"]),
    "avx512": (64, ["-mavx512f", "-mfma", "-mprefer-vector-width=512"]),
}


class Peak:
    """Compiles bench/peak.cpp once; `measure` runs it."""

    def __init__(self, isa: str, dtype: str, threads: int, cpus: list[int]) -> None:
        compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
        if compiler is None:
            raise FileNotFoundError("the FMA peak needs a C++ compiler: install one or set CXX")
        size, flags = ISAS[isa]
        real = {"float32": "float", "float64": "double"}[dtype]
        self._folder = tempfile.TemporaryDirectory()
        self._program = str(Path(self._folder.name, "peak"))
        self._threads, self._cpus = threads, cpus
        source = str(Path(__file__).with_name("peak.cpp"))
        definitions = [f"-DREAL={real}", f"-DBYTES={size}"]
        command = [*compiler.split(), "-std=c++17", "-O3", "-ffp-contract=fast", *flags, *definitions, "-pthread"]
        subprocess.run([*command, source, "-o", self._program], check=True)

    def measure(self) -> float:
        """Operations per second, the best of 20 runs."""
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._cpus)  # the program inherits it
        try:
            run = subprocess.run([self._program, str(self._threads)], check=True, capture_output=True, text=True)
        finally:
            os.sched_setaffinity(0, allowed)
        return float(run.stdout)

    def __enter__(self) -> Peak:
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()
