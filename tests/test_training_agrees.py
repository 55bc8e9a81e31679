"""From the same weights, LeNet has the same losses on fastconv's layers as on Keras's."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from processes import TIMEOUT

pytestmark = pytest.mark.tensorflow

STEPS = 100
# Runs in another process: TensorFlow's threads can be set only once, and this process keeps Keras's default dtype.
LOSSES = """
import json, os, sys
dtype, threads, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["FASTCONV_NUM_THREADS"] = str(threads)
import keras, numpy as np, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(threads)
keras.config.set_floatx(dtype)
from fastconv.lenet import mnist_subset
from fastconv.lenet.model import build

pixels, classes = mnist_subset()
order = np.random.default_rng(1).permutation(len(pixels))
images = (pixels[order, ..., None] / 255).astype(dtype)
labels = np.eye(10)[classes[order]].astype(dtype)

def losses(layers):
    model = build(layers, 3)
    assert {weight.dtype for weight in model.get_weights()} == {np.dtype(dtype)}
    assert type(model.layers[0]).__module__.startswith(layers)
    optimizer = keras.optimizers.Adam(0.001)
    optimizer.build(model.trainable_variables)
    cross_entropy = keras.losses.CategoricalCrossentropy(from_logits=True)

    @tf.function(autograph=False)
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.add_n([cross_entropy(y, model(x, training=True)), *model.losses])
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    chosen = [np.arange(128 * i, 128 * (i + 1)) % len(images) for i in range(steps)]
    return [float(step(images[batch], labels[batch])) for batch in chosen]

print(json.dumps({layers: losses(layers) for layers in ("keras", "fastconv")}))
"""


@cache
def losses(dtype: str, threads: int) -> dict[str, np.ndarray]:
    """The losses with Keras's layers and with fastconv's."""
    command = [sys.executable, "-c", LOSSES, dtype, str(threads), str(STEPS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    found = {layers: np.array(values) for layers, values in json.loads(done.stdout.splitlines()[-1]).items()}
    for values in found.values():
        assert values.shape == (STEPS,) and values[-10:].mean() < 0.5 * values[0]  # it does learn
    return found


@pytest.mark.slow
def test_losses_agree_in_float64() -> None:
    found = losses("float64", 2)
    np.testing.assert_allclose(found["fastconv"], found["keras"], rtol=0, atol=1e-7)


@pytest.mark.slow
def test_losses_agree_in_float32() -> None:
    """The difference from Keras is at most three times the difference between Keras on one thread and on two."""
    one, two = losses("float32", 1), losses("float32", 2)
    ulp = float(np.spacing(np.float32(one["keras"].max())))
    # With one CPU, or by chance, the two stock runs may be equal.
    spread = max(float(np.abs(one["keras"] - two["keras"]).max()), 4 * ulp)
    for found in (one, two):
        assert float(np.abs(found["fastconv"] - found["keras"]).max()) <= 3 * spread
