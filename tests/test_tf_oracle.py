"""Every function agrees with TensorFlow's function on the CPU, where TensorFlow is a valid oracle.

The tests leave out what TensorFlow's CPU kernels compute wrongly or do not support:

- batch 0 and empty outputs; NaN and infinity;
- pooling windows larger than the input (max pooling may end the process), dilated pools, `ceil_mode` and
  `count_include_pad`; explicit padding of average pools and of max pools with the argmax;
- depthwise convolutions with unequal strides, or with both strides and dilations;
- gradients of dilated depthwise convolutions, where TensorFlow ignores the dilations;
- calls that TensorFlow refuses, such as some gradients with groups or dilations.

TensorFlow's CPU kernels do not support NCHW, so TensorFlow computes the problems in NCHW after a conversion to NHWC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastconv
import numpy as np
import problems
import pytest
import random_problems
import reference
import tensorflow as tf
from problems import ADAPTIVE, FUNCTIONS, Call, Problem, kind_of


def valid_oracle(problem: Problem, name: str) -> bool:
    if problem.empty or 0 in problem.size or problem.values in ("nan", "infinite"):
        return False
    explicit = not isinstance(problem.padding, str)
    if problem.pooling is not None and any(problem.pooling.kernel[i] > problem.output[i] for i in range(2)):
        return False
    if problem.pool:
        if problem.dilated or problem.ceil_mode or problem.count_include_pad:
            return False
        if any(problem.kernel[i] > problem.size[i] for i in range(2)):
            return False
        return not (explicit and (name.startswith("avg") or name.endswith("argmax")))
    if problem.depthwise:
        if problem.strides[0] != problem.strides[1]:
            return False
        return problem.dilations == (1, 1) or (name == "depthwise_conv2d" and problem.strides == (1, 1))
    return True


def to_nhwc(problem: Problem, x: np.ndarray) -> np.ndarray:
    return x if problem.data_format == "NHWC" else np.ascontiguousarray(np.moveaxis(x, 1, 3))


def max_pooled(problem: Problem, maps: tf.Tensor) -> tf.Tensor:
    """The pooling of a convolution's output."""
    assert problem.pooling is not None
    pads = [[0, 0], *(list(pair) for pair in problem.pooling_geometry.pads), [0, 0]]
    padding = problem.pooling.padding if isinstance(problem.pooling.padding, str) else pads
    return tf.nn.max_pool2d(maps, problem.pooling.kernel, problem.pooling.strides, padding)


def scattered(problem: Problem, grad: tf.Tensor) -> tf.Tensor:
    """The gradient with respect to feature maps whose maxima are at the taps of the call."""
    maps = tf.constant(problem.array("maps", problem.output_shape))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        pooled = max_pooled(problem, maps)
    return tape.gradient(pooled, maps, grad)


