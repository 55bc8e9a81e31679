"""Files of frozen networks are written completely or not at all, and wrong files are refused."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastconv
import numpy as np
import pytest
from fastconv.network._graph import Graph
from processes import TIMEOUT

DATE = (1980, 1, 1, 0, 0, 0)


def digits(dtype: str = "float32") -> Any:
    """A small network with several kinds of operations."""
    rng = np.random.default_rng(0)
    graph = Graph(np.dtype(dtype))
    x = graph.input("images", (None, 12, 12, 1))
    filters, bias = graph.constant(rng.standard_normal((3, 3, 1, 4))), graph.constant(rng.standard_normal(4))
    ones = {"strides": [1, 1], "dilations": [1, 1], "padding": "SAME", "activation": ["relu"]}
    y = graph.add("conv2d", [x, filters, bias, None], (None, 12, 12, 4), "conv", **ones)
    z = graph.add("max_pool2d", [y], (None, 6, 6, 4), "pool", ksize=[2, 2], strides=[2, 2], padding="VALID")
    flat = graph.add("reshape", [z], (None, 144), "flatten", shape=[0, -1])
    weights = graph.constant(rng.standard_normal((144, 10)))
    scores = graph.add("dense", [flat, weights, None, None], (None, 10), "scores")
    graph.outputs.append(("probabilities", graph.add("softmax", [scores], (None, 10), "softmax", axis=1)))
    graph.round_constants()
    return fastconv.Network(graph)


def images(dtype: str = "float32") -> Any:
    return np.random.default_rng(1).standard_normal((3, 12, 12, 1)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_loaded_network_gives_the_same_bits(tmp_path: Path, dtype: str) -> None:
    net = digits(dtype)
    net.save(tmp_path / "digits.fastconv")
    loaded = fastconv.load(tmp_path / "digits.fastconv")
    np.testing.assert_array_equal(loaded(images(dtype)), net(images(dtype)))
    assert loaded.inputs == net.inputs and loaded.outputs == net.outputs
    assert str(loaded) == str(net)


def test_equal_networks_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        digits().save(tmp_path / name)
    fastconv.load(tmp_path / "a").save(tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_a_process_without_frameworks_loads_a_network(tmp_path: Path) -> None:
    net = digits()
    net.save(tmp_path / "digits.fastconv")
    np.save(tmp_path / "images.npy", images())
    script = (
        "import sys, numpy as np, fastconv\n"
        "net = fastconv.load('digits.fastconv')\n"
        "np.save('out.npy', net(np.load('images.npy')))\n"
        "loaded = {'tensorflow', 'keras', 'onnx', 'torch', 'rich'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=TIMEOUT)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), net(images()))


# ---- Writing ---------------------------------------------------------------------------------------------------------


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "digits.fastconv"
    path.write_bytes(b"precious")

    def full(*arguments: Any, **keywords: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="No space"):
        digits().save(path)
    assert path.read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["digits.fastconv"]


def test_permissions_and_links_are_kept(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"")
    os.chmod(tmp_path / "real", 0o640)
    (tmp_path / "link").symlink_to("real")
    digits().save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    fastconv.load(tmp_path / "real")


@pytest.mark.parametrize("path", [None, 3, b"x" * 3, ["digits"]])
def test_wrong_types_of_paths_are_refused(path: Any) -> None:
    if isinstance(path, bytes):
        return
    with pytest.raises(TypeError, match=r"^path must be a str or an os\.PathLike, got"):
        digits().save(path)
    with pytest.raises(TypeError, match=r"^path must be a str or an os\.PathLike, got"):
        fastconv.load(path)


def test_missing_files_and_folders_are_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fastconv.load(tmp_path / "none.fastconv")
    with pytest.raises(FileNotFoundError, match=r"none/digits\.fastconv'$"):
        digits().save(tmp_path / "none" / "digits.fastconv")


# ---- Broken files ----------------------------------------------------------------------------------------------------


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def write(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, DATE)
            info.compress_type = method
            archive.writestr(info, data)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    digits().save(tmp_path / "digits.fastconv")
    return tmp_path / "digits.fastconv"


def refused(path: Path) -> str:
    """The message of the ValueError that a wrong file must raise."""
    with pytest.raises(ValueError) as error:
        fastconv.load(path)(images())
    return str(error.value)


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    members = members_of(path)
    description = json.loads(members["network.json"])
    change(description)
    write(path, {**members, "network.json": json.dumps(description).encode()})


def test_a_newer_version_says_so(saved: Path) -> None:
    changed(saved, lambda d: d.update(version=2))
    assert "upgrade fastconv" in refused(saved)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data in (b"", b"PK\x03\x04", b"not a zip", b"\x89HDF\r\n\x1a\n" + bytes(100)):
        path.write_bytes(data)
        assert "is not a network that fastconv can load" in refused(path)
    write(path, {"a": b"b"})
    assert "network.json" in refused(path)
    write(path, {"network.json": b'{"format": "other"}'})
    assert "its format" in refused(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["nodes"][0].update(inputs=[99, 1, 2, None]),
        lambda d: d["nodes"][0].update(inputs=[-1, 1, 2, None]),
        lambda d: d["nodes"][0].update(inputs=[4, 1, 2, None]),  # its own result
        lambda d: d["nodes"][0].update(inputs=[True, 1, 2, None]),
        lambda d: d["nodes"][0].update(operation="system"),
        lambda d: d["nodes"][0]["attributes"].update(strides=[0, 1]),
        lambda d: d["nodes"][0]["attributes"].update(strides=[1 << 70, 1]),
        lambda d: d["nodes"][0]["attributes"].update(activation=["relu", "relu"]),
        lambda d: d["nodes"][0]["attributes"].update(unknown=1),
        lambda d: d["nodes"][1]["attributes"].update(ksize=[1 << 40, 1 << 40]),
        lambda d: d["nodes"][2]["attributes"].update(shape=[1 << 62, 1 << 62]),
        lambda d: d["inputs"][0].update(shape=[None, 1 << 61, 1 << 61, 1]),
        lambda d: d["inputs"][0].update(shape=[None, -3, 12, 1]),
        lambda d: d["outputs"][0].update(value=400),
        lambda d: d.update(constants=2),
        lambda d: d.update(constants=1 << 60),
        lambda d: d.update(dtype="float64"),
        lambda d: d.update(dtype="object"),
        lambda d: d.update(nodes={}),
        lambda d: d.pop("outputs"),
    ],
)
def test_wrong_descriptions_are_refused(saved: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    changed(saved, change)
    refused(saved)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d.update(dtype=3), "the 'dtype' of the network must be text, got 3"),
        (lambda d: d.update(dtype="int8"), "the 'dtype' of the network must be 'float32' or 'float64', got 'int8'"),
        (lambda d: d.update(constants=-1), "the 'constants' of the network must be an integer from 0 to "),
        (lambda d: d.update(nodes={}), "the 'nodes' of the network must be a list of at most "),
        (lambda d: d["inputs"][0].update(name=3), "the 'name' of an input must be text, got 3"),
        (
            lambda d: d["inputs"][0].update(shape=[-3]),
            "the 'shape' of an input must be a list of at most 8 sizes (integers from 0, or null), got [-3]",
        ),
        (lambda d: d["nodes"][0].update(operation=3), "the 'operation' of a node must be text, got 3"),
        (lambda d: d["nodes"][0].update(name=None), "the 'name' of a node must be text, got None"),
        (lambda d: d["nodes"][0].update(inputs=3), "the 'inputs' of a node must be a list of at most "),
        (lambda d: d["nodes"][0].update(fused=3), "the 'fused' of a node must be a list of at most "),
        (lambda d: d["nodes"][0].update(fused=[3]), "the 'fused' of a node must be a list of strings, got [3]"),
        (lambda d: d["nodes"][0].update(attributes=3), "the 'attributes' of a node must be a JSON object, got 3"),
        (lambda d: d["nodes"][0].update(shape=3), "the 'shape' of a node must be a list of at most 8 sizes "),
        (lambda d: d["outputs"][0].update(name=3), "the 'name' of an output must be text, got 3"),
        (lambda d: d["outputs"][0].update(value=-1), "the 'value' of an output must be an integer from 0 to "),
    ],
)
def test_messages_say_where_a_description_is_wrong(
    saved: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    changed(saved, change)
    assert f"is not a network that fastconv can load: {message}" in refused(saved)


def npy(array: Any, **header: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **header}
    )
    return stream.getvalue() + array.tobytes()


@pytest.mark.parametrize(
    "data",
    [
        npy(np.zeros(36, "f4"), shape=(1 << 40, 1 << 40)),
        npy(np.zeros(36, "f4"), shape=(37,)),
        npy(np.zeros(36, "f4"), shape=(-36,)),
        npy(np.zeros(0, "f4"), shape=(0, 1 << 62)),
        npy(np.zeros(0, "f4"), shape=(0, 1 << 70)),
        npy(np.zeros(36, "f4"), fortran_order=True),
        npy(np.zeros(36, "i4")),
        npy(np.zeros(18, "f8")),
        npy(np.zeros(36, "f4"), descr="|O"),
        npy(np.zeros(36, ">f4")),
        b"\x80\x04K\x01.",
        b"",
    ],
)
def test_wrong_constants_are_refused(saved: Path, data: bytes) -> None:
    write(saved, {**members_of(saved), "constants/0.npy": data})
    assert "is not a network that fastconv can load" in refused(saved)


def test_messages_say_what_a_constant_must_be(saved: Path) -> None:
    data = npy(np.zeros(36, ">f4"), shape=(1,) * 9, fortran_order=True)
    write(saved, {**members_of(saved), "constants/0.npy": data})
    assert refused(saved).endswith(
        "'constants/0.npy' must be a little-endian float32 array in C order, with at most 8 dimensions, none of them "
        "negative; got dtype '>f4', Fortran order and shape (1, 1, 1, 1, 1, 1, 1, 1, 1)"
    )


def test_hostile_archives_are_refused(saved: Path) -> None:
    members = members_of(saved)
    write(saved, members, zipfile.ZIP_DEFLATED)
    assert "compressed" in refused(saved)
    bomb = {**members, "constants/0.npy": npy(np.zeros(1 << 24, "f4"))}
    write(saved, bomb, zipfile.ZIP_DEFLATED)
    assert "compressed" in refused(saved)
    write(saved, {**members, "../../outside": b"x"})
    assert "members" in refused(saved)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("network.json", b"{}")
    refused(saved)
    write(saved, {**members, "network.json": b"[" * 100_000})
    refused(saved)


def test_constants_that_share_bytes_are_refused(saved: Path) -> None:
    """Each constant's values contain the archive member of the next. A small file would fill much memory."""
    graph = Graph(np.dtype("float32"))
    x = graph.input("x", (None, 1))
    constants = [graph.constant(0.0) for _ in range(9)]
    graph.outputs.append(("y", graph.add("softmax", [x], (None, 1), axis=1)))
    fastconv.Network(graph).save(saved)
    description = members_of(saved)["network.json"]

    members, infos, lengths = bytes(1 << 20), [], []
    for number in reversed(range(len(constants))):
        data = npy(np.frombuffer(members, "f4"))
        info = zipfile.ZipInfo(f"constants/{number}.npy", DATE)
        info.file_size = info.compress_size = len(data)
        info.CRC = zlib.crc32(data)
        info.extra = bytes(3)  # makes the size of the member a multiple of that of float32
        members = info.FileHeader() + data
        infos.append(info)
        lengths.append(len(members))
    with zipfile.ZipFile(saved, "w") as archive:
        archive.writestr(zipfile.ZipInfo("network.json", DATE), description)
        assert archive.fp is not None
        archive.fp.write(members)
        archive.start_dir = archive.fp.tell()
        for info, length in zip(infos, lengths, strict=True):
            info.header_offset = archive.start_dir - length
            archive.filelist.append(info)
    assert saved.stat().st_size < 2 << 20
    with pytest.raises(ValueError, match="its members together are larger than the file"):
        fastconv.load(saved)


def test_files_cut_short_are_refused(saved: Path) -> None:
    data = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        starts = [info.header_offset for info in archive.infolist()]
    for end in sorted({*starts, *(start + 40 for start in starts), *range(0, len(data), 211), len(data) - 1}):
        saved.write_bytes(data[:end])
        refused(saved)


def test_changed_bytes_give_an_error_or_a_network(saved: Path) -> None:
    """The archive's checksums find changed data. Other changes are found by the checks, or do not matter."""
    data, rng = saved.read_bytes(), random.Random(0)
    right = digits()(images())
    for _ in range(200):
        changed_data = bytearray(data)
        for _ in range(rng.choice((1, 1, 4))):
            changed_data[rng.randrange(len(data))] = rng.randrange(256)
        saved.write_bytes(changed_data)
        try:
            result = fastconv.load(saved)(images())
        except ValueError:
            continue
        np.testing.assert_array_equal(result, right)
