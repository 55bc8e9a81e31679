"""Stock Keras on TensorFlow. Other contestants build Keras networks with this module, from their own layers."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bench.applications import networks
from bench.applications.task import SGD_RATE, Application, prediction, training
from bench.cases import Case
from bench.contestants import Candidate, NotServed, fetched, steps_candidate, tensorflow
from bench.oracle import Array
from bench.serving.task import OTHER_FORM, Served
from bench.tasks import BETAS, EPSILON, NETWORKS, RATE, Conv, Network, Pool, Task, batches_of, weights_of

FRAMEWORK = True


def setup(threads: int) -> str:
    return f"{tensorflow.setup(threads, threads)}, Keras {keras.__version__}"


def build(network: Network, source: Any) -> Any:
    """The network with the convolutions and pools of `source`."""
    layers: list[Any] = [keras.Input(network.input_shape)]
    for layer, shape in network.inputs():
        if isinstance(layer, Pool):
            layers.append(source.MaxPooling2D(2))
            continue
        activation = "relu" if layer.relu else None
        if isinstance(layer, Conv):
            padding = "same" if layer.same else "valid"
            layers.append(source.Conv2D(layer.filters, 3, padding=padding, activation=activation))
        else:
            if len(shape) > 1:
                layers.append(keras.layers.Flatten())
            decay = keras.regularizers.L2(layer.decay) if layer.decay else None
            layers.append(keras.layers.Dense(layer.units, activation, kernel_regularizer=decay))
    return keras.Sequential(layers)


def _adam() -> Any:
    return keras.optimizers.Adam(RATE, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON)


def _step(model: Any, **compiling: Any) -> Any:
    """The training step as a user of TensorFlow writes it."""
    optimizer = _adam()
    optimizer.build(model.trainable_variables)
    cross_entropy = keras.losses.CategoricalCrossentropy(from_logits=True)

    @tf.function(autograph=False, **compiling)
    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.add_n([cross_entropy(y, model(x, training=True)), *model.losses])
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return step


def _epoch(model: Any, x: Array, y: Array, batch: int, **compiling: Any) -> Candidate:
    """An epoch of `fit`, timed from `on_epoch_begin` to `on_epoch_end`."""
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(_adam(), loss, metrics=["accuracy"], steps_per_execution=1, **compiling)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch).cache().prefetch(2)
    times: list[float] = []

    def clock(epoch: int, logs: Any) -> None:
        times.append(time.perf_counter())

    callback = keras.callbacks.LambdaCallback(on_epoch_begin=clock, on_epoch_end=clock)

    def fit() -> Any:
        return model.fit(dataset, epochs=1, verbose=0, callbacks=[callback], shuffle=False)

    def seconds() -> float:
        fit()
        return times[-1] - times[-2]

    return fetched("fit", fit, lambda run: np.array(run.history["loss"]), seconds=seconds)


def candidates(task: Case | Task | Served | Application, arrays: dict[str, Array]) -> list[Candidate]:
    if isinstance(task, Case):
        return tensorflow.candidates(task, arrays)
    if isinstance(task, (Served, Application)):
        return [whole_network(task, arrays)]
    return network_candidates(task, arrays, keras.layers)


def whole_network(
    task: Served | Application,
    arrays: dict[str, Array],
    convert: Callable[[Any], Any] = lambda model: model,
    **compiling: Any,
) -> Candidate:
    """The task with a Keras model after `convert`, which is compiled with the given options."""
    if isinstance(task, Application):
        return _application(task, arrays, convert, compiling)
    if task.layer is not None:
        raise NotServed(OTHER_FORM)
    from bench.serving import models

    model = convert(models.build(task.network))
    if compiling:
        model.compile(**compiling)
    return fetched("predict_on_batch", lambda: model.predict_on_batch(arrays["x"]))


_last: dict[tuple[str, int], Any] = {}  # the last application's model: a step and a prediction use the same one


def _application(
    task: Application, arrays: dict[str, Array], convert: Callable[[Any], Any], compiling: dict[str, Any]
) -> Candidate:
    key = task.network, task.size
    if key not in _last:
        _last.clear()  # frees its memory first
        _last[key] = convert(networks.build(*key))
        _last[key].compile(keras.optimizers.SGD(SGD_RATE), "sparse_categorical_crossentropy", **compiling)
    model, x, y = _last[key], arrays["x"], arrays["y"]
    model.set_weights(weights_of(arrays))
    if task.kind == "step":
        return training("train_on_batch", model.train_on_batch, x, y)
    if task.kind == "predict":
        return prediction("predict_on_batch", lambda: model.predict_on_batch(x))
    return fetched("tf.function", _gradients(model, tf.constant(x), tf.constant(y)), lambda found: found[0].numpy())


def _gradients(model: Any, x: Any, dy: Any) -> Callable[[], Any]:
    """Forward and backward in training, with the gradients of the input and the weights."""

    @tf.function(autograph=False)
    def run(x: Any, dy: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
        return tape.gradient(y, [x, *model.trainable_variables], output_gradients=dy)

    return lambda: run(x, dy)


def network_candidates(
    task: Task,
    arrays: dict[str, Array],
    source: Any,
    network: Network | None = None,
    convert: Callable[[Any], Any] = lambda model: model,
    **compiling: Any,
) -> list[Candidate]:
    """The task, with convolutions and pools of `source`. If given, `network` replaces the task's network.

    The model is measured after `convert`, compiled with the given options.
    """
    keras.backend.clear_session()
    model = convert(build(network or NETWORKS[task.network], source))
    model.set_weights(weights_of(arrays))
    if task.kind == "epoch":
        return [_epoch(model, arrays["x"], arrays["y"], task.batch, **compiling)]
    if task.kind == "predict":
        if compiling:
            model.compile(**compiling)
        return [fetched("predict_on_batch", lambda: model.predict_on_batch(arrays["x"]))]
    batches = [(tf.constant(x), tf.constant(y)) for x, y in batches_of(task, arrays)]
    return [steps_candidate("tf.function", _step(model, **compiling), batches)]
