"""The benchmark reads its suites, measures, and refuses wrong results and options."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import fastconv
import fastconv.keras
import numpy as np
import pytest
from fastconv.lenet import mnist_subset
from processes import TIMEOUT

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the benchmark is not installed, but run from the repository

from bench import figures, limits, machine, measure, oracle  # noqa: E402
from bench.__main__ import COMMANDS  # noqa: E402
from bench.accuracy import same  # noqa: E402
from bench.builds.speed import Timing  # noqa: E402
from bench.cases import DIRECTIONS, RESULTS, cases, make_arrays  # noqa: E402
from bench.contestants import NotServed, channels_first, channels_last  # noqa: E402
from bench.contestants import fastconv as ours  # noqa: E402
from bench.layers import EXTRA, NETWORKS, Layer, parse_line, read_suite, suites  # noqa: E402
from bench.oracle import error_in_eps, reference_and_bound  # noqa: E402
from bench.processes import Library  # noqa: E402
from bench.single_layers import add_percent_of_peak, geometric_means, ratios  # noqa: E402
from bench.tasks import FLOORS, TASKS, Task, initial_weights, task_arrays  # noqa: E402
from bench.tasks import NETWORKS as NETS  # noqa: E402
from bench.training import CONTESTANTS, apart  # noqa: E402

SMALL = [
    "plain 2x9x8x3 -> 5 3x2",
    "strided 2x9x8x3 -> 4 3x3 s=2 p=1",
    "grouped 1x7x7x4 -> 6 3x3 p=1 g=2",
    "depthwise 2x7x9x5 -> 5 3x3 p=1 depthwise",
    "pool 2x9x8x3 max 3x3 s=2 p=1",
]


def test_the_suites_are_complete_and_their_names_unique() -> None:
    assert set(suites()) >= set(NETWORKS)
    layers = [layer for name in NETWORKS for layer in read_suite(name)]
    assert all(min(layer.p, layer.q) > 0 for layer in layers)
    assert len({(layer.suite, layer.name) for layer in layers}) == len(layers)
    assert sum(layer.anchor for layer in layers) == 18
    assert {layer.fresh for layer in read_suite(EXTRA)} == {False, True}


def test_a_line_describes_a_layer() -> None:
    layer = parse_line("dw 8x14x15x512 -> 512 3x5 s=2 p=1 depthwise anchor", "some")
    assert layer == Layer("some", "dw", 8, 14, 15, 512, 512, 3, 5, 2, 1, 512, True, True)
    assert layer.output_shape == (8, 7, 7, 512)
    assert layer.filter_shape == (3, 5, 512, 1)
    assert layer.flops == 2 * 8 * 7 * 7 * 512 * 15
    # One of 7 windows of 3 rows has a row of padding. Two of 7 windows of 5 columns have a column of padding.
    assert layer.least_flops == 2 * 8 * 512 * (7 * 3 - 1) * (7 * 5 - 2)
    assert parse_line("p 1x8x8x3 max 2x2", "some").stride == 2  # the size of the window, as everywhere


@pytest.mark.parametrize(
    "line",
    ["a 1x8x8x3 -> 4", "a 1x8x8x3 -> 4 3x3 q=1", "a 1x8x8x3 -> 4 3x3 g=2", "a 1x8x8x3 -> 4 9x9", "a 1x8x8 -> 4 3x3"],
)
def test_a_wrong_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="some: "):
        parse_line(line, "some")


@pytest.mark.parametrize("line", SMALL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agreement_with_the_reference(line: str, dtype: str) -> None:
    """fastconv agrees in every direction, and one wrong element of its result is above the tolerance."""
    chosen = cases([parse_line(line, "some")], list(DIRECTIONS), dtype, "auto")
    assert len(chosen) == (2 if "max" in line else 3)
    for case in chosen:
        arrays = make_arrays(case)
        (candidate,) = ours.candidates(case, arrays)
        result = candidate.check()
        reference, bound = reference_and_bound(case.layer, case.direction, arrays)
        assert result.shape == case.result_shape
        assert error_in_eps(result, reference, bound) <= 64
        position = np.unravel_index(np.argmax(bound), bound.shape)
        for wrong in (result[position] + 1e-3 * bound[position], np.nan):
            spoilt = result.copy()
            spoilt[position] = wrong
            assert not error_in_eps(spoilt, reference, bound) <= oracle.TOLERANCE
        assert not error_in_eps(result[..., :-1], reference, bound) <= oracle.TOLERANCE


@pytest.mark.parametrize("line", [*SMALL, "multiplier 2x7x9x5 -> 10 3x2 depthwise"])
def test_layouts_of_other_libraries(line: str) -> None:
    """Peers get (N,C,H,W) and (K,C/groups,R,S), and their results come back unchanged."""
    for case in cases([parse_line(line, "some")], list(DIRECTIONS), "float32", "auto"):
        layer, arrays = case.layer, make_arrays(case)
        theirs = channels_first(case, arrays)
        assert theirs["x"].shape == (layer.n, layer.c, layer.h, layer.w)
        assert layer.pool or theirs["w"].shape == (layer.k, layer.c // layer.groups, layer.r, layer.s)
        assert all(array.flags.c_contiguous for array in theirs.values())
        name = RESULTS[case.direction]
        if name in arrays:
            np.testing.assert_array_equal(channels_last(case, theirs[name]), arrays[name])


IMAGE_FILTERS = [
    "grey 2x12x11x1 -> 3 3x3 p=1",
    "valid 2x12x11x1 -> 1 5x3",
    "colour 2x12x11x3 -> 6 5x5 p=2 depthwise",
]


@pytest.mark.parametrize(("name", "package"), [("scipy", "scipy"), ("opencv", "cv2")])
def test_image_libraries_filter_single_channels_only(name: str, package: str) -> None:
    pytest.importorskip(package)
    library = importlib.import_module(f"bench.contestants.{name}")
    for case in cases([parse_line(line, "some") for line in IMAGE_FILTERS], ["forward"], "float32", "auto"):
        arrays = make_arrays(case)
        reference, bound = reference_and_bound(case.layer, case.direction, arrays)
        for candidate in library.candidates(case, arrays):
            assert error_in_eps(candidate.check(), reference, bound) <= oracle.TOLERANCE, (case, candidate.label)
    others = [*SMALL, "padded 1x9x9x1 -> 1 5x5 p=1", "strided 1x9x9x1 -> 1 3x3 s=2"]
    others.remove("depthwise 2x7x9x5 -> 5 3x3 p=1 depthwise")
    for case in cases([parse_line(line, "some") for line in others], list(DIRECTIONS), "float32", "auto"):
        with pytest.raises(NotServed, match="single channels"):
            list(library.candidates(case, make_arrays(case)))


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
    image = {"direction": "forward", "suite": "images", "anchor": False, "ratio_framework": 9.0, "ratio_all": 9.0}
    assert geometric_means([*results, image])["forward"] == means["forward"]
    assert geometric_means([*results, image])["forward (images)"]["all"] == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("direct", "gflops", "least", "void"),
    [(True, 106, 1.0, True), (True, 104, 1.0, False), (True, 112, 0.9, False), (False, 150, 1.0, False)],
)
def test_rates_above_the_peak_make_a_run_void(direct: bool, gflops: float, least: float, void: bool) -> None:
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


def test_time_that_the_host_gave_to_others_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(([10, 0, 0, 80, 0, 0, 0, 10], [20, 0, 0, 150, 0, 0, 0, 30]))
    monkeypatch.setattr(machine, "_fields", lambda: next(ticks))
    assert machine.steal_since(machine.steal()) == pytest.approx(0.2)


CONTESTANT = """
import numpy as np
from bench.contestants import fetched

