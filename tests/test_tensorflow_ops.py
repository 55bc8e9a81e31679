"""`fastconv.tensorflow` gives the bits of the NumPy face in all modes, and right gradients, shapes and errors.

Other tests compare the NumPy face with the reference and with TensorFlow.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fastconv
import fastconv.tensorflow as fc
import numpy as np
import pytest
import tensorflow as tf
from processes import run_python

Arrays = dict[str, np.ndarray]
Case = tuple[str, dict[str, Any], Arrays]  # function, its other arguments, its arrays
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
)


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def nchw(shape: Sequence[int]) -> tuple[int, ...]:
    return (shape[0], shape[3], shape[1], shape[2])


def conv_cases(
    kind: str, x: Sequence[int], w: Sequence[int], dtype: str = "float32", **keywords: Any
) -> dict[str, Case]:
    """The forward call of a geometry and the calls of its gradients."""
    name = "depthwise_conv2d" if "depthwise" in kind else "conv2d"
    input, filters = random(*x, dtype=dtype), random(*w, dtype=dtype)
    fused = {key: keywords.pop(key) for key in ("activation",) if key in keywords}
    bias = {"bias": random(w[3], dtype=dtype)} if fused else {}
    dy = random(*getattr(fastconv, name)(input, filters, **keywords).shape, dtype=dtype)
    cases: dict[str, Case] = {
        kind: (name, {**keywords, **fused}, {"input": input, "filters": filters, **bias}),
        f"{kind}, input gradient": (
            f"{name}_backprop_input",
            {**keywords, "input_sizes": tuple(x)},
            {"filters": filters, "out_backprop": dy},
        ),
        f"{kind}, filter gradient": (
            f"{name}_backprop_filter",
            {**keywords, "filter_sizes": tuple(w)},
            {"input": input, "out_backprop": dy},
        ),
    }
    if name == "conv2d":
        transposed = {"strides": 1, "padding": "VALID", **keywords, "output_shape": tuple(x)}
        cases[f"{kind}, transpose"] = ("conv2d_transpose", transposed, {"input": dy, "filters": filters})
    return cases


def adaptive_cases(kind: str, x: np.ndarray, ksize: Any, **keywords: Any) -> dict[str, Case]:
    keywords |= {"output_size": (3, 4)}
    y = fastconv.adaptive_max_pool2d(x, **keywords)
    dy = random(*y.shape, dtype=x.dtype)
    return {
        f"adaptive max-{kind}": ("adaptive_max_pool2d", keywords, {"input": x}),
        f"adaptive max-{kind}, gradient": (
            "adaptive_max_pool2d_grad",
            keywords,
            {"orig_input": x, "orig_output": y, "grad": dy},
        ),
        f"adaptive average-{kind}": ("adaptive_avg_pool2d", keywords, {"input": x}),
        f"adaptive average-{kind}, gradient": (
            "adaptive_avg_pool2d_grad",
            {**keywords, "orig_input_shape": x.shape},
            {"grad": dy},
        ),
    }


def pool_cases(kind: str, shape: Sequence[int], dtype: str = "float32", **keywords: Any) -> dict[str, Case]:
    x = random(*shape, dtype=dtype)
    y = fastconv.max_pool2d(x, **keywords)
    dy = random(*y.shape, dtype=dtype)
    return {
        f"max-{kind}": ("max_pool2d", keywords, {"input": x}),
        f"max-{kind}, arg max": ("max_pool2d_with_argmax", keywords, {"input": x}),
        f"max-{kind}, arg max with batch": (
            "max_pool2d_with_argmax",
            {**keywords, "include_batch_in_index": True},
            {"input": x},
        ),
        f"max-{kind}, gradient": ("max_pool2d_grad", keywords, {"orig_input": x, "orig_output": y, "grad": dy}),
        f"average-{kind}": ("avg_pool2d", keywords, {"input": x}),
        f"average-{kind}, gradient": ("avg_pool2d_grad", {**keywords, "orig_input_shape": tuple(shape)}, {"grad": dy}),
        **(adaptive_cases(kind, x, **keywords) if set(keywords) <= {"ksize", "data_format"} else {}),
    }


CASES: dict[str, Case] = {
    **conv_cases("plain", (2, 9, 8, 3), (3, 3, 3, 5)),
    **conv_cases("float64, same", (2, 9, 8, 3), (3, 2, 3, 5), "float64", padding="SAME"),
    **conv_cases("strided, explicit padding", (2, 9, 8, 3), (3, 2, 3, 5), strides=(2, 3), padding=((1, 0), (2, 1))),
    **conv_cases("dilated", (1, 11, 9, 2), (3, 2, 2, 4), dilations=(2, 3)),
    **conv_cases("grouped", (2, 7, 6, 6), (3, 3, 2, 9), padding="same"),
    **conv_cases("NCHW", nchw((2, 7, 6, 4)), (3, 3, 4, 5), data_format="NCHW", strides=2),
    **conv_cases("bias and ReLU", (2, 9, 8, 3), (3, 3, 3, 5), activation="relu"),
    **conv_cases("Winograd", (2, 12, 13, 16), (3, 3, 16, 20), algorithm="winograd", padding="SAME"),
    **conv_cases("many channels", (1, 14, 14, 64), (3, 3, 64, 64), padding="SAME"),
    **conv_cases("batch 0", (0, 9, 8, 3), (3, 3, 3, 5)),
    **conv_cases("empty output", (2, 2, 8, 3), (3, 3, 3, 5)),
    **conv_cases("depthwise", (2, 9, 8, 3), (3, 3, 3, 2), strides=(2, 1), padding="SAME"),
    **conv_cases("depthwise by name", (2, 9, 8, 3), (3, 3, 3, 1), algorithm="depthwise"),
    **conv_cases("depthwise computed directly", (2, 9, 8, 3), (3, 3, 3, 1), algorithm="direct"),
    **conv_cases("no filters", (2, 9, 8, 3), (3, 3, 3, 0), strides=2),
    **conv_cases("depthwise NCHW", nchw((2, 9, 8, 3)), (3, 2, 3, 1), data_format="NCHW", dilations=2),
    "gradient of a bias": ("bias_gradient", {}, {"out_backprop": random(2, 7, 6, 5)}),
    "gradient of a bias, NCHW": ("bias_gradient", {"data_format": "NCHW"}, {"out_backprop": random(2, 5, 7, 6)}),
    **pool_cases("pool", (2, 8, 9, 5), ksize=2),
    **pool_cases("pool of no channels", (2, 8, 9, 0), ksize=2),
    **pool_cases("pool, overlapping", (2, 8, 9, 5), "float64", ksize=3, strides=2, padding="SAME"),
    **pool_cases("pool, NCHW", nchw((2, 8, 9, 5)), ksize=(3, 2), strides=1, padding=1, data_format="NCHW"),
    **pool_cases("pool, dilated and rounded up", (2, 8, 9, 5), ksize=2, strides=3, dilations=(2, 1), ceil_mode=True),
    **pool_cases("pool, batch 0", (0, 8, 9, 5), ksize=2),
}


def results(value: Any) -> list[np.ndarray]:
    return [np.asarray(part) for part in (value if isinstance(value, (tuple, list)) else [value])]


def same_bits(ours: Any, expected: Any) -> None:
    ours, expected = results(ours), results(expected)
    assert len(ours) == len(expected)
    for a, b in zip(ours, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert a.tobytes() == b.tobytes()


def call(case: Case, **arrays: Any) -> Any:
    name, keywords, given = case
    return getattr(fc, name)(**keywords, **(arrays or {key: tf.constant(value) for key, value in given.items()}))


def expected(case: Case) -> Any:
    name, keywords, arrays = case
    return getattr(fastconv, name)(**keywords, **arrays)


every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


# ---- The same bits everywhere ----------------------------------------------------------------------------------------


def test_every_function_has_an_op() -> None:
    """CASES has all but the ops of conv2d_max_pool2d, which test_same_faces_tensorflow.py tests."""
    assert {name for name, _, _ in CASES.values()} == {name for name in fc.__all__ if "conv2d_max_pool2d" not in name}


@every_case
def test_eager(case: Case) -> None:
    same_bits(call(case), expected(case))


@every_case
def test_numpy_arrays_are_accepted(case: Case) -> None:
    same_bits(call(case, **case[2]), expected(case))


@every_case
def test_function(case: Case) -> None:
    """Shapes are known while the graph is made, and the graph gives the same bits."""
    function = tf.function(lambda **arrays: call(case, **arrays))
    arrays = {key: tf.constant(value) for key, value in case[2].items()}
    answers = results(expected(case))
    concrete = function.get_concrete_function(**arrays)
    structured = concrete.structured_outputs
    outputs = structured if isinstance(structured, (tuple, list)) else [structured]
    assert [tuple(o.shape) for o in outputs] == [a.shape for a in answers]
    assert [o.dtype.as_numpy_dtype for o in outputs] == [a.dtype for a in answers]
    same_bits(function(**arrays), answers)


@every_case
def test_function_of_unknown_shapes(case: Case) -> None:
    """Not even the ranks of the tensors are known."""
    signature = {key: tf.TensorSpec(None, value.dtype) for key, value in case[2].items()}
    function = tf.function(lambda arrays: call(case, **arrays), input_signature=[signature])
    same_bits(function({key: tf.constant(value) for key, value in case[2].items()}), expected(case))


@every_case
def test_dataset_map(case: Case) -> None:
    repeats = 3
    data = tf.data.Dataset.from_tensors({key: tf.constant(value) for key, value in case[2].items()}).repeat(repeats)
    answers = list(data.map(lambda arrays: call(case, **arrays), num_parallel_calls=2))
    assert len(answers) == repeats
    for answer in answers:
        same_bits(answer, expected(case))


def test_sizes_as_tensors() -> None:
    """Sizes may be tensors, known only when the graph runs."""
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


def test_many_threads_and_branches() -> None:
    """Sixteen threads of Python, each running a graph of independent branches."""
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
def test_nan_in_a_max_pool(dtype: str) -> None:
    x = random(1, 8, 8, 3, dtype=dtype)
    x[0, 3, 4, 1] = np.nan
    y, argmax = fc.max_pool2d_with_argmax(x, 2)
    where = np.argwhere(np.isnan(y)).tolist()
    assert where == [[0, 1, 2, 1]]
    assert int(argmax[0, 1, 2, 1]) == (3 * 8 + 4) * 3 + 1
    assert np.argwhere(np.isnan(fc.max_pool2d(x, 2))).tolist() == where
    gradient = fc.max_pool2d_grad(x, y, tf.ones_like(y), 2)
    assert float(gradient[0, 3, 4, 1]) == 1


# ---- Gradients -------------------------------------------------------------------------------------------------------

Function = Callable[..., tf.Tensor]


def f64(*shape: int, seed: int = 0) -> tf.Tensor:
    return tf.constant(random(*shape, dtype=np.float64, seed=seed))


def to_nchw(x: tf.Tensor) -> tf.Tensor:
    return tf.transpose(x, [0, 3, 1, 2])


def to_nhwc(x: tf.Tensor) -> tf.Tensor:
    return tf.transpose(x, [0, 2, 3, 1])


_DEPTHWISE = dict(strides=[1, 2, 2, 1], padding="SAME")
_POOL = dict(ksize=3, strides=2, padding="SAME")
_pads = [[0, 0], [1, 0], [2, 1], [0, 0]]
x644, w3245 = f64(2, 6, 5, 4), f64(3, 2, 4, 5)
DIFFERENTIABLE: dict[str, tuple[Function, Function | None, list[tf.Tensor]]] = {
    # name: our function; TensorFlow's, if its CPU kernels have the gradients; the values
    "conv2d": (fc.conv2d, lambda x, w: tf.nn.conv2d(x, w, 1, "VALID"), [x644, w3245]),
    "conv2d, strided": (
        lambda x, w: fc.conv2d(x, w, (2, 1), "SAME"),
        lambda x, w: tf.nn.conv2d(x, w, (2, 1), "SAME"),
        [x644, w3245],
    ),
    "conv2d, explicit padding": (
        lambda x, w: fc.conv2d(x, w, 2, ((1, 0), (2, 1))),
        lambda x, w: tf.nn.conv2d(x, w, 2, _pads),
        [x644, w3245],
    ),
    "conv2d, dilated": (lambda x, w: fc.conv2d(x, w, dilations=(2, 3)), None, [x644, w3245]),
    "conv2d, grouped": (
        lambda x, w: fc.conv2d(x, w, padding="SAME"),
        lambda x, w: tf.concat(
            [tf.nn.conv2d(x[..., 2 * g : 2 * g + 2], w[..., 3 * g : 3 * g + 3], 1, "SAME") for g in range(2)], 3
        ),
        [x644, f64(3, 2, 2, 6)],
    ),
    "conv2d, NCHW": (
        lambda x, w: fc.conv2d(x, w, 2, "SAME", "NCHW"),
        lambda x, w: to_nchw(tf.nn.conv2d(to_nhwc(x), w, 2, "SAME")),
        [f64(2, 4, 6, 5), w3245],
    ),
    "conv2d, bias": (
        lambda x, w, b: fc.conv2d(x, w, bias=b),
        lambda x, w, b: tf.nn.conv2d(x, w, 1, "VALID") + b,
        [x644, w3245, f64(5)],
    ),
    "conv2d, bias and ReLU": (
        lambda x, w, b: fc.conv2d(x, w, bias=b, activation="relu"),
        lambda x, w, b: tf.nn.relu(tf.nn.conv2d(x, w, 1, "VALID") + b),
        [x644, w3245, f64(5)],
    ),
    "conv2d, NCHW, bias and ReLU": (
        lambda x, w, b: fc.conv2d(x, w, data_format="NCHW", bias=b, activation="relu"),
        lambda x, w, b: to_nchw(tf.nn.relu(tf.nn.conv2d(to_nhwc(x), w, 1, "VALID") + b)),
        [f64(2, 4, 6, 5), w3245, f64(5)],
    ),
    "conv2d_backprop_input": (
        lambda w, y: fc.conv2d_backprop_input([2, 6, 5, 4], w, y, (2, 1), "SAME"),
        lambda w, y: tf.raw_ops.Conv2DBackpropInput(
            input_sizes=[2, 6, 5, 4], filter=w, out_backprop=y, strides=[1, 2, 1, 1], padding="SAME"
        ),
        [w3245, f64(2, 3, 5, 5)],
    ),
    "conv2d_backprop_filter": (
        lambda x, y: fc.conv2d_backprop_filter(x, [3, 2, 4, 5], y, (2, 1), "SAME"),
        lambda x, y: tf.raw_ops.Conv2DBackpropFilter(
            input=x, filter_sizes=[3, 2, 4, 5], out_backprop=y, strides=[1, 2, 1, 1], padding="SAME"
        ),
        [x644, f64(2, 3, 5, 5)],
    ),
    "conv2d_transpose": (
        lambda x, w: fc.conv2d_transpose(x, w, [2, 5, 9, 4], 2),
        lambda x, w: tf.nn.conv2d_transpose(x, w, [2, 5, 9, 4], 2),
        [f64(2, 3, 5, 5), w3245],
    ),
    "depthwise_conv2d": (
        lambda x, w: fc.depthwise_conv2d(x, w, 2, "SAME"),
        lambda x, w: tf.nn.depthwise_conv2d(x, w, **_DEPTHWISE),
        [x644, f64(3, 2, 4, 2)],
    ),
    "depthwise_conv2d, dilated, bias": (
        lambda x, w, b: fc.depthwise_conv2d(x, w, dilations=2, bias=b),
        None,
        [x644, f64(3, 2, 4, 2), f64(8)],
    ),
    "depthwise_conv2d_backprop_input": (
        lambda w, y: fc.depthwise_conv2d_backprop_input([2, 6, 5, 4], w, y, 2, "SAME"),
        lambda w, y: tf.nn.depthwise_conv2d_backprop_input([2, 6, 5, 4], w, y, **_DEPTHWISE),
        [f64(3, 2, 4, 2), f64(2, 3, 3, 8)],
    ),
    "depthwise_conv2d_backprop_filter": (
        lambda x, y: fc.depthwise_conv2d_backprop_filter(x, [3, 2, 4, 2], y, 2, "SAME"),
        lambda x, y: tf.nn.depthwise_conv2d_backprop_filter(x, [3, 2, 4, 2], y, **_DEPTHWISE),
        [x644, f64(2, 3, 3, 8)],
    ),
    "max_pool2d": (
        lambda x: fc.max_pool2d(x, **_POOL),
        lambda x: tf.nn.max_pool2d(x, **_POOL),
        [x644],
    ),
    "max_pool2d, NCHW": (
        lambda x: fc.max_pool2d(x, **_POOL, data_format="NCHW"),
        lambda x: to_nchw(tf.nn.max_pool2d(to_nhwc(x), **_POOL)),
        [f64(2, 4, 6, 5)],
    ),
    "max_pool2d_with_argmax": (
        lambda x: fc.max_pool2d_with_argmax(x, **_POOL, include_batch_in_index=True)[0],
        lambda x: tf.nn.max_pool2d(x, **_POOL),
        [x644],
    ),
    "max_pool2d_grad": (
        lambda y: fc.max_pool2d_grad(x644, tf.nn.max_pool2d(x644, **_POOL), y, **_POOL),
        lambda y: tf.raw_ops.MaxPoolGrad(
            orig_input=x644,
            orig_output=tf.nn.max_pool2d(x644, **_POOL),
            grad=y,
            ksize=[1, 3, 3, 1],
            strides=[1, 2, 2, 1],
            padding="SAME",
        ),
        [f64(2, 3, 3, 4)],
    ),
    "max_pool2d_grad, NCHW": (
        lambda y: fc.max_pool2d_grad(
            to_nchw(x644), to_nchw(tf.nn.max_pool2d(x644, **_POOL)), y, **_POOL, data_format="NCHW"
        ),
        None,
        [f64(2, 4, 3, 3)],
    ),
    "avg_pool2d": (
        lambda x: fc.avg_pool2d(x, **_POOL),
        lambda x: tf.nn.avg_pool2d(x, **_POOL),
        [x644],
    ),
    "avg_pool2d, NCHW": (
        lambda x: fc.avg_pool2d(x, **_POOL, data_format="NCHW"),
        lambda x: to_nchw(tf.nn.avg_pool2d(to_nhwc(x), **_POOL)),
        [f64(2, 4, 6, 5)],
    ),
    "avg_pool2d_grad": (
        lambda y: fc.avg_pool2d_grad([2, 6, 5, 4], y, **_POOL),
        lambda y: tf.raw_ops.AvgPoolGrad(
            orig_input_shape=[2, 6, 5, 4], grad=y, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME"
        ),
        [f64(2, 3, 3, 4)],
    ),
    "max_pool2d, options": (lambda x: fc.max_pool2d(x, 2, 2, dilations=(2, 1), ceil_mode=True), None, [x644]),
    "max_pool2d_with_argmax, options": (
        lambda x: fc.max_pool2d_with_argmax(x, 2, 2, dilations=(2, 1), ceil_mode=True)[0],
        None,
        [x644],
    ),
    "avg_pool2d, options": (
        lambda x: fc.avg_pool2d(x, (2, 3), 2, 1, dilations=(2, 1), ceil_mode=True, count_include_pad=True),
        None,
        [x644],
    ),
    "adaptive_max_pool2d": (lambda x: fc.adaptive_max_pool2d(x, (4, 3)), None, [x644]),
    "adaptive_avg_pool2d": (lambda x: fc.adaptive_avg_pool2d(x, (4, None)), None, [x644]),
    "adaptive_avg_pool2d, NCHW": (lambda x: fc.adaptive_avg_pool2d(x, (4, 3), "NCHW"), None, [f64(2, 4, 6, 5)]),
}
every_gradient = pytest.mark.parametrize("name", DIFFERENTIABLE)


def derivatives(function: Function, values: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """First and second derivatives of a non-linear function of the result."""
    with tf.GradientTape() as outer:
        outer.watch(values)
        with tf.GradientTape() as inner:
            inner.watch(values)
            y = function(*values)
            number = tf.reduce_sum(tf.sin(y) * tf.reshape(tf.range(tf.size(y, tf.int64)), y.shape).numpy())
        first = inner.gradient(number, values)
        again = tf.add_n([tf.reduce_sum(tf.cos(g)) for g in first])
    return first, outer.gradient(again, values)


def near(ours: Sequence[tf.Tensor], theirs: Sequence[tf.Tensor]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(b).max() > 1e-3  # there is something to compare
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(b).max() * np.sqrt(b.size))


@pytest.mark.parametrize("name", [name for name, (_, theirs, _) in DIFFERENTIABLE.items() if theirs])
def test_gradients_equal_those_of_tensorflow(name: str) -> None:
    ours, theirs, values = DIFFERENTIABLE[name]
    assert theirs is not None
    np.testing.assert_allclose(ours(*values), theirs(*values), rtol=0, atol=1e-12)
    for a, b in zip(derivatives(ours, values), derivatives(theirs, values), strict=True):
        near(a, b)


@every_gradient
def test_gradients_in_a_function(name: str) -> None:
    ours, _, values = DIFFERENTIABLE[name]

    def first_and_second(*values: tf.Tensor) -> Any:
        with tf.GradientTape() as outer:
            outer.watch(values)
            with tf.GradientTape() as inner:
                inner.watch(values)
                number = tf.reduce_sum(tf.sin(ours(*values)))
            first = inner.gradient(number, values)
            again = tf.add_n([tf.reduce_sum(tf.cos(g)) for g in first])
        return *first, *outer.gradient(again, values)

    graph = tf.function(first_and_second)
    in_graph, eager = graph(*values), first_and_second(*values)
    for a, b, value in zip(in_graph, eager, [*values, *values], strict=True):
        assert a.shape == value.shape
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    for output, value in zip(graph.get_concrete_function(*values).outputs, [*values, *values], strict=True):
        assert output.shape == value.shape


@every_gradient
def test_gradients_by_finite_differences(name: str) -> None:
    """First order of the function; second order as first order of its gradient."""
    ours, _, values = DIFFERENTIABLE[name]
    weights = f64(*ours(*values).shape, seed=1)

    def number(*values: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.square(ours(*values)) * weights)

    def gradient_length(*values: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(values)
            result = number(*values)
        return tf.add_n([tf.reduce_sum(tf.square(g)) for g in tape.gradient(result, values)])

    for function in (number, gradient_length):
        analytic, numeric = tf.test.compute_gradient(tf.function(function), values, delta=1e-6)
        for a, b in zip(analytic, numeric, strict=True):
            assert np.abs(b).max() > 1e-3
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())


def test_gradient_of_one_argument() -> None:
    """Only the requested gradient is computed."""
    x, w = tf.constant(random(1, 6, 6, 2)), tf.constant(random(3, 3, 2, 4))
    both, one = [], []
    for watched, result in (([x, w], both), ([w], one)):
        with tf.GradientTape() as tape:
            tape.watch(watched)
            y = fc.conv2d(x, w)
        result += tape.gradient(y, watched)
    same_bits(one, both[1:])


def test_jacobian() -> None:
    """TensorFlow cannot vectorise ops of others, and loops instead."""
    x, w = f64(1, 4, 4, 2), f64(3, 3, 2, 1)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = fc.conv2d(x, w)
    jacobian = tf.reshape(tape.jacobian(y, x), (4, 32))
    columns = [fc.conv2d(tf.reshape(row, x.shape), w) for row in tf.eye(32, dtype=tf.float64)]
    np.testing.assert_allclose(jacobian, tf.transpose(tf.reshape(tf.stack(columns), (32, 4))), rtol=1e-13)


def test_gradients_of_an_empty_batch() -> None:
    values = [tf.zeros((0, 6, 6, 2)), tf.constant(random(3, 3, 2, 4)), tf.constant(random(4))]
    with tf.GradientTape() as tape:
        tape.watch(values)
        y = fc.max_pool2d(fc.conv2d(values[0], values[1], bias=values[2], activation="relu"), 2)
    assert y.shape == (0, 2, 2, 4)
    for gradient, value in zip(tape.gradient(y, values), values, strict=True):
        assert gradient.shape == value.shape
        assert not np.any(gradient)


# ---- Static shapes ---------------------------------------------------------------------------------------------------


def traced(function: Callable[..., Any], *shapes: Sequence[int | None] | None) -> list[list[int | None] | None]:
    """The static shapes of the results."""
    concrete = tf.function(function).get_concrete_function(*(tf.TensorSpec(shape) for shape in shapes))
    return [o.shape.as_list() if o.shape.rank is not None else None for o in concrete.outputs]


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (lambda x, w: fc.conv2d(x, w, 2, "SAME"), [(None, 9, 8, 3), (3, 3, 3, 5)], [None, 5, 4, 5]),
        (lambda x, w: fc.conv2d(x, w), [(None, None, 8, 3), (3, 3, 3, 5)], [None, None, 6, 5]),
        (lambda x, w: fc.conv2d(x, w), [(2, 9, None, None), (3, 3, 3, 5)], [2, 7, None, 5]),
        (lambda x, w: fc.conv2d(x, w), [(2, 9, 8, 3), (None, 3, 3, None)], [2, None, 6, None]),
        (lambda x, w: fc.conv2d(x, w), [None, (3, 3, 3, 5)], [None, None, None, 5]),
        (lambda x, w: fc.conv2d(x, w), [(2, 9, 8, 3), None], [2, None, None, None]),
        (lambda x, w: fc.conv2d(x, w, 1, 1, "NCHW"), [(None, 3, 9, None), (3, 3, 3, 5)], [None, 5, 9, None]),
        (lambda x, w: fc.depthwise_conv2d(x, w), [(None, 9, 8, 3), (3, 3, 3, 2)], [None, 7, 6, 6]),
        (lambda x: fc.max_pool2d(x, 2), [(None, 9, 8, 3)], [None, 4, 4, 3]),
        (lambda x: fc.max_pool2d(x, 2, padding="SAME"), [(None, None, 9, None)], [None, None, 5, None]),
        (lambda x: fc.avg_pool2d(x, 2, data_format="NCHW"), [(None, 3, 9, None)], [None, 3, 4, None]),
        (lambda x: fc.avg_pool2d(x, 2), [None], [None, None, None, None]),
        (lambda x: fc.max_pool2d_with_argmax(x, 2)[1], [(None, 9, 8, 3)], [None, 4, 4, 3]),
        (lambda y: fc.avg_pool2d_grad([2, 8, 8, 3], y, 2), [None], [2, 8, 8, 3]),
        (lambda x, y: fc.max_pool2d_grad(x, y, y, 2), [(None, 8, None, 3), None], [None, 8, None, 3]),
        (lambda x: fc.max_pool2d(x, 2, dilations=2, ceil_mode=True), [(None, 8, 7, 3)], [None, 4, 3, 3]),
        (lambda x: fc.adaptive_avg_pool2d(x, (4, None)), [(None, None, 7, None)], [None, 4, 7, None]),
        (lambda w, y: fc.conv2d_backprop_input([2, 9, 8, 3], w, y), [None, None], [2, 9, 8, 3]),
        (lambda x, y: fc.conv2d_backprop_filter(x, [3, 3, 3, 5], y), [None, None], [3, 3, 3, 5]),
        (lambda y, w: fc.conv2d_transpose(y, w, [2, 9, 8, 3], 2), [None, None], [2, 9, 8, 3]),
    ],
)
def test_partly_known_shapes(function: Callable[..., Any], shapes: Any, expected: list[int | None]) -> None:
    assert traced(function, *shapes) == [expected]


def test_shape_of_gradients_of_an_unknown_batch() -> None:
    def gradients(x: tf.Tensor, w: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = fc.avg_pool2d(fc.max_pool2d(fc.conv2d(x, w, 2, "SAME"), 2), 2)
        return tape.gradient(y, [x, w])

    assert traced(gradients, (None, None, 28, 3), (3, 3, 3, 5)) == [[None, None, 28, 3], [3, 3, 3, 5]]


def test_shapes_in_a_while_loop() -> None:
    """TensorFlow refuses loops whose variables change or lose their shapes."""
    w = tf.constant(random(3, 3, 4, 4) / 6)
    inside = []

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 4))])
    def loop(x: tf.Tensor) -> tf.Tensor:
        def body(i: tf.Tensor, x: tf.Tensor) -> Any:
            y = fc.conv2d(x, w, padding="SAME", activation="relu", bias=tf.zeros(4))
            y = fc.max_pool2d(y, 3, 1, "SAME")
            inside.append(y.shape.as_list())
            return i + 1, y

        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.while_loop(lambda i, x: i < 3, body, [0, x], maximum_iterations=3)[1]
        gradient = tape.gradient(y, x)
        inside.append(gradient.shape.as_list())
        return y, gradient

    x = tf.constant(random(2, 8, 8, 4))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x
        for _ in range(3):
            y = fc.max_pool2d(fc.conv2d(y, w, padding="SAME", activation="relu", bias=tf.zeros(4)), 3, 1, "SAME")
    in_loop, gradient = loop(x)
    assert inside
    assert all(shape == [None, 8, 8, 4] for shape in inside)
    same_bits(in_loop, y)
    np.testing.assert_allclose(gradient, tape.gradient(y, x), rtol=1e-5, atol=1e-6)


class Network(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = tf.Variable(random(3, 3, 3, 5))
        self.b = tf.Variable(random(5))

    @tf.function(input_signature=[tf.TensorSpec((None, 9, 8, 3))])
    def __call__(self, x: tf.Tensor) -> Any:
        y = fc.conv2d(x, self.w, 2, "SAME", bias=self.b, activation="relu")
        return fc.max_pool2d(y, 2), fc.avg_pool2d(y, 2, padding="SAME")

    @tf.function(input_signature=[tf.TensorSpec((None, 9, 8, 3))])
    def gradient(self, x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            y = self(x)[0]
        return tape.gradient(y, self.w)


def test_saved_model(tmp_path: Path) -> None:
    """Shapes, results and gradients stay the same, also in a process that has only loaded the ops."""
    network, x = Network(), random(2, 9, 8, 3)
    tf.saved_model.save(network, str(tmp_path / "model"))
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    for name in ("__call__", "gradient"):
        same_bits(getattr(loaded, name)(x), getattr(network, name)(x))
        concrete = getattr(loaded, name).concrete_functions[0]
        # The graph's own tensors, not the signature: these are inferred anew when the model is loaded.
        shapes = [t.shape.as_list() for t in concrete.graph.outputs]
        assert shapes == ([[None, 2, 2, 5], [None, 3, 2, 5]] if name == "__call__" else [[3, 3, 3, 5]])
    with tf.GradientTape() as tape:  # through the loaded forward pass
        y = loaded(x)[0]
    same_bits(tape.gradient(y, loaded.w), network.gradient(x))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", network(x)[0])
    run_python(
        """
        import sys
        import numpy as np
        import tensorflow as tf
        import fastconv.tensorflow
        model = tf.saved_model.load(sys.argv[1] + "/model")
        y = model(np.load(sys.argv[1] + "/x.npy"))[0]
        assert np.array_equal(y, np.load(sys.argv[1] + "/y.npy"))
        """,
        str(tmp_path),
    )


# ---- Wrong arguments -------------------------------------------------------------------------------------------------


_x, _w, _b = random(2, 9, 8, 3), random(3, 3, 3, 5), random(5)
_y, _p = random(2, 7, 6, 5), random(2, 4, 4, 3)

# Refused in Python, by the same error in a graph and out of it.
BAD_ARGUMENTS: dict[str, tuple[Callable[..., Any], list[Any], type[Exception], str]] = {
    "strides 0": (lambda x, w: fc.conv2d(x, w, 0), [_x, _w], ValueError, "strides"),
    "strides negative": (lambda x, w: fc.conv2d(x, w, (1, -2)), [_x, _w], ValueError, "strides"),
    "strides fractional": (lambda x, w: fc.conv2d(x, w, 1.5), [_x, _w], TypeError, "strides"),
    "strides of three numbers": (lambda x, w: fc.conv2d(x, w, (1, 2, 3)), [_x, _w], ValueError, "strides"),
    "strides of the batch": (lambda x, w: fc.conv2d(x, w, (2, 1, 1, 1)), [_x, _w], ValueError, "strides"),
    "dilations 0": (lambda x, w: fc.conv2d(x, w, dilations=0), [_x, _w], ValueError, "dilations"),
    "strides None": (lambda x, w: fc.conv2d(x, w, None), [_x, _w], TypeError, "strides"),
    "padding word": (lambda x, w: fc.conv2d(x, w, 1, "FULL"), [_x, _w], ValueError, "padding"),
    "padding form": (lambda x, w: fc.conv2d(x, w, 1, (1, 2, 3)), [_x, _w], (TypeError, ValueError), "padding"),
    "padding negative": (lambda x, w: fc.conv2d(x, w, 1, -1), [_x, _w], ValueError, "padding"),
    "padding None": (lambda x, w: fc.conv2d(x, w, 1, None), [_x, _w], TypeError, "padding"),
    "data format": (lambda x, w: fc.conv2d(x, w, data_format="CHWN"), [_x, _w], ValueError, "data_format"),
    "activation": (lambda x, w: fc.conv2d(x, w, activation="tanh"), [_x, _w], ValueError, "activation"),
    "algorithm": (lambda x, w: fc.conv2d(x, w, algorithm="fft"), [_x, _w], ValueError, "algorithm"),
    "ksize 0": (lambda x: fc.max_pool2d(x, 0), [_x], ValueError, "ksize"),
    "ksize negative": (lambda x: fc.avg_pool2d(x, (2, -2)), [_x], ValueError, "ksize"),
    "ksize None": (lambda x: fc.avg_pool2d(x, None), [_x], TypeError, "ksize"),
    "pool strides 0": (lambda x: fc.max_pool2d(x, 2, 0), [_x], ValueError, "strides"),
    "integers": (lambda x, w: fc.conv2d(x, w), [_x.astype(np.int32), _w], TypeError, "input.*int32.*tf.cast"),
    "half": (lambda x: fc.max_pool2d(x, 2), [_x.astype(np.float16)], TypeError, "input.*float16.*tf.cast"),
    "strings": (lambda x: fc.max_pool2d(x, 2), [np.array([b"a"])], TypeError, "input"),
    "mixed": (lambda x, w: fc.conv2d(x, w), [_x, _w.astype(np.float64)], TypeError, "filters.*float64.*float32"),
    "mixed bias": (
        lambda x, w, b: fc.conv2d(x, w, bias=b),
        [_x, _w, _b.astype(np.float64)],
        TypeError,
        "bias.*float64.*float32",
    ),
    "mixed gradient": (
        lambda w, y: fc.conv2d_backprop_input([2, 9, 8, 3], w, y),
        [_w, _y.astype(np.float64)],
        TypeError,
        "filters.*float32.*float64",
    ),
    "None for the input": (lambda w: fc.conv2d(None, w), [_w], TypeError, "input"),
    "None for the filters": (lambda x: fc.conv2d(x, None), [_x], TypeError, "filters"),
    "sizes None": (lambda w, y: fc.conv2d_backprop_input(None, w, y), [_w, _y], TypeError, "input_sizes"),
    "sizes fractional": (
        lambda w, y: fc.conv2d_backprop_input([2, 9, 8.0, 3], w, y),
        [_w, _y],
        TypeError,
        "input_sizes",
    ),
    "sizes negative": (
        lambda w, y: fc.conv2d_backprop_input([2, -9, 8, 3], w, y),
        [_w, _y],
        ValueError,
        "input_sizes",
    ),
    "three sizes": (lambda w, y: fc.conv2d_backprop_input([9, 8, 3], w, y), [_w, _y], ValueError, "input_sizes"),
    "sizes unknown": (
        lambda w, y: fc.conv2d_backprop_input(tf.TensorShape([None, 9, 8, 3]), w, y),
        [_w, _y],
        (TypeError, ValueError),
        "input_sizes",
    ),
    "sizes of floats": (
        lambda x, y: fc.conv2d_backprop_filter(x, tf.constant([3.0, 3, 3, 5]), y),
        [_x, _y],
        TypeError,
        "filter_sizes",
    ),
}

# Arguments that the ops refuse. An op that runs raises InvalidArgumentError. If the mistake is known while a graph is
# made, making the graph raises ValueError.
BAD_SHAPES: dict[str, tuple[Callable[..., Any], list[Any], str]] = {
    "rank of the input": (lambda x, w: fc.conv2d(x, w), [_x[0], _w], r"input.*4 dimensions.*got 3"),
    "rank of the filters": (lambda x, w: fc.conv2d(x, w), [_x, _w[0]], r"filters.*4 dimensions.*got 3"),
    "channels": (lambda x, w: fc.conv2d(x, w), [_x, random(3, 3, 4, 3)], r"\b4\b.*\b3\b|\b3\b.*\b4\b"),
    "groups": (lambda x, w: fc.conv2d(x, w), [random(1, 9, 9, 4), random(3, 3, 2, 5)], r"\b5\b.*\b2\b|\b2\b.*\b5\b"),
    "bias": (lambda x, w, b: fc.conv2d(x, w, bias=b), [_x, _w, _b[1:]], r"bias.*\(5,\).*\(4,\)"),
    "bias without elements": (lambda x, w, b: fc.conv2d(x, w, bias=b), [_x, _w, _b[:0]], r"bias"),
    "rank of the bias": (lambda x, w, b: fc.conv2d(x, w, bias=b), [_x, _w, _b[None]], r"bias"),
    "window without rows": (lambda x, w: fc.conv2d(x, w), [_x, _w[:0]], r"filters|size"),
    "depthwise channels": (lambda x, w: fc.depthwise_conv2d(x, w), [_x, random(3, 3, 4, 1)], r"\b3\b.*4|4.*\b3\b"),
    "gradient, input": (
        lambda w, y: fc.conv2d_backprop_input([2, 9, 8, 3], w, y),
        [_w, _y[:, 1:]],
        r"out_backprop.*\(2, 7, 6, 5\).*\(2, 6, 6, 5\)",
    ),
    "gradient, filters": (
        lambda x, y: fc.conv2d_backprop_filter(x, [3, 3, 3, 5], y),
        [_x, _y[..., 1:]],
        r"out_backprop.*\(2, 7, 6, 5\).*\(2, 7, 6, 4\)",
    ),
    "gradient, max": (lambda x, y, g: fc.max_pool2d_grad(x, y, g, 2), [_x, _p, _p[1:]], r"grad.*\(1, 4, 4, 3\)"),
    "output, max": (lambda x, y, g: fc.max_pool2d_grad(x, y, g, 2), [_x, _p[1:], _p], r"orig_output.*\(1, 4, 4, 3\)"),
    "gradient, average": (lambda y: fc.avg_pool2d_grad([2, 9, 8, 3], y, 2), [_p[..., 1:]], r"grad.*\(2, 4, 4, 2\)"),
    "transpose": (lambda y, w: fc.conv2d_transpose(y, w, [2, 30, 30, 3], 2), [_y, _w], r"30|15"),
    "rank of a pool's input": (lambda x: fc.max_pool2d(x, 2), [_x[0]], r"input.*4 dimensions.*got 3"),
    "padding as large as the window": (lambda x: fc.avg_pool2d(x, 2, 2, 2), [_x], r"padding"),
    "padding huge": (lambda x, w: fc.conv2d(x, w, 1, 2**62), [_x, _w], r"padding|overflow|large"),
    "strides huge": (
        lambda w, y: fc.conv2d_backprop_input([2**31, 2**31, 2**31, 3], w, y),
        [_w, _y],
        r"input_sizes|overflow|large|out_backprop",
    ),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments(name: str) -> None:
    function, arrays, error, words = BAD_ARGUMENTS[name]
    with pytest.raises(error, match=words):
        function(*arrays)
    with pytest.raises(error, match=words):
        tf.function(function).get_concrete_function(*(tf.constant(array) for array in arrays))


@pytest.mark.parametrize("name", BAD_SHAPES)
def test_bad_shapes(name: str) -> None:
    function, arrays, words = BAD_SHAPES[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        function(*arrays)
    graph = tf.function(function, autograph=False)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=words):
        graph(*(tf.constant(array) for array in arrays))
    unknown = tf.function(lambda *values: function(*values), input_signature=[tf.TensorSpec(None)] * len(arrays))
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        unknown(*arrays)
    same_bits(fc.conv2d(_x, _w), fastconv.conv2d(_x, _w))  # the op still works afterwards


@pytest.mark.parametrize(
    "name", ["rank of the input", "rank of the filters", "channels", "groups", "rank of a pool's input", "padding huge"]
)
def test_bad_shapes_are_seen_while_tracing(name: str) -> None:
    function, arrays, words = BAD_SHAPES[name]
    specs = [tf.TensorSpec((None, *array.shape[1:]) if i == 0 else array.shape) for i, array in enumerate(arrays)]
    with pytest.raises(ValueError, match=words):
        tf.function(function).get_concrete_function(*specs)


def test_channel_mismatch_is_seen_with_unknown_sizes() -> None:
    filters = tf.TensorSpec((5, 5, 4, 3))
    for data_format, shape in (("NHWC", (None, None, None, 3)), ("NCHW", (None, 3, None, 8))):
        function = tf.function(lambda x, w, data_format=data_format: fc.conv2d(x, w, data_format=data_format))
        with pytest.raises(ValueError, match=BAD_SHAPES["channels"][2]):
            function.get_concrete_function(tf.TensorSpec(shape), filters)


def test_raw_ops_with_a_wrong_geometry() -> None:
    """Any numbers give an error, not a crash, both eagerly and while tracing."""
    tried = run_python(
        """
        import itertools
        import numpy as np
        import tensorflow as tf
        import fastconv.tensorflow as fc

        x, w, y, b = tf.ones((1, 6, 6, 2)), tf.ones((3, 3, 2, 4)), tf.ones((1, 4, 4, 4)), tf.ones((4,))
        p, t = tf.ones((1, 3, 3, 2)), tf.zeros((1, 3, 3, 2), tf.uint8)
        ops = fc._ops
        conv = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]
        pool = [0, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
        calls = [
            (conv, lambda g: ops.fastconv_conv2d(input=x, filters=w, bias=b, geometry=g)),
            (conv, lambda g: ops.fastconv_conv2d_backprop_input(like=x, filters=w, out_backprop=y, geometry=g)),
            (conv, lambda g: ops.fastconv_conv2d_backprop_filter(input=x, like=w, out_backprop=y, geometry=g)),
            (conv, lambda g: ops.fastconv_conv2d_backprop_filter_bias(input=x, like=w, out_backprop=y, geometry=g)),
            (pool, lambda g: ops.fastconv_max_pool2d(input=x, geometry=g)),
            (pool, lambda g: ops.fastconv_max_pool2d_with_taps(input=x, geometry=g)),
            (pool, lambda g: ops.fastconv_max_pool2d_scatter(like=x, taps=t, grad=p, geometry=g)),
            (pool, lambda g: ops.fastconv_max_pool2d_gather(values=x, taps=t, geometry=g)),
            (pool, lambda g: ops.fastconv_max_pool2d_with_argmax(input=x, geometry=g)),
            (pool, lambda g: ops.fastconv_max_pool2d_grad(orig_input=x, orig_output=p, grad=p, geometry=g)),
            (pool, lambda g: ops.fastconv_avg_pool2d(input=x, geometry=g)),
            (pool, lambda g: ops.fastconv_avg_pool2d_grad(like=x, grad=p, geometry=g)),
        ]
        refused = 0
        for good, call in calls:
            call(tf.fill(good, tf.constant(0, tf.uint8)))  # the right numbers are right
            wrong = [[], [0], [3], good[:-1], good + [0], [1] + good[1:]]
            for i, value in itertools.product(range(1, len(good)), [0, 3, 7, 2**31, 2**40, 2**62]):
                wrong.append(good[:i] + [value] + good[i + 1 :])
            for numbers in wrong:
                geometry = tf.fill(numbers, tf.constant(0, tf.uint8))
                for how in (call, lambda g: tf.function(call).get_concrete_function(g)):
                    try:
                        how(geometry)
                    except (tf.errors.InvalidArgumentError, ValueError):
                        refused += 1
        print(refused)
        """
    )
    assert int(tried) > 400


def test_raw_ops_with_wrong_shapes_of_like() -> None:
    run_python(
        """
        import tensorflow as tf
        import fastconv.tensorflow as fc

        conv = fc._geometry([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
        pool = fc._geometry([0, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0])
        x, w, y = tf.ones((1, 6, 6, 2)), tf.ones((3, 3, 2, 4)), tf.ones((1, 4, 4, 4))
        p, t = tf.ones((1, 3, 3, 2)), tf.zeros((1, 3, 3, 2), tf.uint8)
        big = 2**20
        for lent in [[], [0], [1], [0, 1, 6, 6], [0, 1, 6, 6, 2, 1], [1, 1, 6, 6, 2], [0, big, big, big, big],
                     [0, 2**62, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 2**62, 1, 1], [0, 1, 2**62, 1, 2]]:
            like = tf.fill(tf.constant(lent, tf.int64), tf.constant(0, tf.uint8))
            for call in (
                lambda: fc._ops.fastconv_conv2d_backprop_input(like=like, filters=w, out_backprop=y, geometry=conv),
                lambda: fc._ops.fastconv_conv2d_backprop_filter(input=x, like=like, out_backprop=y, geometry=conv),
                lambda: fc._ops.fastconv_conv2d_backprop_filter_bias(
                    input=x, like=like, out_backprop=y, geometry=conv
                ),
                lambda: fc._ops.fastconv_max_pool2d_scatter(like=like, taps=t, grad=p, geometry=pool),
                lambda: fc._ops.fastconv_avg_pool2d_grad(like=like, grad=x, geometry=pool),
            ):
                for how in (call, lambda: tf.function(call)()):
                    try:
                        how()
                    except (tf.errors.InvalidArgumentError, ValueError):
                        continue
                    raise AssertionError(lent)
        """
    )


def test_too_large_for_memory() -> None:
    """The sizes are valid, but no machine has memory for the output."""
    run_python(
        """
        import os
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # its allocator waits 10 s for memory
        import tensorflow as tf
        import fastconv.tensorflow as fc

        def padded():
            return fc.conv2d(tf.ones((1, 1, 1, 1)), tf.ones((1, 1, 1, 1)), 1, 2**20)

        def lent():
            return fc.avg_pool2d_grad([1, 2**24, 2**24, 1], tf.zeros((1, 1, 1, 1)), 2**24)

        for call in (padded, lent):
            for how in (call, lambda: tf.function(call)()):
                try:
                    how()
                except tf.errors.ResourceExhaustedError:
                    continue
                raise AssertionError("computed it?")
        """
    )


# ---- The module and its ops ------------------------------------------------------------------------------------------


@every_case
def test_ops_are_not_stateful(case: Case) -> None:
    """TensorFlow runs stateful ops one after the other and does not prune or merge them."""
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


def test_import_twice() -> None:
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


def test_import_of_a_fresh_module() -> None:
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


def test_names() -> None:
    """The name scope of the ops is the given name or the function's."""

    def graph(x: tf.Tensor) -> tf.Tensor:
        return fc.avg_pool2d(fc.max_pool2d(x, 2, name="first"), 2)

    operations = tf.function(graph).get_concrete_function(tf.TensorSpec((None, 8, 8, 3))).graph.get_operations()
    names = [op.name for op in operations if op.type.startswith("Fastconv")]
    assert [name.split("/")[0] for name in names] == ["first", "fastconv_avg_pool2d"]


@pytest.mark.parametrize("sizes", [[9], [9, 9, 4], [9, 9, 9], [2, 9, 9, 4, 1]])
def test_wrong_number_of_sizes_that_only_the_run_knows(sizes: list[int]) -> None:
    unknown = tf.TensorSpec(None, tf.int32)
    filters, images = tf.ones([3, 3, 4, 6]), tf.ones([2, 9, 9, 4])

    @tf.function(input_signature=[unknown, tf.TensorSpec([None, 7, 7, 6])])
    def to_input(sizes: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        return fc.conv2d_backprop_input(sizes, filters, gradient)

    @tf.function(input_signature=[unknown])
    def to_filters(sizes: tf.Tensor) -> tf.Tensor:
        return fc.conv2d_backprop_filter(images, sizes, tf.ones([2, 7, 7, 6]))

    for batch in (0, 2):
        with pytest.raises(tf.errors.InvalidArgumentError, match="input_sizes must be 2 or 4 integers, got"):
            to_input(tf.constant(sizes), tf.ones([batch, 7, 7, 6]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="filter_sizes must be 4 integers, got"):
        to_filters(tf.constant(sizes))
    assert to_input(tf.constant([9, 9]), tf.ones([2, 7, 7, 6])).shape == (2, 9, 9, 4)
    assert to_filters(tf.constant([3, 3, 4, 6])).shape == filters.shape
