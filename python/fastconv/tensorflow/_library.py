"""The Python functions that TensorFlow generates for the ops of the compiled library."""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow as tf

import fastconv._core as _core

_path = Path(_core.__file__).with_name("libfastconv_tensorflow.so")
if not _path.exists():
    raise ImportError(f"fastconv.tensorflow is available on Linux only, not on {sys.platform}")
ops = tf.load_op_library(str(_path))