FRAMEWORK = True

def setup(threads):
    return "1.0"

def candidates(task, arrays):
    offset = {offset}
    return [fetched("sum", lambda: arrays["x"].sum() + offset, np.asarray)]
"""


def test_a_contestant_with_a_wrong_result_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    offsets = {"right": 0.0, "wrong": 1.0, "strange": "np.nan"}
    x = np.ones(5, np.float32)
    with contextlib.ExitStack() as stack:
        libraries = []
        for name, offset in offsets.items():
            (tmp_path / f"{name}_sum.py").write_text(CONTESTANT.format(offset=offset), encoding="utf-8")
            libraries.append(
                stack.enter_context(Library(name, 1, sorted(os.sched_getaffinity(0)), f"{name}_sum", folder=tmp_path))
            )
        task = Task("predict", "lenet", 1)
        found = measure.measure(task, {"x": x}, lambda name, result: abs(float(result) - 5), libraries, 2)
    assert found["wrong"] == ["wrong", "strange"] and set(found["contestants"]) == {"right"}
    assert found["refused"]["wrong"] == "wrong: sum: error 1"
    right = found["contestants"]["right"]
    assert right["variant"] == "sum" and 0 < right["q1_us"] <= right["median_us"] <= right["q3_us"]


def test_the_result_is_the_median_over_processes() -> None:
    """In one pair of processes, the memory layout slows one build down."""
    timing = Timing("a layer")
    for before, after in (([1.0, 1.0, 9.0], [1.0, 1.0, 1.0]), ([1.0] * 3, [2.0] * 3), ([1.1] * 3, [1.0] * 3)):
        timing.add(before, after)
    assert timing.ratios == pytest.approx([1.0, 0.5, 1.1])
    assert timing.ratio == pytest.approx(1.0)


def run(*options: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(Path(fastconv.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "bench", *options]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=TIMEOUT
    )


def test_the_usage_lists_all_commands() -> None:
    done = run("--help")
    assert done.returncode == 0 and all(name in done.stdout for name in COMMANDS)
    assert run("no-such-command").returncode == 2


@pytest.mark.slow
def test_layers_run(tmp_path: Path) -> None:
    """A whole run against TensorFlow: the tables and the JSON file."""
    data = tmp_path / "result.json"
    options = ("--suite", "lenet", "--layer", "lenet ", "--rounds", "2", "--peer", "tensorflow", "--json", str(data))
    done = run("layers", *options)
    report = json.loads(data.read_text(encoding="utf-8"))
    assert done.returncode == (1 if report["void"] else 0), done.stdout + done.stderr
    assert "geometric means" in done.stdout
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
        assert set(theirs["variants"]) == {"op", "tf.function"}
        assert 0 < ours["q1_us"] <= ours["median_us"] <= ours["q3_us"]
        assert result["best_framework"] == "tensorflow"
        assert result["ratio_framework"] == pytest.approx(theirs["median_us"] / ours["median_us"])
    figures.layers(report, tmp_path / "result.png")
    assert (tmp_path / "result.png").read_bytes().startswith(b"\x89PNG")


def test_options_that_fit_no_layer_are_refused() -> None:
    done = run("layers", "--layer", "no such layer")
    assert done.returncode == 2
    assert "no layer fits --suite" in done.stderr


# ---- Other commands


def test_limits_prints_all_variants(capsys: pytest.CaptureFixture[str]) -> None:
    assert limits.main(["--suite", "lenet", "--rounds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "conv1" in printed and "conv2" in printed
    assert "GB/s, three streams read" in printed
    assert [line.count("%") for line in printed.splitlines() if "conv" in line] == [len(limits.VARIANTS)] * 2
    with pytest.raises(SystemExit):
        limits.main(["--layer", "nobody's"])


@pytest.mark.slow  # two processes import TensorFlow
def test_batch_normalisation_is_compared_with_its_memory_traffic(tmp_path: Path) -> None:
    data = tmp_path / "result.json"
    done = run("limits", "--batch-norm", "--rounds", "1", "--json", str(data))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stock / fused" in done.stdout and "fastconv / traversals" in done.stdout
    report = json.loads(data.read_text(encoding="utf-8"))
    (result,) = report["results"]
    assert result["contestants"].keys() >= {"stock", "fused", "fastconv"} and not result["wrong"]
    moved = 8 * 4 * 8 * 56 * 56 * 256
    assert result["traversals"]["median_us"] == pytest.approx(1e6 * moved / report["peak"]["bandwidth"])


def test_networks_are_those_that_keras_builds() -> None:
    from fastconv.lenet.model import build

    from bench.contestants import stock

    for network in (*NETS.values(), *FLOORS.values()):
        model = stock.build(network, fastconv.keras)
        weights = initial_weights(network)
        assert [weight.shape for weight in model.get_weights()] == [weight.shape for weight in weights]
        model.set_weights(weights)
    lenet = build()
    assert [w.shape for w in lenet.get_weights()] == NETS["lenet"].weight_shapes()
    ours = stock.build(NETS["lenet"], fastconv.keras)
    weights = initial_weights(NETS["lenet"])
    lenet.set_weights(weights)
    ours.set_weights(weights)
    images = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    np.testing.assert_allclose(ours(images), lenet(images), atol=1e-5)
    assert float(sum(ours.losses)) == pytest.approx(float(sum(lenet.losses)))


def test_task_arrays_have_the_sizes_of_the_task() -> None:
    digits = np.arange(3 * 784).reshape(3, 28, 28).astype(np.uint8), np.array([3, 1, 4])
    for task in TASKS:
        arrays = task_arrays(task, digits, 7)
        count = {"step": 16 * task.batch, "epoch": 7, "predict": task.batch}[task.kind]
        assert arrays["x"].shape == (count, *NETS[task.network].input_shape)
        assert arrays["y"].shape == (count, 10) and (arrays["y"].sum(1) == 1).all()
        assert all(array.dtype == np.float32 for array in arrays.values())


def test_wrong_losses_are_above_the_tolerance() -> None:
    losses = np.array([2.5, 2.4, 2.3])
    tolerance = Task("step", "lenet", 32).tolerance
    assert apart(losses * 1.0001, losses) <= tolerance
    for wrong in (losses * 1.01, losses * np.nan, losses[:2]):
        assert not apart(wrong, losses) <= tolerance


@pytest.mark.slow
def test_training_run(tmp_path: Path) -> None:
    """All contestants that need no library but TensorFlow, on a small batch and a short epoch."""
    data, picture = (tmp_path / f"result.{ending}" for ending in ("json", "png"))
    names = [name for name in CONTESTANTS if name not in ("torch", "jax")]
    done = run(
        "training",
        *(option for kind in ("step", "epoch", "predict") for option in ("--kind", kind)),
        *(option for batch in ("1", "32") for option in ("--batch", batch)),
        *(option for name in names for option in ("--contestant", name)),
        *("--rounds", "2", "--epoch-rounds", "1", "--images", "320"),
        *("--json", str(data)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stock / fastconv" in done.stdout
    report = json.loads(data.read_text(encoding="utf-8"))
    figures.training(report, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    measured = {result["task"]: set(result["contestants"]) for result in report["results"]}
    keras = {"stock", "xla", "fastconv", "fused", "floor"}
    assert measured == {
        "step lenet 32": {*keras, "numpy"},
        "epoch lenet 32": keras,
        "predict lenet 1": {*keras, "numpy"},
    }
    for result in report["results"]:
        assert result["wrong"] == []
        for entry in result["contestants"].values():
            assert 0 < entry["q1_us"] <= entry["median_us"] <= entry["q3_us"]


@pytest.mark.slow  # two processes import TensorFlow
def test_neighbours_run(tmp_path: Path) -> None:
    data = tmp_path / "result.json"
    done = run("training", "--kind", "neighbours", "--inter-op", "2", "--rounds", "1", "--json", str(data))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "inter_op 2" in done.stdout
    (result,) = json.loads(data.read_text(encoding="utf-8"))["neighbours"]
    assert result["inter_op"] == 2 and min(result["threads"].values()) > 1
    assert all(result[name][whose]["median_us"] > 0 for name in ("after", "beside") for whose in result["threads"])


@pytest.mark.slow
def test_the_profile_lists_the_ops_of_both_kinds_of_layers() -> None:
    """The profile has each convolution and pool of the step, for stock Keras and for us."""
    done = run("profile", "--batch", "32")
    assert done.returncode == 0, done.stdout + done.stderr
    stock, ours = done.stdout.split("stock: a step takes ")[1].split("fastconv: a step takes ")
    for op in ("Conv2DBackpropInput", "Conv2DBackpropFilter", "MaxPool", "MatMul"):
        assert op in stock
    assert "FastconvConv2D" not in stock
    for op in ("FastconvConv2D ", "FastconvConv2DMaxPool2DBackprop", "FastconvMaxPool2DWithTaps", "MatMul"):
        assert op in ours


@pytest.mark.slow
def test_the_accuracies_of_both_kinds_of_layers_are_compared(tmp_path: Path) -> None:
    assert same([0.98, 0.99], [0.984, 0.988])
    assert not same([0.98, 0.99], [0.97, 0.972])
    assert not same([0.98, 0.99], [0.97, float("nan")])
    images, classes = mnist_subset()
    odd = np.arange(len(images)) % 2 == 1
    data, result = tmp_path / "digits.npz", tmp_path / "accuracy.json"
    np.savez(data, x_train=images[odd], y_train=classes[odd], x_test=images[~odd], y_test=classes[~odd])
    options = ("--seeds", "2", "--epochs", "1", "--limit", "1200", "--data", str(data), "--json", str(result))
    done = run("accuracy", *options)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(result.read_text(encoding="utf-8"))
    assert report["same"] == (done.returncode == 0)
    for stock, other in zip(report["accuracy"]["keras"], report["accuracy"]["fastconv"], strict=True):
        assert stock == pytest.approx(other, abs=0.01)
        assert stock > 0.2


@pytest.mark.parametrize("options", [("--batch", "7", "--kind", "step"), ("--rounds", "0"), ("--threads", "0")])
def test_wrong_training_options_are_refused(options: tuple[str, ...]) -> None:
    assert run("training", *options).returncode == 2
