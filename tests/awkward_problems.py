"""Awkward problems by name, and short functions that make them."""

from __future__ import annotations

import dataclasses
from typing import Any

from problems import Pooling, Problem


def conv(size: Any, channels: int, kernel: Any, filters: int, **rest: Any) -> Problem:
    arguments: dict[str, Any] = {
        "dtype": "float32", "data_format": "NHWC", "n": 2, "strides": (1, 1), "padding": "VALID",
    }  # fmt: skip
    return Problem((7,), size=size, channels=channels, kernel=kernel, filters=filters, **arguments | rest)


def depthwise(size: Any, channels: int, kernel: Any, multiplier: int = 1, **rest: Any) -> Problem:
    filters = channels * multiplier
    return conv(size, channels, kernel, filters, groups=channels, depthwise=True, **rest)


def conv_max_pool(window: Any, convolution: Problem, padding: Any = "VALID", strides: Any = None) -> Problem:
    """A convolution and the max pooling of its output."""
    return dataclasses.replace(convolution, pooling=Pooling(window, strides or window, padding))


def pooling(size: Any, channels: int, kernel: Any, **rest: Any) -> Problem:
    return conv(size, channels, kernel, 1, pool=True, **rest)


def adaptive(size: Any, channels: int, output: Any, **rest: Any) -> Problem:
    return pooling(size, channels, (1, 1), adaptive=output, **rest)


