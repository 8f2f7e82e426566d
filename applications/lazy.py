"""Imports that wait until a module is used, so that --help and a mistyped setting don't take the seconds of Keras."""

import builtins
import contextlib
import importlib
import types
from collections.abc import Iterator
from typing import Any


class Module(types.ModuleType):
    """Stands for a module, which is imported when one of its names is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def imports() -> Iterator[None]:
    """In this block, `import module` and `from package import module, ...` wait; they may import only modules.

    A name that isn't a module's, or a missing module, raises an error only when it is used. A file with such a block
    needs `from __future__ import annotations`, where it uses them in annotations.
    """

    def later(name: str, _globals: Any = None, _locals: Any = None, names: Any = (), level: int = 0) -> Any:
        if level or ("." in name and not names):
            raise ImportError(f"{name}: expected import module, or from package import module")
        return types.SimpleNamespace(**{one: Module(f"{name}.{one}") for one in names}) if names else Module(name)

    at_once = builtins.__import__
    builtins.__import__ = later
    try:
        yield
    finally:
        builtins.__import__ = at_once
