"""Vectorizes activations, additions and batch normalisation in ``tf.vectorized_map``.

All iterations of the loop together are one tensor of an operation element by element. For batch normalisation, they
are one tensor with more channels, since each iteration has its own statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fastconv.tensorflow._arguments import is_given
from fastconv.tensorflow._geometry_code import decode, encode
from fastconv.tensorflow._library import ops
from fastconv.tensorflow._loop_folding import Loop, Operand, Size
from fastconv.tensorflow._tensorflow_internals import NotVectorizable, VectorizeOp, register_vectorization

_Outputs = list[tf.Tensor]


def _elementwise(op: Callable[..., Any], *names: str) -> Callable[..., _Outputs]:
    def vectorized(loop: Loop, inputs: list[Operand], _: bool, attributes: dict[str, Any]) -> _Outputs:
        return [op(**{name: loop.stack(x) for name, x in zip(names, inputs, strict=True)}, **attributes)]

    return vectorized


def _by_channels(op: Callable[..., Any], *names: str) -> Callable[..., _Outputs]:
    def vectorized(loop: Loop, inputs: list[Operand], nchw: bool, attributes: dict[str, Any]) -> _Outputs:
        sizes = inputs[0].sizes
        channels = 1 if nchw else len(sizes) - 1

        def fold(x: Operand) -> tf.Tensor:
            if not is_given(x.tensor):
                return x.tensor
            return loop.fold(x, 0 if len(x.sizes) == 1 else channels)

        def unfold(y: tf.Tensor) -> tf.Tensor:
            if y.shape.as_list() == [0]:  # the gradient of a residual that is left out
                return loop.stack(Operand(y, False))
            return loop.unfold(y, 0 if y.shape.rank == 1 else channels, sizes[channels])

        outputs = op(**{name: fold(x) for name, x in zip(names, inputs, strict=True)}, **attributes)
        return [unfold(y) for y in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return vectorized


_OF_GRADIENT = ("input", "mean", "variance", "grad", "scale", "offset", "residual")
_VECTORIZED: dict[str, Callable[..., _Outputs]] = {
    "FastconvActivate": _elementwise(ops.fastconv_activate, "input"),
    "FastconvActivateGrad": _elementwise(ops.fastconv_activate_grad, "input", "grad"),
    "FastconvAdd": _elementwise(ops.fastconv_add, "a", "b"),
    "FastconvAddGrad": _elementwise(ops.fastconv_add_grad, "a", "b", "grad"),
    "FastconvBatchNorm": _by_channels(ops.fastconv_batch_norm, "input", "scale", "offset", "residual"),
    "FastconvBatchNormGrad": _by_channels(ops.fastconv_batch_norm_grad, *_OF_GRADIENT, "grad_mean", "grad_variance"),
    "FastconvBatchNormInference": _by_channels(
        ops.fastconv_batch_norm_inference, "input", "mean", "variance", "scale", "offset", "residual"
    ),
    "FastconvBatchNormStatistics": _by_channels(ops.fastconv_batch_norm_statistics, "input"),
    "FastconvBatchNormInferenceGrad": _by_channels(ops.fastconv_batch_norm_inference_grad, *_OF_GRADIENT),
}


def register() -> None:
    """Register the vectorization of each op."""
    for op_type, vectorized in _VECTORIZED.items():
        register_vectorization(op_type, _converter(vectorized))


def _converter(vectorized: Callable[..., _Outputs]) -> VectorizeOp:
    def convert(op: Any, inputs: list[tuple[tf.Tensor, bool]], length: Size) -> _Outputs:
        geometry = op.inputs[-1]
        if not geometry.shape.is_fully_defined():
            raise NotVectorizable("the shape of its input geometry is not known while the graph is built")
        code = decode(geometry)
        attributes = {name: op.get_attr(name) for name in ("activation", "epsilon")}
        operands = [Operand(*x) for x in inputs[:-1]]
        return vectorized(Loop(length), operands, code[1] == 1, {"geometry": encode(code), **attributes})

    return convert