AWKWARD = {
    "lenet, first layer": conv((28, 28), 1, (3, 3), 6),
    "lenet, second layer": conv((13, 13), 6, (3, 3), 16, bias=True),
    "3 channels": conv((9, 9), 3, (3, 3), 8, padding="SAME", bias=True, relu=True),
    "17 channels to 17 filters": conv((9, 9), 17, (3, 3), 17, padding="SAME", bias=True),
    "1x1": conv((7, 9), 6, (1, 1), 17, bias=True, relu=True),
    "windows side by side": conv((13, 24), 3, (4, 4), 9, strides=(4, 4)),
    "windows side by side, NCHW": conv((6, 10), 5, (3, 2), 7, dtype="float64", strides=(2, 2), data_format="NCHW"),
    "windows side by side, but not the last": conv((8, 9), 3, (2, 2), 5, strides=(2, 2)),
    "windows side by side after padding": conv((6, 8), 3, (2, 2), 5, strides=(2, 2), padding=((0, 0), (1, 0))),
    "one window": conv((7, 5), 20, (7, 5), 33),
    "one window, padded below": conv((6, 5), 3, (7, 5), 5, padding=((0, 1), (0, 0))),
    "1x1 with stride 2": conv((7, 9), 6, (1, 1), 17, strides=(2, 2)),
    "1x1 with padding": conv((5, 5), 3, (1, 1), 5, padding=((1, 2), (3, 0)), bias=True),
    "1x1, output of another size": conv((5, 5), 3, (1, 1), 5, padding=((0, 2), (0, 3))),
    "1x1, several blocks of channels": conv((14, 14), 1030, (1, 1), 70, bias=True, relu=True),
    "1x1, tiles of pixels and parts of the filters": conv((17, 23), 70, (1, 1), 150, bias=True, relu=True),
    "short rows": conv((7, 7), 150, (3, 3), 70, padding="SAME", bias=True, relu=True, algorithm="direct"),
    "short rows, more padding": conv(
        (6, 7), 130, (3, 5), 40, padding=((2, 1), (0, 4)), bias=True, relu=True, algorithm="direct"
    ),
    "short rows, groups": conv((5, 4), 130, (3, 3), 34, groups=2, padding="SAME", bias=True, algorithm="direct"),
    "short rows, no padding": conv((9, 8), 330, (3, 3), 33, bias=True, algorithm="direct"),
    "short rows, stride 2": conv((14, 13), 40, (1, 1), 70, strides=(2, 2), bias=True, relu=True),
    "short rows, dilated": conv((5, 5), 40, (3, 2), 20, dilations=(2, 3), padding="SAME", bias=True, relu=True),
    "window larger than the input": conv((3, 2), 3, (7, 7), 5, padding="SAME"),
    "window larger than the padded input by a stride": conv((3, 3), 3, (5, 5), 5, strides=(2, 2)),
    "stride larger than the window": conv((11, 13), 3, (2, 2), 5, strides=(4, 5)),
    "stride larger than the input": conv((3, 3), 3, (2, 2), 5, strides=(7, 7), padding="SAME"),
    "stride with padding larger than the window": conv((2, 2), 3, (2, 2), 5, strides=(3, 3), padding=((5, 4), (3, 6))),
    "huge stride": conv((5, 5), 3, (3, 3), 5, strides=(2**40, 2**62)),
    "huge dilation of a 1x1 window": conv((5, 5), 3, (1, 1), 5, dilations=(2**62, 2**62)),
    "uncovered last rows": conv((10, 11), 3, (3, 2), 5, strides=(4, 4)),
    "asymmetric padding": conv((6, 7), 6, (3, 3), 6, padding=((0, 3), (2, 1))),
    "padding much larger than the window": conv((2, 3), 3, (2, 2), 5, padding=((9, 8), (7, 11)), bias=True),
    "no rows": conv((0, 5), 3, (3, 3), 5, padding=((2, 2), (1, 1)), bias=True),
    "no rows, no outputs": conv((0, 5), 3, (3, 3), 5, padding="SAME", bias=True),
    "no columns": conv((5, 0), 3, (3, 3), 5, padding=((2, 2), (1, 2)), bias=True, relu=True),
    "batch 0": conv((5, 5), 3, (3, 3), 5, n=0),
    "batch 1": conv((5, 5), 3, (3, 3), 5, n=1),
    "dilation and stride with a common factor": conv((19, 23), 3, (3, 3), 5, strides=(4, 6), dilations=(6, 4)),
    "dilation and stride without a common factor": conv(
        (19, 23), 3, (3, 3), 5, strides=(3, 4), dilations=(4, 3), padding="SAME"
    ),
    "dilation larger than the input": conv((3, 3), 3, (2, 2), 5, dilations=(8, 8), padding=((8, 8), (8, 8))),
    "groups": conv((7, 7), 12, (3, 3), 8, groups=4, padding="SAME", bias=True, relu=True),
    "groups of one channel, two filters": conv((7, 7), 6, (3, 3), 12, groups=6, bias=True),
    "groups with one filter and channel": conv((7, 7), 17, (3, 3), 17, groups=17, bias=True),
    "groups of four": conv((9, 11), 28, (3, 3), 28, groups=7, padding="SAME", bias=True, relu=True),
    "groups of four, gradient over many rows": conv((60, 61), 28, (3, 3), 28, groups=7, padding="SAME"),
    "groups of four, stride 2": conv((12, 17), 20, (3, 3), 20, groups=5, strides=(2, 2), padding="SAME", bias=True),
    "groups of four, stride 2, wide padding": conv((5, 3), 20, (2, 3), 20, groups=5, strides=(1, 2), padding=(1, 7)),
    "groups of four to one": conv((9, 11), 44, (3, 3), 11, groups=11, padding="SAME", bias=True),
    "groups of one to four, two columns": conv((7, 21), 11, (3, 2), 44, groups=11, padding=((1, 1), (3, 4))),
    "groups of three to five, dilated": conv((9, 23), 21, (3, 3), 35, groups=7, dilations=(1, 3), padding="SAME"),
    "groups of two to three, five columns": conv((6, 23), 18, (2, 5), 27, groups=9, padding=((0, 1), (7, 8))),
    "groups of two, 1x1": conv((7, 9), 34, (1, 1), 34, groups=17, bias=True, relu=True),
    "groups of two, window larger than the input": conv((2, 3), 10, (7, 5), 10, groups=5, padding="SAME"),
    "groups of two, batch 0": conv((5, 5), 10, (3, 3), 10, groups=5, n=0),
    "groups of many filters": conv((5, 5), 4, (3, 3), 140, groups=2, strides=(2, 2), padding="SAME"),
    "one row, wide": conv((1, 40), 3, (1, 5), 33, padding="SAME"),
    "one column, high": conv((40, 1), 3, (5, 1), 33, padding="SAME"),
    "every tail of a vector of filters": conv((4, 5), 2, (2, 2), 61, bias=True, relu=True),
    "long sums": conv((4, 4), 700, (3, 3), 9),
    "window of more than a thousand taps, high": conv((40, 33), 2, (37, 30), 3, padding="SAME", n=1, bias=True),
    "window of more than a thousand taps, wide": conv((2, 1200), 1, (1, 1100), 3, padding="SAME", n=1, relu=True),
    "filters of more than 32 MB": conv((2, 2), 1000, (3, 3), 1000, padding="SAME", n=1, bias=True, relu=True),
    "few filters of more than 32 MB": conv((1, 1), 600_000, (1, 1), 2, n=1, bias=True, relu=True),
    "groups of more than 32 MB together": conv((1, 1), 600, (3, 3), 6000, groups=3, padding="SAME", n=1, bias=True),
    "layout conversion in parts": conv((150, 150), 48, (1, 1), 2, data_format="NCHW", n=3, bias=True),
    "planes, one long row in parts": conv((150, 150), 32, (1, 1), 64, data_format="NCHW", n=3, bias=True),
    "planes, 1x1": conv((31, 33), 20, (1, 1), 37, data_format="NCHW", bias=True, relu=True),
    "planes, 1x1 in groups": conv((30, 34), 40, (1, 1), 80, groups=2, data_format="NCHW", bias=True),
    "planes, few channels": conv((21, 47), 3, (3, 3), 35, padding="SAME", data_format="NCHW", bias=True, relu=True),
    "planes, stride 2": conv((23, 64), 3, (3, 3), 20, strides=(2, 2), padding=((1, 0), (2, 1)), data_format="NCHW"),
    "planes, 1x1 with stride 2": conv((23, 64), 5, (1, 1), 20, strides=(2, 2), data_format="NCHW", bias=True),
    "planes, 1x1 with strides 3 and 2": conv((35, 46), 40, (1, 1), 36, strides=(3, 2), data_format="NCHW", relu=True),
    "planes, 1x1, joined images": conv((7, 7), 40, (1, 1), 70, groups=2, n=19, data_format="NCHW", bias=True),
    "planes, 1x1, long sums": conv((13, 19), 2100, (1, 1), 9, data_format="NCHW", bias=True, relu=True),
    "planes, stride 3, dilated": conv(
        (30, 95), 2, (2, 3), 33, strides=(2, 3), dilations=(2, 2), padding=((0, 3), (4, 0)), data_format="NCHW"
    ),
    # The first and the last element of a register tile of the filter gradient are M - 1 apart, but no neighbours.
    "planes, elements that look like neighbours, AVX-512": conv(
        (4, 9), 5, (3, 3), 16, padding="SAME", n=1, data_format="NCHW"
    ),
    "planes, elements that look like neighbours, AVX2": conv(
        (10, 9), 5, (3, 3), 4, padding="SAME", n=1, data_format="NCHW"
    ),
    "planes, elements that look like neighbours, baseline": conv((39, 7), 2, (3, 3), 4, n=1, data_format="NCHW"),
    "planes, depthwise": depthwise((45, 47), 5, (3, 3), padding="SAME", data_format="NCHW", bias=True, relu=True),
    "planes, depthwise, 5 rows": depthwise((19, 31), 4, (5, 2), padding=((3, 0), (0, 1)), data_format="NCHW"),
    "planes, depthwise, wide": depthwise((3, 2600), 2, (3, 3), padding="SAME", data_format="NCHW", bias=True),
    "planes, depthwise, from memory": depthwise(
        (150, 151), 24, (3, 3), strides=(2, 2), padding="SAME", data_format="NCHW", bias=True, relu=True
    ),
    "planes, depthwise, stride 2": depthwise(
        (19, 71), 4, (3, 3), strides=(2, 2), padding="SAME", data_format="NCHW", bias=True, relu=True
    ),
    "planes, depthwise, stride 2, odd padding": depthwise(
        (18, 70), 3, (3, 3), strides=(2, 2), padding=1, data_format="NCHW", bias=True
    ),
    "planes, depthwise, 5x5": depthwise((14, 37), 6, (5, 5), padding="SAME", data_format="NCHW", bias=True, relu=True),
    "planes, depthwise, 5x5, stride 2": depthwise(
        (15, 68), 4, (5, 5), strides=(2, 2), padding=((3, 0), (1, 4)), data_format="NCHW"
    ),
    "planes, depthwise, more padding than columns": depthwise(
        (3, 2), 9, (3, 3), padding=((9, 8), (17, 21)), data_format="NCHW", bias=True
    ),
    "gradient over many tiles": conv((70, 75), 5, (3, 3), 7, padding="SAME", n=3),
    "many channels, chosen for Winograd": conv((13, 14), 40, (3, 3), 48, padding="SAME", bias=True, relu=True),
    "Winograd": conv((9, 11), 6, (3, 3), 17, padding="SAME", bias=True, relu=True, algorithm="winograd"),
    "Winograd, one pixel": conv((1, 1), 3, (3, 3), 5, padding="SAME", algorithm="winograd"),
    "Winograd, batch 0": conv((9, 9), 3, (3, 3), 5, n=0, algorithm="winograd"),
    "Winograd, filters in parts": conv((33, 34), 480, (3, 3), 384, padding="SAME", n=1, bias=True),
    "Winograd, filters streamed": conv((5, 6), 512, (3, 3), 500, padding="SAME", bias=True, algorithm="winograd"),
    "Winograd, filters streamed, many tiles": conv((7, 7), 300, (3, 3), 270, padding="SAME", n=40, relu=True),
    "Winograd, sums of the taps in L2": conv((30, 31), 64, (3, 3), 64, padding="SAME", bias=True),
    "Winograd, few tiles of one image": conv((14, 14), 40, (3, 3), 150, padding="SAME", n=1, bias=True, relu=True),
    "Winograd, 5x5": conv((17, 19), 40, (5, 5), 72, padding="SAME", bias=True, relu=True),
    "Winograd, 5x5, few channels": conv((9, 11), 3, (5, 5), 17, padding="SAME", n=3, algorithm="winograd"),
    "Winograd, 5x5, blocks of taps": conv((14, 13), 96, (5, 5), 130, padding=((2, 0), (1, 3)), bias=True),
    "small_k_spread": conv((28, 28), 1, (3, 3), 6, n=3, bias=True, relu=True),
    "small_k_spread, several channels": conv((11, 13), 6, (3, 3), 5, padding=((2, 1), (0, 2)), bias=True),
    "small_k_spread, 5 rows": conv((31, 9), 3, (5, 5), 7, padding="SAME", bias=True),
    "small_k_spread, 5 rows of 2": conv((7, 9), 1, (5, 2), 3, padding="SAME"),
    "small_k_spread, one filter": conv((26, 26), 6, (3, 3), 1, padding="SAME", n=3, bias=True),
    "small_k_spread, fewer rows than the window": conv((4, 9), 1, (3, 3), 6, n=3),
    "small_k_spread, wide": conv((9, 700), 1, (3, 3), 6, padding="SAME", n=1),
    "planes, Winograd, long rows": conv(
        (10, 203), 35, (3, 3), 70, padding=((1, 0), (0, 2)), data_format="NCHW", bias=True, relu=True
    ),
    "planes, Winograd, whole rows": conv((30, 22), 80, (3, 3), 36, padding="SAME", data_format="NCHW", n=3, bias=True),
    "planes, Winograd, narrow": conv((40, 5), 40, (3, 3), 34, data_format="NCHW", bias=True, relu=True),
    "planes, Winograd, 5x5": conv((21, 43), 36, (5, 5), 50, padding="SAME", data_format="NCHW", dtype="float64"),
    "Winograd, many tiles": conv((60, 61), 33, (3, 3), 40, padding="SAME", n=3, bias=True, algorithm="winograd"),
    "small_k_reduce": conv((9, 9), 64, (3, 3), 3, padding="SAME", bias=True, relu=True, algorithm="direct"),
    "small_k_reduce, dilated": conv((9, 9), 65, (3, 3), 2, dilations=(2, 3), padding="SAME", bias=True),
    "small_k_reduce in groups": conv((9, 9), 68, (3, 3), 6, groups=2, padding="SAME", bias=True, relu=True),
    "small_k_reduce, long": conv((3, 60), 300, (3, 3), 2, padding=((0, 1), (2, 1)), strides=(1, 2)),
    "few filters, rows of taps in a copy": conv((9, 11), 41, (3, 3), 12, padding="SAME", bias=True),
    "few filters, rows of taps in place": conv((9, 10), 37, (2, 3), 5, strides=(2, 1)),
    "few filters, 1x1": conv((7, 9), 53, (1, 1), 10, bias=True),
    "few filters, one vector of channels": conv((7, 9), 5, (4, 3), 2, padding="SAME"),
    "few filters, dilated": conv((9, 11), 37, (3, 2), 5, dilations=(2, 3), padding="SAME"),
    "few filters, stride larger than the window": conv(
        (11, 13), 35, (2, 2), 4, strides=(4, 5), padding=((1, 0), (2, 0))
    ),
    "few filters in groups": conv((8, 9), 66, (2, 3), 10, groups=2),
    "few filters in groups, padded": conv((8, 9), 70, (2, 3), 10, groups=2, padding="SAME"),
    "few filters, blocks of channels and parts of the filters": conv((3, 3), 1300, (5, 5), 36, padding="SAME"),
    "gradient in blocks of channels": conv((3, 3), 200, (5, 5), 150, padding="SAME"),
    "row wider than a tile": conv((1, 9000), 8, (3, 3), 4, padding="SAME", n=1),
    "depthwise": depthwise((9, 9), 17, (3, 3), padding="SAME", bias=True, relu=True),
    "depthwise, many channels": depthwise((9, 10), 530, (3, 3), padding="SAME", bias=True, relu=True),
    "depthwise, many channels, dilated": depthwise((9, 10), 515, (3, 2), padding="SAME", dilations=(1, 3)),
    "depthwise, many rows": depthwise((23, 11), 33, (3, 3), padding="SAME", bias=True),
    "depthwise, multiplier 3": depthwise((9, 9), 6, (3, 3), 3, padding=((1, 0), (0, 2)), bias=True),
    "depthwise, one channel": depthwise((9, 9), 1, (3, 3), 1, strides=(2, 2), padding="SAME"),
    "depthwise, one channel, multiplier 6": depthwise((9, 9), 1, (3, 3), 6),
    "depthwise, unequal strides": depthwise((9, 9), 6, (3, 3), 1, strides=(2, 3), padding="SAME"),
    "depthwise, dilated": depthwise((9, 11), 6, (3, 2), 1, dilations=(2, 5), padding=((5, 2), (1, 7))),
    "depthwise, dilated with stride": depthwise((19, 17), 6, (3, 3), 1, dilations=(2, 3), strides=(4, 2)),
    "depthwise, window larger than the input": depthwise((2, 3), 6, (7, 7), 1, padding="SAME"),
    "depthwise, stride larger than the window": depthwise((11, 13), 6, (2, 2), 1, strides=(5, 4)),
    "depthwise, padding larger than the window": depthwise((2, 3), 3, (2, 2), 1, padding=((4, 3), (5, 6)), bias=True),
    "depthwise, no rows": depthwise((0, 3), 3, (2, 2), 1, padding=((1, 1), (1, 1)), bias=True),
    "depthwise, batch 0": depthwise((5, 5), 3, (2, 2), 1, n=0),
    "depthwise, channels in blocks": depthwise((6, 40), 700, (3, 3), 1, padding="SAME", n=1),
    "depthwise, many taps": depthwise((9, 9), 5, (8, 7), 1, padding="SAME"),
    "depthwise, five columns": depthwise((6, 23), 37, (5, 5), 1, padding="SAME", bias=True, relu=True),
    "depthwise, five columns, wide padding": depthwise((3, 9), 17, (2, 5), 1, padding=((0, 1), (7, 8))),
    "depthwise, seven columns": depthwise((8, 13), 18, (7, 7), 1, padding=((2, 3), (1, 5)), bias=True),
    "depthwise, seven columns, narrow image": depthwise((4, 2), 33, (3, 7), 1, padding=((1, 1), (5, 6))),
    "depthwise, stride 2, odd padding": depthwise((10, 19), 37, (3, 3), strides=(2, 2), padding=((1, 0), (1, 1))),
    "depthwise, stride 2, even size": depthwise((14, 20), 34, (5, 5), strides=(2, 2), padding="SAME", bias=True),
    "depthwise, stride 2 of columns alone, wide padding": depthwise(
        (7, 5), 18, (2, 7), strides=(1, 2), padding=((1, 0), (9, 6)), bias=True, relu=True
    ),
    "depthwise, stride 2 of columns, rows without taps": depthwise((11, 9), 19, (2, 3), strides=(5, 2)),
    "depthwise, two channels": depthwise((40, 41), 2, (3, 4), padding="SAME", dilations=(1, 2), bias=True, relu=True),
    "depthwise, three channels": depthwise((37, 75), 3, (5, 5), padding="SAME", bias=True),
    "depthwise, three channels, blocks of a row": depthwise((9, 700), 3, (3, 3), padding="SAME", bias=True),
    "depthwise, four channels, stride of rows": depthwise(
        (70, 67), 4, (7, 3), strides=(2, 1), padding=((3, 5), (0, 4))
    ),
    "depthwise, three columns, many channels, wide padding": depthwise(
        (4, 3), 520, (3, 3), 1, padding=((1, 1), (3, 4))
    ),
    "pool, lenet": pooling((26, 26), 6, (2, 2), strides=(2, 2)),
    "pool, uncovered last rows": pooling((13, 13), 16, (2, 2), strides=(2, 2)),
    "pool, overlapping": pooling((9, 9), 17, (3, 3), strides=(2, 2), padding="SAME"),
    "pool, window larger than the input": pooling((2, 3), 3, (5, 5), padding="SAME"),
    "pool, window larger than the input, no outputs": pooling((2, 3), 3, (4, 4), strides=(2, 2)),
    "pool, dilated": pooling((9, 11), 17, (3, 2), strides=(2, 1), padding=((2, 1), (0, 2)), dilations=(2, 3)),
    "pool, dilated without overlap": pooling((14, 15), 3, (2, 2), strides=(3, 3), dilations=(2, 2)),
    "pool, dilated, sharing pixels": pooling((9, 11), 5, (2, 2), strides=(2, 2), dilations=(2, 2)),
    "pool, interleaved windows": pooling((9, 9), 6, (2, 2), strides=(1, 1), dilations=(3, 2)),
    "pool, dilated beyond the input": pooling(
        (3, 2), 3, (3, 3), dilations=(2, 2), padding=((2, 3), (2, 3)), ceil_mode=True
    ),
    "pool, rounded up": pooling((7, 9), 6, (2, 2), strides=(2, 2), ceil_mode=True),
    "pool, rounded up, no window in the padding": pooling(
        (3, 3), 4, (2, 2), strides=(5, 2), padding=((1, 1), (0, 1)), ceil_mode=True
    ),
    "pool, padding counted": pooling(
        (7, 8), 17, (3, 3), strides=(2, 2), padding=((2, 1), (1, 2)), count_include_pad=True
    ),
    "pool, padding counted, rounded up": pooling(
        (8, 7), 5, (3, 2), strides=(2, 3), padding=((1, 1), (1, 0)), ceil_mode=True, count_include_pad=True
    ),
    "pool, padding counted, dilated": pooling(
        (8, 7), 5, (3, 2), strides=(2, 1), padding="SAME", dilations=(2, 3), count_include_pad=True
    ),
    "adaptive, whole image": adaptive((9, 7), 65, (1, 1)),
    "adaptive, divisors": adaptive((8, 9), 6, (4, 3)),
    "adaptive, one axis divides": adaptive((8, 9), 17, (4, 5)),
    "adaptive, overlapping": adaptive((7, 11), 3, (4, 6)),
    "adaptive, larger than the input": adaptive((3, 4), 5, (7, 9)),
    "adaptive, input's height": adaptive((5, 6), 4, (None, 4)),
    "adaptive, no outputs": adaptive((5, 6), 4, (0, 3)),
    "adaptive, NaN": adaptive((9, 8), 67, (4, 5), values="nan"),
    "pool, whole image": pooling((9, 7), 65, (9, 7)),
    "pool, stride larger than the window": pooling((11, 13), 3, (2, 2), strides=(5, 4)),
    "pool, asymmetric padding": pooling((6, 7), 6, (3, 4), strides=(2, 1), padding=((0, 2), (3, 1))),
    "pool, 1x1": pooling((5, 5), 33, (1, 1), strides=(2, 2)),
    "pool, batch 0": pooling((5, 5), 3, (2, 2), n=0),
    "pool, NaN": pooling((9, 9), 67, (3, 3), values="nan", padding="SAME"),
    "pool, minus infinity": pooling((9, 9), 67, (3, 3), values="infinite", padding="SAME"),
    "pool, ties": pooling((9, 9), 67, (3, 3), values="ties", padding="SAME"),
    "pool, window of 400": pooling((41, 43), 3, (20, 20), strides=(7, 7), values="ties"),
    "pool, large window": pooling((31, 29), 17, (13, 10), padding="SAME"),
    "pool, large window, NaN": pooling((31, 29), 17, (13, 10), padding="SAME", values="nan"),
    "pool, large window, minus infinity": pooling((31, 29), 17, (7, 13), padding="SAME", values="infinite"),
    "pool, large window, one row": pooling((40, 33), 5, (1, 19), dtype="float64"),
    "pool, large window, one column": pooling((40, 33), 5, (19, 1), dtype="float64"),
    "pool, large window, planes": pooling((23, 26), 6, (9, 11), padding="SAME", data_format="NCHW", n=7),
    "pool, large window, strides": pooling((64, 48), 40, (11, 13), strides=(2, 3), padding=((5, 0), (9, 4))),
    "pool, large window, dilated": pooling((47, 64), 3, (6, 7), padding=((9, 4), (0, 17)), dilations=(2, 3)),
    "pool, large window, rounded up, padding counted": pooling(
        (40, 37), 4, (15, 12), strides=(3, 5), padding=((7, 3), (2, 11)), ceil_mode=True, count_include_pad=True
    ),
    "pool, large window, blocks of channels": pooling((20, 22), 120, (15, 14), padding="SAME", n=1),
    "pool, large window, tiles": pooling((150, 260), 3, (9, 12), padding=((8, 0), (3, 11)), n=1),
    "pool, large window, larger than the input": pooling((5, 9), 3, (30, 21), padding=((29, 28), (20, 20))),
    "max pool after conv, lenet, first layer": conv_max_pool((2, 2), conv((28, 28), 1, (3, 3), 6, n=9, bias=True)),
    "max pool after conv, lenet, second layer": conv_max_pool((2, 2), conv((13, 13), 6, (3, 3), 16, n=9, bias=True)),
    "max pool after conv, uncovered and overlapping": conv_max_pool(
        (3, 2), conv((12, 13), 3, (3, 3), 7, padding="SAME"), strides=(2, 1)
    ),
    "max pool after conv, padded": conv_max_pool((3, 3), conv((9, 11), 3, (3, 3), 17, padding="SAME"), "SAME", (2, 2)),
    "max pool after conv, padded on one side": conv_max_pool(
        (2, 3), conv((9, 11), 6, (3, 3), 5, relu=True), ((1, 0), (0, 2))
    ),
    "max pool after conv, too large for one task": conv_max_pool(
        (2, 2), conv((40, 41), 8, (3, 3), 40, padding="SAME", bias=True)
    ),
    "max pool after conv, too many filter values for parts": conv_max_pool(
        (2, 2), conv((8, 8), 40, (3, 3), 80, padding="SAME")
    ),
    "max pool after conv, Winograd, large filters": conv_max_pool(
        (2, 2), conv((7, 8), 130, (3, 3), 140, padding="SAME", n=5, bias=True)
    ),
    "max pool after conv, NCHW": conv_max_pool((2, 2), conv((9, 8), 5, (3, 3), 7, data_format="NCHW", n=3, bias=True)),
    "max pool after conv, groups and strides": conv_max_pool(
        (2, 2), conv((19, 17), 12, (3, 3), 8, groups=4, strides=(2, 1))
    ),
    "max pool after conv, depthwise in groups": conv_max_pool(
        (2, 2), conv((9, 9), 17, (3, 3), 17, groups=17, padding="SAME", bias=True)
    ),
    "max pool after conv, whole image": conv_max_pool((7, 7), conv((9, 9), 3, (3, 3), 33)),
    "max pool after conv, batch 0": conv_max_pool((2, 2), conv((9, 9), 3, (3, 3), 5, n=0, bias=True)),
    "max pool after conv, no windows": conv_max_pool((3, 3), conv((4, 9), 3, (3, 3), 5, bias=True)),
    "pool, layout conversion in parts": pooling((200, 200), 40, (2, 2), strides=(2, 2), data_format="NCHW", n=3),
}
