"""Networks that PyTorch's exporters wrote compute what PyTorch computes. Needs torch, and onnxscript to export."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastconv.onnx
import numpy as np
import pytest

pytestmark = pytest.mark.slow

# Each exporter, with versions of the operator set in which it splits different operations into several nodes.
EXPORTERS = [("TorchScript", 14), ("TorchScript", 17), ("TorchScript", 20), ("Dynamo", 18), ("Dynamo", 21)]


@pytest.fixture(scope="module")
def torch(not_run: set[str]) -> Any:
    try:
        import onnxscript  # noqa: F401
        import torch
    except ImportError as error:
        not_run.add(f"networks from PyTorch's exporters: {error}")
        pytest.skip(str(error))
    return torch


def transformed(nn: Any, approximate: str) -> Any:
    """A block of ConvNeXt."""

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.depthwise = nn.Conv2d(3, 6, 3, padding=1, groups=3)
            self.norm = nn.LayerNorm(6, eps=1e-6)
            self.dense = nn.Sequential(nn.Linear(6, 12), nn.GELU(approximate), nn.Linear(12, 6))

        def forward(self, x: Any) -> Any:
            x = self.depthwise(x)
            return x + self.dense(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)

    return Block()


def gelu_by_hand(nn: Any) -> Any:
    class Gelu(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 3)

        def forward(self, x: Any) -> Any:
            x = self.convolution(x)
            return 0.5 * x * (1 + ((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)).tanh())

    return Gelu()


def normalised(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.InstanceNorm2d(8, affine=True),
        nn.Conv2d(8, 6, 3),
        nn.GroupNorm(1, 6),
        nn.SiLU(),
        nn.InstanceNorm2d(6),
        nn.GroupNorm(6, 6, affine=False),
    )


def resized(nn: Any) -> Any:
    class Resized(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, 2, 1)

        def forward(self, x: Any) -> Any:
            resize = nn.functional.interpolate
            large = self.first(x)
            small = self.second(large)
            y = large + resize(small, size=large.shape[2:], mode="bilinear", align_corners=False)
            y = y + resize(small, size=large.shape[-2:])
            y = y + resize(small, scale_factor=2, mode="bilinear", align_corners=True)
            return resize(y, size=(x.shape[2] * 2, x.shape[3] // 2), mode="bilinear")

    return Resized()


NETWORKS: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "transformed": (lambda nn: transformed(nn, "none"), ["conv", "layer_normalization", "gelu"]),
    "transformed by tanh": (lambda nn: transformed(nn, "tanh"), ["conv", "layer_normalization", "gelu_tanh"]),
    "GELU by hand": (gelu_by_hand, ["gelu_tanh"]),
    "normalised": (normalised, ["layer_normalization"] * 5),
    "resized": (resized, ["resize"] * 4),
}
ANY_SIZE = {name for name in NETWORKS if name != "resized"}


def export(torch: Any, model: Any, x: Any, path: Path, exporter: str, opset: int, free: bool) -> None:
    axes = range(4) if free else range(1)
    names = {axis: f"size_{axis}" for axis in axes if axis != 1}
    if exporter == "TorchScript":
        options: dict[str, Any] = {"dynamo": False, "dynamic_axes": {"x": names}}
    else:
        sizes = {axis: torch.export.Dim.AUTO for axis in names}
        options = {"dynamo": True, "dynamic_shapes": (sizes,), "verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), path, input_names=["x"], opset_version=opset, **options)


@pytest.mark.parametrize("free", [False, True], ids=["fixed sizes", "any sizes"])
@pytest.mark.parametrize("dtype, bound", [("float64", 1e-9), ("float32", 1e-5)])
@pytest.mark.parametrize("exporter, opset", EXPORTERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_exported_networks_compute_what_pytorch_computes(
    torch: Any, tmp_path: Path, name: str, exporter: str, opset: int, dtype: str, bound: float, free: bool
) -> None:
    make, wanted = NETWORKS[name]
    torch.manual_seed(0)
    model = make(torch.nn).to(getattr(torch, dtype)).eval()
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -1, 1)
    shapes = [(2, 3, 8, 12), (3, 3, 10, 14) if free and name in ANY_SIZE else (3, 3, 8, 12)]
    images = [np.random.default_rng(0).uniform(-1, 1, shape).astype(dtype) for shape in shapes]
    path = tmp_path / "model.onnx"
    export(torch, model, torch.from_numpy(images[0]), path, exporter, opset, free)
    if free and name not in ANY_SIZE:
        with pytest.raises(ValueError, match=r"\(Resize\): its sizes must .* give the inputs fixed image sizes"):
            fastconv.onnx.load(path)
        return
    net = fastconv.onnx.load(path)
    found = [
        str(part) for node in net._graph.nodes for part in (node.operation, *node.attributes.get("activation", []))
    ]
    assert all(sum(each in part for part in found) >= wanted.count(each) for each in wanted), found
    assert not {"tanh", "reduce"} & set(found)
    for x in images:
        with torch.no_grad():
            y = model(torch.from_numpy(x)).numpy()
        result = net(x)
        assert result.shape == y.shape and result.dtype == dtype
        assert np.linalg.norm(result - y) <= bound * np.linalg.norm(y)
