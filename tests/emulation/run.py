"""Runs the tests of the kernels on a CPU that QEMU emulates.

    python tests/emulation/run.py aarch64|Nehalem|Haswell [pytest options]

For aarch64, all that is needed is put into build/emulation: fastconv, Debian's Python for that CPU, and the packages of
the tests. The other CPUs are models of QEMU: a Nehalem has no AVX, a Haswell has AVX2 but no AVX-512. They run this
Python and its fastconv.

This needs QEMU's user mode emulation (Debian's package qemu-user), and for aarch64 also Debian's packages
g++-aarch64-linux-gnu and binutils-aarch64-linux-gnu, apt-get, dpkg-deb, and a Python of the same version as Debian's.
If the options name no tests, TESTS below are run, with few random problems.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import debian

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "emulation"
ISAS = {"aarch64": "neon", "Nehalem": "baseline", "Haswell": "avx2"}
PLATFORMS = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, 37)]
PROBLEMS = 1  # random problems for each function and dtype

# Tests that compute with the kernels and need nothing but NumPy and SciPy.
TESTS = (
    "against_reference", "drawn_geometries", "finite_differences", "conv_max_pool", "special_values", "same_bits",
    "memory_bounds", "array_memory", "argmax", "empty_arrays", "extreme_sizes", "joined_windows", "check_of_taps",
    "pool_options", "activation_gradients", "batch_norm", "packed_filters", "related_functions", "floating_point_state",
    "isa",
)  # fmt: skip
# An expression for pytest's -k. The float64 reference of the other tests takes minutes on an emulated CPU.
FAST_ENOUGH = "not error_in_norm"


def run(*command: str | Path, **environment: str) -> None:
    """Run a command. If it fails, end with its status."""
    status = subprocess.run([str(part) for part in command], cwd=ROOT, env={**os.environ, **environment}).returncode
    if status != 0:
        sys.exit(status)


def needed(*programs: str) -> str:
    """The path of the first of these programs that is installed."""
    found = next(filter(None, map(shutil.which, programs)), None)
    if found is None:
        sys.exit(f"emulation: {programs[0]} is not installed")
    return found


def write_program(path: Path, *command: str | Path) -> Path:
    """A program that runs the emulated Python. Its children run it again, because it is their sys.executable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    emulator, *rest = map(str, command)
    line = f'exec {shlex.quote(emulator)} -0 "$0" {shlex.join(rest)} "$@"'
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def build_for_aarch64(folder: Path) -> None:
    """Install fastconv for AArch64 into `folder`. Unchanged sources are not compiled again."""
    defines = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_CXX_COMPILER": needed("aarch64-linux-gnu-g++"),
        "CMAKE_STRIP": needed("aarch64-linux-gnu-strip"),
        "FASTCONV_WERROR": "ON",
        # pybind11 would take this Python's suffix.
        "PYTHON_MODULE_EXTENSION": f".cpython-3{sys.version_info.minor}-aarch64-linux-gnu.so",
    }
    options = [part for name, value in defines.items() for part in ("-C", f"cmake.define.{name}={value}")]
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--upgrade",
        "--target", folder, ROOT, "-C", f"build-dir={folder}-cmake", *options,
    )  # fmt: skip


def emulated_aarch64() -> tuple[Path, dict[str, str]]:
    """The program that runs Debian's Python for AArch64, and its environment variables."""
    emulator = needed("qemu-aarch64", "qemu-aarch64-static")
    needed("apt-get")
    needed("dpkg-deb")
    name = f"python3.{sys.version_info.minor}"
    system, packages, site = WORK / "system", WORK / "packages", WORK / "site"
    build_for_aarch64(site)
    debian.unpack(system, "arm64", f"{name}-minimal", f"lib{name}-stdlib", "libstdc++6", "libgomp1")
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", packages, "--only-binary=:all:",
        "--implementation=cp", f"--python-version=3.{sys.version_info.minor}", *PLATFORMS,
        "numpy", "scipy", "pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "threadpoolctl",
    )  # fmt: skip
    program = write_program(WORK / "python-aarch64", emulator, "-L", system, system / "usr" / "bin" / name)
    return program, {"PYTHONHOME": str(system / "usr"), "PYTHONPATH": f"{site}{os.pathsep}{packages}"}


def emulated_x86_64(cpu: str) -> tuple[Path, dict[str, str]]:
    """The program that runs this Python on a CPU that QEMU emulates, and its environment variables."""
    if platform.machine() != "x86_64":
        sys.exit(f"emulation: {cpu} needs a computer with an x86-64 CPU, got {platform.machine()}")
    emulator = needed("qemu-x86_64", "qemu-x86_64-static")
    program = write_program(WORK / f"python-{cpu}", emulator, "-cpu", cpu, Path(sys.executable).resolve())
    paths = [os.environ.get("PYTHONPATH"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return program, {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs the tests of the kernels on a CPU that QEMU emulates.")
    parser.add_argument("cpu", choices=ISAS)
    arguments, options = parser.parse_known_args()
    cpu: str = arguments.cpu
    program, variables = emulated_aarch64() if cpu == "aarch64" else emulated_x86_64(cpu)
    # Bytecode of one Python is not written where another one would find it.
    variables |= {"FASTCONV_ISA": "", "PYTHONDONTWRITEBYTECODE": "1"}
    best = f"import fastconv; isa = fastconv.show_config('dicts')['isa']; assert isa == {ISAS[cpu]!r}, isa"
    run(program, "-c", best, **variables)
    run(program, "-m", "fastconv", "config", **variables)
    if not any(option.startswith("tests") for option in options):
        options = [*(f"tests/test_{test}.py" for test in TESTS), f"--problems={PROBLEMS}", "-k", FAST_ENOUGH, *options]
    run(program, "-m", "pytest", "-p", "no:cacheprovider", "--timeout=3000", *options, **variables)


if __name__ == "__main__":
    main()
