"""Each convolution and pooling layer replaces Keras's: same numbers, gradients, config, files and errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastconv.keras as fk
import keras
import numpy as np
import pytest
import tensorflow as tf

# All layers with a data_format. The others have tests of their own.
OTHERS = (fk.Activation, fk.Add, fk.BatchNormalization, fk.ReLU)
STOCK = {ours.__name__: stock for stock, ours in fk.LAYERS.items() if ours not in OTHERS}
LAST, FIRST = "channels_last", "channels_first"
Arguments = dict[str, Any]

# For each layer, arguments on inputs of odd sizes, as far as TensorFlow's kernels support them.
CASES: dict[str, list[Arguments]] = {
    "Conv1D": [
        {"filters": 5, "kernel_size": 4},
        {"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"},
        {"filters": 5, "kernel_size": 3, "padding": "causal", "dilation_rate": 2, "activation": "tanh"},
        {"filters": 5, "kernel_size": 4, "padding": "causal", "strides": 3, "use_bias": False},
        {"filters": 5, "kernel_size": 3, "padding": "same", "dilation_rate": 3},
    ],
    "Conv2D": [
        {"filters": 5, "kernel_size": (2, 3)},
        {"filters": 5, "kernel_size": 3, "strides": (2, 3), "padding": "same", "activation": "relu"},
        {"filters": 5, "kernel_size": 3, "dilation_rate": (1, 2), "activation": "gelu", "use_bias": False},
    ],
    "Conv1DTranspose": [
        {"filters": 5, "kernel_size": 4},
        {"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"},
        {"filters": 5, "kernel_size": 2, "strides": 3, "activation": "tanh", "use_bias": False},
        {"filters": 5, "kernel_size": 3, "strides": 2, "output_padding": 1, "padding": "same"},
    ],
    "Conv2DTranspose": [
        {"filters": 5, "kernel_size": (4, 3)},
        {"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"},
        {"filters": 5, "kernel_size": (2, 3), "strides": (3, 2), "activation": "tanh", "use_bias": False},
        {"filters": 5, "kernel_size": 3, "strides": 2, "output_padding": (0, 1), "padding": "same"},
        {"filters": 5, "kernel_size": 5, "strides": 3, "output_padding": (2, 1)},
    ],
    "DepthwiseConv1D": [
        {"kernel_size": 3},
        {"kernel_size": 4, "depth_multiplier": 3, "strides": 2, "padding": "same", "activation": "relu"},
        {"kernel_size": 3, "dilation_rate": 2, "activation": "tanh", "use_bias": False},
    ],
    "DepthwiseConv2D": [
        {"kernel_size": (3, 2)},
        {"kernel_size": 3, "depth_multiplier": 3, "strides": 2, "padding": "same", "activation": "relu"},
        {"kernel_size": 3, "dilation_rate": 2, "padding": "same", "activation": "tanh", "use_bias": False},
    ],
    "SeparableConv1D": [
        {"filters": 5, "kernel_size": 3},
        {"filters": 5, "kernel_size": 4, "depth_multiplier": 3, "strides": 2, "padding": "same", "activation": "relu"},
        {"filters": 5, "kernel_size": 3, "dilation_rate": 2, "activation": "tanh", "use_bias": False},
    ],
    "SeparableConv2D": [
        {"filters": 5, "kernel_size": (3, 2)},
        {"filters": 5, "kernel_size": 3, "depth_multiplier": 3, "strides": 2, "padding": "same", "activation": "relu"},
        {"filters": 5, "kernel_size": 3, "dilation_rate": 2, "activation": "softmax", "use_bias": False},
    ],
    "MaxPooling1D": [{}, {"pool_size": 3, "strides": 2, "padding": "same"}, {"pool_size": 4, "strides": 1}],
    "MaxPooling2D": [{}, {"pool_size": 3, "strides": 2, "padding": "same"}, {"pool_size": (3, 2), "strides": (1, 4)}],
    "AveragePooling1D": [
        {"pool_size": 2},
        {"pool_size": 3, "strides": 2, "padding": "same"},
        {"pool_size": 4, "strides": 1},
    ],
    "AveragePooling2D": [
        {"pool_size": 2},
        {"pool_size": 3, "strides": 2, "padding": "same"},
        {"pool_size": (3, 2), "strides": (1, 4)},
    ],
    "GlobalMaxPooling1D": [{}, {"keepdims": True}],
    "GlobalMaxPooling2D": [{}, {"keepdims": True}],
    "GlobalAveragePooling1D": [{}, {"keepdims": True}],
    "GlobalAveragePooling2D": [{}, {"keepdims": True}],
}
EACH = [(name, arguments) for name, cases in CASES.items() for arguments in cases]
IDS = [f"{name}-{i}" for name, cases in CASES.items() for i in range(len(cases))]
FIRST_CASE = [(name, cases[1]) for name, cases in CASES.items()]
each = pytest.mark.parametrize(("name", "arguments"), EACH, ids=IDS)
each_layer = pytest.mark.parametrize(("name", "arguments"), FIRST_CASE, ids=CASES)


@pytest.fixture(autouse=True)
def fresh() -> None:
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(11)


def random(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def shape_of(name: str, batch: int = 3, size: int = 11) -> tuple[int, ...]:
    return (batch, size, 4) if "1D" in name else (batch, size, size - 2, 4)


def to_first(images: Any) -> np.ndarray:
    images = np.asarray(images)
    return np.moveaxis(images, -1, 1).copy() if images.ndim > 2 else images


def near(ours: Any, theirs: Any, tolerance: float = 1e-12) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def pair(name: str, arguments: Arguments, shape: tuple[int, ...], **ours_too: Any) -> tuple[Any, Any]:
    """Our layer, with the further arguments `ours_too`, and the stock layer with the same weights."""
    ours, stock = getattr(fk, name)(**arguments, **ours_too), STOCK[name](**arguments)
    ours.build((shape[0], shape[-1], *shape[1:-1]) if ours_too.get("data_format") == FIRST else shape)
    stock.build(shape)
    weights = [random(tuple(v.shape), seed=i + 1) for i, v in enumerate(stock.weights)]
    ours.set_weights(weights)
    stock.set_weights(weights)
    return ours, stock


def value_and_gradients(layer: Any, x: np.ndarray, first: bool = False) -> list[Any]:
    """The output, and the gradients of a loss that does not depend on the order of the axes."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(tf.sin(y)) + tf.add_n(layer.losses or [tf.zeros((), y.dtype)])
    return [y, *tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])]


