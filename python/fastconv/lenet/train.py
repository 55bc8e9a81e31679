"""Splits the digits, makes batches in an order that follows from the seed, and trains with early stopping."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

import fastconv.keras
from fastconv.lenet.data import Digits
from fastconv.lenet.model import CLASSES
from fastconv.lenet.progress import EpochProgress

PATIENCE = 3
Images = npt.NDArray[np.float32]


@dataclass
class Split:
    """Images (N, 28, 28, 1) from 0 to 1 and one-hot labels (N, 10), float32, for training, validation and test."""

    train: tuple[Images, Images]
    validation: tuple[Images, Images]
    test: tuple[Images, Images]


@dataclass
class Result:
    """The results of a training: a row for each epoch, and accuracy and loss on the test images."""

    history: list[dict[str, float]]
    test_accuracy: float
    test_loss: float
    interrupted: bool


def _prepare(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> tuple[Images, Images]:
    one_hot = np.eye(CLASSES, dtype=np.float32)[labels]
    return (images[..., None] / np.float32(255)).astype(np.float32), one_hot


def split_digits(digits: Digits, seed: int, limit: int | None = None) -> Split:
    """Shuffle the training images and split them 5:1 into training and validation images."""
    order = np.random.default_rng(seed).permutation(len(digits.train_images))[:limit]
    cut = len(order) - len(order) // 6
    return Split(
        _prepare(digits.train_images[order[:cut]], digits.train_labels[order[:cut]]),
        _prepare(digits.train_images[order[cut:]], digits.train_labels[order[cut:]]),
        _prepare(digits.test_images, digits.test_labels),
    )


def batches(images: Images, labels: Images, batch_size: int, seed: int) -> Any:
    """A dataset of batches, with a new order of the images in each pass. The order depends only on the seed."""
    # A separate random stream: `split_digits` has already used the stream of `seed`.
    random = np.random.default_rng([seed, 1])
    steps = -(-len(images) // batch_size)

    def one_pass() -> Iterator[tuple[Images, Images]]:
        order = random.permutation(len(images))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            yield images[chosen], labels[chosen]

    signature = (
        tf.TensorSpec((None, *images.shape[1:]), tf.float32),
        tf.TensorSpec((None, *labels.shape[1:]), tf.float32),
    )
    dataset = tf.data.Dataset.from_generator(one_pass, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)


class Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Collects a row for each epoch. After Ctrl-C, ends the training at the end of a batch.

    A KeyboardInterrupt in the middle of a call could break TensorFlow. The first Ctrl-C therefore only sets a flag. The
    second raises KeyboardInterrupt at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.interrupted = False
        self.rows: list[dict[str, float]] = []
        self._began = 0.0

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = time.perf_counter() - self._began
        self.rows.append({"epoch": epoch + 1, **{k: float(v) for k, v in logs.items()}, "seconds": seconds})

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt


@contextlib.contextmanager
def ctrl_c_waits() -> Iterator[None]:
    """Delay a Ctrl-C until the end of the context. A second Ctrl-C interrupts at once.

    Use this context while models are built, which takes about a second. During that time, a KeyboardInterrupt may crash
    TensorFlow, or may be raised in a callback of the garbage collector, where Python ignores it.
    """
    watch = Watch()
    before = signal.signal(signal.SIGINT, watch.handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if watch.interrupted:
        raise KeyboardInterrupt


@contextlib.contextmanager
def fused(model: Any) -> Iterator[None]:
    """Compute each convolution and the max-pooling after it in one op until the end of the context.

    A model on Keras's layers stays as it is. So do the names, configs and weights of all layers.
    """
    ours = isinstance(model.get_layer("conv1"), fastconv.keras.Conv2D)
    if ours:
        fastconv.keras.accelerate(model, inplace=True, fuse=True)
    try:
        yield
    finally:
        if ours:
            fastconv.keras.restore(model)
            fastconv.keras.accelerate(model, inplace=True)


def train(model: Any, split: Split, *, epochs: int, batch_size: int, seed: int) -> Result:
    """Train a compiled model, and test its best weights. Stop if the validation loss has not improved for 3 epochs.

    Ctrl-C ends the training early and keeps the best weights so far.

    Parameters
    ----------
    model : keras.Model
        A compiled model. Afterwards, it has the best weights.
    split : Split
    epochs : int
        The largest number of epochs.
    batch_size : int
    seed : int
        Seed of the order of the images.

    Returns
    -------
    Result

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C came before the end of the first epoch, or a second time.
    """
    keras.utils.set_random_seed(seed)
    watch = Watch()
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=PATIENCE, restore_best_weights=True)
    before = signal.signal(signal.SIGINT, watch.handle)
    try:
        with EpochProgress(watch.rows) as progress:
            model.fit(
                batches(*split.train, batch_size, seed),
                epochs=epochs,
                validation_data=split.validation,
                validation_batch_size=batch_size,
                verbose=0,
                callbacks=[watch, progress, stopping],
                shuffle=False,  # the dataset shuffles
            )
    except KeyboardInterrupt:
        if stopping.best_weights is None:
            raise
    finally:
        signal.signal(signal.SIGINT, before)
    # Keras restores the best weights after early stopping, but not after Ctrl-C. Some versions of Keras do not restore
    # them after the last epoch either.
    model.set_weights(stopping.best_weights)
    if watch.interrupted:
        print(f"\nCtrl-C: keeping the best weights of {len(watch.rows)} epoch{'s' if len(watch.rows) > 1 else ''}")
    loss, accuracy = model.evaluate(*split.test, batch_size=batch_size, verbose=0)
    return Result(watch.rows, float(accuracy), float(loss), watch.interrupted)
