"""Frozen Keras models compute the same as the models that were frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastconv.keras
import keras
import numpy as np
import pytest
from frozen_models import distance, frozen_outputs, images, outputs_of, randomise, super_resolution, unet

L = keras.layers

ACTIVATIONS = "linear relu relu6 leaky_relu elu gelu silu sigmoid hard_sigmoid hard_silu tanh softmax".split()

# Each layer on images of 9 x 7 with 4 channels.
LAYERS: dict[str, Callable[[], Any]] = {
    "convolution": lambda: L.Conv2D(6, 3, strides=2, padding="same", activation="relu"),
    "groups": lambda: L.Conv2D(6, (3, 2), groups=2, dilation_rate=(1, 2)),
    "depthwise": lambda: L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="silu"),
    "separable": lambda: L.SeparableConv2D(5, 3, padding="same", depth_multiplier=2),
    "transposed": lambda: L.Conv2DTranspose(5, 3, strides=2, padding="same", activation="relu"),
    "transposed, valid": lambda: L.Conv2DTranspose(5, 3, strides=2),
    "transposed, gaps": lambda: L.Conv2DTranspose(5, 2, strides=3),
    "transposed, output padding": lambda: L.Conv2DTranspose(5, 3, strides=2, padding="same", output_padding=0),
    "dense": lambda: L.Dense(5, activation="tanh"),
    "batch normalisation": lambda: L.BatchNormalization(),
    "batch normalisation of rows": lambda: L.BatchNormalization(axis=1),
    "no scale": lambda: L.BatchNormalization(scale=False, center=False),
    "layer normalisation": lambda: L.LayerNormalization(),
    "layer normalisation of three axes": lambda: L.LayerNormalization(axis=[1, 2, 3]),
    "rescaling": lambda: L.Rescaling(1 / 255, offset=-1),
    "normalisation": lambda: L.Normalization(mean=[1.0, 2, 3, 4], variance=[0.5, 1, 2, 4]),
    "inverted normalisation": lambda: L.Normalization(mean=[1.0, 2, 3, 4], variance=[0.5, 1, 2, 4], invert=True),
    "max pool": lambda: L.MaxPooling2D((3, 2), strides=2, padding="same"),
    "average pool": lambda: L.AveragePooling2D(3, strides=1, padding="same"),
    "global max": lambda: L.GlobalMaxPooling2D(keepdims=True),
    "global average": lambda: L.GlobalAveragePooling2D(),
    "padding": lambda: L.ZeroPadding2D(((1, 2), (0, 3))),
    "cropping": lambda: L.Cropping2D(((1, 2), (0, 3))),
    "centre crop": lambda: L.CenterCrop(4, 5),
    "nearest": lambda: L.UpSampling2D((2, 3)),
    "bilinear": lambda: L.UpSampling2D(2, interpolation="bilinear"),
    "resizing": lambda: L.Resizing(5, 11),
    "resizing to the nearest": lambda: L.Resizing(5, 11, interpolation="nearest"),
    "flatten": lambda: L.Flatten(),
    "reshape": lambda: L.Reshape((7, -1)),
    "permute": lambda: L.Permute((3, 1, 2)),
    "softmax": lambda: L.Softmax(axis=2),
    "relu": lambda: L.ReLU(),
    "relu up to 6": lambda: L.ReLU(6.0),
    "relu up to 2": lambda: L.ReLU(2.0),
    "relu with a slope": lambda: L.ReLU(2.0, negative_slope=0.1),
    "leaky relu": lambda: L.LeakyReLU(0.3),
    "elu": lambda: L.ELU(0.7),
    "prelu": lambda: L.PReLU(alpha_initializer="random_uniform", shared_axes=[1, 2]),
    "dropout": lambda: L.Dropout(0.5),
    "noise": lambda: L.GaussianNoise(1.0),
    "random flips": lambda: L.RandomFlip(),
    "time distributed": lambda: L.TimeDistributed(L.Conv1D(3, 2)),
    "a layer of fastconv": lambda: fastconv.keras.Conv2D(6, 3, activation="relu"),
}

# Each layer on sequences of length 9 with 4 channels.
SEQUENCE_LAYERS: dict[str, Callable[[], Any]] = {
    "convolution": lambda: L.Conv1D(6, 3, strides=2, padding="same"),
    "causal": lambda: L.Conv1D(6, 3, dilation_rate=2, padding="causal"),
    "depthwise": lambda: L.DepthwiseConv1D(3, depth_multiplier=2),
    "separable": lambda: L.SeparableConv1D(5, 3, padding="same"),
    "transposed": lambda: L.Conv1DTranspose(5, 3, strides=2, padding="same"),
    "max pool": lambda: L.MaxPooling1D(3, strides=2, padding="same"),
    "average pool": lambda: L.AveragePooling1D(2),
    "global max": lambda: L.GlobalMaxPooling1D(),
    "global average": lambda: L.GlobalAveragePooling1D(keepdims=True),
    "padding": lambda: L.ZeroPadding1D((1, 2)),
    "cropping": lambda: L.Cropping1D((1, 2)),
    "up": lambda: L.UpSampling1D(3),
}


@pytest.fixture(autouse=True)
def in_float64() -> Any:
    keras.utils.set_random_seed(1)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(policy)


def check(model: Any, *inputs: Any, tolerance: float = 1e-12) -> Any:
    randomise(model)
    net = fastconv.keras.freeze(model)
    assert distance(frozen_outputs(net, *inputs), outputs_of(model, *inputs)) < tolerance
    return net


def operations(net: Any) -> list[str]:
    return [node.operation for node in net._graph.nodes]


def model_of(*layers: Any, shape: tuple[int | None, ...] = (9, 7, 4)) -> Any:
    return keras.Sequential([keras.Input(shape, dtype="float64"), *layers])


# The errors allowed in float64 models where TensorFlow computes in float32 or with float32 constants.
ROUNDED = {"bilinear": 1e-6, "resizing": 1e-6, "relu with a slope": 1e-7, "gelu": 1e-8}


@pytest.mark.parametrize("name", LAYERS)
def test_a_frozen_layer_computes_the_same(name: str) -> None:
    check(model_of(LAYERS[name]()), images((3, 9, 7, 4)), tolerance=ROUNDED.get(name, 1e-12))


@pytest.mark.parametrize("name", SEQUENCE_LAYERS)
def test_a_frozen_layer_of_sequences_computes_the_same(name: str) -> None:
    check(model_of(SEQUENCE_LAYERS[name](), shape=(9, 4)), images((3, 9, 4)))


@pytest.mark.parametrize("name", ["AdaptiveAveragePooling2D", "AdaptiveMaxPooling2D"])
def test_adaptive_pool(name: str) -> None:
    if not hasattr(L, name):
        pytest.skip("this Keras has no adaptive pools")
    check(model_of(getattr(L, name)((4, 3))), images((3, 9, 7, 4)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(activation: str) -> None:
    x = 4 * images((3, 9, 7, 4))
    tolerance = ROUNDED.get(activation, 1e-12)
    check(model_of(L.Activation(activation)), x, tolerance=tolerance)
    check(model_of(L.Conv2D(5, 1, activation=activation)), x, tolerance=tolerance)


@pytest.mark.parametrize(
    "layer", [lambda: L.Add(), lambda: L.Subtract(), lambda: L.Multiply(), lambda: L.Maximum(), lambda: L.Minimum()]
)
@pytest.mark.parametrize("second", [(9, 7, 4), (1, 1, 4), (9, 7, 1), (4,)])
def test_merging(layer: Callable[[], Any], second: tuple[int, ...]) -> None:
    a, b = keras.Input((9, 7, 4), dtype="float64"), keras.Input(second, dtype="float64")
    check(keras.Model([a, b], layer()([a, b])), images((3, 9, 7, 4)), images((3, *second), seed=2))


def test_average_and_concatenation() -> None:
    a, b, c = (keras.Input((9, 7, 4), dtype="float64") for _ in range(3))
    model = keras.Model([a, b, c], [L.Average()([a, b, c]), L.Concatenate()([a, b]), L.Concatenate(axis=1)([b, c])])
    net = check(model, *(images((3, 9, 7, 4), seed=seed) for seed in range(3)))
    assert len(net.outputs) == 3


def test_operations_between_layers() -> None:
    x = keras.Input((9, 7, 4), dtype="float64")
    y = keras.ops.relu(L.Conv2D(4, 3, padding="same")(x) + x * 2 - 1)
    mean = keras.ops.mean(y, axis=(1, 2), keepdims=True)
    z = keras.ops.concatenate([y / (1 + keras.ops.sigmoid(mean)), -y[:, :, :, :2]], axis=-1)
    check(keras.Model(x, keras.ops.reshape(z, (-1, 63, 6))), images((3, 9, 7, 4)))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.Conv2D(6, 3, data_format="channels_first"),
        lambda: L.DepthwiseConv2D(3, data_format="channels_first"),
        lambda: L.MaxPooling2D(2, data_format="channels_first"),
        lambda: L.GlobalAveragePooling2D(data_format="channels_first"),
        lambda: L.ZeroPadding2D(1, data_format="channels_first"),
        lambda: L.UpSampling2D(2, data_format="channels_first"),
        lambda: L.Flatten(data_format="channels_first"),
        lambda: L.BatchNormalization(axis=1),
    ],
)
def test_channels_first(layer: Callable[[], Any]) -> None:
    made = layer()
    model = model_of(made, shape=(4, 9, 7))
    net = fastconv.keras.freeze(model)
    x = images((3, 4, 9, 7))
    last = (
        model_of(type(made).from_config({**made.get_config(), "data_format": "channels_last", "name": "last"}))
        if (hasattr(made, "data_format") and not isinstance(made, L.Flatten))
        else None
    )
    if last is None:
        theirs = outputs_of(model, x)
    else:  # TensorFlow cannot compute convolutions of channels_first on CPUs
        last.set_weights(model.get_weights())
        theirs = [y.transpose(0, 3, 1, 2) if y.ndim == 4 else y for y in outputs_of(last, x.transpose(0, 2, 3, 1))]
    assert distance(frozen_outputs(net, x), theirs) < 1e-12


# ---- Folding and fusing ----------------------------------------------------------------------------------------------


def test_batch_normalisation_and_activation_become_part_of_the_convolution() -> None:
    model = model_of(L.Conv2D(6, 3, use_bias=False), L.BatchNormalization(), L.ReLU(6.0))
    net = check(model, images((3, 9, 7, 4)))
    assert operations(net) == ["conv2d"]
    assert net._graph.nodes[0].fused == [layer.name for layer in model.layers[1:]]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("layer", [L.Conv2D, L.DepthwiseConv2D])
def test_an_offset_before_a_padding_is_not_folded(padding: str, layer: Any) -> None:
    made = layer(kernel_size=3, padding=padding, **({"filters": 6, "groups": 2} if layer is L.Conv2D else {}))
    net = check(model_of(L.BatchNormalization(), made), images((3, 9, 7, 4)))
    assert len(operations(net)) == (1 if padding == "valid" else 2)


def test_a_factor_before_a_padding_is_folded() -> None:
    net = check(model_of(L.Rescaling(1 / 255), L.Conv2D(6, 3, padding="same")), images((3, 9, 7, 4)))
    assert operations(net) == ["conv2d"]


def test_scales_in_a_row_become_one() -> None:
    layers = [L.Rescaling(1 / 255), L.Normalization(mean=0.4, variance=0.2), L.BatchNormalization()]
    assert operations(check(model_of(*layers), images((3, 9, 7, 4)))) == ["scale_shift"]


def test_padding_becomes_part_of_the_convolution() -> None:
    layers = [L.ZeroPadding2D(((0, 1), (2, 1))), L.Conv2D(6, 3, strides=2)]
    assert operations(check(model_of(*layers), images((3, 9, 7, 4)))) == ["conv2d"]


def test_padding_becomes_part_of_a_max_pool_only_if_no_value_is_negative() -> None:
    pool = [L.ZeroPadding2D(1), L.MaxPooling2D(3, 2)]
    net = check(model_of(L.Conv2D(6, 3, activation="relu"), *pool), images((3, 9, 7, 4)))
    assert operations(net) == ["conv2d", "max_pool2d"]
    pool = [L.ZeroPadding2D(1), L.MaxPooling2D(3, 2)]
    net = check(model_of(L.Conv2D(6, 3), *pool), images((3, 9, 7, 4)) - 5)
    assert operations(net) == ["conv2d", "pad", "max_pool2d"]


def test_an_addition_becomes_part_of_the_later_convolution() -> None:
    x = keras.Input((9, 7, 4), dtype="float64")
    left = L.BatchNormalization()(L.Conv2D(4, 3, padding="same")(x))
    right = L.BatchNormalization()(L.Conv2D(4, 1)(x))
    net = check(keras.Model(x, L.ReLU()(L.Add()([left, right]))), images((3, 9, 7, 4)))
    assert operations(net) == ["conv2d", "conv2d"]


def test_an_addition_that_broadcasts_is_not_fused() -> None:
    x = keras.Input((9, 7, 4), dtype="float64")
    y = L.Conv2D(4, 3, padding="same")(x)
    net = check(keras.Model(x, L.Add()([y, L.GlobalAveragePooling2D(keepdims=True)(x)])), images((3, 9, 7, 4)))
    assert "add" in operations(net)


def test_an_output_that_others_read_is_not_fused() -> None:
    x = keras.Input((9, 7, 4), dtype="float64")
    y = L.Conv2D(4, 3, padding="same")(x)
    z = L.ReLU()(y)
    net = check(keras.Model(x, [y, L.Add()([y, z])]), images((3, 9, 7, 4)))
    assert operations(net) == ["conv2d", "activate", "add"]


def test_a_tensor_added_to_itself() -> None:
    x = keras.Input((9, 7, 4), dtype="float64")
    y = L.Conv2D(4, 3)(x)
    check(keras.Model(x, L.Add()([y, y])), images((3, 9, 7, 4)))


# ---- Whole models ----------------------------------------------------------------------------------------------------


def test_shared_layers_and_nested_models() -> None:
    shared = L.Conv2D(4, 3, padding="same", activation="relu")
    inner = model_of(L.Conv2D(4, 1), L.BatchNormalization())
    x = keras.Input((9, 7, 4), dtype="float64")
    check(keras.Model(x, shared(inner(shared(x)))), images((3, 9, 7, 4)))


@pytest.mark.parametrize("size", [(8, 8), (16, 24)])
def test_unet_of_any_size(size: tuple[int, int]) -> None:
    check(unet(), images((2, *size, 3)))


def test_inputs_and_outputs_keep_their_names() -> None:
    a, b = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    net = fastconv.keras.freeze(keras.Model([a, b], [L.Add(name="sum")([a, b]), L.Dense(2, name="scores")(a)]))
    assert [tensor.name for tensor in net.inputs] == ["left", "right"]
    assert [tensor.name for tensor in net.outputs] == ["sum", "scores"]
    net = fastconv.keras.freeze(keras.Model({"left": a, "right": b}, {"z": L.Add()([a, b]), "y": L.Subtract()([a, b])}))
    ones = np.ones((1, 4))
    result = net({"left": ones, "right": 3 * ones})
    assert result["z"][0, 0] == 4 and result["y"][0, 0] == -2


def test_super_resolution() -> None:
    check(super_resolution(), images((2, 12, 10, 1)))


NETWORKS = {
    "ResNet50": 64,
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "EfficientNetB0": 64,
    "VGG16": 32,
    "DenseNet121": 64,
    "Xception": 96,
    "InceptionV3": 96,
    "NASNetMobile": 224,
    "ConvNeXtTiny": 64,
}
QUICK = {"MobileNetV2", "MobileNetV3Small"}


def application(name: str) -> Any:
    size = NETWORKS[name]
    sizes = {} if size == 224 else {"input_shape": (size, size, 3)}
    return getattr(keras.applications, name)(weights=None, classes=10, **sizes)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in NETWORKS])
def test_application_in_float64(name: str) -> None:
    x = 100 * images((2, NETWORKS[name], NETWORKS[name], 3), "float32")  # the input of these models is float32
    check(application(name), x.astype("float64"), tolerance=1e-9)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in NETWORKS])
def test_application_in_float32(name: str) -> None:
    exact_model = application(name)
    randomise(exact_model)
    keras.config.set_dtype_policy("float32")
    model = application(name)
    model.set_weights(exact_model.get_weights())
    exact_model.set_weights(model.get_weights())  # rounded to float32
    x = 100 * images((2, NETWORKS[name], NETWORKS[name], 3), "float32")
    exact = outputs_of(exact_model, x.astype("float64"))
    ours = distance(frozen_outputs(fastconv.keras.freeze(model), x), exact)
    assert 0 < ours <= max(2 * distance(outputs_of(model, x), exact), 1e-5)


# ---- Errors of freeze ------------------------------------------------------------------------------------------------


def test_all_layers_that_cannot_be_frozen_are_named() -> None:
    x = keras.Input((9, 7, 4), dtype="float64")
    y = L.Lambda(lambda t: t * 2, name="twice")(x)
    y = L.UnitNormalization(name="unit")(L.Conv2D(4, 3, activation="mish", name="odd")(y))
    with pytest.raises(ValueError, match="cannot be frozen") as error:
        fastconv.keras.freeze(keras.Model(x, y))
    message = str(error.value)
    for name in ("'twice' (Lambda)", "'unit' (UnitNormalization)", "'odd' (Conv2D): its activation 'mish'"):
        assert name in message


def test_a_model_with_its_own_call_is_refused() -> None:
    class Own(keras.Model):
        def call(self, x: Any) -> Any:
            return x

    model = Own()
    model(np.ones((1, 2)))
    with pytest.raises(ValueError, match="own call"):
        fastconv.keras.freeze(model)


def test_a_layer_of_the_user_is_not_taken_for_its_base_class() -> None:
    class Doubled(L.Conv2D):
        def call(self, x: Any) -> Any:
            return 2 * super().call(x)

    with pytest.raises(ValueError, match="Doubled"):
        fastconv.keras.freeze(model_of(Doubled(4, 3)))


def test_a_model_that_is_not_built_is_refused() -> None:
    with pytest.raises(ValueError, match="not built"):
        fastconv.keras.freeze(keras.Sequential([L.Conv2D(4, 3)]))


def test_a_reshape_to_several_open_sizes_is_named() -> None:
    model = keras.Sequential([keras.Input((8, 8, 4)), L.Reshape((None, None, 4), name="open")])
    with pytest.raises(ValueError, match=r"open.*target_shape \(None, None, 4\) leaves more than one size open"):
        fastconv.keras.freeze(model)


@pytest.mark.parametrize("thing", [None, "model", L.Conv2D(4, 3)])
def test_anything_but_a_model_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"model must be a keras\.Model"):
        fastconv.keras.freeze(thing)


def test_further_training_does_not_change_the_network() -> None:
    model = model_of(L.Conv2D(4, 3))
    net = fastconv.keras.freeze(model)
    x = images((1, 9, 7, 4))
    before = net(x)
    model.set_weights([w + 1 for w in model.get_weights()])
    np.testing.assert_array_equal(net(x), before)
