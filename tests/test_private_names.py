"""Private names of Keras and of TensorFlow occur in one file each. The layers need no private name of Keras."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import fastconv
import pytest
from processes import run_python

PACKAGE = Path(fastconv.__file__).parent
KERAS_INTERNALS = PACKAGE / "keras" / "_keras_internals.py"
TENSORFLOW_INTERNALS = PACKAGE / "tensorflow" / "_tensorflow_internals.py"
FILES = sorted(PACKAGE.rglob("*.py"))
PRIVATE_MODULE = re.compile(r"(import|from) +(keras\.src|tensorflow\.python)")
PRIVATE_NAME = re.compile(r"_[a-z]\w*")


def test_private_modules_are_imported_in_two_files() -> None:
    importing = {path for path in FILES if PRIVATE_MODULE.search(path.read_text(encoding="utf-8"))}
    assert importing == {KERAS_INTERNALS, TENSORFLOW_INTERNALS}


def private_names(path: Path, own: set[str]) -> list[str]:
    """Attributes and strings that look like private names of other packages' objects."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = node.attr if isinstance(node, ast.Attribute) else node.value if isinstance(node, ast.Constant) else None
        if isinstance(name, str) and PRIVATE_NAME.fullmatch(name) and name not in own:
            found.append(f"{path.name}:{node.lineno}: {name}")
    return found


def test_private_attributes_of_keras_are_used_in_one_file() -> None:
    files = [path for path in FILES if path.parent == KERAS_INTERNALS.parent]
    own = {path.stem for path in files}
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert len(private_names(KERAS_INTERNALS, own)) > 5
    assert [name for path in files if path != KERAS_INTERNALS for name in private_names(path, own)] == []


@pytest.mark.tensorflow
def test_layers_work_if_keras_modules_moved() -> None:
    """`accelerate` and `restore` check their arguments, then raise an error that says what to do. Layers work."""
    run_python(
        """
        import builtins
        import keras
        import numpy as np

        original = builtins.__import__
        refused = []

        def reorganised(name, globals=None, locals=None, fromlist=(), level=0):
            if name.startswith("keras.src") and (globals or {}).get("__name__", "").startswith("fastconv"):
                refused.append(name)
                raise ImportError(f"no module named {name}")
            return original(name, globals, locals, fromlist, level)

        builtins.__import__ = reorganised
        import fastconv.keras as fk

        model = keras.Sequential([
            keras.layers.Input((10, 10, 1)),
            fk.Conv2D(4, 3, activation="relu"),
            fk.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ])
        model.compile("sgd", "mse")
        x = np.random.default_rng(0).standard_normal((8, 10, 10, 1)).astype(np.float32)
        before = model.get_weights()
        model.fit(x, np.ones(8), verbose=0)
        assert not np.array_equal(model.get_weights()[0], before[0])
        predicted = model.predict(x, verbose=0)
        assert refused == []

        for change in (fk.accelerate, fk.restore, lambda model: fk.accelerate(model, inplace=True)):
            try:
                change(keras.layers.Flatten())
            except TypeError as error:
                assert "model must be a keras.Model" in str(error)
            else:
                raise AssertionError("a layer was accepted as a model")
            try:
                change(model)
            except ImportError as error:
                assert f"cannot change models of Keras {keras.__version__} (no module named keras.src" in str(error)
                assert "layers of fastconv.keras still work" in str(error)
                assert "install an earlier version of Keras" in str(error)
            else:
                raise AssertionError("the model was changed")
        assert refused
        assert type(model.layers[0]) is fk.Conv2D
        assert np.array_equal(model.predict(x, verbose=0), predicted)
        """
    )


@pytest.mark.tensorflow
def test_a_removed_attribute_gets_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is not the one about models that cannot be copied."""
    import fastconv.keras as fk
    import keras
    from fastconv.keras import _keras_internals

    model = keras.Sequential([keras.layers.Input((4, 4, 1)), keras.layers.Conv2D(2, 3)])
    with pytest.raises(ImportError, match=r"SimpleNamespace.*_keras_history.*layers of fastconv.keras still work"):
        _keras_internals.operation_of(SimpleNamespace())

    def gone(model: object) -> None:
        raise _keras_internals.UnsupportedKeras("Sequential has no _layers")

    monkeypatch.setattr("fastconv.keras._copying.sequential_layers", gone)
    with pytest.raises(ImportError, match="Sequential has no _layers"):
        fk.accelerate(model)
