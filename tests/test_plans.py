"""Plans are made once, the cache is bounded, and a plan is not used after its conditions change."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fastconv
import numpy as np
import pytest
from fastconv import _core
from processes import TIMEOUT

HEADERS = Path(__file__).parents[1] / "cpp" / "include"
X = np.random.default_rng(0).standard_normal((2, 14, 14, 8)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((3, 3, 8, 24)).astype(np.float32)
Y = fastconv.conv2d(X, W)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = fastconv.get_num_threads()
    yield
    fastconv.set_num_threads(before)


def made(call: Callable[[], object]) -> int:
    """The number of plans that a call makes."""
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
def test_another_number_of_threads_needs_another_plan(name: str) -> None:
    number = 20 + 2 * list(CALLS).index(name)  # numbers that no other test sets
    fastconv.set_num_threads(number)
    CALLS[name]()
    fastconv.set_num_threads(number + 1)
    assert made(CALLS[name]) == 1
    assert made(CALLS[name]) == 0


def test_explain_uses_the_plan_of_the_call() -> None:
    fastconv.set_num_threads(3)
    fastconv.conv2d(X, W, strides=2)
    assert made(lambda: fastconv.explain(X.shape, W.shape, strides=2)) == 0


def test_the_least_recently_used_plans_are_made_again() -> None:
    def problem(rows: int) -> object:
        return fastconv.conv2d(np.ones((1, rows, 3, 1), np.float32), np.ones((3, 3, 1, 2), np.float32))

    problem(3)
    many = 4000  # more than the cache holds
    assert made(lambda: [problem(rows) for rows in range(4, many)]) == many - 4
    assert made(lambda: problem(3)) == 1
    assert made(lambda: problem(many - 1)) == 0


def test_many_threads_may_plan_at_once() -> None:
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


PROGRAM = r"""
#include "fastconv/c_api.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 200 };
static atomic_int end;

/* Convolutions of several sizes, each with its own plan. */
static int convolve(int64_t from, int64_t to) {
    for (int64_t rows = from; rows < to; ++rows) {
        float image[3 * MOST] = {0}, filters[9] = {0}, result[MOST];
        int64_t padding[1] = {0};
        fastconv_attribute attribute = {"padding", NULL, padding, 1};
        fastconv_tensor inputs[3] = {{FASTCONV_FLOAT32, 4, {1, rows, 3, 1}, image},
                                     {FASTCONV_FLOAT32, 4, {3, 3, 1, 1}, filters},
                                     {FASTCONV_NONE, 0, {0}, NULL}};
        fastconv_tensor output = {FASTCONV_FLOAT32, 4, {1, rows - 2, 1, 1}, result};
        char message[200];
        if (fastconv_run("conv2d", inputs, 3, &attribute, 1, &output, 1, message, sizeof message) != FASTCONV_OK) {
            puts(message);
            return 1;
        }
    }
    return 0;
}

static void* plan(void* unused) {
    while (!end) convolve(3, MOST);
    return unused;
}

int main(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; ++i) pthread_create(&threads[i], NULL, plan, NULL);
    int failed = 0;
    for (int i = 0; i < 200 && !failed; ++i) {
        pid_t child = fork();
        if (child == 0) {
            alarm(60); /* ends a child that waits for a lock */
            _exit(convolve(3, MOST));
        }
        int status = 0;
        waitpid(child, &status, 0);
        failed = status != 0;
        if (failed) printf("child %d ended with status %d\n", i, status);
        usleep(1000);
    }
    end = 1;
    for (int i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
    return failed;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
def test_forked_children_can_plan_while_the_parent_plans(tmp_path: Path) -> None:
    """A fork may leave any lock of the cache locked. The program is in C because the GIL would mostly prevent this."""
    folder = Path(_core.__file__).parent
    (tmp_path / "program.c").write_text(PROGRAM)
    command = ["gcc", "-std=gnu11", "-Wall", "-Werror", f"-I{HEADERS}", "program.c", "-o", "program", "-pthread"]
    library = [f"-L{folder}", "-lfastconv", f"-Wl,-rpath,{folder}"]
    subprocess.run([*command, *library], cwd=tmp_path, check=True, timeout=TIMEOUT)
    done = subprocess.run([str(tmp_path / "program")], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout
