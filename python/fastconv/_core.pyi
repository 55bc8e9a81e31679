# The compiled module. Its functions take positional arguments only. Those of operations: the inputs, the attributes
# and the outputs, in the order of operations(), which lists more of them than are declared here.
from typing import Any, SupportsIndex, TypeVar

import numpy as np
import numpy.typing as npt

from fastconv._config import Config

_Float = TypeVar("_Float", bound=np.floating[Any])
_Array = npt.NDArray[_Float]

def operations() -> list[dict[str, Any]]: ...

class PackedFilters:
    def __init__(self, filters: npt.NDArray[np.floating[Any]]) -> None: ...
    @property
    def shape(self) -> tuple[int, int, int, int]: ...
    @property
    def dtype(self) -> np.dtype[np.floating[Any]]: ...
    def _forms(self) -> int: ...

def explain(
    input_sizes: object,
    filter_sizes: object,
    strides: object,
    padding: object,
    data_format: str,
    dilations: object,
    algorithm: str,
    double_precision: bool,
    direction: str,
    depthwise: bool,
    /,
) -> dict[str, Any]: ...
def conv2d(
    input: _Array[_Float],
    filters: _Array[_Float] | PackedFilters,
    bias: _Array[_Float] | None,
    strides: object,
    padding: object,
    data_format: str,
    dilations: object,
    algorithm: str,
    activation: str | None,
    depthwise: bool,
    out: _Array[_Float] | None,
    /,
) -> _Array[_Float]: ...
def conv2d_backprop_input(
    input_sizes: object,
    filters: _Array[_Float] | PackedFilters,
    out_backprop: _Array[_Float],
    strides: object,
    padding: object,
    data_format: str,
    dilations: object,
    algorithm: str,
    depthwise: bool,
    out: _Array[_Float] | None,
    /,
) -> _Array[_Float]: ...
def conv2d_transpose(
    input: _Array[_Float],
    filters: _Array[_Float] | PackedFilters,
    output_shape: object,
    strides: object,
    padding: object,
    data_format: str,
    dilations: object,
    algorithm: str,
    depthwise: bool,
    out: _Array[_Float] | None,
    /,
) -> _Array[_Float]: ...
def conv2d_backprop_filter(
    input: _Array[_Float],
    filter_sizes: object,
    out_backprop: _Array[_Float],
    strides: object,
    padding: object,
    data_format: str,
    dilations: object,
    algorithm: str,
    depthwise: bool,
    out: _Array[_Float] | None,
    /,
) -> _Array[_Float]: ...
def max_pool2d(
    input: _Array[_Float],
    ksize: object,
    strides: object,
    padding: object,
    data_format: str,
    out: _Array[_Float] | None,
    /,
) -> _Array[_Float]: ...
def max_pool2d_with_argmax(
    input: _Array[_Float],
    ksize: object,
    strides: object,
    padding: object,
    data_format: str,
    include_batch_in_index: bool,
    out: tuple[_Array[_Float], npt.NDArray[np.int64]] | None,
    /,
) -> tuple[_Array[_Float], npt.NDArray[np.int64]]: ...
def max_pool2d_grad(
    orig_input: _Array[_Float],
    orig_output: _Array[_Float],
    grad: _Array[_Float],
    ksize: object,
    strides: object,
    padding: object,
    data_format: str,
    out: _Array[_Float] | None,
    /,
) -> _Array[_Float]: ...
def avg_pool2d(
    input: _Array[_Float],
    ksize: object,
    strides: object,
    padding: object,
    data_format: str,
    out: _Array[_Float] | None,
    /,
) -> _Array[_Float]: ...
def avg_pool2d_grad(
    orig_input_shape: object,
    grad: _Array[_Float],
    ksize: object,
    strides: object,
    padding: object,
    data_format: str,
    out: _Array[_Float] | None,
    /,
) -> _Array[_Float]: ...
def conv2d_max_pool2d(
    input: _Array[_Float],
    filters: _Array[_Float] | PackedFilters,
    bias: _Array[_Float] | None,
    ksize: object,
    strides: object,
    padding: object,
    data_format: str,
    dilations: object,
    pool_strides: object,
    pool_padding: object,
    algorithm: str,
    activation: str | None,
    depthwise: bool,
    out: tuple[_Array[_Float] | None, npt.NDArray[np.uint8] | None] | None,
    /,
) -> tuple[_Array[_Float], npt.NDArray[np.uint8]]: ...
def conv2d_max_pool2d_backprop(
    input: _Array[_Float],
    filters: _Array[_Float],
    taps: npt.NDArray[np.uint8],
    grad: _Array[_Float],
    ksize: object,
    strides: object,
    padding: object,
    data_format: str,
    dilations: object,
    pool_strides: object,
    pool_padding: object,
    algorithm: str,
    depthwise: bool,
    input_gradient: bool,
    out: tuple[_Array[_Float] | None, _Array[_Float] | None, _Array[_Float] | None] | None,
    /,
) -> tuple[_Array[_Float] | None, _Array[_Float], _Array[_Float]]: ...
def conv_output_size(
    size: SupportsIndex, kernel: SupportsIndex, stride: SupportsIndex, padding: object, dilation: SupportsIndex, /
) -> int: ...
def conv_geometry(
    strides: object,
    padding: object,
    data_format: str,
    dilations: object,
    algorithm: str,
    activation: str | None,
    depthwise: bool,
    /,
) -> list[int]: ...
def pool_geometry(
    ksize: object, strides: object, padding: object, data_format: str, include_batch_in_index: bool, /
) -> list[int]: ...
def max_pool_backprop_serves(
    geometry: list[int], input: list[int], filters: list[int], double_precision: bool, /
) -> bool: ...
def set_num_threads(n: SupportsIndex, /) -> None: ...
def get_num_threads() -> int: ...
def limit_host_threads(n: SupportsIndex, /) -> None: ...
def config() -> Config: ...
