"""The file of a frozen network: a zip archive of one JSON member and one .npy member for each constant.

Everything that is read is checked. Nothing is unpickled, and nothing is unpacked to more bytes than the file has.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fastconv.network._graph import Graph, Node, Shape

FORMAT, VERSION = "fastconv.Network", 1
_DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float64": np.dtype("<f8")}
_MOST_VALUES = 1_000_000
_MOST_RANK = 8
_PIECE = 1 << 16  # bytes that are read at once; a larger piece would leave the caches before it is copied
_DATE = (1980, 1, 1, 0, 0, 0)  # equal networks give equal files


class _Broken(Exception):
    """What is wrong with a file."""


# ---- Writing ---------------------------------------------------------------------------------------------------------


def write_graph(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph. If writing fails, a file that was there stays as it is."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or an os.PathLike, got {type(path).__name__}")
    import tempfile  # here, because a process that only loads networks does not need it

    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():  # the error of the temporary file would name a file that the user does not know
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            _write(graph, file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, _mode_of(target))
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def _mode_of(target: Path) -> int:
    """The permissions of the file that will be replaced, or the default ones for a new file."""
    try:
        return target.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _write(graph: Graph, file: IO[bytes]) -> None:
    dtype = _DTYPES[graph.dtype.name]
    constants = [index for index, value in enumerate(graph.values) if value.array is not None]
    order = [*(index for _, index in graph.inputs), *constants, *(node.output for node in graph.nodes)]
    numbers = {index: number for number, index in enumerate(order)}
    description = {
        "format": FORMAT,
        "version": VERSION,
        "dtype": graph.dtype.name,
        "inputs": [{"name": name, "shape": graph.values[index].shape} for name, index in graph.inputs],
        "constants": len(constants),
        "nodes": [
            {
                "operation": node.operation,
                "inputs": [None if index is None else numbers[index] for index in node.inputs],
                "attributes": node.attributes,
                "shape": graph.values[node.output].shape,
                "name": node.name,
                "fused": node.fused,
            }
            for node in graph.nodes
        ],
        "outputs": [{"name": name, "value": numbers[index]} for name, index in graph.outputs],
    }
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        text = json.dumps(description, indent=1, allow_nan=False)
        archive.writestr(zipfile.ZipInfo("network.json", _DATE), text)
        for number, index in enumerate(constants):
            with archive.open(zipfile.ZipInfo(_member(number), _DATE), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(graph.values[index].array, dtype), allow_pickle=False)


def _member(number: int) -> str:
    return f"constants/{number}.npy"


# ---- Reading ---------------------------------------------------------------------------------------------------------


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """Read a graph. Its operations and attributes are checked when a network is made from it."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or an os.PathLike, got {type(path).__name__}")
    with open(path, "rb") as file:
        try:
            return _read(file)
        except (_Broken, zipfile.BadZipFile, EOFError, NotImplementedError, RecursionError, UnicodeError) as error:
            # zipfile raises NotImplementedError for methods of compression that it does not know.
            raise ValueError(f"{os.fspath(path)} is not a network that fastconv can load: {error}") from error


def _read(file: IO[bytes]) -> Graph:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if "network.json" not in members or len(members) < len(archive.infolist()):
            raise _Broken("it has no member 'network.json', or has a member twice")
        for info in members.values():
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise _Broken(f"its member {info.filename!r} is compressed or encrypted")
        if sum(info.file_size for info in members.values()) > size:  # for example, because members share bytes
            raise _Broken("its members together are larger than the file")
        description = _json(archive.read("network.json"))
        count = _integer(description, "constants", 0, _MOST_VALUES)
        expected = {"network.json", *map(_member, range(count))}
        if members.keys() != expected:
            raise _Broken(f"its members must be 'network.json' and a .npy file for each constant, {count} in all")
        dtype = _DTYPES[_choice(description, "dtype", list(_DTYPES))]
        graph = Graph(dtype.newbyteorder("="))
        for entry in _list(description, "inputs"):
            graph.input(_text(entry, "name", "an input"), _shape(entry, "an input"))
        for number in range(count):
            array = _array(archive, members[_member(number)], dtype)
            graph.values[graph.constant(0.0)].array = array
            graph.values[-1].shape = array.shape
        for entry in _list(description, "nodes"):
            _add_node(graph, entry)
        for entry in _list(description, "outputs"):
            value = _integer(entry, "value", 0, len(graph.values) - 1, "an output")
            graph.outputs.append((_text(entry, "name", "an output"), value))
    return graph


