"""The ops of the compiled library, as TensorFlow makes functions of them."""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow as tf

import fastconv._core as _core

_path = Path(_core.__file__).with_name("libfastconv_tensorflow.so")
if not _path.exists():
    raise ImportError(f"fastconv.tensorflow needs Linux, where its ops are built; this is {sys.platform}")
ops = tf.load_op_library(str(_path))
