"""The gradients of activations, additions and batch normalisation. Those of the second order consist of plain ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import pi, sqrt
from typing import Any

import tensorflow as tf

from fastconv.tensorflow._arguments import is_given
from fastconv.tensorflow._geometry_code import is_nchw
from fastconv.tensorflow._library import ops
from fastconv.tensorflow._tensorflow_internals import is_symbolic

# ---- Activations and additions --------------------------------------------------------------------------------------

Attributes = dict[str, Any]  # of an op, with its geometry


def attributes_of(op: Any) -> Attributes:
    texts = {name: op.get_attr(name).decode() for name in ("activation", "epsilon")}
    return {"geometry": op.inputs[-1], **texts}


def _activation(attributes: Attributes) -> tuple[str, list[float]]:
    """The activation's name and numbers."""
    name, _, numbers = attributes["activation"].partition("(")
    return name, [float(number) for number in numbers.rstrip(")").split(",") if number]


def _sigmoid_gelu(x: tf.Tensor) -> tf.Tensor:
    """GELU, approximated with tanh. ``tf.nn.gelu`` rounds its constants to float32."""
    return x * tf.sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 * x**3))


#: The activations whose derivatives are not piecewise constant.
_CURVES: dict[str, Callable[..., tf.Tensor]] = {
    "elu": lambda x, alpha: tf.where(x > 0, x, alpha * tf.math.expm1(tf.minimum(x, 0))),
    "gelu": lambda x: 0.5 * x * tf.math.erfc(-sqrt(0.5) * x),
    "gelu_tanh": _sigmoid_gelu,
    "silu": lambda x: x * tf.sigmoid(x),
    "sigmoid": tf.sigmoid,
    "hard_swish": lambda x: x * tf.clip_by_value(x / 6 + 0.5, 0, 1),
    "tanh": tf.tanh,
}
#: Activations that change nothing in their own output. It has the same derivative as their input.
IDEMPOTENT = ("linear", "relu", "relu6", "clip")


def _activation_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    attributes = attributes_of(op)
    name, _ = _activation(attributes)
    if name == "linear":
        return [grad, None]
    kept = op.outputs[0] if name in IDEMPOTENT else op.inputs[0]
    return [ops.fastconv_activate_grad(input=kept, grad=grad, **attributes), None]


def _addition_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    a, b, _ = op.inputs
    attributes = attributes_of(op)
    name, _ = _activation(attributes)
    if name != "linear" and name in IDEMPOTENT:
        grad = ops.fastconv_activate_grad(input=op.outputs[0], grad=grad, **attributes)
    elif name != "linear":
        grad = ops.fastconv_add_grad(a=a, b=b, grad=grad, **attributes)
    return [grad, grad, None]


def _gradients_of(function: Callable[..., Any], inputs: list[tf.Tensor], upstream: Any) -> list[tf.Tensor | None]:
    """The gradients of ``function(*inputs)``.

    TensorFlow may call this while no tape records, for example for a forward-mode derivative. Graphs need no tape.
    """
    if not tf.executing_eagerly():
        inputs = [tf.identity(x) for x in inputs]  # they may belong to an outer graph
        found: list[tf.Tensor | None] = tf.gradients(function(*inputs), inputs, upstream)
        return found
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
    found = tape.gradient(outputs, inputs, output_gradients=upstream)
    return found


def _second_order(x: tf.Tensor, grad: tf.Tensor, upstream: tf.Tensor, attributes: Attributes) -> list[tf.Tensor | None]:
    """The gradients of ``grad * activation'(x)`` with respect to x and grad."""
    name, numbers = _activation(attributes)
    d_grad = ops.fastconv_activate_grad(input=x, grad=upstream, **attributes)
    if name not in _CURVES:
        return [None, d_grad]

    def first(x: tf.Tensor) -> tf.Tensor:
        (found,) = _gradients_of(lambda x: _CURVES[name](x, *numbers), [x], grad)
        return found

    return [*_gradients_of(first, [x], upstream), d_grad]


def _activation_grad_gradient(op: Any, upstream: tf.Tensor) -> list[tf.Tensor | None]:
    x, grad, _ = op.inputs
    return [*_second_order(x, grad, upstream, attributes_of(op)), None]


def _addition_grad_gradient(op: Any, upstream: tf.Tensor) -> list[tf.Tensor | None]:
    a, b, grad, _ = op.inputs
    d_sum, d_grad = _second_order(a + b, grad, upstream, attributes_of(op))
    return [d_sum, d_sum, d_grad, None]


# ---- Batch normalisation --------------------------------------------------------------------------------------------


def _of_given(inputs: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor | None]) -> list[tf.Tensor | None]:
    """None in place of the gradients of inputs that are left out."""
    return [gradient if is_given(x) else None for x, gradient in zip(inputs, gradients, strict=True)]


def _batch_norm_gradient(
    op: Any, grad: tf.Tensor, grad_mean: tf.Tensor, grad_variance: tf.Tensor
) -> list[tf.Tensor | None]:
    input, scale, offset, residual, _ = op.inputs
    _, mean, variance = op.outputs
    gradients = ops.fastconv_batch_norm_grad(
        input=input, mean=mean, variance=variance, grad=grad, scale=scale, offset=offset, residual=residual,
        grad_mean=grad_mean, grad_variance=grad_variance, **attributes_of(op),
    )  # fmt: skip
    return [*_of_given([input, scale, offset, residual], gradients), None]


