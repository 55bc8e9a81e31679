"""Trains LeNet-5 with several processes or hosts, by TensorFlow's MultiWorkerMirroredStrategy.

    python examples/distributed.py [--workers 2] [--data mnist.npz] [--epochs 3] [--batch-size 128] [--seed 1]
                                   [--limit N] [--out model.keras]

Without the environment variable TF_CONFIG, the script starts the workers on this machine. With TF_CONFIG, it is one of
the workers. docs/distributed.md shows how to run it on several hosts.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import fastconv
import keras
import numpy as np
import tensorflow as tf
from fastconv.lenet import load_digits
from fastconv.lenet.model import build

RATE = 0.1  # of stochastic gradient descent


def shuffled(images: Any, labels: Any, batch_size: int, seed: int) -> tf.data.Dataset:
    """The images of all whole batches. Their order is new in each epoch, and the same for all workers."""
    tf.random.set_seed(seed)  # a seeded shuffle depends on the global seed, too
    examples = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images), seed=seed)
    return examples.take(len(images) // batch_size * batch_size)


def scaled(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cast(images, tf.float32)[..., tf.newaxis] / 255, labels


def accuracy(model: Any, images: Any, labels: Any) -> float:
    parts = range(0, len(images), 1000)
    guesses = np.concatenate([np.argmax(model(scaled(images[i : i + 1000], None)[0]), axis=1) for i in parts])
    return float(np.mean(guesses == labels))


def work(options: argparse.Namespace) -> None:
    """Run the worker that TF_CONFIG describes."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()  # before other uses of TensorFlow; waits for all workers
    first = strategy.cluster_resolver.task_id == 0
    digits = load_digits(options.data)
    train_images, train_labels = digits.train_images[: options.limit], digits.train_labels[: options.limit]
    examples = shuffled(train_images, train_labels, options.batch_size, options.seed)

    with strategy.scope():  # variables created here have the same values in all workers
        model = build("fastconv", options.seed)
        optimizer = keras.optimizers.SGD(RATE)
        optimizer.build(model.trainable_variables)

    def share(context: tf.distribute.InputContext) -> tf.data.Dataset:
        """The part of each batch that this worker reads."""
        part = examples.shard(context.num_input_pipelines, context.input_pipeline_id)
        return part.batch(context.get_per_replica_batch_size(options.batch_size)).map(scaled)

    def replica_step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            # The optimizer adds up the gradients of all replicas. The losses of all replicas must therefore add up to
            # the loss of a single process. So divide the sum over images by the number of images in all replicas, and
            # weight decay by the number of replicas.
            decay = tf.add_n(model.losses) / strategy.num_replicas_in_sync
            loss = tf.reduce_sum(losses) / options.batch_size + decay
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def step(images: Any, labels: Any) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(replica_step, (images, labels)), axis=None)

    if first:
        print(f"data: {digits.source}; workers: {strategy.num_replicas_in_sync}", flush=True)
    batches = strategy.distribute_datasets_from_function(share)
    for epoch in range(options.epochs):
        began = time.perf_counter()
        loss = np.mean([step(images, labels) for images, labels in batches])
        seconds = time.perf_counter() - began
        if first:  # the other workers continue with the next batch, and wait there
            score = accuracy(model, digits.test_images, digits.test_labels)
            print(f"epoch {epoch + 1}: loss {loss:.4f}, test accuracy {score:.4f}, {seconds:.2f} s", flush=True)
    if first and options.out:
        model.save(options.out)


@contextmanager
def workers_here(count: int, arguments: Sequence[str], **popen: Any) -> Iterator[list[subprocess.Popen[Any]]]:
    """Start a process of this script for each worker, and kill those that still run at the end of the context."""
    sockets = [socket.socket() for _ in range(count)]
    workers: list[subprocess.Popen[Any]] = []
    try:
        for held in sockets:  # reserves the ports; only the workers can bind them too, because they reuse ports
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
        addresses = ["{}:{}".format(*held.getsockname()) for held in sockets]
        threads = str(max(1, fastconv.get_num_threads() // count))
        for index in range(count):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            shared = {"FASTCONV_NUM_THREADS": threads, "TF_NUM_INTRAOP_THREADS": threads}
            environment = {**shared, **os.environ, "TF_CONFIG": json.dumps(config)}
            workers.append(subprocess.Popen([sys.executable, __file__, *arguments], env=environment, **popen))
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        for held in sockets:
            held.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train LeNet-5 on MNIST with several processes or hosts.")
    parser.add_argument(
        "--workers", type=int, default=2, help="number of workers to start here (ignored if TF_CONFIG is set)"
    )
    parser.add_argument("--data", help="an .npz file in Keras's layout (default: as fastconv lenet)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128, help="number of images for all workers together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, help="train on the first N images only")
    parser.add_argument("--out", help="the .keras file into which the first worker saves the model")
    options = parser.parse_args()
    if options.workers < 1:
        parser.error(f"--workers must be at least 1, got {options.workers}")
    if "TF_CONFIG" in os.environ:
        work(options)
    else:
        with workers_here(options.workers, sys.argv[1:]) as workers:
            sys.exit(any([worker.wait() != 0 for worker in workers]))  # the list waits for all workers


if __name__ == "__main__":
    main()
