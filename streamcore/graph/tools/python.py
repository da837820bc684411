"""Load and run the Python functions that a graph file names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast, get_type_hints

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

from streamcore.concurrency.threads import run_in_thread
from streamcore.files.python_object import attribute, module_at, module_named
from streamcore.graph.tool_schema import PythonToolBlock
from streamcore.graph.tools.protocol import ToolFailed

Function = Callable[..., Any]


class PythonTool:
    """A Python function that is called with keyword arguments.

    Args:
        name: the tool's name.
        block: its keys in the file.
        function: the function.
        abandon: see `call_function`.
    """

    def __init__(self, name: str, block: PythonToolBlock, function: Function, *, abandon: bool = False) -> None:
        self.name = name
        self.description = block.description or (inspect.getdoc(function) or "").partition("\n")[0]
        self._function = function
        self._abandon = abandon

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
        return await call_function(partial(self._function, **arguments), abandon=self._abandon)


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
    module = module_at(block.path, folder) if block.path is not None else module_named(str(block.module))
    found = attribute(module, block.function)
    if callable(found):
        return cast("Function", found)
    raise ImportError(f"{module.__name__}.{block.function} is not a function but a {type(found).__name__}")


def _schema(hint: Any) -> dict[str, Any]:
    if hint is None:
        return {"type": "string"}
    try:
        return TypeAdapter(hint).json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError):
        return {"type": "string"}
