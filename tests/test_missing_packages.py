"""A part of fastconv whose framework is not installed says what it needs and how to install it."""

from __future__ import annotations

import pytest
from processes import run_python


@pytest.mark.tensorflow
@pytest.mark.parametrize("part, missing", [("tensorflow", "tensorflow"), ("keras", "tensorflow"), ("keras", "keras")])
def test_the_error_names_the_extra(part: str, missing: str) -> None:
    error = run_python(
        f"""
        import sys

        import fastconv

        class Blocked:
            def find_spec(name, path, target=None):
                if name == {missing!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Blocked)
        try:
            fastconv.{part}
        except ModuleNotFoundError as error:
            print(error.name, error)
        """
    )
    assert error.startswith(f"{missing} fastconv.{part} needs "), error
    assert "TensorFlow" in error and error.endswith("; run pip install 'tensorflow>=2.16'\n"), error
