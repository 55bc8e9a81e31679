"""The functions of fastconv as native TensorFlow ops with gradients.

Same names and meaning as the functions of `fastconv` on NumPy arrays; they take and give float32 or float64 tensors,
work eagerly, in ``tf.function`` and ``tf.data``, and have gradients of any order, all on fastconv's kernels. What is
wrong with an argument is a ``TypeError`` or ``ValueError`` while a graph is traced, and a
``tf.errors.InvalidArgumentError`` when an op runs. The ops compute on the CPU, off Python's lock, on fastconv's own
thread pool: on as many threads as `fastconv.set_num_threads` and
``tf.config.threading.set_intra_op_parallelism_threads`` both allow, for all ops that run at once together.
"""

from __future__ import annotations

try:
    import tensorflow as _tensorflow  # noqa: F401  (every module below imports it)
except ModuleNotFoundError as error:
    if error.name != "tensorflow":
        raise
    raise ModuleNotFoundError(
        "fastconv.tensorflow needs TensorFlow 2.16 or later: pip install 'fastconv[tensorflow]'", name="tensorflow"
    ) from None

from fastconv.tensorflow import _geometry_code, _library, flops, gradients, vectorization
from fastconv.tensorflow.functions import (
    avg_pool2d,
    avg_pool2d_grad,
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

__all__ = [
    "avg_pool2d",
    "avg_pool2d_grad",
    "conv2d",
    "conv2d_backprop_filter",
    "conv2d_backprop_input",
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
flops.register()

# Private names for tests, which call the ops themselves.
_ops, _geometry = _library.ops, _geometry_code.encode
