"""Plans are made once, kept within bounds, and never outlive what they depend on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import fastconv
import numpy as np
import pytest
from fastconv import _core
from processes import run_python

X = np.random.default_rng(0).standard_normal((2, 14, 14, 8)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((3, 3, 8, 24)).astype(np.float32)
Y = fastconv.conv2d(X, W)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = fastconv.get_num_threads()
    yield
    fastconv.set_num_threads(before)


def made(call: Callable[[], object]) -> int:
    """How many plans a call makes."""
    before = _core.plans_made()
    call()
    return _core.plans_made() - before


PACKED = fastconv.PackedFilters(W)
CALLS: dict[str, Callable[[], object]] = {
    "forward": lambda: fastconv.conv2d(X, W),
    "packed": lambda: fastconv.conv2d(X, PACKED),
    "input gradient": lambda: fastconv.conv2d_backprop_input(X.shape, W, Y),
    "filter gradient": lambda: fastconv.conv2d_backprop_filter(X, W.shape, Y),
    "explain": lambda: fastconv.explain(X.shape, W.shape),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_plan_is_made_once(name: str) -> None:
    CALLS[name]()
    assert made(CALLS[name]) == 0


@pytest.mark.parametrize("name", CALLS)
def test_another_number_of_threads_wants_another_plan(name: str) -> None:
    number = 20 + 2 * list(CALLS).index(name)  # that no other test has set
    fastconv.set_num_threads(number)
    CALLS[name]()
    fastconv.set_num_threads(number + 1)
    assert made(CALLS[name]) == 1
    assert made(CALLS[name]) == 0


def test_explain_prints_the_plan_of_the_call() -> None:
    fastconv.set_num_threads(3)
    fastconv.conv2d(X, W, strides=2)
    assert made(lambda: fastconv.explain(X.shape, W.shape, strides=2)) == 0


def test_what_was_not_used_for_long_is_planned_again() -> None:
    def problem(rows: int) -> object:
        return fastconv.conv2d(np.ones((1, rows, 3, 1), np.float32), np.ones((3, 3, 1, 2), np.float32))

    problem(3)
    many = 4000  # more than the cache holds
    assert made(lambda: [problem(rows) for rows in range(4, many)]) == many - 4
    assert made(lambda: problem(3)) == 1
    assert made(lambda: problem(many - 1)) == 0


def test_many_threads_plan_at_once() -> None:
    shapes = [(1, rows, columns, 8) for rows in range(3, 23) for columns in range(3, 23)]
    expected = [fastconv.conv2d(np.ones(shape, np.float32), W).tobytes() for shape in shapes]
    failures: list[tuple[int, ...]] = []

    def compute(first: int) -> None:
        for i in range(len(shapes)):
            at = (first + 7 * i) % len(shapes)
            if fastconv.conv2d(np.ones(shapes[at], np.float32), PACKED).tobytes() != expected[at]:
                failures.append(shapes[at])

    workers = [threading.Thread(target=compute, args=(31 * i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_children_plan_while_a_thread_of_the_parent_does() -> None:
    """A fork may leave any lock of the cache locked, so that many children are forked while plans are made."""
    run_python("""
        import os, signal, threading
        import fastconv
        import numpy as np

        w = fastconv.PackedFilters(np.ones((3, 3, 1, 2), np.float32))
        end = threading.Event()

        def plan():
            while not end.is_set():
                for rows in range(3, 1000):
                    fastconv.conv2d(np.ones((1, rows, 3, 1), np.float32), w)

        worker = threading.Thread(target=plan)
        worker.start()
        for _ in range(100):
            child = os.fork()
            if child == 0:
                signal.alarm(60)  # ends a child that waits for a lock
                for rows in range(3, 100):
                    fastconv.conv2d(np.ones((1, rows, 3, 1), np.float32), w)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        end.set()
        worker.join()
    """)
