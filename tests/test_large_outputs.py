"""Large results take memory that earlier results gave back, and never memory that is still in use."""

from __future__ import annotations

import gc

import fastconv
import numpy as np
import pytest
from processes import run_python
from workers import ISAS

FILTERS = np.full((1, 1, 1, 8), 2, np.float32)
IMAGES = np.ones((1, 1024, 1024, 1), np.float32)  # a result of 32 MB


def test_results_in_use_share_no_memory() -> None:
    first = fastconv.conv2d(IMAGES, FILTERS)
    second = fastconv.conv2d(IMAGES, 2 * FILTERS)
    part = first[0, 0, 0]  # a view keeps the memory in use
    del first
    gc.collect()
    third = fastconv.conv2d(IMAGES, 3 * FILTERS)
    assert not np.shares_memory(second, third)
    assert np.all(part == 2)
    assert np.all(second == 4)
    assert np.all(third == 6)


def test_a_new_result_takes_the_memory_of_the_last_one() -> None:
    """Fresh pages from the system would show as page faults."""
    pytest.importorskip("resource", reason="page faults are counted on Unix only")
    run_python("""
        import resource
        import fastconv
        import numpy as np

        fastconv.set_num_threads(1)
        images, filters = np.ones((1, 1024, 1280, 1), np.float32), np.ones((1, 1, 1, 8), np.float32)
        for _ in range(3):
            fastconv.conv2d(images, filters)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            fastconv.conv2d(images, filters)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        assert faults < 50, faults  # 20 huge pages or 10,240 small ones for each result
    """)


def test_no_memory_for_a_large_result_is_a_memory_error() -> None:
    images = np.broadcast_to(np.float32(1), (1 << 20, 1, 1, 1))
    filters = np.ones((1, 1, 1, 1 << 23), np.float32)
    with pytest.raises(MemoryError, match=r"Unable to allocate 32\.0 TiB"):
        fastconv.conv2d(images, filters)


@pytest.mark.parametrize("isa", ISAS)
def test_large_results_in_nchw(isa: str) -> None:
    """At 16 MB, they are written past the caches if planes are whole cache lines. The bits are those of NHWC.

    The stride is so large that the layer is converted to NHWC.
    """
    code = """
        import fastconv
        import numpy as np

        draw = np.random.default_rng(0).standard_normal
        cases = [(60, 601), (61, 607)]  # planes of 3600 and 3721 values
        for size, channels, dtype, shift in [(*c, t, s) for c in cases for t in ("f4", "f8") for s in (0, 1)]:
            images, filters = draw((2, 5 * size, 5 * size, 5)).astype(dtype), draw((2, 2, 5, channels)).astype(dtype)
            result = fastconv.conv2d(images, filters, strides=5)
            expected = np.ascontiguousarray(result.transpose(0, 3, 1, 2))
            assert expected.nbytes >= 16 << 20
            room = np.empty(expected.size + 64, dtype)
            start = -room.ctypes.data % 64 // room.itemsize + shift
            out = room[start : start + expected.size].reshape(expected.shape)
            planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
            fastconv.conv2d(planes, filters, strides=5, data_format="NCHW", out=out)
            np.testing.assert_array_equal(out, expected)
    """
    run_python(code, FASTCONV_ISA=isa)
