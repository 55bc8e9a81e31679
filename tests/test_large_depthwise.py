"""Depthwise convolutions of batches that are not in the caches: the next rows are prefetched, which changes no bit."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from workers import ISAS, compute

# (images, height, width, channels, window, stride), each more than 13 MB in float32
SHAPES = [(5, 96, 96, 76, 3, 2), (2, 160, 161, 67, 5, 1), (3, 130, 131, 68, 7, 2), (44, 9, 11, 850, 5, 2)]


# The baseline prefetches in the same source.
@pytest.mark.parametrize("isa_worker", [isa for isa in ISAS if isa != "baseline"], indirect=True)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_a_batch_is_computed_as_image_by_image(isa_worker: ProcessPoolExecutor, dtype: str) -> None:
    for n, height, width, channels, window, stride in SHAPES:
        rng = np.random.default_rng(n)
        x = rng.standard_normal((n, height, width, channels)).astype(dtype)
        assert x.nbytes > 13 << 20
        filters = rng.standard_normal((window, window, channels, 1)).astype(dtype)
        given = {"filters": filters, "strides": stride, "padding": "SAME"}
        calls = [("depthwise_conv2d", {"input": images, **given}) for images in (x, *(image[None] for image in x))]
        whole, *parts = isa_worker.submit(compute, calls).result()
        np.testing.assert_array_equal(whole, np.concatenate(parts))
