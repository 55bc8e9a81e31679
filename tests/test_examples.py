"""The examples run as scripts, their gradients agree with finite differences, and their networks learn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from fastconv.lenet import mnist_subset
from processes import EXAMPLES, TIMEOUT, load_example

SCRIPT = EXAMPLES / "lenet_numpy.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load_example("lenet_numpy")


@pytest.fixture(scope="module")
def digits(example: ModuleType) -> tuple[np.ndarray, np.ndarray]:
    images, classes = mnist_subset()
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = example.prepare(images[order], classes[order])
    return images, labels


@pytest.mark.parametrize("activation", [None, "relu"])
def test_gradients_are_those_of_finite_differences(
    example: ModuleType, digits: tuple[np.ndarray, np.ndarray], activation: str | None
) -> None:
    model = example.LeNet(3, "float64", activation)
    random = np.random.default_rng(1)
    for name in ("bias1", "bias2", "bias3", "bias4", "bias5"):  # non-zero, so that a mistake with them is visible
        model.w[name][...] = random.normal(0, 0.1, model.w[name].shape)
    images, labels = (array[:8].astype(np.float64) for array in digits)

    def loss() -> float:
        model.forward(images)
        return float(model.backward(images, labels))

    loss()
    gradients = {name: gradient.copy() for name, gradient in model.g.items()}
    step = 1e-7  # small, because a ReLU or a maximum may change its choice in between
    for name, weights in model.w.items():
        for _ in range(3):
            direction = random.normal(size=weights.shape)
            kept = weights.copy()
            weights[...] = kept + step * direction
            above = loss()
            weights[...] = kept - step * direction
            below = loss()
            weights[...] = kept
            expected = float(np.vdot(gradients[name], direction))
            size = float(np.linalg.norm(gradients[name]))
            assert (above - below) / (2 * step) == pytest.approx(expected, abs=1e-5 * size), name


@pytest.mark.tensorflow
def test_lenet_numpy_computes_what_fastconv_lenet_does(
    example: ModuleType, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    """Ten steps of Adam from the same weights give the losses of the Keras model."""
    from fastconv.lenet.model import build, compile_model

    model, keras_model = example.LeNet(2), build("keras", 5)
    compile_model(keras_model, 0.001)
    keras_model.set_weights(list(model.w.values()))
    for i in range(10):
        images, labels = (array[64 * i : 64 * (i + 1)] for array in digits)
        np.testing.assert_allclose(model.forward(images), keras_model(images).numpy(), atol=1e-4)
        loss = float(keras_model.loss(labels, keras_model(images)) + sum(keras_model.losses))
        assert model.step(images, labels) == pytest.approx(loss, rel=1e-4)
        keras_model.train_on_batch(images, labels)


def test_lenet_numpy_learns(example: ModuleType, digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = digits
    model = example.LeNet()
    for _ in range(3):
        for start in range(0, 4000, 100):
            model.step(images[start : start + 100], labels[start : start + 100])
    assert example.accuracy(model, images[4000:], labels[4000:]) > 0.85


def test_lenet_numpy_runs_as_a_script_without_tensorflow(digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    images, labels = ((digits[0][:300, ..., 0] * 255).round().astype(np.uint8), digits[1][:300].argmax(1))
    data = {"x_train": images[:250], "y_train": labels[:250], "x_test": images[250:], "y_test": labels[250:]}
    np.savez(tmp_path / "digits.npz", **data)
    code = (
        "import runpy, sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; "  # importing either fails now
        "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    arguments = [str(SCRIPT), "--data", str(tmp_path / "digits.npz"), "--epochs", "2", "--batch-size", "100"]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["data", "epoch 1", "epoch 2"]
