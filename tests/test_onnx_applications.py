"""Keras models compute the same after Keras exports them as ONNX. Needs tf2onnx, which Keras uses for the export."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastconv.onnx
import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from fastconv.lenet import model as lenet
from frozen_models import distance, frozen_outputs, images, outputs_of, randomise, super_resolution, unet
from onnx import numpy_helper

pytestmark = pytest.mark.slow

SIZES = {
    "LeNet": (28, 28, 1),
    "U-Net": (32, 32, 3),
    "U-Net of any size": (16, 24, 3),
    "super-resolution": (12, 10, 1),
    "ResNet50": (64, 64, 3),
    "MobileNetV2": (64, 64, 3),
    "MobileNetV3Small": (64, 64, 3),
    "EfficientNetB0": (64, 64, 3),
    "VGG16": (32, 32, 3),
    "DenseNet121": (64, 64, 3),
    "Xception": (96, 96, 3),
    "InceptionV3": (96, 96, 3),
    "NASNetMobile": (224, 224, 3),
    "ConvNeXtTiny": (64, 64, 3),
}
OTHERS: dict[str, Callable[[], Any]] = {
    "U-Net": lambda: unet(8, 32),
    "U-Net of any size": unet,
    "super-resolution": super_resolution,
}


def made(name: str) -> Any:
    """The model in the type of the current policy, with random weights. Classifiers also output their logits."""
    if name in OTHERS:
        model = OTHERS[name]()
    else:
        # The model's own input would be float32 in any policy.
        x = inputs = keras.Input(SIZES[name], dtype=keras.config.dtype_policy().compute_dtype)
        if name == "LeNet":
            for layer in lenet.build("keras").layers:
                x = layer(x)
        else:
            application = getattr(keras.applications, name)
            x = application(weights=None, classes=10, classifier_activation=None, input_tensor=inputs).output
        model = keras.Model(inputs, [keras.ops.softmax(x), x])
    randomise(model)
    rng = np.random.default_rng(2)
    for layer in model._flatten_layers():
        if type(layer).__name__ in ("LayerNormalization", "LayerScale"):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) * rng.choice([-1, 1], w.shape) for w in layer.weights])
    return model


def pixels(name: str) -> Any:
    return (1 if name in OTHERS else 100) * images((2, *SIZES[name]), "float32")


@pytest.fixture(scope="module")
def exporter(not_run: set[str]) -> Iterator[None]:
    """Adds what Keras's exporter lacks."""
    try:
        import tf2onnx
        from tf2onnx.handler import tf_op
    except ImportError as error:
        not_run.add(f"Keras models that are exported as ONNX: {error}")
        pytest.skip(str(error))

    @tf_op("Erfc")
    class Erfc:
        """TensorFlow computes GELU with an operator that tf2onnx lacks."""

        @classmethod
        def version_9(cls, graph: Any, node: Any, **_: Any) -> None:
            (output,), options = node.output, {"shapes": node.output_shapes, "dtypes": node.output_dtypes}
            one = np.ones((), tf2onnx.utils.map_onnx_to_numpy_type(node.output_dtypes[0]))
            one = graph.make_const(tf2onnx.utils.make_name("one"), one)
            graph.remove_node(node.name)
            erf = graph.make_node("Erf", node.input, **options)
            graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=[output], **options)

    # Keras puts grouped convolutions into separate compiled functions, which tf2onnx leaves out.
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    keras.utils.set_random_seed(1)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(policy)


def exported(model: Any, folder: Path) -> Path:
    """The ONNX file of a model, which must have computed something before."""
    path = folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.export(path, format="onnx", verbose=False)
    proto = onnx.load(path)
    # Keras exports the constants of Normalization as inputs. They become initializers again here.
    for entry in list(proto.graph.input)[1:]:
        (layer,) = (layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
        value = np.asarray({"Sub/y:0": layer.mean, "Sqrt/x:0": layer.variance}[entry.name.split("/", 2)[-1]])
        proto.graph.initializer.append(numpy_helper.from_array(value, entry.name))
        proto.graph.input.remove(entry)
    onnx.save(proto, path)
    return path


def compute_gelu_in_float64(model: Any) -> None:
    """TensorFlow multiplies by the root of 1/2 rounded to float32, also in float64."""

    def gelu(x: Any) -> Any:
        return x * 0.5 * tf.math.erfc(-x * tf.constant(np.sqrt(0.5), x.dtype))

    for layer in model._flatten_layers():
        if getattr(layer, "activation", None) is keras.activations.gelu:
            layer.activation = gelu


@pytest.mark.parametrize("name", SIZES)
def test_exported_models_agree_in_float64(exporter: None, tmp_path: Path, name: str) -> None:
    model, x = made(name), pixels(name).astype("float64")
    model(x)
    net = fastconv.onnx.load(exported(model, tmp_path))
    compute_gelu_in_float64(model)
    assert distance(frozen_outputs(net, x), outputs_of(model, x)) <= 1e-9
    if name == "U-Net of any size":
        x = images((1, 8, 20, 3))
        assert distance(frozen_outputs(net, x), outputs_of(model, x)) <= 1e-9


@pytest.mark.parametrize("name", SIZES)
def test_exported_models_are_accurate_in_float32(exporter: None, tmp_path: Path, name: str) -> None:
    exact_model, x = made(name), pixels(name)
    keras.config.set_dtype_policy("float32")
    model = made(name)
    model.set_weights(exact_model.get_weights())
    exact_model.set_weights(model.get_weights())  # rounded to float32
    exact = outputs_of(exact_model, x.astype("float64"))
    theirs = distance(outputs_of(model, x), exact)
    ours = distance(frozen_outputs(fastconv.onnx.load(exported(model, tmp_path)), x), exact)
    assert 0 < ours <= max(2 * theirs, 1e-5)