def _statistics_gradient(op: Any, grad_mean: tf.Tensor, grad_variance: tf.Tensor) -> list[tf.Tensor | None]:
    input, geometry = op.inputs
    channels = 1 if is_nchw(geometry) else -1
    rank = tf.rank(input)
    shape = tf.one_hot(channels % rank, rank, tf.shape(input)[channels], 1, dtype=tf.int32)
    mean, grad_mean, grad_variance = (tf.reshape(row, shape) for row in (op.outputs[0], grad_mean, grad_variance))
    count = tf.cast(tf.size(input) // tf.shape(input)[channels], input.dtype)
    return [(grad_mean + 2 * (input - mean) * grad_variance) / count, None]


def around_activation(op: Any, grad: tf.Tensor) -> tuple[tf.Tensor, Attributes]:
    """The gradient of the activation after a normalisation, and the attributes of both as one op.

    batch_norm_fusion.py has such pairs. Otherwise `grad` and the attributes of `op` itself.
    """
    attributes = attributes_of(op)
    if not is_symbolic(grad) or grad.op.type != "FastconvActivateGrad" or attributes["activation"] != "linear":
        return grad, attributes
    kept, of_activation, _ = grad.op.inputs
    activation = grad.op.get_attr("activation").decode()
    if kept.op is not op and not _is_with_activation(kept.op, op, activation):
        return grad, attributes
    return of_activation, attributes | {"activation": activation}


def _is_with_activation(fused: Any, op: Any, activation: str) -> bool:
    """Whether an op is the same normalisation with this activation."""
    return (
        fused.type == op.type
        and all(a is b for a, b in zip(fused.inputs, op.inputs, strict=True))
        and attributes_of(fused) == attributes_of(op) | {"activation": activation}
    )


def _inference_gradient(op: Any, grad: tf.Tensor) -> list[tf.Tensor | None]:
    input, mean, variance, scale, offset, residual, _ = op.inputs
    grad, attributes = around_activation(op, grad)
    gradients = ops.fastconv_batch_norm_inference_grad(
        input=input, mean=mean, variance=variance, grad=grad, scale=scale, offset=offset, residual=residual,
        **attributes,
    )  # fmt: skip
    d_input, *others = _of_given([input, scale, offset, residual], gradients)
    _, d_scale, d_offset, _ = gradients
    inverse = tf.math.rsqrt(variance + float(attributes["epsilon"]))
    factor = scale * inverse if is_given(scale) else inverse
    return [d_input, -factor * d_offset, -factor * inverse * d_scale / 2, *others, None]


def _plain_gradients(inputs: dict[str, tf.Tensor], attributes: Attributes, of_batch: bool) -> list[tf.Tensor]:
    """The outputs of an op of a gradient, without that of the residual if there is none."""
    x = inputs["input"]
    if x.shape.rank is None:
        raise ValueError(
            "a gradient of the second order needs an input with a known number of dimensions: see tf.ensure_shape"
        )
    channels = 1 if is_nchw(attributes["geometry"]) else x.shape.rank - 1
    axes = [axis for axis in range(x.shape.rank) if axis != channels]
    shape = [-1 if axis == channels else 1 for axis in range(x.shape.rank)]

    def row(name: str, otherwise: float) -> tf.Tensor:
        value = inputs[name] if name in inputs else tf.fill([1], tf.constant(otherwise, x.dtype))
        return tf.reshape(value, shape)

    inverse = tf.math.rsqrt(row("variance", 1) + float(attributes["epsilon"]))
    factor = row("scale", 1) * inverse
    centred = x - row("mean", 0)
    z = centred * factor + row("offset", 0) + inputs.get("residual", tf.zeros((), x.dtype))
    d = ops.fastconv_activate_grad(input=z, grad=inputs["grad"], **attributes)
    total = tf.reduce_sum(d, axes, keepdims=True)
    product = tf.reduce_sum(d * centred, axes, keepdims=True)
    d_input = d * factor
    if of_batch:
        count = tf.cast(tf.size(x) // tf.shape(x)[channels], x.dtype)
        of_variance = 2 * row("grad_variance", 0) - factor * inverse**2 * product
        d_input += (row("grad_mean", 0) - factor * total + centred * of_variance) / count
    results = [d_input, tf.reshape(product * inverse, [-1]), tf.reshape(total, [-1])]
    return [*results, d] if "residual" in inputs else results


def _gradient_of_gradients(of_batch: bool) -> Callable[..., list[tf.Tensor | None]]:
    names = ["input", "mean", "variance", "grad", "scale", "offset", "residual"]
    if of_batch:
        names += ["grad_mean", "grad_variance"]

    def gradient(op: Any, *upstream: tf.Tensor) -> list[tf.Tensor | None]:
        given = {name: x for name, x in zip(names, op.inputs[:-1], strict=True) if is_given(x)}

        def outputs(*inputs: tf.Tensor) -> list[tf.Tensor]:
            return _plain_gradients(dict(zip(given, inputs, strict=True)), attributes_of(op), of_batch)

        wanted = list(upstream if "residual" in given else upstream[:-1])
        found = dict(zip(given, _gradients_of(outputs, list(given.values()), wanted), strict=True))
        return [*(found.get(name) for name in names), None]

    return gradient


GRADIENTS: dict[str, Callable[..., list[tf.Tensor | None]]] = {
    "FastconvActivate": _activation_gradient,
    "FastconvActivateGrad": _activation_grad_gradient,
    "FastconvAdd": _addition_gradient,
    "FastconvAddGrad": _addition_grad_gradient,
    "FastconvBatchNorm": _batch_norm_gradient,
    "FastconvBatchNormGrad": _gradient_of_gradients(of_batch=True),
    "FastconvBatchNormInference": _inference_gradient,
    "FastconvBatchNormStatistics": _statistics_gradient,
    "FastconvBatchNormInferenceGrad": _gradient_of_gradients(of_batch=False),
}
