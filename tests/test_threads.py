"""The number of threads, their backend, and the same bits for any number of threads and callers."""

from __future__ import annotations

import math
import os
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fastconv
import numpy as np
import pytest
import thread_jobs
from thread_jobs import BACKENDS, BUSY, JOBS, SOME, needs_openmp, needs_tensorflow, run_python

serial_digests = thread_jobs.serial_digests  # a fixture


@pytest.fixture
def threads_restored() -> Iterator[None]:
    before = fastconv.get_num_threads()
    yield
    fastconv.set_num_threads(before)


# ---- How many -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("threads_restored")
def test_number_of_threads_is_what_was_set() -> None:
    for n in (1, 3, np.int64(2), np.uint8(5), 1024):
        fastconv.set_num_threads(n)
        assert fastconv.get_num_threads() == n
        assert fastconv.show_config(mode="dicts")["threads"] == n


@pytest.mark.usefixtures("threads_restored")
def test_a_wrong_number_of_threads_is_refused() -> None:
    fastconv.set_num_threads(2)
    for wrong in (0, -1, -(2**63), 1025, 2**31, 2**63 - 1):
        with pytest.raises(ValueError, match=rf"^n must be at least 1 and at most 1024, got {wrong}$"):
            fastconv.set_num_threads(wrong)
    with pytest.raises(ValueError, match=r"^n: expected a number that fits in 64 bits"):
        fastconv.set_num_threads(2**63)
    for wrong_type in (1.0, 1.5, "2", None, True, [2], (2,), np.float32(2)):
        with pytest.raises(TypeError, match=r"^n: expected an integer, got "):
            fastconv.set_num_threads(wrong_type)  # type: ignore[arg-type]
    assert fastconv.get_num_threads() == 2


def container_quota() -> float:
    """The number of CPUs that the control groups of this process allow."""
    quota = math.inf
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        top = Path("/sys/fs/cgroup") if controllers == "" else Path("/sys/fs/cgroup/cpu")
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = top / group.lstrip("/")
        for place in [folder, *folder.parents]:
            with_max, with_quota = place / "cpu.max", place / "cpu.cfs_quota_us"
            limit, period = "max", "1"
            if controllers == "" and with_max.exists():
                limit, period = with_max.read_text().split()
            elif controllers and with_quota.exists():
                limit, period = with_quota.read_text().strip(), (place / "cpu.cfs_period_us").read_text()
            if limit not in ("max", "-1"):
                quota = min(quota, math.ceil(int(limit) / int(period)))
    return quota


SHOW_THREADS = "import json, fastconv; print(json.dumps(fastconv.get_num_threads()))"


def test_the_default_is_the_number_of_cpus_the_process_may_use() -> None:
    assert run_python(SHOW_THREADS) == min(len(os.sched_getaffinity(0)), container_quota())
    one_cpu = f"import os; os.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}]); "
    assert run_python(one_cpu + SHOW_THREADS) == 1


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FASTCONV_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"FASTCONV_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"FASTCONV_NUM_THREADS": "", "OMP_NUM_THREADS": "5"}, 5),
    ],
    ids=str,
)
def test_number_of_threads_from_the_environment(environment: dict[str, str], expected: int) -> None:
    assert run_python(SHOW_THREADS, **environment) == expected


# ---- Which backend --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_backend_from_the_environment(backend: str) -> None:
    code = "import json, fastconv; print(json.dumps(fastconv.show_config('dicts')['threading']))"
    assert run_python(code, FASTCONV_THREADING=backend) == backend


# ---- The same bits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_same_bits_for_any_number_of_threads(backend: str, serial_digests: dict[str, str]) -> None:
    code = """
by_threads = {}
for n in (2, 3, 1, 7, 2):
    fastconv.set_num_threads(n)
    by_threads[n] = digests()
print(json.dumps(by_threads))
"""
    by_threads = run_python(JOBS + code, FASTCONV_THREADING=backend)
    assert by_threads == dict.fromkeys(("2", "3", "1", "7"), serial_digests)


@pytest.mark.parametrize("backend", BACKENDS)
def test_same_bits_from_many_python_threads(backend: str, serial_digests: dict[str, str]) -> None:
    """Eight threads call at once, each in its own order, while a ninth changes the number of threads."""
    code = """
names, results, start = list(JOBS), [], threading.Barrier(9)

def caller(shift):
    start.wait()
    for _ in range(3):
        results.extend((name, digest(name)) for name in names[2 * shift:] + names[:2 * shift])

def changer():
    start.wait()
    for n in [1, 2, 3, 4] * 50:
        fastconv.set_num_threads(n)

threads = [threading.Thread(target=caller, args=(i,)) for i in range(8)] + [threading.Thread(target=changer)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(sorted({(name, value) for name, value in results}) + [len(results)]))
"""
    *pairs, count = run_python(JOBS + code, FASTCONV_THREADING=backend, FASTCONV_NUM_THREADS="3")
    assert count == 8 * 3 * len(serial_digests)
    assert [tuple(pair) for pair in pairs] == sorted(serial_digests.items())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tensorflow", [pytest.param(False, id="NumPy"), needs_tensorflow])
