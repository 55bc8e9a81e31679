"""A batch normalisation that, in inference, the convolution before it can compute.

Keras names the groups of weight files by the names of classes. That of this class must therefore be Keras's.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from fastconv.keras import _fused
from fastconv.tensorflow import batch_norm_fusion


@keras.saving.register_keras_serializable("fastconv", "FoldedBatchNormalization")
class BatchNormalization(_fused.BatchNormalization):
    """A batch normalisation that can also compute the layers after it."""

    def _of_moving_averages(self, x: tf.Tensor, *arguments: Any) -> tf.Tensor:
        outputs = batch_norm_fusion.folded_into_convolution(x, *arguments)
        return super()._of_moving_averages(x, *arguments) if outputs is None else outputs


#: Maps each of Keras's classes to the class that replaces it after a convolution.
FOLDED: dict[type[keras.Layer], type[keras.Layer]] = {keras.layers.BatchNormalization: BatchNormalization}
