"""Runs a frozen network."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

import fastconv._core as _core
from fastconv.network._file import write_graph
from fastconv.network._graph import Graph, Shape
from fastconv.network._progress import reported
from fastconv.network._report import Profile, StepProfile, table

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Array | Sequence[Array] | Mapping[str, Array]


class Tensor(NamedTuple):
    """An input or output of a network.

    Attributes
    ----------
    name : str
    shape : tuple of int or None
        None stands for a size that each call chooses, such as the batch size.
    dtype : numpy.dtype
    """

    name: str
    shape: Shape
    dtype: np.dtype[Any]


class Network:
    """A frozen network, which needs only NumPy to run.

    `fastconv.keras.freeze`, `fastconv.onnx.load` and `fastconv.load` make networks. Several threads may call the same
    network at the same time.

    Parameters
    ----------
    graph : Graph
        The operations and constants. The network takes over the constants of the graph: they become read-only.
    batch_invariant : bool, optional
        Whether an image must give the same bits in a batch of any size. By default, the batch size may decide which
        algorithm computes a convolution with many filters and few pixels.

    Attributes
    ----------
    inputs, outputs : tuple of Tensor
        Name, shape and dtype of each.
    dtype : numpy.dtype
        float32 or float64.
    batch_invariant : bool
        Whether an image gives the same bits in a batch of any size.

    Raises
    ------
    ValueError
        If the graph cannot run, because an operation or attribute is unknown or shapes do not fit. The message names
        the step.

    Notes
    -----
    ``print(network)`` shows a table of the steps.
    """

    def __init__(self, graph: Graph, *, batch_invariant: bool = False) -> None:
        if not isinstance(graph, Graph):
            raise TypeError(
                f"graph must be a Graph, got {type(graph).__name__}; fastconv.keras.freeze makes a network from a model"
            )
        if not isinstance(batch_invariant, (bool, np.bool_)):
            raise TypeError(f"batch_invariant must be True or False, got {batch_invariant!r}")
        self.batch_invariant = bool(batch_invariant)
        self._graph = graph
        self.dtype: np.dtype[Any] = np.dtype(graph.dtype)
        self._program = _compile(graph, self.batch_invariant)
        self.inputs = tuple(self._tensor(name, index) for name, index in graph.inputs)
        self.outputs = tuple(self._tensor(name, index) for name, index in graph.outputs)
        self._names = [tensor.name for tensor in self.inputs]
        self._single_input = len(self.inputs) == 1
        self._single_output = len(self.outputs) == 1

    def _tensor(self, name: str, index: int) -> Tensor:
        return Tensor(name, self._graph.values[index].shape, self.dtype)

    def __call__(self, images: Arrays) -> Any:
        """Run the network.

        Parameters
        ----------
        images : ndarray, or sequence or mapping of ndarrays
            The inputs. Pass several inputs as a list in the order of `inputs`, or as a dict by name. They must have the
            dtype of the network; arrays of uint8 are converted. C-contiguous arrays are used in place.

        Returns
        -------
        ndarray, or list or dict of ndarrays
            The output. Several outputs are a list in the order of `outputs`, or a dict by name if `images` is a
            mapping. The arrays are new and belong to the caller.

        Raises
        ------
        TypeError
            If an input is not an array or has another dtype.
        ValueError
            If the number of inputs or a shape is wrong.
        """
        outputs = self._run(self._arrays(images))
        if isinstance(images, Mapping):
            return dict(zip((tensor.name for tensor in self.outputs), outputs, strict=True))
        return outputs[0] if self._single_output else outputs

    def predict(self, images: Arrays, batch_size: int = 32, progress: bool = False) -> Any:
        """Run the network in batches of limited size.

        Parameters
        ----------
        images : ndarray, or sequence or mapping of ndarrays
            As for a call of the network. The first dimension of each array is the batch.
        batch_size : int, optional
            The largest number of images in a batch.
        progress : bool, optional
            Whether to show the progress on standard error: a bar if this is a terminal and rich is installed, else
            numbers.

        Returns
        -------
        ndarray, or list or dict of ndarrays
            As for a call of the network.

        Raises
        ------
        TypeError, ValueError
            As for a call of the network. ValueError also if the batches of the inputs or outputs differ in size.
        """
        _check_count("batch_size", batch_size)
        arrays = self._arrays(images)
        for array, tensor in zip(arrays, self.inputs, strict=False):
            if np.ndim(array) == 0:
                raise ValueError(f"{tensor.name} must have shape {tensor.shape}, got ()")
            if len(array) != len(arrays[0]):
                raise ValueError(
                    f"{tensor.name} must have as many images as {self.inputs[0].name} ({len(arrays[0])}), got "
                    f"shape {np.shape(array)}"
                )
        count = len(arrays[0]) if arrays else 0
        parts = []
        firsts = range(0, max(count, 1), int(batch_size))
        for first in reported(firsts, int(batch_size), count) if progress else firsts:
            parts.append(self._run([array[first : first + batch_size] for array in arrays]))
        outputs = [
            self._join(part, tensor.name, count)
            for part, tensor in zip(zip(*parts, strict=True), self.outputs, strict=True)
        ]
        if isinstance(images, Mapping):
            return dict(zip((tensor.name for tensor in self.outputs), outputs, strict=True))
        return outputs[0] if self._single_output else outputs

    @staticmethod
    def _join(parts: Sequence[Array], name: str, count: int) -> Array:
        if len(parts) == 1:
            return parts[0]
        if sum(len(part) if part.ndim else 0 for part in parts) != count:
            raise ValueError(f"output {name} does not have one row per image; call the network instead of its predict")
        return np.concatenate(parts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the network to a file, which `fastconv.load` reads.

        Parameters
        ----------
        path : str or path
            The file. An existing file is replaced only when the new one is complete. The file does not store
            `batch_invariant`, which is an argument of `fastconv.load`.

        Raises
        ------
        TypeError
            If `path` is not a path.
        OSError
            If the file cannot be written. An existing file then stays as it is.
        """
        write_graph(self._graph, path)

    def profile(self, images: Arrays, repeats: int = 10) -> Profile:
        """Measure the time of each step.

        Parameters
        ----------
        images : ndarray, or sequence or mapping of ndarrays
            As for a call of the network.
        repeats : int, optional
            How often to run the network, after a first run that packs filters. The median time of each step is
            reported. If parts of the batch run at the same time, these times are scaled to add up to that of the call.

        Returns
        -------
        Profile
            ``print`` shows it as a table.

        Raises
        ------
        TypeError, ValueError
            As for a call of the network, or if `repeats` is not an integer of at least 1.
        """
        _check_count("repeats", repeats)
        arrays = self._arrays(images)
        self._run(arrays)  # packs filters, and converts the arrays of uint8 in the list
        runs = np.array([self._program.profile(arrays)[1] for _ in range(repeats)])
        seconds = np.median(runs, axis=0)
        steps = [
            StepProfile(
                name=node.name,
                operation=node.operation,
                fused=tuple(node.fused),
                shape=found["shape"],
                algorithm=found["algorithm"],
                operations=found["operations"],
                seconds=float(time),
            )
            for node, found, time in zip(
                self._graph.nodes, self._program.describe([list(np.shape(a)) for a in arrays]), seconds, strict=True
            )
        ]
        return Profile(steps, self.dtype)

    def _arrays(self, images: Arrays) -> list[Any]:
        """The inputs in their order. The compiled program checks dtypes and shapes."""
        if isinstance(images, np.ndarray):
            arrays: list[Any] = [images]
        elif isinstance(images, Mapping):
            if set(images) != set(self._names):
                raise ValueError(f"images must have the keys {self._names}, got {sorted(map(str, images))}")
            arrays = [images[name] for name in self._names]
        elif self._single_input and not (isinstance(images, (list, tuple)) and len(images) == 1):
            raise TypeError(f"{self._names[0]} must be a NumPy array of {self.dtype}, got {type(images).__name__}")
        else:
            arrays = list(images)
        return arrays

    def _run(self, arrays: list[Any]) -> list[Array]:
        for i, array in enumerate(arrays):
            if isinstance(array, np.ndarray) and array.dtype == np.uint8:
                arrays[i] = array.astype(self.dtype)
        return self._program.run(arrays)

    def __reduce__(self) -> tuple[Any, tuple[Graph]]:
        return functools.partial(Network, batch_invariant=self.batch_invariant), (self._graph,)

    def __str__(self) -> str:
        shapes: list[Sequence[int | None]] = [self._graph.values[node.output].shape for node in self._graph.nodes]
        found: Sequence[dict[str, Any]] = [{"algorithm": "", "operations": None} for _ in shapes]
        sizes = [[1 if axis == 0 else size for axis, size in enumerate(tensor.shape)] for tensor in self.inputs]
        if all(size is not None for shape in sizes for size in shape):
            found = self._program.describe(sizes)  # for one image
        return table(self._graph, shapes, found)

    def __repr__(self) -> str:
        inputs, outputs = (
            ", ".join(f"{tensor.name} {tensor.shape}" for tensor in tensors) for tensors in (self.inputs, self.outputs)
        )
        return f"<fastconv.Network of {self.dtype}: {inputs} -> {outputs}>"