def our_ops(layer: Any, x: np.ndarray) -> set[str]:
    graph = tf.function(lambda x: layer(x)).get_concrete_function(tf.TensorSpec(x.shape, x.dtype)).graph
    return {op.type for op in graph.get_operations() if op.type.startswith("Fastconv")}


def test_the_table_has_every_layer() -> None:
    assert CASES.keys() == STOCK.keys()


def test_the_aliases_are_those_of_keras() -> None:
    """Every name of these layers in ``keras.layers`` is a name of ours, too."""
    classes = {name: cls for name, cls in vars(keras.layers).items() if isinstance(cls, type) and cls in fk.LAYERS}
    assert len(classes) > len(fk.LAYERS)
    assert {name: getattr(fk, name) for name in classes} == {name: fk.LAYERS[cls] for name, cls in classes.items()}
    assert classes.keys() <= set(fk.__all__)


@each
def test_values_and_gradients_are_those_of_stock_layers(name: str, arguments: Arguments) -> None:
    x = random(shape_of(name))
    ours, stock = pair(name, {**arguments, "dtype": "float64"}, x.shape)
    if not name.startswith("Global"):
        assert our_ops(ours, x)
    assert not our_ops(stock, x)
    results, expected = value_and_gradients(ours, x), value_and_gradients(stock, x)
    assert len(results) == 2 + len(stock.weights)
    for a, b in zip(results, expected, strict=True):
        near(a, b)


@each
def test_channels_first(name: str, arguments: Arguments) -> None:
    """The stock layer computes with channels last: TensorFlow has few kernels for channels first on the CPU."""
    x = random(shape_of(name))
    if arguments.get("activation") == "softmax":  # it normalises over the last axis of either format
        arguments = {**arguments, "activation": "sigmoid"}
    ours, stock = pair(name, {**arguments, "dtype": "float64"}, x.shape, data_format=FIRST)
    results, expected = value_and_gradients(ours, to_first(x)), value_and_gradients(stock, x)
    for i, (a, b) in enumerate(zip(results, expected, strict=True)):
        near(a, to_first(b) if i < 2 else b)