def test_same_bits_from_sixteen_threads_at_once(backend: str, tensorflow: bool, serial_digests: dict[str, str]) -> None:
    code = f"""
call = with_tensorflow() if {tensorflow} else some
first, same, results, start = call(), [], [], threading.Barrier(16)

def caller():
    start.wait()
    for _ in range(3):
        results.append(some())
        again = call()
        same.append(all(bool((a == b).numpy().all()) for a, b in zip(first, again)) if {tensorflow} else True)

threads = [threading.Thread(target=caller) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps([*same, *results]))
"""
    answers = run_python(JOBS + BUSY + code, FASTCONV_THREADING=backend, FASTCONV_NUM_THREADS="3")
    assert answers == [True] * 48 + [{name: serial_digests[name] for name in SOME}] * 48


# ---- Memory, and the threads that exist -----------------------------------------------------------------------------


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer ends a process without memory")
@pytest.mark.parametrize("backend", BACKENDS)
def test_lack_of_memory_raises_memory_error(backend: str) -> None:
    """If memory runs out, any thread raises MemoryError, and the next call computes normally."""
    code = """
        import json, resource
        import numpy as np
        import fastconv

        x, filters = np.ones((8, 64, 64, 128), np.float32), np.ones((3, 3, 128, 128), np.float32)
        out, pooled = np.empty((8, 62, 62, 128), np.float32), np.empty((8, 32, 32, 128), np.float32)
        # Each thread computes once: glibc ends a process that has no memory for a thread's first computation.
        for _ in range(100):
            fastconv.max_pool2d(x, 2, out=pooled)
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        found = []
        for more in range(0, 5 << 20, 1 << 18):  # enough for one thread's scratch memory, then for several
            resource.setrlimit(resource.RLIMIT_AS, (size + more, resource.RLIM_INFINITY))
            try:
                fastconv.conv2d(x, filters, out=out, algorithm="winograd")
                found.append("computed")
            except MemoryError:
                found.append("refused")
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        fastconv.conv2d(x, filters, out=out, algorithm="winograd")
        print(json.dumps([found, bool(np.allclose(out, 1152))]))
    """
    found, right = run_python(textwrap.dedent(code), FASTCONV_THREADING=backend, FASTCONV_NUM_THREADS="2")
    assert found[0] == "refused" and found[-1] == "computed"
    assert right


@pytest.mark.usefixtures("threads_restored")
def test_threads_end_with_their_python_threads() -> None:
    """Short-lived callers do not make the number of threads grow without bound."""
    x, filters = np.ones((4, 32, 32, 16), np.float32), np.ones((3, 3, 16, 16), np.float32)
    fastconv.set_num_threads(2)

    def call_in_thread() -> None:
        thread = threading.Thread(target=fastconv.conv2d, args=(x, filters))
        thread.start()
        thread.join()

    def threads_of_this_process() -> int:
        return len(os.listdir("/proc/self/task"))

    call_in_thread()
    before = threads_of_this_process()
    for _ in range(30):
        call_in_thread()
    ends = time.monotonic() + 60
    while threads_of_this_process() >= before + 15 and time.monotonic() < ends:
        time.sleep(0.05)  # on a busy machine, threads take a while to end
    assert threads_of_this_process() < before + 15


@needs_openmp
@pytest.mark.parametrize(("backend", "more"), [("", 2), ("openmp", 1)])
def test_the_pool_replaces_openmp_while_the_cpus_are_busy(backend: str, more: int) -> None:
    """If an OpenMP thread is milliseconds late, the pool runs the next jobs, unless the environment names OpenMP."""
    code = """
    def threads():
        return len(os.listdir("/proc/self/task"))

    before = threads()
    expected = digests()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * os.cpu_count())]
    try:
        for _ in range(300):
            digest("max pool")
            if threads() > before + 1:
                break
        found = digests()
    finally:
        for process in busy:
            process.kill()
    print(json.dumps([threads() - before, found == expected]))
    """
    text = JOBS + "import subprocess\n" + textwrap.dedent(code)
    assert run_python(text, FASTCONV_THREADING=backend, FASTCONV_NUM_THREADS="2") == [more, True]


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("threads", "intra_op", "more"),
    [(3, 0, 2), (3, 2, 1), *(pytest.param(*numbers, marks=pytest.mark.slow) for numbers in ((1, 4, 0), (3, 1, 0)))],
)
def test_threads_beside_those_of_tensorflow(threads: int, intra_op: int, more: int) -> None:
    """Ops that run at once share one pool. It has no more threads than each of the two settings allows."""
    code = f"""
import tensorflow as tf
if {intra_op}:
    tf.config.threading.set_intra_op_parallelism_threads({intra_op})
import fastconv.tensorflow as fc

def four(op):
    @tf.function
    def graph(x, filters):
        return [op(x + float(i), filters) for i in range(4)]
    for _ in range(20):
        graph(tf.constant(X), tf.constant(FILTERS))
    return len(os.listdir("/proc/self/task"))

stock = four(lambda x, filters: tf.nn.conv2d(x, filters, 1, "VALID"))
print(json.dumps(four(fc.conv2d) - stock))
"""
    assert run_python(JOBS + code, FASTCONV_NUM_THREADS=str(threads)) <= more
