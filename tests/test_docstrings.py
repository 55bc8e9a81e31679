"""The examples in docstrings print what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import fastconv
import pytest

SOURCES = Path(fastconv.__file__).parent
FRAMEWORKS = {"keras", "onnx", "tensorflow"}


def name(path: Path) -> str:
    return ".".join(("fastconv", *path.relative_to(SOURCES).with_suffix("").parts))


WITH_EXAMPLES = [name(path) for path in sorted(SOURCES.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("module", [module for module in WITH_EXAMPLES if not FRAMEWORKS & {*module.split(".")}])
def test_the_examples_of_a_module(module: str) -> None:
    threads = fastconv.get_num_threads()
    try:
        failed, attempted = doctest.testmod(importlib.import_module(module))
    finally:
        fastconv.set_num_threads(threads)
    assert attempted > 0
    assert failed == 0


def test_the_example_of_packed_filters() -> None:
    """This docstring is in C++."""
    (example,) = [found for found in doctest.DocTestFinder().find(fastconv.PackedFilters, globs={}) if found.examples]
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("module", [module for module in WITH_EXAMPLES if FRAMEWORKS & {*module.split(".")}])
def test_the_examples_of_a_module_on_a_framework(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if ".onnx" in module:
        pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)  # examples may write files
    assert doctest.testmod(importlib.import_module(module)).failed == 0
