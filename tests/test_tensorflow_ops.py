"""`fastconv.tensorflow` gives the bits of the NumPy functions, eagerly and in graphs. Its ops behave like TensorFlow's.

Other tests compare the NumPy functions with the reference and with TensorFlow.
"""

from __future__ import annotations

import importlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fastconv
import fastconv.tensorflow as fc
import numpy as np
import pytest
import tensorflow as tf
from arrays import random
from processes import run_python
from tensorflow_calls import CASES, Case, call, every_case, expected, results, same_bits

OPS = (
    "FastconvConv2D",
    "FastconvConv2DBackpropInput",
    "FastconvConv2DBackpropFilter",
    "FastconvConv2DBackpropFilterBias",
    "FastconvBiasGradient",
    "FastconvReluBiasGrad",
    "FastconvMaxPool2D",
    "FastconvMaxPool2DWithTaps",
    "FastconvMaxPool2DScatter",
    "FastconvMaxPool2DGather",
    "FastconvMaxPool2DWithArgmax",
    "FastconvMaxPool2DGrad",
    "FastconvAvgPool2D",
    "FastconvAvgPool2DGrad",
    "FastconvActivate",
    "FastconvActivateGrad",
    "FastconvAdd",
    "FastconvAddGrad",
    "FastconvBatchNorm",
    "FastconvBatchNormGrad",
    "FastconvBatchNormInference",
    "FastconvBatchNormInferenceGrad",
    "FastconvBatchNormStatistics",
)


# ---- The same bits everywhere ----------------------------------------------------------------------------------------


def test_every_function_has_a_case() -> None:
    """CASES has all but the ops of conv2d_max_pool2d, which test_same_faces_tensorflow.py tests."""
    assert {name for name, _, _ in CASES.values()} == {name for name in fc.__all__ if "conv2d_max_pool2d" not in name}


@every_case
def test_eager_calls_give_the_same_bits(case: Case) -> None:
    same_bits(call(case), expected(case))


@every_case
def test_numpy_arrays_are_accepted(case: Case) -> None:
    same_bits(call(case, **case[2]), expected(case))


@every_case
def test_graphs_give_the_same_bits(case: Case) -> None:
    """Tracing infers all shapes, and the graph gives the same bits."""
    function = tf.function(lambda **arrays: call(case, **arrays))
    arrays = {key: tf.constant(value) for key, value in case[2].items()}
    answers = results(expected(case))
    concrete = function.get_concrete_function(**arrays)
    structured = concrete.structured_outputs
    outputs = structured if isinstance(structured, (tuple, list)) else [structured]
    outputs = [output for output in outputs if output is not None]
    assert [tuple(o.shape) for o in outputs] == [a.shape for a in answers]
    assert [o.dtype.as_numpy_dtype for o in outputs] == [a.dtype for a in answers]
    same_bits(function(**arrays), answers)


@every_case
def test_graphs_of_unknown_shapes_give_the_same_bits(case: Case) -> None:
    """Not even the ranks of the tensors are known."""
    signature = {key: tf.TensorSpec(None, value.dtype) for key, value in case[2].items()}
    function = tf.function(lambda arrays: call(case, **arrays), input_signature=[signature])
    same_bits(function({key: tf.constant(value) for key, value in case[2].items()}), expected(case))


@every_case
def test_a_dataset_map_gives_the_same_bits(case: Case) -> None:
    repeats = 3
    data = tf.data.Dataset.from_tensors({key: tf.constant(value) for key, value in case[2].items()}).repeat(repeats)
    answers = list(data.map(lambda arrays: call(case, **arrays), num_parallel_calls=2))
    assert len(answers) == repeats
    for answer in answers:
        same_bits(answer, expected(case))


def test_sizes_may_be_tensors() -> None:
    """The tensors are known only when the graph runs."""
    x, w = random(2, 9, 8, 3), random(3, 3, 3, 5)
    dy = random(2, 7, 6, 5)

    @tf.function
    def gradients(x: tf.Tensor, w: tf.Tensor, dy: tf.Tensor, sizes: tf.Tensor) -> Any:
        return (
            fc.conv2d_backprop_input(tf.shape(x), w, dy),
            fc.conv2d_backprop_filter(x, tf.shape(w, tf.int64), dy),
            fc.conv2d_transpose(dy, w, [tf.shape(dy)[0], 9, 8, 3], 1, "VALID"),
            fc.avg_pool2d_grad(sizes, dy, 2),
        )

    expected = (
        fastconv.conv2d_backprop_input(x.shape, w, dy),
        fastconv.conv2d_backprop_filter(x, w.shape, dy),
        fastconv.conv2d_transpose(dy, w, x.shape, 1, "VALID"),
        fastconv.avg_pool2d_grad((2, 14, 13, 5), dy, 2),
    )
    same_bits(gradients(x, w, dy, tf.constant([2, 14, 13, 5])), expected)
    same_bits(fc.conv2d_backprop_input(np.array(x.shape), w, dy), expected[0])
    same_bits(fc.conv2d_backprop_input(tf.TensorShape(x.shape), w, dy), expected[0])


