"""Load and run the Python functions that a graph file names."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_type_hints

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

from streamcore.concurrency.threads import run_in_thread
from streamcore.graph.tool_schema import PythonToolBlock
from streamcore.graph.tools.protocol import ToolFailed

Function = Callable[..., Any]


class PythonTool:
    """A Python function that is called with keyword arguments."""

    def __init__(self, name: str, block: PythonToolBlock, function: Function) -> None:
        self.name = name
        self.description = block.description or (inspect.getdoc(function) or "").partition("\n")[0]
        self._function = function

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON Schema of the function's parameters; one without an annotation is a string."""
        try:
            hints = get_type_hints(self._function)
        except (NameError, TypeError):
            hints = {}
        properties: dict[str, Any] = {}
        required: list[str] = []
        extra = False
        for name, parameter in inspect.signature(self._function).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                extra = True
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                properties[name] = _schema(hints.get(name))
                if parameter.default is parameter.empty:
                    required.append(name)
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            **({} if extra else {"additionalProperties": False}),
        }

    async def run(self, arguments: Mapping[str, Any]) -> Any:
        """Call the function.

        Raises:
            ToolFailed: the arguments do not fit the function's parameters.
        """
        try:
            inspect.signature(self._function).bind(**arguments)
        except TypeError as error:
            raise ToolFailed(f"wrong arguments: {error}") from error
        return await call_function(partial(self._function, **arguments))


async def call_function(function: Callable[[], Any], *, abandon: bool = False) -> Any:
    """Call a function; one that is not async runs in a thread, so that it does not block the event loop.

    Args:
        function: the function, with its arguments.
        abandon: do not wait for the thread if the caller is cancelled; the function runs on, and its result is dropped.
    """
    if inspect.iscoroutinefunction(function):
        return await function()
    result = await run_in_thread("nodes", function, abandon=abandon)
    return await result if inspect.isawaitable(result) else result


def load_function(block: PythonToolBlock, folder: Path) -> Function:
    """Return the function of a tool; `folder` is the graph's.

    Raises:
        ImportError: the module or file cannot be imported, or has no such function.
    """
    module = _module_at(block.path, folder) if block.path is not None else importlib.import_module(str(block.module))
    try:
        found = getattr(module, block.function)
    except AttributeError as error:
        raise ImportError(str(error)) from error
    if callable(found):
        return cast("Function", found)
    raise ImportError(f"{module.__name__}.{block.function} is not a function but a {type(found).__name__}")


def _module_at(written: str, folder: Path) -> ModuleType:
    """Import a file of the graph's folder, once for each of its versions."""
    path = (folder / written).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ImportError(f"{written!r} is not in the graph's folder {folder}")
    if not path.is_file():
        raise ImportError(f"there is no file {path}")
    key = f"{path}\0{path.stat().st_mtime_ns}".encode()
    name = f"_streamcore_graph_{path.stem}_{hashlib.sha256(key).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _schema(hint: Any) -> dict[str, Any]:
    if hint is None:
        return {"type": "string"}
    try:
        return TypeAdapter(hint).json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError):
        return {"type": "string"}
