"""The oracle: every function of fastconv in plain float64 NumPy, by loops over the taps of the window.

Shapes are NHWC and paddings are four resolved numbers; `problems.py` turns other layouts and forms into these. Each
convolution also gives, for every element of its result, the sum of |x||w| over the element's products. This is the unit
of the bounds on rounding errors. A tap over the padding is left out, not multiplied by zero, so that a non-finite
filter there has no effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]  # ((top, bottom), (left, right))


class Sum(NamedTuple):
    """A result, and for each of its elements the sum of its terms' absolute values."""

    value: np.ndarray
    magnitude: np.ndarray


def extent(kernel: int, dilation: int) -> int:
    return (kernel - 1) * dilation + 1


def output_size(size: int, kernel: int, stride: int, pads: Pair, dilation: int = 1, ceil_mode: bool = False) -> int:
    """The size of an output, which may be negative.

    With `ceil_mode`, the last window may reach beyond the padding, but it must start before the end of the input.
    """
    room = size + sum(pads) - extent(kernel, dilation)
    if not ceil_mode:
        return room // stride + 1
    outputs = -(-room // stride) + 1
    while outputs > 0 and (outputs - 1) * stride - pads[0] >= size:
        outputs -= 1
    return outputs


def same_pads(size: int, kernel: int, stride: int, dilation: int = 1) -> Pair:
    """TensorFlow's rule: ceil(size / stride) outputs. An odd row or column of padding goes to the bottom or right."""
    outputs = -(-size // stride)
    total = max(0, (outputs - 1) * stride + extent(kernel, dilation) - size)
    return total // 2, total - total // 2


def resolve_pads(padding: object, data_format: str, size: Pair, kernel: Pair, strides: Pair, dilations: Pair) -> Pads:
    """((top, bottom), (left, right)) of any form of padding that fastconv takes."""
    if isinstance(padding, str):
        if padding.upper() == "VALID":
            return (0, 0), (0, 0)
        assert padding.upper() == "SAME"
        y, x = (same_pads(size[i], kernel[i], strides[i], dilations[i]) for i in range(2))
        return y, x
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    parts = list(padding)  # type: ignore[call-overload]
    if len(parts) == 4:
        parts = parts[1:3] if data_format == "NHWC" else parts[2:4]
    y, x = ((part, part) if isinstance(part, int) else (part[0], part[1]) for part in parts)
    return y, x


class Geometry(NamedTuple):
    """A window over an image, as in convolution and pooling."""

    size: Pair  # of the input
    kernel: Pair
    strides: Pair
    pads: Pads
    dilations: Pair
    ceil_mode: bool = False
    count_include_pad: bool = False

    @property
    def output(self) -> Pair:
        y, x = (
            output_size(self.size[i], self.kernel[i], self.strides[i], self.pads[i], self.dilations[i], self.ceil_mode)
            for i in range(2)
        )
        return y, x

    def counted(self) -> np.ndarray:
        """The number of elements in the mean of each window, in shape (P, Q, 1)."""
        y, x = (
            [sum(self._counts(axis, p, tap) for tap in range(self.kernel[axis])) for p in range(self.output[axis])]
            for axis in range(2)
        )
        return np.multiply.outer(y, x).reshape(*self.output, 1).astype(np.float64)

    def _counts(self, axis: int, window: int, tap: int) -> bool:
        before, after = self.pads[axis] if self.count_include_pad else (0, 0)
        position = window * self.strides[axis] + tap * self.dilations[axis] - self.pads[axis][0]
        return -before <= position < self.size[axis] + after

    def taps(self) -> Iterator[tuple[int, int, tuple[slice, slice], tuple[slice, slice]]]:
        """For each tap: i, j, slices of the input elements that it reads, and slices of the outputs that it adds to."""
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                inside, outputs = zip(self._axis(0, i), self._axis(1, j), strict=True)
                yield i, j, (inside[0], inside[1]), (outputs[0], outputs[1])

    def _axis(self, axis: int, tap: int) -> Pair:
        stride, shift = self.strides[axis], tap * self.dilations[axis] - self.pads[axis][0]
        positions = [p for p in range(self.output[axis]) if 0 <= p * stride + shift < self.size[axis]]
        if not positions:
            return slice(0, 0), slice(0, 0)  # type: ignore[return-value]
        first, last = positions[0], positions[-1]
        return slice(first * stride + shift, last * stride + shift + 1, stride), slice(first, last + 1)  # type: ignore[return-value]


class AdaptiveGeometry(NamedTuple):
    """The windows of an adaptive pooling: window i covers i*H/P to (i+1)*H/P, rounded outwards."""

    size: Pair
    output: Pair

    def _window(self, axis: int, i: int) -> range:
        size, outputs = self.size[axis], self.output[axis]
        return range(i * size // outputs, -(-(i + 1) * size // outputs))

    def counted(self) -> np.ndarray:
        y, x = ([len(self._window(axis, i)) for i in range(self.output[axis])] for axis in range(2))
        return np.multiply.outer(y, x).reshape(*self.output, 1).astype(np.float64)

    def taps(self) -> Iterator[tuple[int, int, tuple[slice, slice], tuple[slice, slice]]]:
        """Like `Geometry.taps`, one window after another."""
        for p, q in np.ndindex(self.output):
            for i, h in enumerate(self._window(0, p)):
                for j, w in enumerate(self._window(1, q)):
                    yield i, j, (slice(h, h + 1), slice(w, w + 1)), (slice(p, p + 1), slice(q, q + 1))


Windows = Geometry | AdaptiveGeometry  # of a pooling


def _by_group(x: np.ndarray, groups: int) -> np.ndarray:
    """(N, H, W, groups*m) -> (groups, pixels, m)"""
    pixels = x.shape[0] * x.shape[1] * x.shape[2]
    return np.moveaxis(x.reshape(pixels, groups, x.shape[3] // groups), 1, 0)


def _from_groups(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.moveaxis(x, 0, 1).reshape(*shape, x.shape[0] * x.shape[2])


def _filter_by_group(tap: np.ndarray, groups: int) -> np.ndarray:
    """(C/groups, K) -> (groups, C/groups, K/groups)"""
    return np.moveaxis(tap.reshape(tap.shape[0], groups, tap.shape[1] // groups), 1, 0)


def _both(function: object, first: np.ndarray, second: np.ndarray) -> Sum:
    """The bilinear `function` of the arguments, and of their absolute values."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    return Sum(function(first, second), function(np.abs(first), np.abs(second)))  # type: ignore[operator]


def conv2d(x: np.ndarray, w: np.ndarray, geometry: Geometry, bias: np.ndarray | None = None, relu: bool = False) -> Sum:
    groups = x.shape[3] // w.shape[2]

    def forward(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = np.zeros((x.shape[0], *geometry.output, w.shape[3]))
        for i, j, inside, outputs in geometry.taps():
            part = x[:, inside[0], inside[1]]
            product = np.matmul(_by_group(part, groups), _filter_by_group(w[i, j], groups))
            y[:, outputs[0], outputs[1]] += _from_groups(product, part.shape[:3])
        return y

    y, magnitude = _both(forward, x, w)
    if bias is not None:
        y, magnitude = y + bias.astype(np.float64), magnitude + np.abs(bias.astype(np.float64))
    if relu:
        y = np.where(y < 0, 0.0, y)
    return Sum(y, magnitude)


def conv2d_backprop_input(w: np.ndarray, dy: np.ndarray, geometry: Geometry, groups: int = 1) -> Sum:
    def backward(w: np.ndarray, dy: np.ndarray) -> np.ndarray:
        dx = np.zeros((dy.shape[0], *geometry.size, w.shape[2] * groups))
        for i, j, inside, outputs in geometry.taps():
            part = dy[:, outputs[0], outputs[1]]
            turned = np.swapaxes(_filter_by_group(w[i, j], groups), 1, 2)
            dx[:, inside[0], inside[1]] += _from_groups(np.matmul(_by_group(part, groups), turned), part.shape[:3])
        return dx

    return _both(backward, w, dy)


def conv2d_backprop_filter(x: np.ndarray, dy: np.ndarray, geometry: Geometry, groups: int = 1) -> Sum:
    def backward(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
        dw = np.zeros((*geometry.kernel, x.shape[3] // groups, dy.shape[3]))
        for i, j, inside, outputs in geometry.taps():
            turned = np.swapaxes(_by_group(x[:, inside[0], inside[1]], groups), 1, 2)
            product = np.matmul(turned, _by_group(dy[:, outputs[0], outputs[1]], groups))
            dw[i, j] = np.moveaxis(product, 0, 1).reshape(dw.shape[2:])
        return dw

    return _both(backward, x, dy)


def depthwise_conv2d(
    x: np.ndarray, w: np.ndarray, geometry: Geometry, bias: np.ndarray | None = None, relu: bool = False
) -> Sum:
    """Output channel c*M + m is channel c under filter (c, m)."""

    def forward(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = np.zeros((x.shape[0], *geometry.output, w.shape[2], w.shape[3]))
        for i, j, inside, outputs in geometry.taps():
            y[:, outputs[0], outputs[1]] += x[:, inside[0], inside[1], :, None] * w[i, j]
        return y.reshape(*y.shape[:3], w.shape[2] * w.shape[3])

    y, magnitude = _both(forward, x, w)
    if bias is not None:
        y, magnitude = y + bias.astype(np.float64), magnitude + np.abs(bias.astype(np.float64))
    if relu:
        y = np.where(y < 0, 0.0, y)
    return Sum(y, magnitude)


def depthwise_conv2d_backprop_input(w: np.ndarray, dy: np.ndarray, geometry: Geometry) -> Sum:
    def backward(w: np.ndarray, dy: np.ndarray) -> np.ndarray:
        dy = dy.reshape(*dy.shape[:3], *w.shape[2:])
        dx = np.zeros((dy.shape[0], *geometry.size, w.shape[2]))
        for i, j, inside, outputs in geometry.taps():
            dx[:, inside[0], inside[1]] += (dy[:, outputs[0], outputs[1]] * w[i, j]).sum(axis=-1)
        return dx

    return _both(backward, w, dy)


def depthwise_conv2d_backprop_filter(x: np.ndarray, dy: np.ndarray, geometry: Geometry) -> Sum:
    def backward(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
        dy = dy.reshape(*dy.shape[:3], x.shape[3], dy.shape[3] // x.shape[3])
        dw = np.zeros((*geometry.kernel, *dy.shape[3:]))
        for i, j, inside, outputs in geometry.taps():
            dw[i, j] = (x[:, inside[0], inside[1], :, None] * dy[:, outputs[0], outputs[1]]).sum(axis=(0, 1, 2))
        return dw

    return _both(backward, x, dy)


class Maximum(NamedTuple):
    value: np.ndarray  # in the dtype of the input: nothing is rounded
    argmax: np.ndarray  # (y*W + x)*C + c


def max_pool2d(x: np.ndarray, geometry: Windows) -> Maximum:
    """The first NaN of a window, or else the first maximum in row-major window order. Padding does not count."""
    height, width = geometry.size
    channels = x.shape[3]
    shape = (x.shape[0], *geometry.output, channels)
    best, argmax = np.zeros(shape, x.dtype), np.full(shape, -1, np.int64)
    index = np.arange(height * width * channels, dtype=np.int64).reshape(height, width, channels)
    for _, _, inside, outputs in geometry.taps():
        value = x[:, inside[0], inside[1]]
        old, where = best[:, outputs[0], outputs[1]], argmax[:, outputs[0], outputs[1]]
        take = (where < 0) | (~np.isnan(old) & (np.isnan(value) | (value > old)))
        best[:, outputs[0], outputs[1]] = np.where(take, value, old)
        argmax[:, outputs[0], outputs[1]] = np.where(take, index[inside[0], inside[1]], where)
    return Maximum(best, argmax)


def max_pool2d_taps(x: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The number of each maximum in its window, whose pixels are numbered row by row, without those in the padding."""
    argmax = max_pool2d(x, geometry).argmax
    taps, before = np.zeros(argmax.shape, np.uint8), np.zeros(argmax.shape, np.uint8)
    index = np.arange(x[0].size if len(x) else 0, dtype=np.int64).reshape(x.shape[1:] if len(x) else (0, 0, 0))
    for _, _, inside, outputs in geometry.taps() if len(x) else ():
        here = argmax[:, outputs[0], outputs[1]] == index[inside[0], inside[1]]
        taps[:, outputs[0], outputs[1]][here] = before[:, outputs[0], outputs[1]][here]
        before[:, outputs[0], outputs[1]] += 1
    return taps


def max_pool2d_grad(x: np.ndarray, grad: np.ndarray, geometry: Windows) -> Sum:
    argmax = max_pool2d(x, geometry).argmax

    def backward(grad: np.ndarray) -> np.ndarray:
        dx = np.zeros(x.shape)
        for image, where, g in zip(dx, argmax, grad, strict=True):
            np.add.at(image.reshape(-1), where.reshape(-1), g.reshape(-1))
        return dx

    return Sum(backward(grad.astype(np.float64)), backward(np.abs(grad.astype(np.float64))))


def avg_pool2d(x: np.ndarray, geometry: Windows) -> Sum:
    """The mean over the elements inside the input, or with `count_include_pad` also over those in the padding."""

    def forward(x: np.ndarray) -> np.ndarray:
        y = np.zeros((x.shape[0], *geometry.output, x.shape[3]))
        for _, _, inside, outputs in geometry.taps():
            y[:, outputs[0], outputs[1]] += x[:, inside[0], inside[1]]
        return y / geometry.counted()

    return Sum(forward(x.astype(np.float64)), forward(np.abs(x.astype(np.float64))))


def avg_pool2d_grad(grad: np.ndarray, geometry: Windows) -> Sum:
    def backward(grad: np.ndarray) -> np.ndarray:
        share = grad / geometry.counted()
        dx = np.zeros((grad.shape[0], *geometry.size, grad.shape[3]))
        for _, _, inside, outputs in geometry.taps():
            dx[:, inside[0], inside[1]] += share[:, outputs[0], outputs[1]]
        return dx

    return Sum(backward(grad.astype(np.float64)), backward(np.abs(grad.astype(np.float64))))
