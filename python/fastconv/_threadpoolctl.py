"""Registers fastconv's threads with threadpoolctl. fastconv does not need threadpoolctl and does not import it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from fastconv import _core

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


def _register(threadpoolctl: ModuleType) -> None:
    import ctypes  # threadpoolctl imports it, too

    class Controller(threadpoolctl.LibController):  # type: ignore[misc, name-defined]
        user_api = internal_api = "fastconv"
        filename_prefixes = ("libfastconv.",)  # not the library of TensorFlow's ops
        check_symbols = ("fastconv_get_num_threads", "fastconv_set_num_threads")

        def _call(self, function: str, argument: object) -> None:
            message = ctypes.create_string_buffer(200)
            call = self._get_symbol(function)
            if call(argument, message, ctypes.c_size_t(len(message))) != 0:
                raise ValueError(message.value.decode())

        def get_num_threads(self) -> int:
            count = ctypes.c_int64()
            self._call("fastconv_get_num_threads", ctypes.byref(count))
            return count.value

        def set_num_threads(self, num_threads: int) -> None:
            self._call("fastconv_set_num_threads", ctypes.c_int64(num_threads))

        def get_version(self) -> str:
            return _core.config()["version"]

    threadpoolctl.register(Controller)


class _Watch:
    """Registers the controller once threadpoolctl is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "threadpoolctl":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            sys.meta_path.remove(self)
            _register(module)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register() -> None:
    """Register fastconv's threads with threadpoolctl, now or when it is imported."""
    imported = sys.modules.get("threadpoolctl")
    if imported is not None:
        _register(imported)
    else:
        sys.meta_path.insert(0, _Watch())
