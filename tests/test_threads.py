"""Threads: how many, which backend, the same bits for any number, from many callers and in a forked child."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastconv
import numpy as np
import pytest
from processes import TIMEOUT

# Runs in another Python process, for tests of the environment, of fork and of thread pools. It defines jobs that are
# large enough for several threads, and digest(), which runs a job and returns a digest of the result's bits.
JOBS = """
import hashlib, json, os, sys, threading
import numpy as np
import fastconv

def array(*shape, dtype=np.float32):
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)

X, FILTERS, Y, DEPTHWISE = array(5, 24, 23, 17), array(3, 3, 17, 19), array(5, 22, 21, 19), array(3, 3, 17, 2)
POOLED, DEPTHWISE_Y = array(5, 12, 12, 17), array(5, 22, 21, 34)
NCHW, IMAGE, IMAGE_FILTERS = array(3, 18, 20, 21), array(2, 96, 97, 1), array(5, 5, 1, 6)
X64, FILTERS64 = array(2, 19, 18, 9, dtype=float), array(3, 3, 9, 10, dtype=float)
Y64 = array(2, 17, 16, 10, dtype=float)
MAXIMA, TAPS = array(5, 11, 10, 19), (np.arange(5 * 11 * 10 * 19).reshape(5, 11, 10, 19) % 4).astype(np.uint8)
JOBS = {
    "conv2d": lambda: fastconv.conv2d(X, FILTERS, padding="SAME", activation="relu", bias=array(19)),
    "conv2d strided": lambda: fastconv.conv2d(X, FILTERS, 2, 1, dilations=2),
    "conv2d grouped": lambda: fastconv.conv2d(NCHW, array(3, 3, 6, 9), data_format="NCHW"),
    "conv2d one channel": lambda: fastconv.conv2d(IMAGE, IMAGE_FILTERS),
    "conv2d float64": lambda: fastconv.conv2d(X64, FILTERS64),
    "input gradient": lambda: fastconv.conv2d_backprop_input(X.shape, FILTERS, Y),
    "input gradient strided": lambda: fastconv.conv2d_backprop_input((5, 45, 43, 17), FILTERS, Y, 2),
    "input gradient float64": lambda: fastconv.conv2d_backprop_input(X64.shape, FILTERS64, Y64),
    "filter gradient": lambda: fastconv.conv2d_backprop_filter(X, FILTERS.shape, Y),
    "filter gradient of one image": lambda: fastconv.conv2d_backprop_filter(X[:1], FILTERS.shape, Y[:1]),
    "filter gradient float64": lambda: fastconv.conv2d_backprop_filter(X64, FILTERS64.shape, Y64),
    "winograd": lambda: fastconv.conv2d(X, FILTERS, algorithm="winograd"),
    "winograd input gradient": lambda: fastconv.conv2d_backprop_input(X.shape, FILTERS, Y, algorithm="winograd"),
    "winograd filter gradient": lambda: fastconv.conv2d_backprop_filter(X, FILTERS.shape, Y, algorithm="winograd"),
    "depthwise": lambda: fastconv.depthwise_conv2d(X, DEPTHWISE),
    "depthwise input gradient": lambda: fastconv.depthwise_conv2d_backprop_input(X.shape, DEPTHWISE, DEPTHWISE_Y),
    "depthwise filter gradient": lambda: fastconv.depthwise_conv2d_backprop_filter(X, DEPTHWISE.shape, DEPTHWISE_Y),
    "max pool": lambda: fastconv.max_pool2d_with_argmax(X, 3, 1, "SAME"),
    "max pool gradient": lambda: fastconv.max_pool2d_grad(X, POOLED, POOLED, 2, 2, "SAME"),
    "convolution and max pool": lambda: fastconv.conv2d_max_pool2d(X, FILTERS, 2),
    "convolution and max pool, gradients": lambda: fastconv.conv2d_max_pool2d_backprop(X, FILTERS, TAPS, MAXIMA, 2),
    "average pool": lambda: fastconv.avg_pool2d(X, 3, 1, "SAME"),
    "average pool gradient": lambda: fastconv.avg_pool2d_grad(X.shape, POOLED, 2, 2, "SAME"),
}

def digest(name):
    result = JOBS[name]()
    parts = result if isinstance(result, tuple) else (result,)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