def _json(data: bytes) -> dict[str, Any]:
    try:
        description = json.loads(data, parse_constant=_refuse_constant)
    except ValueError as error:
        raise _Broken(f"its member 'network.json' is not JSON ({error})") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise _Broken(f"its format is not {FORMAT!r}")
    version = _integer(description, "version", 1, 1 << 31)
    if version > VERSION:
        raise _Broken(f"its version is {version}, and this fastconv reads up to version {VERSION}: upgrade fastconv")
    return description


def _refuse_constant(text: str) -> None:
    raise ValueError(f"JSON has no number {text}")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The array of a .npy member. The header must describe exactly the bytes that follow it."""
    name = info.filename
    with archive.open(info) as member:
        try:
            version = np.lib.format.read_magic(member)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[
                version
            ]
            shape, in_columns, kind = read_header(member)
        except (ValueError, KeyError, SyntaxError) as error:
            raise _Broken(f"its member {name!r} is not a .npy file of version 1 or 2") from error
        left = info.file_size - member.tell()
        if kind != dtype or in_columns or len(shape) > _MOST_RANK or min(shape, default=1) < 0:
            raise _Broken(
                f"its member {name!r} must be a little-endian {dtype.name} array in C order, with at most {_MOST_RANK} "
                f"dimensions, none of them negative; got dtype {kind.str!r}, {'Fortran' if in_columns else 'C'} order "
                f"and shape {_short(shape)}"
            )
        if math.prod(shape) * dtype.itemsize != left:
            raise _Broken(f"its member {name!r} has {left} bytes of data, which is not an array of shape {shape}")
        try:
            array = np.empty(shape, dtype)
        except ValueError as error:  # such as a huge size next to a size of 0
            raise _Broken(f"its member {name!r} has the shape {shape}, which NumPy cannot make") from error
        _fill(array.reshape(-1).view(np.uint8).data, member, name)
    array = array.astype(dtype.newbyteorder("="), copy=False)
    array.flags.writeable = False  # so that the network need not copy it
    return array


def _fill(data: memoryview, member: IO[bytes], name: str) -> None:
    """Read a member to its end, where zipfile verifies the checksum. zipfile copies its data, so pieces are small."""
    while len(data) > 0:
        piece = member.read(min(_PIECE, len(data)))
        if not piece:
            raise _Broken(f"its member {name!r} is cut short")
        data[: len(piece)] = piece
        data = data[len(piece) :]


def _add_node(graph: Graph, entry: Any) -> None:
    inputs: list[int | None] = []
    for index in _list(entry, "inputs", "a node"):
        if index is not None and not _is_integer(index, 0, len(graph.values) - 1):
            raise _Broken(f"a node reads value {_short(index)}, but no input, constant or earlier node defines it")
        inputs.append(index)
    attributes = entry.get("attributes")
    if not isinstance(attributes, dict):
        raise _Broken(f"the 'attributes' of a node must be a JSON object, got {_short(attributes)}")
    fused = _list(entry, "fused", "a node")
    if not all(isinstance(name, str) for name in fused):
        raise _Broken(f"the 'fused' of a node must be a list of strings, got {_short(fused)}")
    operation, name = _text(entry, "operation", "a node"), _text(entry, "name", "a node")
    output = graph.value(_shape(entry, "a node"))
    graph.nodes.append(Node(operation, inputs, attributes, output, name, fused))


def _is_integer(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _integer(entry: Any, key: str, least: int, most: int, owner: str = "the network") -> int:
    value: Any = entry.get(key) if isinstance(entry, dict) else None
    if not _is_integer(value, least, most):
        raise _Broken(f"the {key!r} of {owner} must be an integer from {least} to {most}, got {_short(value)}")
    return int(value)


def _text(entry: Any, key: str, owner: str = "the network") -> str:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, str):
        raise _Broken(f"the {key!r} of {owner} must be text, got {_short(value)}")
    return value


def _choice(entry: Any, key: str, choices: list[str]) -> str:
    value = _text(entry, key)
    if value not in choices:
        raise _Broken(f"the {key!r} of the network must be {' or '.join(map(repr, choices))}, got {_short(value)}")
    return value


def _list(entry: Any, key: str, owner: str = "the network") -> list[Any]:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, list) or len(value) > _MOST_VALUES:
        raise _Broken(f"the {key!r} of {owner} must be a list of at most {_MOST_VALUES} items, got {_short(value)}")
    return value


def _shape(entry: Any, owner: str) -> Shape:
    sizes: Any = entry.get("shape") if isinstance(entry, dict) else None
    is_list = isinstance(sizes, list) and len(sizes) <= _MOST_RANK
    if not is_list or not all(size is None or _is_integer(size, 0, 1 << 62) for size in sizes):
        raise _Broken(
            f"the 'shape' of {owner} must be a list of at most {_MOST_RANK} sizes (integers from 0, or null), got "
            f"{_short(sizes)}"
        )
    return tuple(sizes)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
