"""The number of threads, set for a block of code, from C and by threadpoolctl."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import fastconv
import pytest
from fastconv import _core
from processes import run_python

threadpoolctl = pytest.importorskip("threadpoolctl")


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = fastconv.get_num_threads()
    fastconv.set_num_threads(3)
    yield
    fastconv.set_num_threads(before)


def test_a_block_sets_the_number_of_threads() -> None:
    with fastconv.threads(2) as nothing:
        assert fastconv.get_num_threads() == 2
        with fastconv.threads(5):
            assert fastconv.get_num_threads() == 5
        assert fastconv.get_num_threads() == 2
    assert nothing is None
    assert fastconv.get_num_threads() == 3


def test_a_block_that_fails_restores_the_number_of_threads() -> None:
    with pytest.raises(ZeroDivisionError), fastconv.threads(2):
        raise ZeroDivisionError
    assert fastconv.get_num_threads() == 3


def test_a_decorator_sets_the_number_of_threads() -> None:
    @fastconv.threads(2)
    def function() -> int:
        return fastconv.get_num_threads()

    assert [function(), function()] == [2, 2]
    assert fastconv.get_num_threads() == 3


def test_a_wrong_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^n must be at least 1 and at most 1024, got 0$"), fastconv.threads(0):
        pass
    with pytest.raises(TypeError, match=r"^n: expected an integer, got 1\.5$"), fastconv.threads(1.5):  # type: ignore[arg-type]
        pass
    assert fastconv.get_num_threads() == 3


def test_the_c_functions_set_and_get_the_number_of_threads() -> None:
    library = ctypes.CDLL(str(Path(_core.__file__).with_name("libfastconv.so")))
    message, count = ctypes.create_string_buffer(200), ctypes.c_int64()
    size = ctypes.c_size_t(len(message))
    assert library.fastconv_set_num_threads(ctypes.c_int64(2), message, size) == 0
    assert library.fastconv_get_num_threads(ctypes.byref(count), message, size) == 0
    assert (count.value, message.value) == (2, b"")
    assert library.fastconv_get_num_threads(None, message, size) == 1
    assert message.value == b"count must not be null"
    assert library.fastconv_set_num_threads(ctypes.c_int64(0), None, ctypes.c_size_t(0)) == 1
    assert fastconv.get_num_threads() == 2


PROGRAM = """
import json
{imports}

def ours():
    return [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "fastconv"]

fastconv.set_num_threads(3)
[shown] = ours()
numbers = [shown["num_threads"]]
with threadpoolctl.threadpool_limits(1):
    numbers += [fastconv.get_num_threads(), ours()[0]["num_threads"]]
with threadpoolctl.threadpool_limits(2, user_api="fastconv"):
    numbers.append(fastconv.get_num_threads())
with threadpoolctl.threadpool_limits(2, user_api="blas"):
    numbers.append(fastconv.get_num_threads())
numbers.append(fastconv.get_num_threads())
try:
    threadpoolctl.threadpool_limits({{"fastconv": 5000}})
except ValueError as error:
    text = str(error)
print(json.dumps([numbers, shown["version"] == fastconv.__version__, text]))
"""


@pytest.mark.parametrize("imports", ["import fastconv, threadpoolctl", "import threadpoolctl, fastconv"])
def test_threadpoolctl_shows_and_limits(imports: str) -> None:
    text = '"n must be at least 1 and at most 1024, got 5000"'
    assert run_python(PROGRAM.format(imports=imports)) == f"[[3, 1, 1, 2, 3, 3], true, {text}]\n"


@pytest.mark.tensorflow
def test_threadpoolctl_with_the_ops_of_tensorflow() -> None:
    """The ops are in another library, which has no threads of its own."""
    pytest.importorskip("tensorflow")
    run_python(PROGRAM.format(imports="import fastconv.tensorflow, threadpoolctl"))


def test_threadpoolctl_is_neither_needed_nor_imported() -> None:
    code = """
    import importlib.util
    import sys
    import fastconv
    assert "threadpoolctl" not in sys.modules
    before = len(sys.meta_path)
    assert importlib.util.find_spec("threadpoolctl") is not None
    import threadpoolctl
    assert len(sys.meta_path) == before - 1
    """
    run_python(code)
    run_python("import sys; sys.modules['threadpoolctl'] = None\nimport fastconv")
