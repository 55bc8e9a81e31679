"""Taps from the caller are checked on all threads without Python's lock, and the error is deterministic."""

from __future__ import annotations

import sys
import threading

import fastconv
import numpy as np
import pytest
from processes import run_python

WRONG = "taps must be pixel numbers within each pooling window, counted from 0, got {} for a window of 4 pixels"
X, FILTERS = np.zeros((8, 64, 64, 1), np.float32), np.zeros((1, 1, 1, 128), np.float32)
TAPS, GRAD = np.zeros((8, 32, 32, 128), np.uint8), np.zeros((8, 32, 32, 128), np.float32)


def refused(*wrong: tuple[tuple[int, int, int, int], int]) -> str:
    taps = TAPS.copy()
    for place, tap in wrong:
        taps[place] = tap
    with pytest.raises(ValueError) as error:
        fastconv.conv2d_max_pool2d_backprop(X, FILTERS, taps, GRAD, 2)
    return str(error.value)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_first_wrong_tap_is_named(threads: int) -> None:
    with fastconv.threads(threads):
        for _ in range(20):
            text = refused(((1, 30, 5, 7), 9), ((1, 31, 0, 0), 4), ((6, 0, 0, 0), 200))
            assert text.startswith(WRONG.format(9))
        for place in [(0, 0, 0, 0), (3, 15, 31, 127), (7, 31, 31, 127)]:
            assert refused((place, 4)).startswith(WRONG.format(4))


def test_windows_at_the_edge_have_fewer_pixels() -> None:
    x, taps = np.zeros((1, 5, 5, 1), np.float32), np.zeros((1, 3, 3, 1), np.uint8)
    filters, grad = np.zeros((1, 1, 1, 1), np.float32), np.zeros((1, 3, 3, 1), np.float32)
    for place, pixels in [((0, 0, 0, 0), 4), ((0, 1, 2, 0), 2), ((0, 2, 1, 0), 2), ((0, 2, 2, 0), 1)]:
        taps[place] = pixels - 1
        fastconv.conv2d_max_pool2d_backprop(x, filters, taps, grad, 2, pool_padding="SAME")
        taps[place] = pixels
        with pytest.raises(ValueError, match=f"got {pixels} for a window of {pixels} pixels?;"):
            fastconv.conv2d_max_pool2d_backprop(x, filters, taps, grad, 2, pool_padding="SAME")
        taps[place] = 0


def test_other_python_threads_run_during_the_check() -> None:
    """Forced thread switches are off, so the other thread can get Python's lock only if the call releases the lock.

    On a busy machine, the other thread may get no CPU in time. So the arrays are large, and there are many tries.
    """
    interval = sys.getswitchinterval()
    x, taps, grad = (np.zeros((64, *array.shape[1:]), array.dtype) for array in (X, TAPS, GRAD))
    taps[-1, -1, -1, -1] = 4
    try:
        for _ in range(1000):
            ran: list[bool] = []
            waiting = threading.Lock()
            waiting.acquire()

            def wait(waiting: threading.Lock = waiting, ran: list[bool] = ran) -> None:
                with waiting:
                    ran.append(True)

            thread = threading.Thread(target=wait)
            thread.start()
            sys.setswitchinterval(1000)
            waiting.release()
            with pytest.raises(ValueError):
                fastconv.conv2d_max_pool2d_backprop(x, FILTERS, taps, grad, 2)
            ran_meanwhile = bool(ran)
            sys.setswitchinterval(interval)
            thread.join()
            if ran_meanwhile:
                return
    finally:
        sys.setswitchinterval(interval)
    pytest.fail("no other thread ran during the check")


@pytest.mark.skipif(sys.platform != "linux", reason="not Linux")
def test_the_check_uses_all_threads() -> None:
    """Nothing is computed, so only the check can start a worker."""
    code = """
    import os
    import numpy as np
    import fastconv
    taps = np.zeros((8, 64, 64, 128), np.uint8)
    taps[-1, -1, -1, -1] = 4
    arrays = np.zeros((8, 128, 128, 1), np.float32), np.zeros((1, 1, 1, 128), np.float32)
    before = len(os.listdir("/proc/self/task"))
    try:
        fastconv.conv2d_max_pool2d_backprop(*arrays, taps, np.zeros(taps.shape, np.float32), 2)
    except ValueError:
        print(len(os.listdir("/proc/self/task")) - before)
    """
    assert run_python(code, FASTCONV_NUM_THREADS="3", FASTCONV_THREADING="pool") == "2\n"
