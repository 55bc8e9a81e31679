"""Networks of keras.applications compute the same results after `accelerate`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastconv.keras
import keras
import numpy as np
import pytest
import tensorflow as tf
from processes import TIMEOUT

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the benchmark is not installed, but run from the repository

from bench.applications.check import (  # noqa: E402
    SEEDS,
    TIMES_STOCK,
    disagreements_in_float32,
    disagreements_in_float64,
    errors,
    mean_errors,
)
from bench.applications.choices import Choices  # noqa: E402
from bench.applications.networks import NETWORKS, build, describe, images  # noqa: E402
from bench.serving.models import randomise  # noqa: E402

QUICK = "MobileNetV2"


@pytest.mark.parametrize(
    "network", [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_outputs_and_gradients_agree_in_float64(network: str) -> None:
    largest, wrong = disagreements_in_float64(network, 64, 2)
    assert not wrong
    assert 0 < largest  # the kernels are not TensorFlow's


@pytest.mark.parametrize(
    ("network", "seeds"),
    [(QUICK, 2), *(pytest.param(name, SEEDS, marks=pytest.mark.slow) for name in NETWORKS)],
)
def test_rounding_errors_in_float32_are_like_stocks(network: str, seeds: int) -> None:
    found = disagreements_in_float32(network, 64, 2, seeds)
    assert not found.wrong
    assert found.ours != found.theirs  # the kernels are not TensorFlow's


def accelerated_with_error(error: float, rough: bool) -> Callable[[Any], Any]:
    """`accelerate` with a relative error in the convolutions: random if `rough`, else in every other column."""
    rng = np.random.default_rng(0)

    def off(values: Any) -> Any:
        shape = values.shape
        factors = rng.standard_normal(shape) if rough else np.broadcast_to((np.arange(shape[2]) % 2)[:, None], shape)
        return values * tf.constant(1 + error * factors, values.dtype)

    class Wrong(fastconv.keras.Conv2D):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            function = tf.custom_gradient(lambda y: (off(y), off)) if rough else off
            return function(super().call(inputs))

    def accelerate(stock: Any) -> Any:
        model = fastconv.keras.accelerate(stock)
        for layer in model.layers:
            if type(layer) is fastconv.keras.Conv2D:
                layer.__class__ = Wrong
        return model

    return accelerate


@pytest.mark.parametrize(("error", "rough"), [(1e-4, False), (1e-6, True)], ids=["wrong", "ten times the rounding"])
def test_worse_kernels_are_found(error: float, rough: bool) -> None:
    found = disagreements_in_float32("MobileNetV2", 64, 2, 1, accelerated_with_error(error, rough))
    assert found.wrong and found.times_stock > TIMES_STOCK


def layers_that_choose() -> Any:
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="conv")(inputs)
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="pool")(x)
    x = keras.layers.Activation("relu", name="activation")(x - 0.1)
    return keras.Model(inputs, keras.layers.ReLU(0.5, name="relu6")(x))


def test_a_network_is_unchanged_by_its_own_choices() -> None:
    model = layers_that_choose()
    copies = [keras.models.clone_model(model) for _ in range(2)]
    for copy in copies:
        copy.set_weights(model.get_weights())
    x = np.random.default_rng(1).standard_normal((2, 6, 6, 2)).astype(np.float32)
    choices = Choices()
    choices.record(copies[0])
    assert np.array_equal(copies[0](x), model(x)) and np.array_equal(copies[0](-x), model(-x))
    others = choices.impose(copies[1])
    assert np.array_equal(copies[1](x), model(x)) and np.array_equal(copies[1](-x), model(-x))
    assert others == [0] * 8  # four layers, two calls


def test_imposed_choices_replace_the_networks_own() -> None:
    model = keras.Sequential([keras.Input((1, 4, 1)), keras.layers.ReLU(2.0), keras.layers.MaxPooling2D((1, 2))])
    choices = Choices()
    choices.record(model)
    model(np.reshape(np.float32([-1, 1, 3, 1]), (1, 1, 4, 1)))
    others = choices.impose(model)
    x = tf.constant(np.reshape([7, -1, 1, 5], (1, 1, 4, 1)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    # The first value counts as negative. The second passes unchanged, and the pool picks it. The third counts as large.
    assert np.ravel(y).tolist() == [-1, 2]
    assert np.ravel(tape.gradient(y, x)).tolist() == [0, 1, 0, 0]
    assert others == [4, 2]  # the pool would have picked the first and the last value


def test_errors_are_relative_to_norms() -> None:
    """Gradients that are zero up to rounding are the exception."""
    one = np.ones(4)
    expected = {"outputs": 1e-9 * one, "kernel": one, "bias": 1e-15 * one}
    found = {"outputs": 1.1e-9 * one, "kernel": 1.2 * one, "bias": 2e-15 * one}
    apart = errors(found, expected)
    assert apart == pytest.approx({"outputs": 0.1, "kernel": 0.2, "bias": 1e-11})


def test_mean_errors_are_root_mean_squares() -> None:
    expected = [{"outputs": np.ones(1), "kernel": np.ones(4)}] * 2
    found = [{"outputs": np.ones(1), "kernel": (1 + error) * np.ones(4)} for error in (0.6, 0.8)]
    assert mean_errors(iter(found), expected) == pytest.approx({"outputs": 0, "kernel": 0.5**0.5})


@pytest.mark.slow
def test_the_command_measures_and_reports(tmp_path: Path) -> None:
    names = ("stock", "fused")
    options = [option for name in names for option in ("--contestant", name)]
    options += ["--network", "ResNet20", "--batch", "2", "--rounds", "1"]
    command = [sys.executable, "-m", "bench", "applications", *options, "--json", str(tmp_path / "r.json")]
    paths = os.pathsep.join([str(ROOT), *sys.path])
    variables = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [result["kind"] for result in report["results"]] == ["step", "predict"]
    for result in report["results"]:
        times = {name: result["contestants"][name]["median_us"] for name in names}
        mean = report["means"][result["kind"]]["32x32, batch 2"]["stock / fused"]
        assert [mean["mean"], mean["least"]] == pytest.approx([times["stock"] / times["fused"]] * 2)
    assert "ResNet20, batch 2" in done.stdout and "stock / fused" in done.stdout


def test_small_networks_have_the_layers_of_the_papers() -> None:
    for network, convolutions, parameters in (("ResNet20", 21, 0.27e6), ("DenseNet40", 39, 1.0e6)):
        model = build(network, 32)
        found = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
        assert len(found) == convolutions  # the ResNet has two more, in its shortcuts
        assert model.count_params() == pytest.approx(parameters, rel=0.1)


@pytest.mark.parametrize("network", ["ResNet20", "DenseNet40", "MobileNetV2-32", "ResNet50", "DenseNet121"])
def test_pytorch_gets_the_same_network(network: str) -> None:
    torch = pytest.importorskip("torch")
    from bench.applications.torch_network import TorchNetwork

    larger = build(network, 96)
    randomise(larger)  # statistics of few pixels would make the outputs sensitive to rounding errors
    model = build(network, 32, weights=larger.get_weights())
    x = images(model, 2)
    theirs = TorchNetwork(describe(model), model.get_weights()).eval()
    with torch.inference_mode():
        found = theirs(theirs.images(x)).softmax(1).numpy()
    expected = np.asarray(model(x, training=False))
    assert np.abs(found - expected).max() <= 1e-4 * expected.max()