def test_many_threads_and_branches_give_the_same_bits() -> None:
    """Each of sixteen Python threads runs a graph of independent branches."""
    x = [random(2, 12, 12, 8, seed=i) for i in range(16)]
    w = random(3, 3, 8, 8)

    @tf.function
    def branches(x: tf.Tensor) -> Any:
        return (
            [fc.conv2d(x, w, padding="SAME", dilations=d) for d in (1, 2, 3)],
            [fc.max_pool2d(x, 2), fc.avg_pool2d(x, 3), fc.max_pool2d_with_argmax(x, 2)[1]],
        )

    def work(i: int) -> list[Any]:
        return [tf.nest.flatten(branches(tf.constant(x[i]))) for _ in range(5)]

    branches(tf.constant(x[0]))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(work, range(16)))
    for i, repeated in enumerate(answers):
        convolved = [fastconv.conv2d(x[i], w, padding="SAME", dilations=d) for d in (1, 2, 3)]
        pooled = [
            fastconv.max_pool2d(x[i], 2),
            fastconv.avg_pool2d(x[i], 3),
            fastconv.max_pool2d_with_argmax(x[i], 2)[1],
        ]
        for answer in repeated:
            same_bits(answer, convolved + pooled)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_nan_wins_in_a_max_pool(dtype: str) -> None:
    x = random(1, 8, 8, 3, dtype=dtype)
    x[0, 3, 4, 1] = np.nan
    y, argmax = fc.max_pool2d_with_argmax(x, 2)
    where = np.argwhere(np.isnan(y)).tolist()
    assert where == [[0, 1, 2, 1]]
    assert int(argmax[0, 1, 2, 1]) == (3 * 8 + 4) * 3 + 1
    assert np.argwhere(np.isnan(fc.max_pool2d(x, 2))).tolist() == where
    gradient = fc.max_pool2d_grad(x, y, tf.ones_like(y), 2)
    assert float(gradient[0, 3, 4, 1]) == 1


# ---- The module and its ops ------------------------------------------------------------------------------------------


@every_case
def test_ops_are_not_stateful(case: Case) -> None:
    """TensorFlow runs stateful ops one after another, and does not prune or merge them."""
    concrete = tf.function(lambda: call(case)).get_concrete_function()
    ours = [op for op in concrete.graph.get_operations() if op.type.startswith("Fastconv")]
    assert ours
    assert {op.type for op in ours} <= set(OPS)
    assert not any(op.op_def.is_stateful for op in ours)


def test_import_of_fastconv_leaves_tensorflow_alone() -> None:
    run_python(
        """
        import sys
        import fastconv
        assert not [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras")]
        fastconv.tensorflow.conv2d
        assert "tensorflow" in sys.modules
        """
    )


def test_the_module_can_be_reloaded() -> None:
    x, w = random(1, 6, 6, 2), random(3, 3, 2, 4)
    before = fc.conv2d(x, w)
    again = importlib.reload(fc)
    assert again is fc
    same_bits(fc.conv2d(x, w), before)
    with tf.GradientTape() as tape:
        variable = tf.Variable(w)
        y = fc.conv2d(x, variable)
    same_bits(
        tape.gradient(y, variable), fastconv.conv2d_backprop_filter(x, w.shape, np.ones((1, 4, 4, 4), np.float32))
    )


def test_the_module_can_be_imported_afresh() -> None:
    """TensorFlow still has the gradients registered by the earlier module."""
    run_python(
        """
        import sys
        import tensorflow as tf
        import fastconv.tensorflow as before

        for name in [name for name in sys.modules if name.startswith("fastconv.tensorflow")]:
            del sys.modules[name]
        import fastconv.tensorflow as fc

        assert fc.conv2d is not before.conv2d
        x = tf.Variable(tf.ones((1, 4, 4, 1)))
        with tf.GradientTape() as tape:
            y = fc.max_pool2d(fc.conv2d(x, tf.ones((3, 3, 1, 1)), activation="relu"), 2)
        assert tf.reduce_sum(tape.gradient(y, x)) == 9
        """
    )


def test_ops_get_the_given_name_or_the_name_of_the_function() -> None:
    """The name scope of the ops is the given name or the function's."""

    def graph(x: tf.Tensor) -> tf.Tensor:
        return fc.avg_pool2d(fc.max_pool2d(x, 2, name="first"), 2)

    operations = tf.function(graph).get_concrete_function(tf.TensorSpec((None, 8, 8, 3))).graph.get_operations()
    names = [op.name for op in operations if op.type.startswith("Fastconv")]
    assert [name.split("/")[0] for name in names] == ["first", "fastconv_avg_pool2d"]
