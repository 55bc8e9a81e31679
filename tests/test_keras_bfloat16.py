"""Layers in bfloat16 call TensorFlow's ops if these are faster and sum in float32, else fastconv's."""

from __future__ import annotations

import warnings
from typing import Any

import fastconv.keras as fk
import keras
import numpy as np
import pytest
import tensorflow as tf
from fastconv.keras import _serving
from processes import run_python

HALF_AN_ULP = 2.0**-8
SHAPE = (4, 12, 10, 16)
# Layers that call TensorFlow's ops if oneDNN supports bfloat16, and the ops that they call.
STOCK: list[tuple[str, dict[str, Any], set[str]]] = [
    ("Conv2D", {"filters": 8, "kernel_size": 1}, {"Conv2D"}),
    ("Conv2D", {"filters": 8, "kernel_size": 1, "padding": "same"}, {"Conv2D"}),
    ("Conv2D", {"filters": 8, "kernel_size": 1, "dilation_rate": 2, "activation": "relu"}, {"Conv2D"}),
    ("Conv2D", {"filters": 8, "kernel_size": 1, "use_bias": False}, {"Conv2D"}),
    ("Conv1D", {"filters": 8, "kernel_size": 1, "padding": "causal", "activation": "relu"}, {"Conv2D"}),
    ("Conv1D", {"filters": 8, "kernel_size": 1}, {"Conv2D"}),
    ("DepthwiseConv2D", {"kernel_size": 3}, {"DepthwiseConv2dNative"}),
    ("DepthwiseConv2D", {"kernel_size": 3, "padding": "same", "activation": "relu"}, {"DepthwiseConv2dNative"}),
    ("SeparableConv2D", {"filters": 8, "kernel_size": 3, "padding": "same"}, {"DepthwiseConv2dNative", "Conv2D"}),
]
OURS: list[tuple[str, dict[str, Any]]] = [
    ("Conv2D", {"filters": 8, "kernel_size": 3}),
    ("Conv2D", {"filters": 8, "kernel_size": (1, 3)}),
    ("Conv2D", {"filters": 8, "kernel_size": 1, "groups": 2}),
    ("Conv2D", {"filters": 8, "kernel_size": 1, "strides": (1, 2)}),
    ("Conv1D", {"filters": 8, "kernel_size": 1, "strides": 2}),
    ("Conv2D", {"filters": 8, "kernel_size": 1, "data_format": "channels_first"}),
    ("Conv2D", {"filters": 8, "kernel_size": 1, "dtype": "mixed_float16"}),
    ("Conv2D", {"filters": 8, "kernel_size": 1, "dtype": "float32"}),
    ("Conv1D", {"filters": 8, "kernel_size": 3}),
    ("Conv2DTranspose", {"filters": 8, "kernel_size": 1}),
    ("DepthwiseConv1D", {"kernel_size": 3}),
    ("DepthwiseConv2D", {"kernel_size": 5}),
    ("DepthwiseConv2D", {"kernel_size": 3, "strides": 2}),
    ("DepthwiseConv2D", {"kernel_size": 3, "dilation_rate": 2}),
    ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2}),
    ("DepthwiseConv2D", {"kernel_size": 3, "data_format": "channels_first"}),
    ("SeparableConv1D", {"filters": 8, "kernel_size": 3}),
    ("SeparableConv2D", {"filters": 8, "kernel_size": 5}),
    ("MaxPooling2D", {"pool_size": 2}),
    ("AveragePooling2D", {"pool_size": 2}),
]


def ours(name: str, arguments: dict[str, Any]) -> Any:
    return getattr(fk, name)(**{"dtype": "mixed_bfloat16", **arguments})


def shape_for(name: str) -> tuple[int, ...]:
    return (4, 60, 16) if "1D" in name else SHAPE


def op_types(layer: Any, shape: tuple[int, ...]) -> set[str]:
    """The types of the convolution and pooling ops, forward and backward."""

    @tf.function
    def step(x: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, [x, *(v.value for v in layer.trainable_variables)])

    layer.build(shape)
    graph = step.get_concrete_function(tf.TensorSpec(shape, layer.compute_dtype)).graph
    return {op.type for op in graph.get_operations() if "Conv" in op.type or "Pool" in op.type or "Fast" in op.type}


