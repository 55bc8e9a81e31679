"""Drop-in Keras layers on fastconv's kernels.

`Conv2D`, `MaxPooling2D` and `AveragePooling2D` subclass those of ``keras.layers``: same arguments, weights, config,
summary and saving. Replace ``keras.layers.Conv2D`` by ``fastconv.keras.Conv2D`` and nothing else changes but the time;
a saved model loads where `fastconv.keras` was imported before. They need Keras 3 on TensorFlow.

What the kernels do not serve runs on Keras's own ops, as it would in the stock layer: inputs that are not float32 or
float64 (mixed precision), and everything on a machine where TensorFlow sees a GPU. A warning says so once.
"""

from __future__ import annotations

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"fastconv.keras needs Keras on TensorFlow, but Keras runs on {keras.backend.backend()}; set the environment "
        "variable KERAS_BACKEND=tensorflow before Keras is imported"
    )

from fastconv.keras.convolutional import Conv2D
from fastconv.keras.pooling import AveragePooling2D, MaxPooling2D

__all__ = ["LAYERS", "AveragePooling2D", "Conv2D", "MaxPooling2D"]

#: Each stock class and ours in its place.
LAYERS: dict[type[keras.Layer], type[keras.Layer]] = {
    keras.layers.AveragePooling2D: AveragePooling2D,
    keras.layers.Conv2D: Conv2D,
    keras.layers.MaxPooling2D: MaxPooling2D,
}