def digests():
    return {name: digest(name) for name in JOBS}
"""

BACKENDS = ["openmp", "pool"]


def run_python(code: str, **environment: str) -> Any:
    """The JSON output of the code, run in another Python process with only these thread settings."""
    names = ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS", "FASTCONV_THREADING")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**inherited, **environment}, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


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
def test_wrong_number_of_threads() -> None:
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


def test_unknown_backend() -> None:
    environment = {**os.environ, "FASTCONV_THREADING": "tbb"}
    command = [sys.executable, "-c", "import fastconv; fastconv.show_config()"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=TIMEOUT)
    assert done.returncode == 1
    assert (
        "ValueError: the environment variable FASTCONV_THREADING is 'tbb', but must be 'openmp' or 'pool'"
        in done.stderr
    )


# ---- The same bits --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def serial_digests() -> dict[str, str]:
    """The digest of each job with one thread."""
    result: dict[str, str] = run_python(JOBS + "print(json.dumps(digests()))", FASTCONV_NUM_THREADS="1")
    assert len(set(result.values())) == len(result) > 20
    return result


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
    """Eight threads call at once, each in an order of its own, while another changes the number of threads."""
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


# ---- fork -----------------------------------------------------------------------------------------------------------

FORK = """
def in_child(function):
    '''What the function returns in a forked child.'''
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = json.dumps(function())
        except BaseException as error:
            text = json.dumps(repr(error))
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(text)
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_forked_child_computes(backend: str, serial_digests: dict[str, str]) -> None:
    """Forks before and after the parent starts threads, twice in a row, and in a child. The parent still computes."""
    code = """
def child_and_grandchild():
    return [digests(), in_child(digests)]

results = [in_child(digests), digests(), in_child(digests), in_child(digests)]
print(json.dumps([*results, *in_child(child_and_grandchild), digests()]))
"""
    results = run_python(JOBS + FORK + code, FASTCONV_THREADING=backend, FASTCONV_NUM_THREADS="3")
    assert results == [serial_digests] * 7


@pytest.mark.parametrize("backend", BACKENDS)
def test_child_forked_while_other_threads_compute(backend: str, serial_digests: dict[str, str]) -> None:
    """In the child these threads are gone, and their locks stay locked."""
    code = """
stop = threading.Event()

def busy():
    while not stop.is_set():
        digests()

threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads:
    thread.start()
results = [in_child(digests) for _ in range(5)]
stop.set()
for thread in threads:
    thread.join()
print(json.dumps(results))
"""
    results = run_python(JOBS + FORK + code, FASTCONV_THREADING=backend, FASTCONV_NUM_THREADS="3")
    assert results == [serial_digests] * 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_child_forked_by_another_thread(backend: str, serial_digests: dict[str, str]) -> None:
    code = """
results = [digests()]
thread = threading.Thread(target=lambda: results.append(in_child(digests)))
thread.start()
thread.join()
print(json.dumps(results))
"""
    results = run_python(JOBS + FORK + code, FASTCONV_THREADING=backend, FASTCONV_NUM_THREADS="2")
    assert results == [serial_digests] * 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(backend: str, method: str, tmp_path: Path, serial_digests: dict[str, str]) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        JOBS
        + f"""
if __name__ == "__main__":
    import multiprocessing
    digests()
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        print(json.dumps(dict(zip(JOBS, pool.map(digest, JOBS)))))
"""
    )
    environment = {**os.environ, "FASTCONV_THREADING": backend, "FASTCONV_NUM_THREADS": "2"}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == serial_digests


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer ends a process without memory")
@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_that_runs_out_on_any_thread(backend: str) -> None:
    """On any thread it becomes a MemoryError, and the next call computes normally."""
    code = """
        import json, resource
        import numpy as np
        import fastconv

        x, filters = np.ones((8, 64, 64, 128), np.float32), np.ones((3, 3, 128, 128), np.float32)
        out, pooled = np.empty((8, 62, 62, 128), np.float32), np.empty((8, 32, 32, 128), np.float32)
        for _ in range(100):  # each thread has computed once: glibc ends a process that has no memory for its first
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


@pytest.mark.parametrize(("backend", "more"), [("", 2), ("openmp", 1)])
def test_the_pool_replaces_openmp_while_the_cpus_are_busy(backend: str, more: int) -> None:
    """If an OpenMP thread starts milliseconds late, the pool computes instead, unless OpenMP was asked for."""
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


# ---- Many processes and threads --------------------------------------------------------------------------------------
# Fifty children and sixteen threads, also after TensorFlow's ops have run and while other threads compute.

SOME = ["conv2d", "filter gradient", "winograd", "max pool gradient"]
BUSY = f"""
SOME = {SOME!r}

