"""Exported models in other processes: the same results with fastconv's ops, and TensorFlow's error without them."""

from __future__ import annotations

import re
from pathlib import Path

import fastconv.keras as fk
import keras
import numpy as np
import pytest
import tensorflow as tf
from processes import run_python

DOCS = Path(__file__).parents[1] / "docs" / "saving.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model as .keras and as an export, images, and the model's outputs."""
    path = tmp_path_factory.mktemp("saved")
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((12, 10, 2)),
            fk.Conv2D(4, 3, padding="same", activation="relu"),
            fk.MaxPooling2D(),
            fk.Conv2D(6, 3, strides=2, use_bias=False),
            fk.AveragePooling2D(2, padding="same"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    x = tf.constant(np.random.default_rng(0).standard_normal((5, 12, 10, 2)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    model.export(path / "exported", verbose=False)
    model.save(path / "model.keras")
    np.savez(path / "values.npz", x=x, y=y, gradient=tape.gradient(y, x))
    return path


def test_an_export_loads_where_the_ops_are_registered(folder: Path) -> None:
    run_python(
        """
        import fastconv.tensorflow
        import keras
        import numpy as np
        import tensorflow as tf

        values = np.load("values.npz")
        x, y = tf.constant(values["x"]), values["y"]
        loaded = tf.saved_model.load("exported")
        layer = keras.layers.TFSMLayer("exported", call_endpoint="serve")
        model = keras.Sequential([keras.Input(x.shape[1:]), layer])
        (signature,) = loaded.signatures["serving_default"](x).values()
        for result in (loaded.serve(x), signature, layer(x), model.predict(x, verbose=0)):
            np.testing.assert_allclose(result, y, rtol=1e-5, atol=1e-6)
        assert loaded.serve(x[:0]).shape == (0, 3)

        for served in (loaded.serve, layer):
            with tf.GradientTape() as tape:
                tape.watch(x)
                z = served(x)
            np.testing.assert_allclose(tape.gradient(z, x), values["gradient"], rtol=1e-5, atol=1e-6)
        """,
        folder=folder,
    )


def test_an_export_names_the_op_that_is_missing(folder: Path) -> None:
    """The error is as documented. After fastconv.tensorflow is imported, the export loads."""
    printed = run_python(
        """
        import fastconv
        import keras
        import numpy as np
        import tensorflow as tf

        values = np.load("values.npz")

        def load():
            return keras.layers.TFSMLayer("exported", call_endpoint="serve")

        for attempt in (lambda: tf.saved_model.load("exported"), load):
            try:
                attempt()
            except RuntimeError as error:
                print(error)
            else:
                raise AssertionError("the export loaded without the ops")
        import fastconv.tensorflow
        np.testing.assert_allclose(load()(values["x"]), values["y"], rtol=1e-5, atol=1e-6)
        """,
        folder=folder,
    )
    (documented,) = re.findall(r"^```text\n(.*)\n```$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    pattern = re.escape(documented).replace("HOSTNAME", r"\S+")
    assert len(re.findall(pattern, printed)) == 2, printed


@pytest.mark.filterwarnings("ignore:(?s).*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("way", ["the model", "a SavedModel", "a function", "Keras"])
def test_the_error_of_a_litert_export_names_restore(way: str, fuse: bool, tmp_path: Path) -> None:
    """The line of the error that shows the op contains the remedy, whatever made the graph. The remedy works."""
    stack = [fk.Conv2D(4, 3), keras.layers.ReLU(), fk.MaxPooling2D(), keras.layers.Flatten(), keras.layers.Dense(3)]
    model = fk.accelerate(keras.Sequential([keras.Input((12, 10, 2)), *stack]), fuse=fuse)
    converter = tf.lite.TFLiteConverter

    def convert(model: keras.Model) -> bytes:
        if way == "the model":
            return bytes(converter.from_keras_model(model).convert())
        if way == "a SavedModel":
            model.export(tmp_path / "exported", verbose=False)
            return bytes(converter.from_saved_model(str(tmp_path / "exported")).convert())
        if way == "a function":
            function = tf.function(lambda x: model(x)).get_concrete_function(tf.TensorSpec((None, 12, 10, 2)))
            return bytes(converter.from_concrete_functions([function], model).convert())
        model.export(tmp_path / "model.tflite", format="litert", verbose=False)
        return (tmp_path / "model.tflite").read_bytes()

    if way == "Keras" and "litert" not in str(keras.Model.export.__doc__):
        pytest.skip("this Keras does not export to LiteRT itself")
    if way in ("the model", "a function") and tf.__version__.startswith("2.16."):
        pytest.skip("TensorFlow 2.16 aborts the process ('Failed to infer result type'), also for Keras's own layers")
    with pytest.raises(Exception, match="custom ops") as raised:
        convert(model)
    for op in ("FastconvConv2DMaxPool2D",) if fuse else ("FastconvConv2D", "FastconvMaxPool2D"):
        assert re.search(rf'tf\.{op}\(.*_remedy = "export fastconv.keras.restore\(model\)"', str(raised.value))

    content = convert(fk.restore(model))
    if way == "a function":
        return  # TensorFlow loses the weights here, also for models without fastconv
    interpreter = tf.lite.Interpreter(model_content=content)
    x = np.random.default_rng(0).standard_normal((1, 12, 10, 2)).astype(np.float32)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(y, model(x), rtol=1e-4, atol=1e-5)


def test_a_keras_file_names_the_layer_that_is_missing(folder: Path) -> None:
    run_python(
        """
        import keras
        import numpy as np

        try:
            keras.models.load_model("model.keras")
        except TypeError as error:
            assert "fastconv.keras" in str(error) and "fastconv>Conv2D" in str(error), error
        else:
            raise AssertionError("the model loaded without the layers")
        import fastconv.keras
        values = np.load("values.npz")
        loaded = keras.models.load_model("model.keras")
        np.testing.assert_allclose(loaded(values["x"]), values["y"], rtol=1e-5, atol=1e-6)
        """,
        folder=folder,
    )
