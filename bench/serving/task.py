"""A frozen network at one batch size. The contestants read the network from files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contestants import write_reason
from bench.measure import geometric_mean, ratio
from bench.oracle import TOLERANCE as EPS_OF_LAYER
from bench.serving.layers import ServedLayer

OURS = "fastconv"
OTHER_FORM = "only single layers, or only whole networks"  # why a contestant is not measured
TOLERANCE = 1e-4  # of whole networks, relative to the spread of the outputs


@dataclass(frozen=True)
class Served:
    """A network in `folder`: ``model.fastconv``, ``model.onnx`` and, of whole networks, ``model.tflite``.

    `layer` is set if the network is this layer alone.
    """

    network: str
    batch: int
    folder: str
    layer: ServedLayer | None = None

    @property
    def sample_seconds(self) -> float:
        return 0.05 if self.layer is None else 0.004

    @property
    def warm_seconds(self) -> float:
        return 0.02 if self.layer is None else 0.004

    @property
    def tolerance(self) -> float:
        return TOLERANCE if self.layer is None else EPS_OF_LAYER

    def file(self, ending: str) -> Path:
        return Path(self.folder, f"model.{ending}")

    def __str__(self) -> str:
        return f"{self.network}{f' {self.layer.name}' if self.layer else ''} batch {self.batch}"


def write_network(task: Served, graph: Any) -> None:
    """Write the files of a frozen graph. Without ``model.onnx``, the peers that read it are left out."""
    from fastconv import Network

    Network(graph).save(task.file("fastconv"))
    path = task.file("onnx")
    try:
        from bench.serving.export import onnx_model

        path.write_bytes(onnx_model(graph, task.batch))
    except (ImportError, NotImplementedError) as error:
        write_reason(path, str(error))


def best_of(contestants: dict[str, dict[str, Any]], names: Iterable[str]) -> dict[str, Any]:
    """The fastest of some contestants, and its time over ours; None if one is missing."""
    best = min((name for name in names if name in contestants), key=lambda n: contestants[n]["median_us"], default=None)
    return {"best": best, "ratio": None if best is None else ratio(contestants, best, OURS)}


def means_of(results: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """The geometric mean and the smallest of the ratios, how many there are, and how many are below 0.9."""
    values = [result[key] for result in results if result[key] is not None]
    below = sum(value < 0.9 for value in values)
    return {"mean": geometric_mean(values), "least": min(values, default=None), "count": len(values), "below": below}
