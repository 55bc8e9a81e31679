"""The functions of fastconv as native TensorFlow ops with gradients.

They have the names, arguments and meaning of the functions of `fastconv`, but take and return float32 or float64
tensors. They work eagerly, in ``tf.function`` and in ``tf.data``. Gradients of any order use fastconv's kernels, too.

A wrong argument raises ``TypeError`` or ``ValueError`` while a graph is traced, and
``tf.errors.InvalidArgumentError`` while an op runs.

The ops run on the CPU, on fastconv's own thread pool, without Python's global interpreter lock. All ops that run at the
same time share the pool. `fastconv.set_num_threads` and ``tf.config.threading.set_intra_op_parallelism_threads`` both
limit its threads.
"""

from __future__ import annotations

from fastconv._extras import how_to_install

try:
    import tensorflow as _tensorflow  # noqa: F401  (every module below imports it)
except ModuleNotFoundError as error:
    if error.name != "tensorflow":
        raise
    raise ModuleNotFoundError(
        f"fastconv.tensorflow needs TensorFlow 2.16 or later; {how_to_install('tensorflow')}", name=error.name
    ) from None

from fastconv.tensorflow import _geometry_code, _library, batch_norm_vectorization, flops, gradients, vectorization
from fastconv.tensorflow.batch_norm import (
    batch_norm,
    batch_norm_grad,
    batch_norm_inference,
    batch_norm_inference_grad,
    batch_norm_statistics,
)
from fastconv.tensorflow.elementwise import activate, activate_grad, add, add_grad
from fastconv.tensorflow.functions import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_grad,
    adaptive_max_pool2d,
    adaptive_max_pool2d_grad,
    avg_pool2d,
    avg_pool2d_grad,
    bias_gradient,
    conv2d,
    conv2d_backprop_filter,
    conv2d_backprop_input,
    conv2d_transpose,
    depthwise_conv2d,
    depthwise_conv2d_backprop_filter,
    depthwise_conv2d_backprop_input,
    max_pool2d,
    max_pool2d_grad,
    max_pool2d_with_argmax,
)
from fastconv.tensorflow.pooled_convolution import conv2d_max_pool2d, conv2d_max_pool2d_backprop

__all__ = [
    "activate",
    "activate_grad",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_grad",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_grad",
    "add",
    "add_grad",
    "avg_pool2d",
    "avg_pool2d_grad",
    "batch_norm",
    "batch_norm_grad",
    "batch_norm_inference",
    "batch_norm_inference_grad",
    "batch_norm_statistics",
    "bias_gradient",
    "conv2d",
    "conv2d_backprop_filter",
    "conv2d_backprop_input",
    "conv2d_max_pool2d",
    "conv2d_max_pool2d_backprop",
    "conv2d_transpose",
    "depthwise_conv2d",
    "depthwise_conv2d_backprop_filter",
    "depthwise_conv2d_backprop_input",
    "max_pool2d",
    "max_pool2d_grad",
    "max_pool2d_with_argmax",
]

gradients.register()
vectorization.register()
batch_norm_vectorization.register()
flops.register()

# Private names for tests, which call the ops themselves.
_ops, _geometry = _library.ops, _geometry_code.encode