def force(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    monkeypatch.setattr(_serving, "_onednn_has_bfloat16", lambda: answer)


@pytest.mark.parametrize(("name", "arguments", "ops"), STOCK)
def test_tensorflow_computes_the_layers_it_is_faster_at(
    name: str, arguments: dict[str, Any], ops: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    force(monkeypatch, True)
    layer = ours(name, arguments)
    assert "TensorFlow is faster in bfloat16" in str(_serving.why_stock(layer))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        types = op_types(layer, shape_for(name))
    forward = {op for op in types if "Backprop" not in op}
    assert forward == ops
    assert not any(op.startswith("Fastconv") for op in types)


@pytest.mark.parametrize(
    ("name", "arguments", "instructions"),
    [*[(name, arguments, False) for name, arguments, _ in STOCK], *[(*layer, True) for layer in OURS]],
)
def test_fastconv_computes_the_rest_and_everything_without_bfloat16_instructions(
    name: str, arguments: dict[str, Any], instructions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(monkeypatch, instructions)
    layer = ours(name, arguments)
    assert _serving.why_stock(layer) is None
    types = op_types(layer, shape_for(name))
    assert types
    assert all(op.startswith("Fastconv") for op in types)


def test_the_reason_is_also_given_for_layers_of_keras() -> None:
    stock = keras.layers.Conv2D(4, 1, dtype="mixed_bfloat16")
    assert _serving.why_stock(stock) == _serving.why_stock(fk.Conv2D(4, 1, dtype="mixed_bfloat16"))
    assert _serving.why_stock(keras.layers.Dense(4, dtype="mixed_bfloat16")) is None


@pytest.mark.parametrize("by_tensorflow", [True, False])
@pytest.mark.parametrize(("name", "arguments", "ops"), STOCK)
def test_results_are_close_to_float64(
    name: str, arguments: dict[str, Any], ops: set[str], by_tensorflow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_tensorflow and not _serving._onednn_has_bfloat16():
        pytest.skip("TensorFlow does not sum bfloat16 in float32 here")
    force(monkeypatch, by_tensorflow)
    shape = shape_for(name)
    rng = np.random.default_rng(1)

    def rounded(values: np.ndarray) -> np.ndarray:
        return np.asarray(tf.cast(tf.cast(values, tf.bfloat16), tf.float64))

    x = rounded(rng.uniform(0.2, 1, shape))
    exact, half = getattr(keras.layers, name)(**arguments, dtype="float64"), ours(name, arguments)
    exact.build(shape)
    half.build(shape)
    weights = [rounded(rng.uniform(0.1, 0.5, v.shape)) for v in exact.weights]
    results = []
    for layer in (exact, half):
        layer.set_weights(weights)
        inputs = tf.cast(x, layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = layer(inputs)
            rows = tf.reshape(tf.cast(tf.range(tf.size(y)) % 5, y.dtype), tf.shape(y))
            loss = tf.reduce_sum(tf.cast(y * (rows + 1), tf.float64))
        gradients = tape.gradient(loss, [inputs, *(v.value for v in layer.trainable_variables)])
        results.append([np.asarray(tf.cast(t, tf.float64)) for t in (y, *gradients)])
    # TensorFlow rounds after each op: at most two convolutions and the bias.
    roundings = len(ops) + 1 if by_tensorflow else 1
    for i, (a, b) in enumerate(zip(results[1], results[0], strict=True)):
        assert np.abs(a - b).max() <= 1.02 * roundings * HALF_AN_ULP * np.abs(b).max(), i


@pytest.mark.parametrize(("name", "arguments", "ops"), STOCK)
def test_no_images_give_empty_outputs_and_zero_gradients(name: str, arguments: dict[str, Any], ops: set[str]) -> None:
    layer = ours(name, arguments)
    x = tf.zeros((0, *shape_for(name)[1:]), tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    assert tuple(y.shape) == layer.compute_output_shape(x.shape)
    inputs, *weights = tape.gradient(y, [x, *(v.value for v in layer.trainable_variables)])
    assert inputs.shape == x.shape
    assert not any(np.any(w) for w in weights)


@pytest.mark.parametrize("by_tensorflow", [True, False])
def test_bias_gradient_is_summed_in_float32(by_tensorflow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, by_tensorflow)
    layer = fk.Conv2D(4, 1, dtype="mixed_bfloat16")
    with tf.GradientTape() as tape:
        y = layer(tf.ones((1, 64, 64, 8), tf.bfloat16))
    assert float(tf.reduce_max(tape.gradient(y, layer.bias.value))) == 4096


def test_tensorflow_sums_the_gradient_of_its_bias_add_in_bfloat16() -> None:
    """The layers therefore do not call tf.nn.bias_add."""
    bias = tf.zeros(4, tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch(bias)
        y = tf.nn.bias_add(tf.ones((1, 64, 64, 4), tf.bfloat16), bias)
    assert float(tf.reduce_max(tape.gradient(y, bias))) < 4096


PROBE = """
import numpy as np, tensorflow as tf
from fastconv.keras import Conv2D, _serving

layer = Conv2D(4, 1, dtype="bfloat16")
tf.function(layer, jit_compile=False)(tf.ones((1, 2, 2, 3), tf.bfloat16))  # asked in a graph first
images = np.ones((1, 3, 3, 8))
images[0, 0, 0] = 256
sums = tf.nn.depthwise_conv2d(tf.cast(images, tf.bfloat16), tf.ones((3, 3, 8, 1), tf.bfloat16), (1, 1, 1, 1), "VALID")
exact = bool(tf.reduce_all(sums == 264))
print("ANSWER", _serving.why_stock(layer) is not None, exact and _serving._cpu_has_bfloat16())
"""


@pytest.mark.parametrize("onednn", ["0", "1"])
def test_tensorflow_is_chosen_only_if_it_sums_in_float32(onednn: str) -> None:
    """With oneDNN, the choice depends on the CPU. Without oneDNN, TensorFlow sums in bfloat16."""
    printed = run_python(PROBE, TF_ENABLE_ONEDNN_OPTS=onednn)
    _, answer, expected = next(line for line in printed.splitlines() if line.startswith("ANSWER")).split()
    assert answer == expected
    assert onednn == "1" or answer == "False"


def test_onednn_without_bfloat16_still_computes() -> None:
    run_python(
        """
        import tensorflow as tf, fastconv.keras as fk
        y = fk.Conv2D(4, 1, dtype='bfloat16', kernel_initializer='ones')(tf.ones((1, 2, 2, 8), tf.bfloat16))
        assert float(y[0, 0, 0, 0]) == 8
        """,
        ONEDNN_MAX_CPU_ISA="AVX2",
    )