@each
def test_unknown_sizes(name: str, arguments: Arguments) -> None:
    """With unknown sizes, our layer reports the stock layer's shape and computes what it does with known sizes."""
    shape = shape_of(name)
    for data_format, sizes in ((FIRST, shape[1:-1]), (LAST, (None,) * (len(shape) - 2))):
        ours, stock = (
            layers[name](**arguments, data_format=data_format) for layers in ({n: getattr(fk, n) for n in STOCK}, STOCK)
        )
        inputs = keras.layers.Input((4, *sizes) if data_format == FIRST else (*sizes, 4))
        symbolic = ours(inputs)
        assert symbolic.shape == tuple(stock.compute_output_shape(inputs.shape))
        signature = [tf.TensorSpec(inputs.shape, tf.float32)]
        model = tf.function(keras.Model(inputs, symbolic), input_signature=signature)
        for batch in (1, 2):
            x = random(shape_of(name, batch), "float32")
            x = to_first(x) if data_format == FIRST else x
            near(model(x), ours(x), 1e-6)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [one for one in EACH if "GlobalMax" not in one[0]],
    ids=[i for i in IDS if "GlobalMax" not in i],
)
def test_empty_batch(name: str, arguments: Arguments) -> None:
    shape = shape_of(name)
    ours, stock = pair(name, arguments, shape)
    for y in (ours(np.zeros((0, *shape[1:]), np.float32)), ours(random(shape, "float32"))):
        assert y.shape[1:] == stock.compute_output_shape(shape)[1:]


@each
def test_configs_are_those_of_stock_layers(name: str, arguments: Arguments) -> None:
    ours, stock = (cls(**arguments, data_format=FIRST, name="one") for cls in (getattr(fk, name), STOCK[name]))
    config = ours.get_config()
    assert config == stock.get_config()
    assert getattr(fk, name).from_config(config).get_config() == config
    serialized = keras.saving.serialize_keras_object(ours)
    assert serialized["registered_name"] == f"fastconv>{name}"
    assert type(keras.saving.deserialize_keras_object(serialized)) is getattr(fk, name)


def model_of(cls: type[keras.Layer], arguments: Arguments, shape: tuple[int, ...]) -> keras.Model:
    keras.utils.clear_session(free_memory=False)
    layers = [keras.layers.Input(shape[1:]), cls(**arguments), keras.layers.Flatten(), keras.layers.Dense(2)]
    return keras.Sequential(layers)


@each_layer
def test_files_load_as_our_layers_and_weights_into_both_kinds(name: str, arguments: Arguments, tmp_path: Path) -> None:
    """A .keras file loads as our layer. A weights file loads into both kinds of layers."""
    x = random(shape_of(name), "float32")
    ours, stock = (model_of(cls, arguments, x.shape) for cls in (getattr(fk, name), STOCK[name]))
    ours.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is getattr(fk, name)
    assert np.array_equal(loaded(x), ours(x))

    ours.save_weights(tmp_path / "ours.weights.h5")
    stock.load_weights(tmp_path / "ours.weights.h5")
    near(ours(x), stock(x), 1e-5)
    other = model_of(STOCK[name], arguments, x.shape)
    other.save_weights(tmp_path / "stock.weights.h5")
    ours.load_weights(tmp_path / "stock.weights.h5")
    near(ours(x), other(x), 1e-5)
    assert np.abs(np.asarray(other(x)) - np.asarray(stock(x))).max() > 1e-3  # the two files differ


def summary_of(model: keras.Model) -> str:
    lines: list[str] = []
    model.summary(print_fn=lambda text, **_: lines.append(text))
    return "\n".join(lines)


@each_layer
def test_summaries_and_paths_are_those_of_stock_layers(name: str, arguments: Arguments) -> None:
    models = [model_of(cls, arguments, shape_of(name)) for cls in (getattr(fk, name), STOCK[name])]
    assert summary_of(models[0]) == summary_of(models[1])
    assert f"({name})" in summary_of(models[0])
    assert [v.path for v in models[0].weights] == [v.path for v in models[1].weights]


