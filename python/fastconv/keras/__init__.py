"""Drop-in Keras layers on fastconv's kernels.

The layers of `LAYERS` subclass those of ``keras.layers``. They have the same arguments, weights, config, summary and
saving. To use them, replace ``keras.layers.Conv2D`` by ``fastconv.keras.Conv2D``. To load a saved model, import
`fastconv.keras` first. The layers need Keras 3 on TensorFlow.

Half types (mixed precision) are summed in float32. In bfloat16, some convolutions call TensorFlow's op, if it also sums
in float32 and is faster. If TensorFlow sees a GPU, or if the inputs are not floating-point numbers, the layers use
Keras's own ops and warn once.
"""

from __future__ import annotations

from fastconv._extras import how_to_install

try:
    import keras
except ModuleNotFoundError as error:
    if error.name not in ("keras", "tensorflow"):
        raise
    raise ModuleNotFoundError(
        f"fastconv.keras needs Keras 3 on TensorFlow, but {error.name} is missing; {how_to_install('tensorflow')}",
        name=error.name,
    ) from None

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"fastconv.keras needs Keras on TensorFlow, but Keras runs on {keras.backend.backend()}; set the environment "
        "variable KERAS_BACKEND=tensorflow before importing Keras"
    )

from fastconv.keras import _folded  # noqa: F401  (registers classes that the files of fused models contain)
from fastconv.keras.accelerate import accelerate, restore
from fastconv.keras.convolutional import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
)
from fastconv.keras.elementwise import Activation, Add, ReLU
from fastconv.keras.freeze import freeze
from fastconv.keras.normalization import BatchNormalization
from fastconv.keras.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    MaxPooling1D,
    MaxPooling2D,
)

# Keras's aliases.
AvgPool1D = AveragePooling1D
AvgPool2D = AveragePooling2D
Convolution1D = Conv1D
Convolution1DTranspose = Conv1DTranspose
Convolution2D = Conv2D
Convolution2DTranspose = Conv2DTranspose
GlobalAvgPool1D = GlobalAveragePooling1D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalMaxPool1D = GlobalMaxPooling1D
GlobalMaxPool2D = GlobalMaxPooling2D
MaxPool1D = MaxPooling1D
MaxPool2D = MaxPooling2D
SeparableConvolution1D = SeparableConv1D
SeparableConvolution2D = SeparableConv2D

#: Maps each of Keras's classes to the class of fastconv that replaces it.
LAYERS: dict[type[keras.Layer], type[keras.Layer]] = {
    keras.layers.Activation: Activation,
    keras.layers.Add: Add,
    keras.layers.AveragePooling1D: AveragePooling1D,
    keras.layers.AveragePooling2D: AveragePooling2D,
    keras.layers.BatchNormalization: BatchNormalization,
    keras.layers.Conv1D: Conv1D,
    keras.layers.Conv1DTranspose: Conv1DTranspose,
    keras.layers.Conv2D: Conv2D,
    keras.layers.Conv2DTranspose: Conv2DTranspose,
    keras.layers.DepthwiseConv1D: DepthwiseConv1D,
    keras.layers.DepthwiseConv2D: DepthwiseConv2D,
    keras.layers.GlobalAveragePooling1D: GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D: GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling1D: GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D: GlobalMaxPooling2D,
    keras.layers.MaxPooling1D: MaxPooling1D,
    keras.layers.MaxPooling2D: MaxPooling2D,
    keras.layers.ReLU: ReLU,
    keras.layers.SeparableConv1D: SeparableConv1D,
    keras.layers.SeparableConv2D: SeparableConv2D,
}

__all__ = [
    "LAYERS",
    "Activation",
    "Add",
    "AveragePooling1D",
    "AveragePooling2D",
    "AvgPool1D",
    "AvgPool2D",
    "BatchNormalization",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Convolution1D",
    "Convolution1DTranspose",
    "Convolution2D",
    "Convolution2DTranspose",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPooling1D",
    "MaxPooling2D",
    "ReLU",
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConvolution1D",
    "SeparableConvolution2D",
    "accelerate",
    "freeze",
    "restore",
]
