"""fastconv: fast 2-D convolution and pooling on CPUs, for NumPy, TensorFlow and Keras.

The functions of this module take NumPy arrays of float32 or float64. All arrays of a call must have the same dtype, and
the result is computed in this precision. Names and meaning follow ``tf.nn``. C-contiguous arrays are used in place.
Other arrays are copied once.

`fastconv.Network`, `fastconv.load`, `fastconv.tensorflow`, `fastconv.keras`, `fastconv.onnx` and `fastconv.lenet` are
imported on first access. Importing fastconv itself needs only NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

try:
    import fastconv._core as _core
except ImportError as error:
    raise ImportError(
        f"fastconv's compiled core cannot be loaded ({error}). If you are in the source tree, install the package with "
        "'pip install .' in its top folder, and run Python in another folder."
    ) from error

from fastconv import _threadpoolctl
from fastconv._batch_norm import (
    batch_norm,
    batch_norm_grad,
    batch_norm_inference,
    batch_norm_inference_grad,
    batch_norm_statistics,
)
from fastconv._config import get_num_threads, set_num_threads, show_config, threads
from fastconv._convolution import (
    bias_gradient,
    conv2d,
    conv2d_backprop_filter,
    conv2d_backprop_input,
    conv2d_transpose,
    conv_output_size,
)
from fastconv._core import PackedFilters
from fastconv._depthwise import (
    depthwise_conv2d,
    depthwise_conv2d_backprop_filter,
    depthwise_conv2d_backprop_input,
)
from fastconv._elementwise import activate, activate_grad, add, add_grad
from fastconv._explain import Explanation, explain
from fastconv._pooled_convolution import conv2d_max_pool2d, conv2d_max_pool2d_backprop
from fastconv._pooling import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_grad,
    adaptive_max_pool2d,
    adaptive_max_pool2d_grad,
    avg_pool2d,
    avg_pool2d_grad,
    max_pool2d,
    max_pool2d_grad,
    max_pool2d_with_argmax,
)

if TYPE_CHECKING:
    from fastconv import keras as keras
    from fastconv import lenet as lenet
    from fastconv import onnx as onnx
    from fastconv import tensorflow as tensorflow
    from fastconv.network import Network as Network
    from fastconv.network import load as load

__version__: str = _core.config()["version"]

__all__ = [
    "Explanation",
    "Network",
    "PackedFilters",
    "__version__",
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
    "conv_output_size",
    "depthwise_conv2d",
    "depthwise_conv2d_backprop_filter",
    "depthwise_conv2d_backprop_input",
    "explain",
    "get_num_threads",
    "load",
    "max_pool2d",
    "max_pool2d_grad",
    "max_pool2d_with_argmax",
    "set_num_threads",
    "show_config",
    "threads",
]

_threadpoolctl.register()

_LAZY = ("keras", "lenet", "network", "onnx", "tensorflow")
_OF_NETWORK = ("Network", "load")  # attributes of fastconv.network


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"fastconv.{name}")
    if name in _OF_NETWORK:
        return getattr(importlib.import_module("fastconv.network"), name)
    raise AttributeError(f"module 'fastconv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_OF_NETWORK})