@pytest.mark.parametrize("name", [name for name in CASES if "Conv" in name])
def test_training_with_regularizers_and_constraints(name: str) -> None:
    """Five steps with each of Keras's penalties and projections give the same weights and losses."""
    arguments: Arguments = {**CASES[name][1], "activity_regularizer": "l2"}
    kernels = {"Sep": ("depthwise", "pointwise"), "Dep": ("depthwise",)}.get(name[:3], ("kernel",))
    for kernel in (*kernels, "bias"):
        arguments[f"{kernel}_regularizer"] = keras.regularizers.L1L2(0.01, 0.02)
        arguments[f"{kernel}_constraint"] = keras.constraints.MaxNorm(0.5)
    shape = shape_of(name, 8)
    x, y = random(shape, "float32"), np.arange(8) % 2
    losses, weights = [], []
    for cls in (getattr(fk, name), STOCK[name]):
        keras.utils.set_random_seed(5)
        model = model_of(cls, arguments, shape)
        model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        before = model.layers[0].get_weights()
        losses.append(model.fit(x, y, epochs=5, batch_size=8, shuffle=False, verbose=0).history["loss"])
        weights.append(model.layers[0].get_weights())
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(weights[0], before, strict=True))
    near(losses[0], losses[1], 1e-4)
    for a, b in zip(*weights, strict=True):
        near(a, b, 1e-4)


@each_layer
def test_a_subclass_may_override_call(name: str, arguments: Arguments) -> None:
    class Doubled(getattr(fk, name)):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return 2 * super().call(inputs)

    x = random(shape_of(name), "float32")
    _, stock = pair(name, arguments, x.shape)
    ours = Doubled(**arguments)
    ours.build(x.shape)
    ours.set_weights(stock.get_weights())
    near(ours(x), 2 * np.asarray(stock(x)), 1e-5)


@pytest.mark.parametrize("name", ["Conv1D", "Conv2D"])
def test_lora_is_that_of_stock_layers(name: str, tmp_path: Path) -> None:
    x = random(shape_of(name))
    ours, stock = pair(name, {"filters": 5, "kernel_size": 3, "dtype": "float64", "lora_rank": 2}, x.shape)
    for layer in (ours, stock):
        assert len(layer.trainable_variables) == 3  # two factors and the bias
    assert our_ops(ours, x)
    for a, b in zip(value_and_gradients(ours, x), value_and_gradients(stock, x), strict=True):
        near(a, b, 1e-6)  # the factors are float32
    plain, _ = pair(name, {"filters": 5, "kernel_size": 3, "dtype": "float64"}, x.shape)
    plain.set_weights([np.asarray(ours.kernel), np.asarray(ours.bias)])
    near(plain(x), ours(x), 1e-6)
    with pytest.raises(ValueError, match="constraint"):
        getattr(fk, name)(5, 3, lora_rank=2, kernel_constraint="max_norm").build(x.shape)


def test_groups_of_1d_convolutions() -> None:
    x = random((2, 11, 6), "float32")
    ours, stock = pair("Conv1D", {"filters": 9, "kernel_size": 3, "groups": 3, "activation": "relu"}, x.shape)
    near(ours(x), stock(x), 1e-5)
    images, _ = pair("Conv2D", {"filters": 9, "kernel_size": (1, 3), "groups": 3, "activation": "relu"}, (2, 1, 11, 6))
    images.set_weights([ours.get_weights()[0][None], ours.get_weights()[1]])
    for a, b in zip(value_and_gradients(ours, x), value_and_gradients(images, x[:, None]), strict=True):
        near(a, np.reshape(b, np.shape(a)), 1e-5)


@pytest.mark.parametrize("name", ["DepthwiseConv2D", "SeparableConv2D"])
def test_strides_that_tensorflow_refuses_are_computed(name: str) -> None:
    """Strides that differ along height and width give a subset of the result with stride 1."""
    x = random(shape_of(name))
    more = {"filters": 5} if name == "SeparableConv2D" else {}
    _, dense = pair(name, {**more, "kernel_size": 3, "dtype": "float64"}, x.shape)
    ours, _ = pair(name, {**more, "kernel_size": 3, "dtype": "float64", "strides": (2, 3)}, x.shape)
    near(ours(x), np.asarray(dense(x))[:, ::2, ::3])


