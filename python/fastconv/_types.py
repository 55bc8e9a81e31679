"""Types of the functions' arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Float = TypeVar("Float", bound=np.floating[Any])
Ints: TypeAlias = SupportsIndex | Sequence[SupportsIndex] | npt.NDArray[np.integer[Any]]
OutputSize: TypeAlias = SupportsIndex | Sequence[SupportsIndex | None] | npt.NDArray[np.integer[Any]]
Padding: TypeAlias = str | Ints | Sequence[Sequence[SupportsIndex]]
