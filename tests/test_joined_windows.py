"""Windows side by side are computed as windows of one column: in the gradients, and in transposed convolutions."""

from __future__ import annotations

from typing import Any

import fastconv
import numpy as np
import pytest

# (height, width, channels, filters, window), without gaps between the windows
LAYERS = [(12, 24, 3, 9, (4, 4)), (11, 24, 5, 7, (2, 2)), (7, 7, 20, 33, (7, 7)), (32, 16, 3, 8, (16, 16))]


def draw(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("packed", [False, True])
def test_the_epilogue_of_a_transposed_convolution(layer: Any, dtype: Any, packed: bool) -> None:
    """The algorithm "direct" does not join windows. Each pixel of a joined one has its own copy of the bias."""
    height, width, channels, count, window = layer
    filters = draw((*window, channels, count), dtype)
    images = draw((3, height // window[0], width // window[1], count), dtype)
    epilogue = {"bias": draw((channels,), dtype), "residual": draw((3, height, width, channels), dtype)}
    for given in ({}, {"bias": epilogue["bias"]}, epilogue):
        options: dict[str, Any] = {**given, "strides": window, "padding": "VALID", "activation": "relu"}
        expected = fastconv.conv2d_transpose(images, filters, (height, width), **options, algorithm="direct")
        got = fastconv.conv2d_transpose(
            images, fastconv.PackedFilters(filters) if packed else filters, (height, width), **options
        )
        np.testing.assert_allclose(got, expected, rtol=0, atol=200 * np.finfo(dtype).eps)


def test_wide_patches_need_one_pass_for_each_row() -> None:
    """The gradient of 16x16 patches has 16 passes, not 256."""
    explained = fastconv.explain(
        (2, 224, 224, 3), (16, 16, 3, 192), direction="input gradient", strides=16, padding="VALID"
    )
    named = fastconv.explain(
        (2, 224, 224, 3), (16, 16, 3, 192), direction="input gradient", strides=16, padding="VALID", algorithm="direct"
    )
    assert explained.multiplications == named.multiplications
    assert explained.tasks * 4 < named.tasks