@pytest.mark.parametrize("name", ["Conv1DTranspose", "Conv2DTranspose"])
def test_a_dilated_transpose_is_the_gradient_of_a_convolution(name: str) -> None:
    """TensorFlow's CPU kernels may refuse this layer. The gradient of the dilated convolution is the reference."""
    x = random(shape_of(name))
    ours, _ = pair(name, {"filters": 5, "kernel_size": 3, "dilation_rate": 2, "dtype": "float64"}, x.shape)
    forward = getattr(fk, name.removesuffix("Transpose"))(4, 3, dilation_rate=2, use_bias=False, dtype="float64")
    y = ours(x)
    forward.build(y.shape)
    forward.set_weights([ours.get_weights()[0]])
    image = tf.Variable(random(tuple(y.shape)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(forward(image) * x)
    near(y, tape.gradient(loss, image) + ours.get_weights()[1])
    assert y.shape == ours.compute_output_shape(x.shape)


def test_output_sizes_that_no_convolution_maps_to_the_input_are_refused() -> None:
    """A convolution of stride 2 would turn the 8 rows of the output into 4, not 5. The stock layer also refuses."""
    arguments = {"filters": 2, "kernel_size": 4, "strides": 2, "padding": "same", "output_padding": 0}
    x = random((1, 5, 5, 3), "float32")
    for layers in (keras.layers, fk):
        with pytest.raises((ValueError, tf.errors.OpError)):
            layers.Conv2DTranspose(**arguments)(x)


@pytest.mark.parametrize("name", [name for name in CASES if "Transpose" not in name and "Global" not in name])
def test_an_input_smaller_than_the_window_is_refused(name: str) -> None:
    filters = {} if "Pooling" in name or "Depthwise" in name else {"filters": 2}
    window = {"pool_size": 5} if "Pooling" in name else {"kernel_size": 5}
    shape = shape_of(name, size=4 if "1D" in name else 6)
    for layers in (keras.layers, fk):
        with pytest.raises(ValueError):
            getattr(layers, name)(**filters, **window)(keras.layers.Input(shape[1:]))


@pytest.mark.parametrize("name", [name for name in CASES if "Conv" in name])
def test_other_channels_than_before_are_refused(name: str) -> None:
    layer = getattr(fk, name)(**CASES[name][0])
    layer(random(shape_of(name), "float32"))
    shape = shape_of(name)
    with pytest.raises(ValueError, match="value 4"):
        layer(random((*shape[:-1], 5), "float32"))


@pytest.mark.parametrize("name", ["GlobalAveragePooling1D", "GlobalAveragePooling2D"])
def test_only_the_average_of_sequences_uses_a_mask(name: str) -> None:
    if name == "GlobalAveragePooling2D":
        assert not getattr(fk, name)().supports_masking
        return
    x = random((2, 5, 3), "float32")
    mask = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 1, 1]], bool)
    near(fk.GlobalAveragePooling1D()(x, mask=mask), keras.layers.GlobalAveragePooling1D()(x, mask=mask), 1e-6)
    embedded = [
        keras.Sequential([keras.layers.Masking(0.0), layers.GlobalAveragePooling1D()]) for layers in (fk, keras.layers)
    ]
    x[0, 3:] = 0
    near(embedded[0](x), embedded[1](x), 1e-6)


@pytest.mark.parametrize("name", ["MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_a_maximum_of_nan_is_nan(name: str, dtype: str) -> None:
    x = np.abs(random(shape_of(name, size=4 if "1D" in name else 6)))
    x[(0, *(1 for _ in x.shape[1:]))] = np.nan
    y = np.asarray(tf.cast(getattr(fk, name)(dtype=dtype)(x), tf.float64))
    assert np.isnan(y[0, ..., 1]).any()
    assert np.isnan(y).sum() == 1


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes TensorFlow report a GPU: the layers learn of one by `list_physical_devices` alone."""
    from fastconv.keras import _serving

    _serving._warn_once.cache_clear()
    _serving._sees_gpu.cache_clear()
    real = tf.config.list_physical_devices
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind=None: ["a GPU"] if kind == "GPU" else real(kind)
    )
    yield
    _serving._sees_gpu.cache_clear()


@each_layer
@pytest.mark.filterwarnings("ignore:fastconv.keras. TensorFlow sees a GPU")
def test_stock_ops_where_tensorflow_sees_a_gpu(name: str, arguments: Arguments, gpu: None) -> None:
    x = random(shape_of(name))
    ours, stock = pair(name, {**arguments, "dtype": "float64"}, x.shape)
    assert not our_ops(ours, x)
    assert np.array_equal(ours(x), stock(x))


def test_one_warning_where_tensorflow_sees_a_gpu(gpu: None) -> None:
    x = random((1, 5, 5, 2), "float32")
    with pytest.warns(UserWarning, match="sees a GPU, so the layers use Keras's own ops") as caught:
        fk.Conv2D(2, 3)(x)
        fk.MaxPooling2D()(x)
        fk.DepthwiseConv2D(3)(x)
    assert len(caught) == 1
