"""Many cores: tasks are counted as they run, follow the thread count, and change no bit."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import fastconv
import numpy as np
import pytest
from cut_problems import DIRECTIONS, PROBLEMS, Problem, digests, too_much_scratch_memory
from fastconv import _core
from workers import ISAS, worker

sys.path.insert(0, str(Path(__file__).parent.parent))  # the benchmark is run from the repository, it is not installed

from bench import cores


@pytest.fixture(autouse=True)
def threads_restored() -> Iterator[None]:
    before = fastconv.get_num_threads()
    yield
    fastconv.set_num_threads(before)


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_counted_tasks_are_those_that_run(problem: Problem, dtype: type) -> None:
    calls = problem.calls(dtype)
    for threads in (1, 3, 16, 64):
        for direction in DIRECTIONS:
            phases = problem.count_tasks(direction, threads, dtype)
            loops = [len(costs) for _, loop, _, costs in phases if loop and costs]
            assert _core.tasks_run_by(calls[direction]) == loops, (direction, threads)
            options = {**problem.options, "dtype": dtype, "depthwise": problem.groups == 0}
            found = fastconv.explain(*problem.shapes, direction=direction, **options)
            costs = [cost for *_, costs in phases for cost in costs]
            assert sum(products for products, _ in costs) == found.multiplications, (direction, threads)
            assert all(min(cost) >= 0 and max(cost) > 0 for cost in costs), (direction, threads)


def test_loops_inside_tasks_and_of_others_are_not_recorded() -> None:
    (problem,) = [problem for problem in PROBLEMS if problem == (1, 56, 56, 64, 64, 1, 1, 1, "auto")]
    call = problem.calls(np.float32)["forward"]
    assert _core.tasks_run_by(lambda: None) == []
    once = _core.tasks_run_by(call)
    call()
    assert once and _core.tasks_run_by(lambda: (call(), call())) == once * 2


def test_cuts_follow_the_thread_count() -> None:
    """In each direction, most problems have a cut of their own for 64 threads."""

    def sizes(problem: Problem, direction: str, threads: int) -> list[int]:
        return [len(costs) for *_, costs in problem.count_tasks(direction, threads)]

    for direction in DIRECTIONS:
        changed = [sizes(problem, direction, 2) != sizes(problem, direction, 64) for problem in PROBLEMS]
        assert sum(changed) > len(PROBLEMS) * 2 // 3, direction


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_the_cut_changes_no_bit(isa: str, dtype: type) -> None:
    # The pool, because many threads of OpenMP that spin on few CPUs take seconds.
    with worker(FASTCONV_ISA=isa, FASTCONV_THREADING="pool") as process:
        expected = process.submit(digests, dtype, 1).result()
        for threads in (2, 3, 16, 64):
            found = process.submit(digests, dtype, threads).result()
            assert [name for name in found if found[name] != expected[name]] == [], f"{threads} threads"


@pytest.mark.parametrize("isa", ISAS)
def test_the_scratch_memory_stays_within_its_limit(isa: str) -> None:
    with worker(FASTCONV_ISA=isa) as process:
        for threads in (3, 16, 64):
            assert process.submit(too_much_scratch_memory, threads).result() == [], f"{threads} threads"


def test_length_of_a_phase() -> None:
    """Each thread that is free takes the next task."""
    assert cores.Phase("", True, [3, 1, 1, 1, 2]).length(2) == 5  # 3 and 2; 1, 1 and 1
    assert cores.Phase("", True, [1] * 17).length(16) == 2
    assert cores.Phase("", True, [1, 2]).length(16) == 2
    assert cores.Phase("", False, [1, 2]).length(16) == 3
    assert cores.Phase("", True, []).length(16) == 0


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa != "baseline"])
def test_the_public_suites_keep_many_cores_busy(isa: str, tmp_path: Path) -> None:
    path = tmp_path / "cores.json"
    with worker(FASTCONV_ISA=isa) as process:
        process.submit(cores.main, ["--isa", isa, "--json", str(path)]).result()
    report = json.loads(path.read_text())
    assert {(result["batch"], result["direction"]) for result in report["results"]} == {
        (batch, direction) for batch in (1, 8) for direction in ("forward", "input-gradient", "filter-gradient")
    }
    for direction, means in report["means"].items():
        assert means["4"]["mean"] >= 0.95 and means["16"]["mean"] >= 0.93 and means["64"]["mean"] >= 0.85, direction
        assert means["16"]["worst"] >= 0.75, direction
