"""Training with TensorFlow's distribution strategies: two replicas train as one process, and no worker hangs."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
from fastconv.lenet import load_digits, mnist_subset
from fastconv.lenet.model import build
from processes import EXAMPLES, TIMEOUT, load_example, run_python

SCRIPT = EXAMPLES / "distributed.py"
STEPS, BATCH = 20, 32


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load_example("distributed")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slightly more images than the batches use."""
    images, labels = mnist_subset()
    chosen = np.random.default_rng(0).permutation(len(images))[: STEPS * BATCH + 17]
    images, labels = images[chosen], labels[chosen]
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:50], y_test=labels[:50])
    return path


def compiled(model: Any, rate: float) -> Any:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss)
    return model


def test_two_workers_train_as_one_process(example: ModuleType, data: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(data), "--epochs", "1", "--batch-size", str(BATCH), "--out", str(tmp_path / "two.keras")]
    with (tmp_path / "log").open("w+") as log:
        with example.workers_here(2, arguments, stdout=log, stderr=log) as workers:
            statuses = [worker.wait(TIMEOUT) for worker in workers]
        log.seek(0)
        printed = log.read()
    assert statuses == [0, 0], printed
    assert "workers: 2" in printed and printed.count("epoch") == 1, printed

    digits = load_digits(data)
    batches = example.shuffled(digits.train_images, digits.train_labels, BATCH, seed=1).batch(BATCH).map(example.scaled)
    assert len(batches) == STEPS
    one, initial = compiled(build("fastconv", 1), example.RATE), build("fastconv", 1).get_weights()
    loss = one.fit(batches, shuffle=False, verbose=0).history["loss"][0]

    two = keras.models.load_model(tmp_path / "two.keras")
    for a, b, start in zip(two.get_weights(), one.get_weights(), initial, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
        assert abs(b - start).max() > 1e-3
    (stated,) = re.findall(r"loss ([\d.]+)", printed)
    assert float(stated) == pytest.approx(loss, abs=1e-3)


@pytest.mark.slow
def test_the_script_starts_workers_and_reports_their_failure(data: Path) -> None:
    arguments = ["--workers", "2", "--data", str(data), "--batch-size", "33"]  # not divisible by two workers
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 1
    assert "ValueError: The `global_batch_size` 33 is not divisible" in done.stderr, done.stderr


@pytest.mark.slow
def test_mirrored_replicas_train_as_one_process(data: Path) -> None:
    """With `fit`, on two virtual CPUs. TensorFlow sets these up at its start, so the test starts a process."""
    run_python(
        """
        import sys
        import keras
        import numpy as np
        import tensorflow as tf
        from fastconv.lenet import load_digits
        from fastconv.lenet.model import build

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        assert strategy.num_replicas_in_sync == 2

        def compiled():
            model = build("fastconv", 1)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.SGD(0.1), loss)
            return model

        steps, batch = int(sys.argv[2]), int(sys.argv[3])
        digits = load_digits(sys.argv[1])
        x = digits.train_images[: steps * batch, ..., None].astype(np.float32) / 255
        y = digits.train_labels[: steps * batch]
        with strategy.scope():
            two = compiled()
        one, initial = compiled(), compiled().get_weights()
        losses = [m.fit(x, y, batch_size=batch, shuffle=False, verbose=0).history["loss"] for m in (two, one)]
        assert two.optimizer.iterations == one.optimizer.iterations == steps
        np.testing.assert_allclose(*losses, rtol=1e-5)
        for a, b, start in zip(two.get_weights(), one.get_weights(), initial, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
            assert abs(b - start).max() > 1e-3
        """,
        str(data),
        str(STEPS),
        str(BATCH),
    )


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_worker_ends_the_other(example: ModuleType, data: Path, killed: int, tmp_path: Path) -> None:
    """The other worker ends soon, with TensorFlow's error. Worker 0 is a case of its own, as it is the coordinator."""
    path = tmp_path / "log"
    arguments = ["--data", str(data), "--epochs", "100000", "--batch-size", str(BATCH)]
    with path.open("w") as log, example.workers_here(2, arguments, stdout=log, stderr=log) as workers:
        began = time.monotonic()
        while "epoch 2" not in path.read_text():
            assert all(worker.poll() is None for worker in workers), path.read_text()
            assert time.monotonic() - began < TIMEOUT, path.read_text()
            time.sleep(0.1)
        workers[killed].kill()
        status = workers[1 - killed].wait(180)
    assert status not in (0, -9)
    assert re.search(r"tensorflow\S*\.(Unavailable|DeadlineExceeded|Aborted|Internal)Error: ", path.read_text())