def some():
    return {{name: digest(name) for name in SOME}}

def with_tensorflow():
    '''Something that runs our ops in TensorFlow, several at once.'''
    import tensorflow as tf
    import fastconv.tensorflow as fc

    @tf.function
    def step(x, filters):
        with tf.GradientTape() as tape:
            tape.watch([x, filters])
            y = [fc.max_pool2d(fc.conv2d(x, filters, dilations=d, activation="relu"), 2) for d in (1, 2, 3)]
        return tape.gradient(y, [x, filters])

    arguments = tf.constant(X), tf.constant(FILTERS)
    step(*arguments)
    return lambda: step(*arguments)

class Busy:
    '''Threads that are inside a call nearly always.'''

    def __init__(self, *calls):
        self.stop = False
        self.threads = [threading.Thread(target=self.run, args=(call,)) for call in calls]

    def run(self, call):
        while not self.stop:
            call()

    def __enter__(self):
        for thread in self.threads:
            thread.start()

    def __exit__(self, *error):
        self.stop = True
        for thread in self.threads:
            thread.join()
"""

needs_tensorflow = pytest.param(True, marks=pytest.mark.tensorflow, id="TensorFlow")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tensorflow", [pytest.param(False, id="NumPy"), needs_tensorflow])
def test_fifty_forked_children(backend: str, tensorflow: bool, serial_digests: dict[str, str]) -> None:
    """Half are forked while other threads compute. TensorFlow itself runs only in the parent, which continues."""
    code = f"""
call = with_tensorflow() if {tensorflow} else some
results = [some()]
results += [in_child(some) for _ in range(25)]
with Busy(call, call, some):
    results += [in_child(some) for _ in range(25)]
call()
print(json.dumps([*results, some()]))
"""
    results = run_python(JOBS + FORK + BUSY + code, FASTCONV_THREADING=backend, FASTCONV_NUM_THREADS="3")
    assert results == [{name: serial_digests[name] for name in SOME}] * 52


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_many_children_of_multiprocessing(
    backend: str, method: str, tmp_path: Path, serial_digests: dict[str, str], pytestconfig: pytest.Config
) -> None:
    """Another thread of the parent computes meanwhile. A child that does not inherit modules starts slowly."""
    count = 50 if method == "fork" or pytestconfig.getoption("slow") else 10
    script = tmp_path / "script.py"
    script.write_text(
        JOBS
        + BUSY
        + f"""
def child(_):
    return os.getpid(), some()

if __name__ == "__main__":
    import multiprocessing
    some()
    with Busy(some), multiprocessing.get_context("{method}").Pool(4, maxtasksperchild=1) as pool:
        children, results = zip(*pool.map(child, range({count}), chunksize=1))
    print(json.dumps([len(set(children)), *results]))
"""
    )
    environment = {**os.environ, "FASTCONV_THREADING": backend, "FASTCONV_NUM_THREADS": "2"}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    children, *results = json.loads(done.stdout)
    assert children > 0.8 * count - 1  # the system may reuse thread ids
    assert results == [{name: serial_digests[name] for name in SOME}] * count


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tensorflow", [pytest.param(False, id="NumPy"), needs_tensorflow])
def test_sixteen_threads_at_once(backend: str, tensorflow: bool, serial_digests: dict[str, str]) -> None:
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


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("threads", "intra_op", "more"),
    [(3, 0, 2), (3, 2, 1), *(pytest.param(*numbers, marks=pytest.mark.slow) for numbers in ((1, 4, 0), (3, 1, 0)))],
)
def test_threads_beside_those_of_tensorflow(threads: int, intra_op: int, more: int) -> None:
    """Ops that run at once share one pool, which has as many threads as both settings allow."""
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
