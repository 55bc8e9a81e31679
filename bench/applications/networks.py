"""The networks, with random weights; nothing else in them is random."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from bench.applications.task import Node

NETWORKS = ("ResNet50", "MobileNetV2", "EfficientNetB0", "VGG16", "DenseNet121", "Xception")
SMALL_NETWORKS = ("ResNet20", "DenseNet40", "MobileNetV2-32")  # for images of 32 x 32
BATCH_NORM = "batch normalisation and ReLU"  # 256 channels
LEAST_SIZE = {"Xception": 71}  # the least image size of a network, if it is not 32
CLASSES = 100


def _normalised(x: Any, filters: int, kernel: int, stride: int = 1) -> Any:
    x = keras.layers.Conv2D(filters, kernel, stride, "same", use_bias=False, kernel_initializer="he_normal")(x)
    return keras.layers.BatchNormalization()(x)


def _classified(inputs: Any, x: Any) -> Any:
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, "softmax")(x))


def resnet20(shape: tuple[int, int, int]) -> Any:
    """The ResNet-20 of He et al. 2015 for CIFAR, with 1x1 convolutions where a shortcut changes the shape."""
    inputs = keras.Input(shape)
    x = keras.layers.ReLU()(_normalised(inputs, 16, 3))
    for filters in (16, 32, 64):
        for block in range(3):
            stride = 2 if block == 0 and filters > 16 else 1
            y = keras.layers.ReLU()(_normalised(x, filters, 3, stride))
            y = _normalised(y, filters, 3)
            shortcut = x if stride == 1 else _normalised(x, filters, 1, stride)
            x = keras.layers.ReLU()(keras.layers.Add()([shortcut, y]))
    return _classified(inputs, x)


def densenet40(shape: tuple[int, int, int]) -> Any:
    """The DenseNet of Huang et al. 2017 for CIFAR: 40 layers, growth 12, neither bottlenecks nor compression."""

    def convolved(x: Any, filters: int, kernel: int) -> Any:
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        return keras.layers.Conv2D(filters, kernel, padding="same", use_bias=False, kernel_initializer="he_normal")(x)

    inputs = keras.Input(shape)
    x = keras.layers.Conv2D(16, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(inputs)
    for block in range(3):
        if block:
            x = keras.layers.AveragePooling2D(2)(convolved(x, x.shape[-1], 1))
        for _ in range(12):
            x = keras.layers.Concatenate()([x, convolved(x, 12, 3)])
    return _classified(inputs, keras.layers.ReLU()(keras.layers.BatchNormalization()(x)))


def _batch_norm(shape: tuple[int, int, int]) -> Any:
    inputs = keras.Input((*shape[:2], 256))
    return keras.Model(inputs, keras.layers.ReLU()(keras.layers.BatchNormalization()(inputs)))


OWN = {"ResNet20": resnet20, "DenseNet40": densenet40, BATCH_NORM: _batch_norm}


def build(network: str, size: int, dtype: str = "float32", weights: list[Any] | None = None) -> Any:
    """A network for images of a size, with the given weights or with the same random ones in each call."""
    policy = keras.config.dtype_policy()
    keras.utils.clear_session()  # makes the names of layers repeatable; it also resets the policy
    keras.config.set_dtype_policy(dtype)
    keras.utils.set_random_seed(0)
    try:
        shape = (max(size, LEAST_SIZE.get(network, 32)),) * 2 + (3,)
        if network in OWN:
            model = OWN[network](shape)
        else:
            application = getattr(keras.applications, network.removesuffix("-32"))
            model = application(weights=None, input_shape=shape, classes=CLASSES)
    finally:
        keras.config.set_dtype_policy(policy)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0  # its random numbers differ between dtypes
    if weights is not None:
        model.set_weights(weights)
    return model


def images(model: Any, batch: int, seed: int = 0) -> Any:
    """Numbers in the range of preprocessed images, in the model's dtype."""
    shape = (batch, *model.input_shape[1:])
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(model.dtype)


def labels(batch: int) -> Any:
    return np.arange(batch) % CLASSES


def served(model: Any) -> list[Any]:
    """The layers that are fastconv's."""
    return [layer for layer in model.layers if type(layer).__module__.startswith("fastconv.")]


def describe(model: Any) -> tuple[Node, ...]:
    """The layers of a network in which each layer is called once."""
    numbers: dict[int, int] = {}  # id of a layer's output -> the layer's number
    nodes = []
    for layer in model.layers:
        read = [] if isinstance(layer, keras.layers.InputLayer) else keras.tree.flatten(layer.input)
        shape, inputs = (read or [layer.output])[0].shape[1:], tuple(numbers[id(one)] for one in read)
        nodes.append(
            Node(type(layer).__name__, layer.get_config(), inputs, shape, layer.output.shape[1:], len(layer.weights))
        )
        numbers[id(layer.output)] = len(nodes) - 1
    return tuple(nodes)
