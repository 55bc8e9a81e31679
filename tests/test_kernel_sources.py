"""Only kernels/simd/ contains code for a particular ISA, and the lists of kernels and ISAs are complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

KERNELS = Path(__file__).resolve().parents[1] / "cpp" / "kernels"
ISA_SOURCES = {KERNELS / "simd.h", *(KERNELS / "simd").glob("*.h")}
SOURCES = sorted(path for path in KERNELS.rglob("*") if path.suffix in (".cpp", ".h") and path not in ISA_SOURCES)

# Intrinsics, their types and headers, builtins of one architecture, assembly, and the macros that identify ISAs.
ISA_SPECIFIC = re.compile(
    r"\b(?:_mm\d*_\w+|__m(?:128|256|512)\w*|__mmask\d+|\w*intrin\.h|arm_\w+\.h|__builtin_ia32_\w+|__asm__|asm"
    r"|__(?:AVX|SSE|FMA|BMI|ARM|SVE|AVX512)\w*|__x86_64__|__i386__|__aarch64__|svfloat\w+|float(?:32x4|64x2)_t)\b"
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_kernels_name_no_isa(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert not ISA_SPECIFIC.search(line), f"{path.name}:{number}: {line.strip()}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_kernels_include_no_cpp_header(path: Path) -> None:
    """If an inline function is compiled for one ISA, the linker may use that copy for all callers."""
    for header in re.findall(r"#\s*include\s+(\S+)", path.read_text()):
        assert re.fullmatch(r'"kernels/\w+\.h"|<std(?:def|int)\.h>', header), f"{path.name} includes {header}"


def test_the_search_for_isas_finds_them() -> None:
    assert ISA_SOURCES, "found no header of an ISA in kernels/simd"
    text = "\n".join(path.read_text() for path in ISA_SOURCES)
    found = {match[0] for match in ISA_SPECIFIC.finditer(text)}
    assert {"immintrin.h", "__m256i", "_mm512_permutexvar_ps", "__mmask16", "__x86_64__", "__asm__"} <= found


def test_every_kernel_and_isa_is_listed() -> None:
    lists = (KERNELS / "CMakeLists.txt").read_text()
    (kernels,) = re.findall(r"^set\(kernels\s([^)]*)\)", lists, re.MULTILINE)
    assert sorted(kernels.split()) == sorted(path.stem for path in KERNELS.glob("*.cpp"))
    isas = set(re.findall(r"^\s*fastconv_add_isa\((\w+)", lists, re.MULTILINE))
    assert isas <= {path.stem for path in (KERNELS / "simd").glob("*.h")}
