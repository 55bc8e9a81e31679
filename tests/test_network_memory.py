"""A network takes the memory that docs/serving.md states: parameters, packed filters, arenas and little more."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import fastconv
import numpy as np
import pytest
from fastconv.network._graph import Graph, Node
from processes import run_python

MB = 1_000_000
MODULES = 8 * MB  # what Python takes for the modules that load() imports, and for the graph
WORKSPACES = 16 * MB  # scratch memory of the network below with two threads, and its images and results
MOST_LANES = 16  # values of float32 in the longest vector


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Convolutions and two large dense layers. The filters take 60 MB."""
    rng = np.random.default_rng(0)
    graph = Graph(np.dtype("float32"))
    x = graph.input("images", (None, 14, 14, 256))

    def convolution(x: int, window: int, channels: int, filters: int) -> int:
        values = rng.random((window, window, channels, filters), np.float32) / (window * window * channels)
        return graph.add("conv2d", [x, graph.constant(values), None, None], (None, 14, 14, filters), padding="SAME")

    for _ in range(4):
        x = convolution(x, 1, 256, 1024)
        x = convolution(x, 1, 1024, 256)
        x = convolution(convolution(x, 3, 256, 256), 3, 256, 256)
    flat = graph.add("reshape", [x], (None, 14 * 14 * 256), shape=[0, -1])
    for name in ("scores", "boxes"):
        weights = graph.constant(rng.random((14 * 14 * 256, 80), np.float32))
        graph.outputs.append((name, graph.add("dense", [flat, weights, None, None], (None, 80))))
    graph.round_constants()
    return graph


@pytest.fixture(scope="module")
def saved(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "large.fastconv"
    fastconv.Network(graph).save(path)
    return path


def constant_bytes(graph: Graph) -> int:
    return sum(value.array.nbytes for value in graph.values if value.array is not None)


def packing_budget(graph: Graph) -> float:
    """The most bytes of packed filters at one image size, as docs/serving.md states it."""

    def of_step(node: Node) -> float:
        filters = graph.array(node.inputs[1]) if node.operation in ("conv2d", "dense") else None
        if filters is None:
            return 0
        *window, channels, count = filters.shape
        values = math.prod(window) * channels * math.ceil(count / MOST_LANES) * MOST_LANES
        winograd = {(3, 3): 36 / 9, (5, 5): 36 / 25}.get(tuple(window), 1)
        return values * winograd * filters.itemsize

    return sum(map(of_step, graph.nodes))


def measure(path: Path, batches: list[int]) -> list[dict[str, int]]:
    """Bytes of resident and peak memory that a new process adds after `import fastconv`, and of its arena.

    The first report is made after loading, the others after a call with each batch size.
    """
    code = """
        import json, sys
        import numpy as np
        import fastconv

        def status(key):
            with open("/proc/self/status") as lines:
                return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

        def report(arena):
            return {"resident": status("VmRSS:") - before, "peak": status("VmHWM:") - before, "arena": arena}

        before = status("VmRSS:")
        net = fastconv.load(sys.argv[1])
        reports = [report(0)]
        for batch in json.loads(sys.argv[2]):
            shape = [batch, *net.inputs[0].shape[1:]]
            net(np.ones(shape, np.float32))
            reports.append(report(net._program.arena_bytes([shape])))
        print(json.dumps(reports))
    """
    result = run_python(code, str(path), json.dumps(batches), FASTCONV_NUM_THREADS="2")
    reports: list[dict[str, int]] = json.loads(result)
    return reports


# AddressSanitizer keeps freed memory and surrounds each block with further memory.
without_sanitizer = pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer takes memory"
)


@without_sanitizer
def test_loading_takes_the_memory_of_the_parameters(graph: Graph, saved: Path) -> None:
    parameters = constant_bytes(graph)
    (loaded,) = measure(saved, [])
    assert parameters <= loaded["resident"] <= 1.05 * parameters + MODULES
    assert loaded["peak"] <= 1.05 * parameters + MODULES  # no constant is in memory twice


@without_sanitizer
def test_packed_filters_stay_within_the_budget(graph: Graph, saved: Path) -> None:
    """At one image size, filters are packed once, whatever the batch size."""
    limit = 1.05 * constant_bytes(graph) + packing_budget(graph) + MODULES + WORKSPACES
    for report in measure(saved, [1, 8, 3])[1:]:
        limit += report["arena"]
        assert report["resident"] <= limit
