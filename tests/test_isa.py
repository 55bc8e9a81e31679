"""One binary runs on every CPU of its architecture: only the kernels for AVX2 and AVX-512 contain such instructions.

If a kernel source instantiates an inline function of a shared header, the linker may use that copy for all callers.
The copy would crash on an older CPU.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import fastconv
import numpy as np
import problems
import pytest
from processes import TIMEOUT
from workers import ISAS, compute, worker

FOLDER = Path(fastconv.__file__).parent
LIBRARIES = sorted(FOLDER.glob("*.so"))

x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="AVX2 and AVX-512 are instructions of x86-64")

# Operands that need AVX or later: 256- and 512-bit registers, xmm16 and up, mask registers.
WIDE = re.compile(r"%(?:[yz]mm\d+|xmm(?:1[6-9]|2\d|3[01])|k[0-7])\b")
AVX512_ONLY = re.compile(r"%(?:zmm\d+|[xy]mm(?:1[6-9]|2\d|3[01])|k[0-7])\b")


class Function(NamedTuple):
    name: str
    vex: bool  # has an instruction in VEX or EVEX encoding
    avx512: bool


def objdump(*arguments: str) -> str:
    return subprocess.run(["objdump", *arguments], check=True, capture_output=True, text=True, timeout=TIMEOUT).stdout


def functions(library: Path) -> Iterator[Function]:
    """Every function of the disassembled library."""
    text = objdump("--disassemble", "--demangle", "--no-show-raw-insn", str(library))
    name, vex, avx512 = "", False, False
    for line in text.splitlines():
        header = re.fullmatch(r"[0-9a-f]+ <(.*)>:", line)
        if header:
            if name:
                yield Function(name, vex, avx512)
            name, vex, avx512 = header[1], False, False
        elif "\t" in line and not line.endswith("(bad)"):
            instruction = line.split("\t", 1)[1]
            mnemonic = instruction.split(" ", 1)[0]
            # All instructions with a VEX or EVEX prefix that the flags -mavx2 -mfma -mavx512* allow begin with v or k.
            vex |= (mnemonic[0] in "vk" and mnemonic not in ("verr", "verw")) or bool(WIDE.search(instruction))
            avx512 |= bool(AVX512_ONLY.search(instruction))
    yield Function(name, vex, avx512)


def skip_without_names() -> None:
    if "no symbols" in objdump("--syms", str(FOLDER / "libfastconv.so")):
        pytest.skip("libfastconv.so has no names of functions: wheels for an index are stripped")


def is_kernel_of(function: Function, isa: str) -> bool:
    """Whether the function is in the ISA's namespace.

    An example: "void fastconv::avx2::(anonymous namespace)::conv_row<float, 1>(...)".
    """
    return f"fastconv::{isa}::" in function.name


@x86_64
def test_only_the_kernels_hold_vector_instructions() -> None:
    names = {library.name for library in LIBRARIES}
    assert "libfastconv.so" in names, f"no libfastconv.so in {FOLDER}: {names}"
    assert any(name.startswith("_core.") for name in names)
    skip_without_names()
    for library in LIBRARIES:
        wrong = [
            f.name for f in functions(library) if f.vex and not any(is_kernel_of(f, isa) for isa in ("avx2", "avx512"))
        ]
        assert not wrong, f"{library.name}: instructions of AVX or later outside the kernels: {wrong}"


@x86_64
def test_kernels_keep_to_their_instruction_set() -> None:
    """This also shows that the test above finds vector instructions."""
    skip_without_names()
    all_functions = list(functions(FOLDER / "libfastconv.so"))
    kernels = {isa: [f for f in all_functions if is_kernel_of(f, isa)] for isa in ("baseline", "avx2", "avx512")}
    for isa, found in kernels.items():
        assert len(found) >= 20, f"{len(found)} functions of {isa}: was the library stripped of its symbols?"
    assert not [f.name for f in kernels["baseline"] if f.vex]
    assert not [f.name for f in kernels["avx2"] if f.avx512]
    for name in ("conv_tile", "outer_tile", "depthwise_row", "max_row", "avg_row"):
        for isa in ("avx2", "avx512"):
            assert any(f.vex and name in f.name for f in kernels[isa]), f"no vector instructions in {isa}'s {name}"
    assert any(f.avx512 for f in kernels["avx512"])


@pytest.mark.parametrize("isa", ISAS)
def test_environment_variable_forces_the_instruction_set(isa: str) -> None:
    with worker(FASTCONV_ISA=isa) as pool:
        config = pool.submit(fastconv.show_config, "dicts").result()
    assert config["isa"] == isa
    assert config["isa_available"] == ISAS


def test_the_best_instruction_set_is_the_default() -> None:
    with worker(FASTCONV_ISA="") as pool:
        assert pool.submit(fastconv.show_config, "dicts").result()["isa"] == ISAS[-1]
    assert ISAS[0] == {"x86_64": "baseline", "aarch64": "neon"}.get(platform.machine(), "baseline")


def test_forced_instruction_sets_compute_differently() -> None:
    """FMA rounds a*b + c once, the baseline twice."""
    problem = problems.Problem((3,), "float32", "NHWC", 1, (9, 9), 6, (3, 3), (1, 1), "VALID", filters=8)
    call = problems.call_of(problem, "conv2d")
    results = {}
    for isa in ISAS:
        with worker(FASTCONV_ISA=isa) as pool:
            (results[isa],) = pool.submit(compute, [(call.name, call.arguments)]).result()
        call.check(results[isa])
    assert all((results["baseline"] != results[isa]).any() for isa in ISAS if isa in ("avx2", "avx512"))
    assert all(isinstance(result, np.ndarray) for result in results.values())


@pytest.mark.parametrize("value", ["sse9", "AVX2", "avx2,avx512", " "])
def test_an_unknown_instruction_set_is_refused(value: str) -> None:
    environment = {**os.environ, "FASTCONV_ISA": value}
    command = [sys.executable, "-c", "import fastconv"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: ") and "FASTCONV_ISA" in last
    assert repr(value) in last and ", ".join(ISAS) in last