def theirs(call: Call) -> list[np.ndarray]:
    """TensorFlow's results of the call, in NHWC."""
    problem, name, given = call.problem, call.name, call.arguments
    strides, dilations = [1, *problem.strides, 1], [1, *problem.dilations, 1]
    pads = [[0, 0], *(list(pair) for pair in problem.pads), [0, 0]]
    padding: Any = problem.padding.upper() if isinstance(problem.padding, str) else pads
    ksize = [1, *problem.kernel, 1]

    def raw(**arguments: Any) -> dict[str, Any]:
        """The arguments with padding in the form of the raw ops."""
        if isinstance(padding, str):
            return {**arguments, "strides": strides, "padding": padding}
        flat = [v for pair in pads for v in pair]
        return {**arguments, "strides": strides, "padding": "EXPLICIT", "explicit_paddings": flat}

    arrays = {  # tensors, since some functions would turn arrays of float64 into float32
        key: tf.constant(value if key == "filters" else to_nhwc(problem, value))
        for key, value in given.items()
        if isinstance(value, np.ndarray) and value.ndim == 4
    }
    x, w = arrays.get("input"), arrays.get("filters")
    dy = arrays.get("out_backprop")

    def conv_max_pool() -> list[Any]:
        maps = tf.nn.conv2d(x, w, strides, padding, dilations=dilations)
        maps = maps if given["bias"] is None else maps + given["bias"]
        maps = tf.nn.relu(maps) if problem.relu else maps
        taps = reference.max_pool2d_taps(maps.numpy(), problem.pooling_geometry)
        return [max_pooled(problem, maps), tf.constant(taps)]

    def conv_max_pool_backprop() -> list[Any]:
        bias = tf.zeros(problem.filters, problem.dtype)
        with tf.GradientTape() as tape:
            tape.watch([x, w, bias])
            y = tf.nn.bias_add(tf.nn.conv2d(x, w, strides, padding, dilations=dilations), bias)
        return tape.gradient(y, [x, w, bias], scattered(problem, arrays["grad"]))

    calls: dict[str, Callable[[], Any]] = {
        "conv2d": lambda: tf.nn.conv2d(x, w, strides, padding, dilations=dilations),
        "conv2d_backprop_input": lambda: tf.raw_ops.Conv2DBackpropInput(
            **raw(input_sizes=problem.input_shape, filter=w, out_backprop=dy, dilations=dilations)
        ),
        "conv2d_backprop_filter": lambda: tf.raw_ops.Conv2DBackpropFilter(
            **raw(input=x, filter_sizes=problem.filter_shape, out_backprop=dy, dilations=dilations)
        ),
        "conv2d_transpose": lambda: tf.nn.conv2d_transpose(
            x, w, problem.input_shape, strides, padding, dilations=dilations
        ),
        "depthwise_conv2d": lambda: tf.nn.depthwise_conv2d(x, w, strides, padding, dilations=problem.dilations),
        "depthwise_conv2d_backprop_input": lambda: tf.nn.depthwise_conv2d_backprop_input(
            problem.input_shape, w, dy, strides, padding, dilations=dilations
        ),
        "depthwise_conv2d_backprop_filter": lambda: tf.nn.depthwise_conv2d_backprop_filter(
            x, problem.filter_shape, dy, strides, padding, dilations=dilations
        ),
        "max_pool2d": lambda: tf.nn.max_pool2d(x, ksize, strides, padding),
        "max_pool2d_with_argmax": lambda: tf.nn.max_pool_with_argmax(
            x, ksize, strides, padding, include_batch_in_index=given.get("include_batch_in_index", False)
        ),
        "max_pool2d_grad": lambda: tf.raw_ops.MaxPoolGrad(
            **raw(orig_input=arrays["orig_input"], orig_output=arrays["orig_output"], grad=arrays["grad"], ksize=ksize)
        ),
        "avg_pool2d": lambda: tf.nn.avg_pool2d(x, ksize, strides, padding),
        "avg_pool2d_grad": lambda: tf.raw_ops.AvgPoolGrad(
            **raw(orig_input_shape=problem.input_shape, grad=arrays["grad"], ksize=ksize)
        ),
        "conv2d_max_pool2d": conv_max_pool,
        "conv2d_max_pool2d_backprop": conv_max_pool_backprop,
    }
    results = calls[name]()
    results = [results] if tf.is_tensor(results) else list(results)
    y = results[0].numpy()
    if name in ("conv2d", "depthwise_conv2d"):
        y = y if given["bias"] is None else y + given["bias"]
        y = np.maximum(y, 0) if problem.relu else y
    return [y, *(r.numpy() for r in results[1:])]


def compare(call: Call) -> float | None:
    """The largest difference relative to the sum of both tolerances; None if TensorFlow does not support the call."""
    try:
        other = theirs(call)
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return None
    problem = call.problem
    results = getattr(fastconv, call.name)(**call.arguments)
    worst = 0.0
    triples = zip(results if isinstance(results, tuple) else (results,), other, call.expected(), strict=True)
    for index, (ours, their, (_, tolerance)) in enumerate(triples):
        if call.in_data_format(index):
            ours, tolerance = to_nhwc(problem, ours), to_nhwc(problem, tolerance)
        assert ours.shape == their.shape, f"TensorFlow's shape is {their.shape}, not {ours.shape}\n{call}"
        assert ours.dtype == their.dtype, f"TensorFlow's dtype is {their.dtype}, not {ours.dtype}\n{call}"
        difference = np.abs(ours - their)
        wrong = difference > 2 * tolerance
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise AssertionError(
                f"different elements: {wrong.sum()}, the first at {at}: {ours[at]}, not {their[at]}\n{call}"
            )
        with np.errstate(invalid="ignore", divide="ignore"):
            worst = max(worst, float(np.nan_to_num(difference / (2 * tolerance)).max(initial=0)))
    return worst


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ADAPTIVE])
def test_functions_agree_with_tensorflow(name: str, seed: int, count: int, tally: dict[str, tuple[int, float]]) -> None:
    """Half of the problems are in each precision."""
    for dtype in ("float32", "float64"):
        compared: list[Problem] = []
        worst = 0.0
        for problem in random_problems.series(seed + 1, dtype, kind_of(name)):
            if valid_oracle(problem, name):
                difference = compare(problems.call_of(problem, name))
                if difference is not None:
                    worst = max(worst, difference)
                    compared.append(problem)
            if len(compared) == -(-count // 2):
                break
        tally[f"TensorFlow, {name}, {dtype}"] = (len(compared), worst)
        shares = random_problems.shares(compared)
        assert shares["asymmetric"] > 0.1
        if name == "conv2d":
            assert shares["grouped"] > 0.2 and shares["dilated"] > 0.2
