"""LeNet-5 without a framework. fastconv convolves and pools, NumPy does the rest, and every gradient is written out.

A dense layer is also a convolution. Each row of its input is an image of one pixel, and its kernel is a 1x1 filter.

    python examples/lenet_numpy.py [--data mnist.npz] [--epochs 3] [--batch-size 128] [--seed 1] [--relu]

The model is that of ``fastconv lenet``. --relu adds a ReLU after each convolution. All weights are in one long vector,
and the layers use views of it. Adam then takes only a few lines. Arrays of the size of a batch are reused from step to
step (``out=``), because new memory takes more time than some of the layers.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import fastconv
import numpy as np
from fastconv.lenet import load_digits

Array = np.ndarray[Any, np.dtype[Any]]

# In the order of Keras's model.get_weights(): the kernel and the bias of each layer.
SHAPES = {
    "conv1": (3, 3, 1, 6),
    "bias1": (6,),
    "conv2": (3, 3, 6, 16),
    "bias2": (16,),
    "dense1": (400, 120),
    "bias3": (120,),
    "dense2": (120, 84),
    "bias4": (84,),
    "logits": (84, 10),
    "bias5": (10,),
}
DECAY = 0.001  # L2 on the kernels of dense1 and dense2
RATE, BETA1, BETA2, EPSILON = 0.001, 0.9, 0.999, 1e-7  # for Adam, with Keras's defaults


def views(vector: Array) -> dict[str, Array]:
    """The weights or their gradients as views of a vector."""
    parts, start = {}, 0
    for name, shape in SHAPES.items():
        size = int(np.prod(shape))
        parts[name] = vector[start : start + size].reshape(shape)
        start += size
    return parts


class LeNet:
    """Forward pass, backward pass and Adam, in float32. In float64, gradients can be checked.

    `activation` is None or "relu": what follows the convolutions.
    """

    def __init__(self, seed: int = 1, dtype: str = "float32", activation: str | None = None) -> None:
        self.activation = activation
        size = sum(int(np.prod(shape)) for shape in SHAPES.values())
        self.weights, self.gradients, self.m, self.v, self.scratch = np.zeros((5, size), dtype)
        self.w, self.g = views(self.weights), views(self.gradients)
        random = np.random.default_rng(seed)
        for array in self.w.values():
            if array.ndim > 1:  # Glorot's uniform distribution; biases start at zero
                window = int(np.prod(array.shape[:-2]))
                limit = np.sqrt(6 / (window * sum(array.shape[-2:])))
                array[...] = random.uniform(-limit, limit, array.shape)
        self.steps = 0
        self._kept: dict[int, dict[str, Array]] = {}

    def _memory(self, n: int) -> dict[str, Array]:
        """Memory for the values that `backward` needs from `forward`. The name of a gradient has "d" in front."""
        if n not in self._kept:
            shapes: dict[str, tuple[int, ...]] = {"pool1": (13, 13, 6), "pool2": (5, 5, 16)}
            shapes |= {"hidden1": (120,), "hidden2": (84,), "logits": (10,)}
            names = [(d + name, shape) for name, shape in shapes.items() for d in ("", "d")]
            self._kept[n] = {name: np.empty((n, *shape), self.weights.dtype) for name, shape in names}
            self._kept[n] |= {f"taps{i}": np.empty((n, *shapes[f"pool{i}"]), np.uint8) for i in (1, 2)}
        return self._kept[n]

    def forward(self, images: Array) -> Array:
        """Logits (N, 10) of images (N, 28, 28, 1). The next batch of the same size overwrites them."""
        w, a = self.w, self._memory(len(images))
        relu, pool1, pool2 = self.activation, (a["pool1"], a["taps1"]), (a["pool2"], a["taps2"])
        fastconv.conv2d_max_pool2d(images, w["conv1"], 2, bias=w["bias1"], activation=relu, out=pool1)
        fastconv.conv2d_max_pool2d(a["pool1"], w["conv2"], 2, bias=w["bias2"], activation=relu, out=pool2)
        _dense(a["pool2"].reshape(-1, 400), w["dense1"], w["bias3"], "relu", a["hidden1"])
        _dense(a["hidden1"], w["dense2"], w["bias4"], "relu", a["hidden2"])
        return _dense(a["hidden2"], w["logits"], w["bias5"], None, a["logits"])

    def backward(self, images: Array, labels: Array) -> float:
        """The loss of the last forward pass for one-hot labels. Writes the gradients to `self.g`."""
        w, g, a = self.w, self.g, self._memory(len(images))
        shifted = a["logits"] - a["logits"].max(1, keepdims=True)
        exponentials = np.exp(shifted)
        sums = exponentials.sum(1, keepdims=True)
        loss = float(np.mean(np.log(sums[:, 0]) - (shifted * labels).sum(1)))
        np.divide(exponentials / sums - labels, len(images), out=a["dlogits"])

        _dense_gradients(a["hidden2"], w["logits"], a["dlogits"], g["logits"], g["bias5"], a["dhidden2"])
        a["dhidden2"] *= a["hidden2"] > 0  # no gradient passes where the ReLU gave zero
        _dense_gradients(a["hidden1"], w["dense2"], a["dhidden2"], g["dense2"], g["bias4"], a["dhidden1"])
        a["dhidden1"] *= a["hidden1"] > 0
        flat, dflat = (a[name].reshape(-1, 400) for name in ("pool2", "dpool2"))
        _dense_gradients(flat, w["dense1"], a["dhidden1"], g["dense1"], g["bias3"], dflat)
        for name in ("dense1", "dense2"):
            loss += DECAY * float(np.vdot(w[name], w[name]))
            g[name] += 2 * DECAY * w[name]

        out: Any = (a["dpool1"], g["conv2"], g["bias2"])
        fastconv.conv2d_max_pool2d_backprop(
            a["pool1"], w["conv2"], a["taps2"], a["dpool2"], 2, activation=self.activation, output=a["pool2"], out=out
        )
        out = (None, g["conv1"], g["bias1"])
        fastconv.conv2d_max_pool2d_backprop(
            images, w["conv1"], a["taps1"], a["dpool1"], 2,
            activation=self.activation, output=a["pool1"], input_gradient=False, out=out,
        )  # fmt: skip
        return loss

    def adam(self) -> None:
        """Update all weights (Kingma and Ba, "Adam", 2015)."""
        self.steps += 1
        rate = RATE * np.sqrt(1 - BETA2**self.steps) / (1 - BETA1**self.steps)
        m, v, scratch = self.m, self.v, self.scratch
        np.subtract(self.gradients, m, out=scratch)
        m += np.multiply(scratch, 1 - BETA1, out=scratch)
        np.multiply(self.gradients, self.gradients, out=scratch)
        scratch -= v
        v += np.multiply(scratch, 1 - BETA2, out=scratch)
        np.sqrt(v, out=scratch)
        scratch += EPSILON
        np.divide(m, scratch, out=scratch)
        self.weights -= np.multiply(scratch, float(rate), out=scratch)

    def step(self, images: Array, labels: Array) -> float:
        """Train on one batch, and return its loss before the update."""
        self.forward(images)
        loss = self.backward(images, labels)
        self.adam()
        return loss


def _dense(x: Array, kernel: Array, bias: Array, activation: str | None, out: Array) -> Array:
    fastconv.conv2d(_one_pixel(x), kernel[None, None], bias=bias, activation=activation, out=_one_pixel(out))
    return out


def _dense_gradients(x: Array, kernel: Array, dy: Array, dkernel: Array, dbias: Array, dx: Array) -> None:
    x, kernel, dy, dx = _one_pixel(x), kernel[None, None], _one_pixel(dy), _one_pixel(dx)
    fastconv.conv2d_backprop_filter(x, kernel.shape, dy, out=dkernel[None, None])
    fastconv.conv2d_backprop_input(x.shape, kernel, dy, out=dx)
    _sum_pixels(dy, dbias)


def _one_pixel(rows: Array) -> Array:
    return rows[:, None, None, :]


def _sum_pixels(maps: Array, out: Array) -> None:
    images = maps.reshape(len(maps), -1)  # BLAS is faster than np.sum, and fastest for long rows
    np.matmul(np.ones(len(maps), maps.dtype), images).reshape(-1, len(out)).sum(0, out=out)


def prepare(images: Array, labels: Array) -> tuple[Array, Array]:
    """Images (N, 28, 28, 1) with values from 0 to 1, and one-hot labels, in float32."""
    return (images[..., None] / np.float32(255)).astype(np.float32), np.eye(10, dtype=np.float32)[labels]


def accuracy(model: LeNet, images: Array, labels: Array) -> float:
    """The share of images whose largest logit belongs to the label."""
    parts = range(0, len(images), 1000)
    guesses = np.concatenate([model.forward(images[i : i + 1000]).argmax(1) for i in parts])
    return float(np.mean(guesses == labels.argmax(1)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train LeNet-5 on MNIST with NumPy and fastconv only.")
    parser.add_argument("--data", help="an .npz file in Keras's layout (default: as fastconv lenet)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--relu", action="store_true", help="apply ReLU after the convolutions, too")
    options = parser.parse_args()
    digits = load_digits(options.data)
    print(f"data: {digits.source}")
    images, labels = prepare(digits.train_images, digits.train_labels)
    test = prepare(digits.test_images, digits.test_labels)
    model = LeNet(options.seed, activation="relu" if options.relu else None)
    random = np.random.default_rng(options.seed)
    for epoch in range(options.epochs):
        order, losses, began = random.permutation(len(images)), [], time.perf_counter()
        for start in range(0, len(images), options.batch_size):
            chosen = order[start : start + options.batch_size]
            losses.append(model.step(images[chosen], labels[chosen]))
        seconds = time.perf_counter() - began
        print(
            f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, test accuracy {accuracy(model, *test):.4f}, "
            f"{seconds:.2f} s, {1e3 * seconds / len(losses):.3f} ms per step"
        )


if __name__ == "__main__":
    main()
