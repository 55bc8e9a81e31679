"""Children of fork and of multiprocessing compute the same bits, also while other threads compute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import thread_jobs
from processes import TIMEOUT
from thread_jobs import BACKENDS, BUSY, JOBS, SOME, needs_tensorflow, run_python

serial_digests = thread_jobs.serial_digests  # a fixture

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
    """Forks come before and after the parent starts threads, twice in a row, and in a child. All processes compute."""
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


# ---- Many children --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tensorflow", [pytest.param(False, id="NumPy"), needs_tensorflow])
def test_fifty_forked_children(backend: str, tensorflow: bool, serial_digests: dict[str, str]) -> None:
    """Half are forked while other threads compute. TensorFlow runs only in the parent, which computes to the end."""
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
    """A thread of the parent computes meanwhile. Children that inherit no modules start slowly, so there are fewer."""
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
