"""The static shapes of the ops, in graphs, loops and saved models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fastconv.tensorflow as fc
import numpy as np
import pytest
import tensorflow as tf
from arrays import random
from processes import run_python
from tensorflow_calls import same_bits


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
def test_partly_known_shapes_are_inferred(
    function: Callable[..., Any], shapes: Any, expected: list[int | None]
) -> None:
    assert traced(function, *shapes) == [expected]


def test_shapes_of_gradients_are_inferred_for_an_unknown_batch() -> None:
    def gradients(x: tf.Tensor, w: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = fc.avg_pool2d(fc.max_pool2d(fc.conv2d(x, w, 2, "SAME"), 2), 2)
        return tape.gradient(y, [x, w])

    assert traced(gradients, (None, None, 28, 3), (3, 3, 3, 5)) == [[None, None, 28, 3], [3, 3, 3, 5]]


def test_shapes_do_not_change_in_a_while_loop() -> None:
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


def test_a_saved_model_keeps_shapes_results_and_gradients(tmp_path: Path) -> None:
    """Shapes, results and gradients stay the same, also in a process that has only loaded the ops."""
    network, x = Network(), random(2, 9, 8, 3)
    tf.saved_model.save(network, str(tmp_path / "model"))
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    for name in ("__call__", "gradient"):
        same_bits(getattr(loaded, name)(x), getattr(network, name)(x))
        concrete = getattr(loaded, name).concrete_functions[0]
        # Loading infers the shapes of the graph's own tensors anew, but not those of the signature.
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
