"""The FMA peak and the bandwidth of this machine for an ISA, a precision and a number of threads."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

# Bytes of a vector, and the compiler's flags, for each ISA that fastconv.show_config() can name.
ISAS: dict[str, tuple[int, list[str]]] = {
    "baseline": (16, []),
    "avx2": (32, ["-mavx2", "-mfma"]),
    "avx512": (64, ["-mavx512f", "-mfma", "-mprefer-vector-width=512"]),
}


@contextlib.contextmanager
def fma_peak(isa: str, dtype: str, cpus: list[int]) -> Iterator[Callable[..., float]]:
    """Compile peak.cpp. Yields a function that measures the operations per second of the best of 20 runs.

    With the argument "bandwidth", the function measures the bytes per second of three streams that are read and one
    that is written.
    """
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise FileNotFoundError("the FMA peak needs a C++ compiler: install one or set CXX")
    size, flags = ISAS.get(isa, ISAS["baseline"])
    definitions = [f"-DREAL={'float' if dtype == 'float32' else 'double'}", f"-DBYTES={size}"]
    options = ["-std=c++17", "-O3", "-ffp-contract=fast", *flags, *definitions, "-pthread"]
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder, "peak"))
        source = str(Path(__file__).with_name("peak.cpp"))
        subprocess.run([*compiler.split(), *options, source, "-o", program], check=True)

        def measure(*what: str) -> float:
            allowed = os.sched_getaffinity(0)
            os.sched_setaffinity(0, cpus)  # inherited by the program
            try:
                return float(subprocess.check_output([program, str(len(cpus)), *what], text=True))
            finally:
                os.sched_setaffinity(0, allowed)

        yield measure