def _check_count(name: str, count: Any) -> None:
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {count!r}")
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {count}")


def _owned(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array itself if nobody can change it, else a read-only copy. Packed filters therefore stay valid."""
    if array.base is not None or array.flags.writeable or array.dtype != dtype or not array.flags.c_contiguous:
        array = np.array(array, dtype, order="C", copy=True)
        array.flags.writeable = False
    return array


def _compile(graph: Graph, batch_invariant: bool) -> _core.NetworkProgram:
    """The program of a graph. It numbers inputs and outputs of steps 0, 1, ... and constants -1, -2, ..."""
    dtype = np.dtype(graph.dtype)
    references: dict[int, int] = {}
    constants: list[Array] = []

    def define(index: int, reference: int, who: str) -> None:
        if index in references or not 0 <= index < len(graph.values):
            raise ValueError(
                f"{who} defines value {index}; values are numbered 0 to {len(graph.values) - 1}, each defined once"
            )
        references[index] = reference

    def reference(index: int, who: str) -> int:
        if index not in references:
            raise ValueError(f"{who} reads value {index}, but no input, constant or earlier operation defines it")
        return references[index]

    for index, value in enumerate(graph.values):
        if value.array is not None:
            value.array = _owned(value.array, dtype)
            constants.append(value.array)
            define(index, -len(constants), "a constant")
    for kind, tensors in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        names = [name for name, _ in tensors]
        if len(set(names)) != len(names):
            raise ValueError(f"the names of the {kind} must differ, got {names}")
    for count, (name, index) in enumerate(graph.inputs):
        define(index, count, f"input {name!r}")
    steps = []
    for count, node in enumerate(graph.nodes, len(graph.inputs)):
        who = f"{node.operation} {node.name!r}"
        inputs = [None if index is None else reference(index, who) for index in node.inputs]
        define(node.output, count, who)
        steps.append((node.operation, inputs, node.attributes, node.name))
    outputs = [(name, reference(index, f"output {name!r}")) for name, index in graph.outputs]
    shapes = [(name, list(graph.values[index].shape)) for name, index in graph.inputs]
    return _core.NetworkProgram(dtype, shapes, constants, steps, outputs, batch_invariant)
