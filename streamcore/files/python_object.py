"""Import the Python objects that files name: from a module, or from a file in the folder of the file that names it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_FILE = "_streamcore_file_"
"""The beginning of the names of modules that files are imported as."""


def split_reference(reference: str) -> tuple[str, str]:
    """Return the module or file, and the name in it, of `module:name` or `path.py:name`.

    Raises:
        ValueError: the reference has another form.
    """
    module, _, name = reference.rpartition(":")
    if not module or not name.isidentifier():
        raise ValueError(f"expected 'module:function' or 'file.py:function', not {reference!r}")
    return module, name


def load_object(reference: str, folder: Path) -> Any:
    """Return the object that `module:name` or `path.py:name` names; `folder` is that of the file that names it.

    Raises:
        ValueError: the reference has another form.
        ImportError: the module or file cannot be imported or has no such name.
    """
    module, name = split_reference(reference)
    return attribute(module_at(module, folder) if module.endswith(".py") else module_named(module), name)


def module_named(name: str) -> ModuleType:
    """Return a module by its name, as `import` finds it.

    Raises:
        ImportError: it cannot be imported; an error that its code raises is the cause.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise
    except Exception as error:
        raise ImportError(f"the module {name!r} raised {type(error).__name__}: {error}") from error


def module_at(written: str, folder: Path) -> ModuleType:
    """Import a file in a folder, once for each of its versions.

    Raises:
        ImportError: the file is not in the folder, or does not exist, or its code raised an error, which is the cause.
    """
    path = (folder / written).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ImportError(f"{written!r} is not in the folder {folder}")
    if not path.is_file():
        raise ImportError(f"there is no file {path}")
    key = f"{path}\0{path.stat().st_mtime_ns}".encode()
    name = f"{_FILE}{path.stem}_{hashlib.sha256(key).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ImportError) or not isinstance(error, Exception):
            raise
        raise ImportError(f"{path} raised {type(error).__name__}: {error}") from error
    return module


def attribute(module: ModuleType, name: str) -> Any:
    """Return an object of a module.

    Raises:
        ImportError: the module has no such name.
    """
    try:
        return getattr(module, name)
    except AttributeError as error:
        import difflib

        near = difflib.get_close_matches(name, [one for one in vars(module) if not one.startswith("_")], n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        where = (
            f"the file {module.__file__}" if module.__name__.startswith(_FILE) else f"the module {module.__name__!r}"
        )
        raise ImportError(f"{where} has no attribute {name!r}{meant}") from error
