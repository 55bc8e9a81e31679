"""The comparison of two builds reports differences, and none between equal builds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fastconv
import pytest
from processes import TIMEOUT

ROOT = Path(__file__).parent.parent
INSTALLED = Path(fastconv.__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the benchmark is not installed, but run from the repository

from bench.builds.bits import same_name  # noqa: E402
from bench.builds.problems import FUNCTIONS, draw  # noqa: E402


def compare(*options: str, after: Path = INSTALLED) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.compare_builds", str(INSTALLED), str(after), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT)


def test_a_build_agrees_with_itself() -> None:
    done = compare("--bits", "20")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "problems: 20, " in done.stdout and done.stdout.count("; differences: 0\n") == 2


def test_differences_are_reported() -> None:
    """Without Winograd, the sums have other bits and `explain` reports another algorithm."""
    done = compare("--bits", "40", "--isa", "baseline", "--env-after", "FASTCONV_WINOGRAD=0")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "differences: 0" not in done.stdout
    assert "of seed 1: conv2d" in done.stdout
    assert "winograd (" in done.stdout and ") became direct (" in done.stdout


def test_renamed_kernels_count_as_equal() -> None:
    renames = {"old": {"new", "newer"}}
    assert same_name("old", "newer", renames) and same_name("old", "old", renames)
    assert not same_name("new", "old", renames) and not same_name("other", "new", renames)


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    done = compare("--bits", "1", after=tmp_path)
    assert done.returncode == 2 and "holds no fastconv package" in done.stderr


@pytest.mark.parametrize("index", range(5))
def test_a_problem_repeats_from_its_seed(index: int) -> None:
    first, again = (draw(7, index) for _ in range(2))
    assert str(first) == str(again)
    pairs = [(first.draw_arguments()[name], value) for name, value in again.draw_arguments().items()]
    assert all(a.tobytes() == b.tobytes() if hasattr(a, "tobytes") else a == b for a, b in pairs)


def test_every_function_is_drawn() -> None:
    assert {draw(1, index).function for index in range(200)} == set(FUNCTIONS)


@pytest.mark.slow
def test_the_speed_of_layers_calls_and_imports_is_compared() -> None:
    """Both builds give the same bits for this layer. The times depend on the machine."""
    done = compare("--speed", "--rounds", "1", "--suite", "lenet", "--layer", "lenet pool2")
    assert done.returncode == 0, done.stdout + done.stderr
    for what in ("lenet pool2, max-pool ", "lenet pool2, max-pool-gradient", "the smallest call", "import fastconv"):
        assert what in done.stdout
    assert "all: geometric mean" in done.stdout and "DIFFERENT" not in done.stdout
