"""Activations, additions and their gradients, as functions of tensors."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fastconv._types import Activation
from fastconv.tensorflow._arguments import float_tensor
from fastconv.tensorflow._geometry_code import activation_attributes
from fastconv.tensorflow._library import ops


def activate(input: Any, activation: Activation, *, name: str | None = None) -> tf.Tensor:
    """An activation of each element. Equivalent to `fastconv.activate`."""
    with tf.name_scope(name or "fastconv_activate"):
        attributes = activation_attributes(activation)
        return ops.fastconv_activate(input=float_tensor("input", input), **attributes)


def activate_grad(input: Any, grad: Any, activation: Activation, *, name: str | None = None) -> tf.Tensor:
    """Gradient of `activate` with respect to its input. Equivalent to `fastconv.activate_grad`."""
    with tf.name_scope(name or "fastconv_activate_grad"):
        attributes = activation_attributes(activation)
        x = float_tensor("input", input)
        dy = float_tensor("grad", grad, ("input", x))
        return ops.fastconv_activate_grad(input=x, grad=dy, **attributes)


def add(a: Any, b: Any, activation: Activation = None, *, name: str | None = None) -> tf.Tensor:
    """Sum of two tensors of one shape, with an optional activation. Equivalent to `fastconv.add`."""
    with tf.name_scope(name or "fastconv_add"):
        attributes = activation_attributes(activation)
        first = float_tensor("a", a)
        second = float_tensor("b", b, ("a", first))
        return ops.fastconv_add(a=first, b=second, **attributes)


def add_grad(a: Any, b: Any, grad: Any, activation: Activation = None, *, name: str | None = None) -> tf.Tensor:
    """Gradient of `add` with respect to each of its tensors. Equivalent to `fastconv.add_grad`."""
    with tf.name_scope(name or "fastconv_add_grad"):
        attributes = activation_attributes(activation)
        first = float_tensor("a", a)
        second = float_tensor("b", b, ("a", first))
        dy = float_tensor("grad", grad, ("a", first))
        return ops.fastconv_add_grad(a=first, b=second, grad=dy, **attributes)
