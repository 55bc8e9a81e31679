"""Clear errors for files that are not ONNX models, weights in the wrong place and nodes that cannot be converted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fastconv.onnx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import Model, expected


def small(dtype: str = "float32") -> Model:
    m = Model(dtype)
    y = m.add("Relu", m.conv(m.input("n", 3, 6, 5), 3, 4))
    return m.output(m.add("Gemm", m.add("Flatten", y), m.random(120, 7), m.random(7)))


def with_external_weights(folder: Path, location: str = "weights.bin") -> tuple[Path, Any]:
    """A model whose weights are in weights.bin beside it, although the model names the file `location`."""
    proto = small().proto()
    path = folder / "model.onnx"
    onnx.save(
        onnx.ModelProto.FromString(proto.SerializeToString()),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    return path, proto


def images() -> Any:
    return np.random.default_rng(0).random((2, 3, 6, 5), np.float32)


def test_weights_are_read_from_a_file_beside_the_model(tmp_path: Path) -> None:
    path, proto = with_external_weights(tmp_path)
    correct = expected(proto, {"x": images()})[0]
    np.testing.assert_allclose(fastconv.onnx.load(path)(images()), correct, rtol=1e-5, atol=1e-6)


def test_weights_are_read_from_a_subfolder_and_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, proto = with_external_weights(tmp_path, "parts/weights.bin")
    (tmp_path / "parts").mkdir()
    (tmp_path / "weights.bin").rename(tmp_path / "parts" / "weights.bin")
    monkeypatch.chdir(tmp_path)
    correct = expected(proto, {"x": images()})[0]
    np.testing.assert_allclose(fastconv.onnx.load(path.name)(images()), correct, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", ["absolute", "above", "link", "link to a folder"])
def test_weights_outside_the_folder_of_the_model_are_refused(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    outside = tmp_path / "weights.bin"
    location = {"absolute": str(outside), "above": "../weights.bin", "link": "weights.bin"}.get(how, "up/weights.bin")
    path, _ = with_external_weights(folder, location)
    (folder / "weights.bin").rename(outside)
    if how == "link":
        (folder / "weights.bin").symlink_to(outside)
    elif how == "link to a folder":
        (folder / "up").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="outside the folder of the model"):
        fastconv.onnx.load(path)


def test_external_weights_without_a_file_name_are_refused(tmp_path: Path) -> None:
    path, _ = with_external_weights(tmp_path, "")
    with pytest.raises(ValueError, match="in another file, but the model does not name it"):
        fastconv.onnx.load(path)


def test_a_missing_file_of_weights_is_named(tmp_path: Path) -> None:
    path, _ = with_external_weights(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ValueError, match=r"the file 'weights\.bin' with the weights of .constant_0. is missing"):
        fastconv.onnx.load(path)


@pytest.mark.parametrize("field, value", [("offset", "100000"), ("length", "8"), ("offset", "-4"), ("length", "x")])
def test_weights_that_do_not_fit_their_file_are_refused(tmp_path: Path, field: str, value: str) -> None:
    path, _ = with_external_weights(tmp_path)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == field:
                entry.value = value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"constant_0"):
        fastconv.onnx.load(path)


def test_truncated_models_are_refused(tmp_path: Path) -> None:
    data = small().proto().SerializeToString()
    path = tmp_path / "model.onnx"
    for size in range(0, len(data), 13):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError):
            fastconv.onnx.load(path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a zip file", b"not a model", b"\x00" * 1000, b"\x08\x07"])
def test_files_that_are_not_models_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.onnx is not an ONNX model"):
        fastconv.onnx.load(path)


def test_changed_bytes_give_an_error_or_a_network(tmp_path: Path) -> None:
    data = bytearray(small().proto().SerializeToString())
    rng = np.random.default_rng(0)
    path = tmp_path / "model.onnx"
    for _ in range(300):
        changed = data.copy()
        changed[int(rng.integers(len(data)))] = int(rng.integers(256))
        path.write_bytes(changed)
        try:
            net = fastconv.onnx.load(path)
        except ValueError:
            continue
        assert net.outputs


@pytest.mark.parametrize("dims", [[1 << 40, 1 << 40], [1 << 40], [-1, 7], [120, 6]])
def test_shapes_that_do_not_fit_the_weights_are_refused(tmp_path: Path, dims: list[int]) -> None:
    model = small().proto()
    del model.graph.initializer[2].dims[:]
    model.graph.initializer[2].dims.extend(dims)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError):
        fastconv.onnx.load(path)


def test_small_nodes_that_make_huge_constants_are_refused(tmp_path: Path) -> None:
    m = Model("float32")
    m.output(m.add("Add", m.input("n", 3), m.add("Expand", 1.0, [1 << 20, 1 << 20, 3])))
    with pytest.raises(ValueError, match=r"'Expand_0' \(Expand\)"):
        fastconv.onnx.load(m.save(tmp_path))
    m = Model("float32")
    m.output(m.add("Add", m.input("n", 3), m.add("ConstantOfShape", [1 << 20, 1 << 20, 3])))
    with pytest.raises(ValueError, match=r"'ConstantOfShape_0' \(ConstantOfShape\)"):
        fastconv.onnx.load(m.save(tmp_path))


@pytest.mark.parametrize("path", [None, 3, b"model.onnx", small()])
def test_anything_but_a_path_raises_type_error(path: Any) -> None:
    with pytest.raises(TypeError, match=r"path must be a path to a \.onnx file, got "):
        fastconv.onnx.load(path)


def test_missing_files_and_folders_raise_os_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fastconv.onnx.load(tmp_path / "none.onnx")
    with pytest.raises(IsADirectoryError):
        fastconv.onnx.load(os.fspath(tmp_path))


def test_all_nodes_that_cannot_be_converted_are_listed(tmp_path: Path) -> None:
    m = Model("float32")
    x = m.input("n", 3, 6, 5)
    first = m.add("Det", m.add("Cos", m.conv(x, 3, 4)))
    second = m.add("Conv", x, m.add("Sin", x))
    pool = m.add("MaxPool", m.add("LpPool", m.add("Relu", x), kernel_shape=[2, 2]), kernel_shape=[2, 2])
    m.output(first, m.add("Tan", second), pool)
    with pytest.raises(ValueError) as caught:
        fastconv.onnx.load(m.save(tmp_path))
    lines = str(caught.value).splitlines()
    assert lines[0] == "the model cannot be loaded, because of these nodes:"
    assert sorted(line.split(":")[0] for line in lines[1:]) == sorted(
        f"- '{node.name}' ({node.op_type})"
        for node in m.nodes
        if node.op_type in ("Det", "Cos", "Sin", "Tan", "LpPool")
    )


def test_a_foreign_operator_is_named_with_its_domain(tmp_path: Path) -> None:
    m = Model("float32")
    m.nodes.append(helper.make_node("Relu", [m.input("n", 3)], ["y"], name="mine", domain="org.example"))
    proto = m.output("y").proto()
    proto.opset_import.append(helper.make_opsetid("org.example", 1))
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match=r"- 'mine' \(org\.example\.Relu\): this operator is not supported"):
        fastconv.onnx.load(path)


@pytest.mark.parametrize("operator, attributes", [("MaxPool", {"kernel_shape": [2, 2]}), ("Dropout", {})])
def test_second_outputs_are_refused(tmp_path: Path, operator: str, attributes: dict[str, Any]) -> None:
    m = Model("float32")
    first, second = m.add(operator, m.input("n", 3, 6, 5), count=2, **attributes)
    m.output(first)
    m.outputs.append(helper.make_tensor_value_info(second, TensorProto.UNDEFINED, None))
    with pytest.raises(ValueError, match=rf"'{operator}_0' \({operator}\): only its first output is supported"):
        fastconv.onnx.load(m.save(tmp_path))


def test_a_second_output_alone_is_refused(tmp_path: Path) -> None:
    m = Model("float32")
    m.nodes.append(helper.make_node("Dropout", [m.input("n", 3)], ["", "mask"], name="drop"))
    m.outputs.append(helper.make_tensor_value_info("mask", TensorProto.UNDEFINED, None))
    with pytest.raises(ValueError, match=r"'drop' \(Dropout\): only its first output is supported"):
        fastconv.onnx.load(m.save(tmp_path))


def test_weights_that_are_inputs_are_refused(tmp_path: Path) -> None:
    m = Model("float32")
    m.output(m.add("Conv", m.input("n", 3, 6, 5), m.input(4, 3, 3, 3, name="w")))
    with pytest.raises(ValueError, match=r"'Conv_0' \(Conv\): its weights must be an initializer or follow from"):
        fastconv.onnx.load(m.save(tmp_path))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BFLOAT16])
def test_models_of_other_types_are_refused(tmp_path: Path, kind: int) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "test",
        [helper.make_tensor_value_info("x", kind, [1, 3])],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)]).SerializeToString())
    with pytest.raises(ValueError, match="must all be FLOAT or all be DOUBLE, got "):
        fastconv.onnx.load(path)


def test_outputs_of_integers_are_refused(tmp_path: Path) -> None:
    m = Model("float32")
    m.output(m.add("Relu", m.input("n", 3)))
    m.nodes.append(helper.make_node("Shape", ["x"], ["size"], name="size"))
    m.outputs.append(helper.make_tensor_value_info("size", TensorProto.INT64, None))
    with pytest.raises(ValueError, match=r"'size' \(Shape\): this operator is not supported"):
        fastconv.onnx.load(m.save(tmp_path))


def test_a_value_that_no_node_computes_is_refused(tmp_path: Path) -> None:
    m = Model("float32")
    m.input("n", 3)
    m.output(m.add("Relu", "nowhere"))
    with pytest.raises(ValueError, match="nowhere"):
        fastconv.onnx.load(m.save(tmp_path))


def test_inputs_of_unknown_rank_are_refused(tmp_path: Path) -> None:
    m = Model("float32")
    m.inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))
    m.output(m.add("Relu", "x"))
    with pytest.raises(ValueError, match="does not say how many dimensions its input 'x' has"):
        fastconv.onnx.load(m.save(tmp_path))


def test_nodes_that_form_a_cycle_are_refused(tmp_path: Path) -> None:
    m = Model("float32")
    m.input("n", 3)
    m.nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    with pytest.raises(ValueError, match="nothing computes 'b' before 'a' uses it"):
        fastconv.onnx.load(m.output("b").save(tmp_path))


def test_values_that_are_computed_twice_are_refused(tmp_path: Path) -> None:
    m = Model("float32")
    m.input("n", 3)
    m.nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["a"])]
    with pytest.raises(ValueError, match="computes 'a', which already exists"):
        fastconv.onnx.load(m.output("a").save(tmp_path))
