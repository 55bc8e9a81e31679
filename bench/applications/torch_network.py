"""A Keras network as a PyTorch module with the same weights, written as users of PyTorch write it.

Padding is part of the convolutions and pools where PyTorch can express it. Activations and additions overwrite their
input where nobody else reads it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from bench.applications.task import Node
from bench.contestants import NotServed
from bench.oracle import Array
from bench.tasks import OTHER_TASK

OVERWRITABLE = ("BatchNormalization", "Add")  # layers that do not need their own output for the gradient
STRIDED = ("Conv2D", "DepthwiseConv2D", "MaxPooling2D", "AveragePooling2D")


class Overwrite(torch.nn.Module):
    """Adds all inputs but the last to the last one."""

    def forward(self, *inputs: Any) -> Any:
        *others, result = inputs
        for other in others:
            result += other
        return result


class Concatenate(torch.nn.Module):
    def forward(self, *inputs: Any) -> Any:
        return torch.cat(inputs, 1)


class Border:
    """The padding of a layer along one axis. If `mirrored`, the image is read from its other end."""

    def __init__(self, before: int, after: int, size: int, window: int, stride: int, mirrored: bool) -> None:
        outputs = (size + before + after - window) // stride + 1
        if mirrored:
            before, after = (outputs - 1) * stride + window - size - before, before
        self.before, self.after = before, after
        # More padding behind the last window changes nothing.
        self.symmetric = before >= 0 and (size + 2 * before - window) // stride + 1 == outputs


def window_of(node: Node) -> tuple[int, int]:
    window: tuple[int, int] = node.config["kernel_size" if "Conv" in node.kind else "pool_size"]
    return window


def borders(node: Node, padding: Any, mirrored: bool) -> list[Border]:
    """Of the height and the width. `padding` is that of a layer before this one, or None."""
    found = []
    for axis in range(2):
        size, window, stride = node.input_shape[axis], window_of(node)[axis], node.config["strides"][axis]
        before, after = padding[axis] if padding else (0, 0)
        size -= before + after
        if node.config["padding"] == "same":
            total = max((node.output_shape[axis] - 1) * stride + window - size, 0)
            before, after = total // 2, total - total // 2
        found.append(Border(before, after, size, window, stride, mirrored))
    return found


def strided(node: Node, weights: list[Any], sides: list[Border], mirrored: bool) -> Any:
    """A convolution or a pooling."""
    padding = tuple(side.before if side.symmetric else 0 for side in sides)
    geometry = window_of(node), node.config["strides"], padding
    if node.kind == "MaxPooling2D":
        module: Any = torch.nn.MaxPool2d(*geometry)
    elif node.kind == "AveragePooling2D":
        module = torch.nn.AvgPool2d(*geometry, count_include_pad=False)
    else:
        kernel, *bias = weights
        channels, filters = node.input_shape[-1], node.output_shape[-1]
        groups = channels if node.kind == "DepthwiseConv2D" else channels // kernel.shape[2]
        module = torch.nn.Conv2d(channels, filters, *geometry, groups=groups, bias=bool(bias))
        kernel = kernel.reshape(*kernel.shape[:2], -1, filters).permute(3, 2, 0, 1)
        assign(module, kernel.flip(2, 3) if mirrored else kernel, *bias)
    if all(side.symmetric for side in sides):
        return module
    around = [width for side in reversed(sides) for width in ((0, 0) if side.symmetric else (side.before, side.after))]
    return torch.nn.Sequential(torch.nn.ZeroPad2d(tuple(around)), module)


def assign(module: Any, *values: Any) -> None:
    """Copy weights in the order of Keras, which is that of PyTorch."""
    with torch.no_grad():
        for tensor, value in zip(module.state_dict().values(), values, strict=False):
            tensor.copy_(value)


def plain(node: Node, weights: list[Any], overwrite: bool) -> Any:
    """A layer without a window."""
    config = node.config
    if node.kind == "BatchNormalization":
        module: Any = torch.nn.BatchNorm2d(node.input_shape[-1], config["epsilon"], 1 - config["momentum"])
        assign(module, *weights)
    elif node.kind == "Dense":
        module = torch.nn.Linear(*weights[0].shape)
        assign(module, weights[0].T, weights[1])
    elif node.kind == "ReLU" and config["max_value"] == 6:
        module = torch.nn.ReLU6(inplace=overwrite)
    elif node.kind == "ReLU" or config.get("activation") == "relu":
        module = torch.nn.ReLU(inplace=overwrite)
    elif node.kind == "Add" and overwrite:
        module = Overwrite()
    elif node.kind == "Concatenate":
        module = Concatenate()
    elif node.kind == "GlobalAveragePooling2D":
        module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    elif node.kind in ("InputLayer", "ZeroPadding2D", "Dropout"):
        module = torch.nn.Identity()  # padding is left to the next layer; the rate of dropout is zero
    else:
        raise NotServed(OTHER_TASK)
    return module


class TorchNetwork(torch.nn.Module):
    """The network, for images (N,C,H,W). A final softmax is left out, as PyTorch's loss wants."""

    def __init__(self, nodes: tuple[Node, ...], weights: list[Array]) -> None:
        super().__init__()
        self.inputs = [node.inputs for node in nodes]
        users = Counter(number for node in nodes for number in node.inputs)
        last = {number: at for at, node in enumerate(nodes) for number in node.inputs}
        self.unused = [[number for number in last if last[number] == at] for at in range(len(nodes))]
        paddings = {at: node.config["padding"] for at, node in enumerate(nodes) if node.kind == "ZeroPadding2D"}
        windows = {at: (node, paddings.get(node.inputs[0])) for at, node in enumerate(nodes) if node.kind in STRIDED}
        # Keras pads images of even size by one row at the end, PyTorch at the start. With mirrored images and filters,
        # the network computes the same as Keras's.
        self.mirrored = self._mirrored(list(windows.values()))
        rest = iter(torch.from_numpy(weight) for weight in weights)
        operations = []
        for at, node in enumerate(nodes):
            own = [next(rest) for _ in range(node.weights)]
            if at in windows:
                operations.append(strided(node, own, borders(*windows[at], self.mirrored), self.mirrored))
                continue
            final = node.inputs[-1] if node.inputs else 0
            overwrite = users[final] == 1 and nodes[final].kind in OVERWRITABLE
            operations.append(plain(node, own, overwrite))
        self.operations = torch.nn.ModuleList(operations)

    @staticmethod
    def _mirrored(windows: list[tuple[Node, Any]]) -> bool:
        """Whether PyTorch can express the paddings of all layers, but only of the mirrored network."""
        as_is, mirrored = (
            all(side.symmetric for node, padding in windows for side in borders(node, padding, turned))
            for turned in (False, True)
        )
        return mirrored and not as_is

    def images(self, x: Array) -> Any:
        """Images (N,H,W,C) as the network takes them."""
        x = torch.from_numpy(x).permute(0, 3, 1, 2)
        return (x.flip(2, 3) if self.mirrored else x).contiguous(memory_format=torch.channels_last)

    def forward(self, x: Any) -> Any:
        values: list[Any] = []
        for inputs, unused, operation in zip(self.inputs, self.unused, self.operations, strict=True):
            values.append(operation(*[values[number] for number in inputs] or [x]))
            for number in unused:
                values[number] = None  # its memory is free now
        return values[-1]
