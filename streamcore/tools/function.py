"""Make a `Tool` that runs from a Python function: its schema, the check of its arguments, and the call."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from functools import partial
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints, overload

from streamcore.base.error import ToolArgumentsError
from streamcore.concurrency.generators import opened
from streamcore.concurrency.threads import run_in_thread
from streamcore.errors import ConfigError
from streamcore.request import Tool
from streamcore.tools.context import ToolContext

NeedsApproval = bool | Callable[[Mapping[str, Any]], bool]


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    needs_approval: NeedsApproval = False,
    sequential: bool = False,
    retries: int = 0,
    idempotent: bool = False,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    needs_approval: NeedsApproval = False,
    sequential: bool = False,
    retries: int = 0,
    idempotent: bool = False,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool from a function, as a decorator with or without arguments.

    The JSON Schema comes from the signature: annotations give the types (`str` where there is none), defaults make
    parameters optional, and the docstring (Google, NumPy or Sphinx style) gives the descriptions. A parameter with the
    annotation `ToolContext` gets the context of the call and is not in the schema. Arguments are validated before
    the call. The function is plain, and then runs in a thread, or async; a generator yields progress, and last the
    result. `streamcore.tools.results.result_of` lists what a result may be.

    Args:
        function: the function; left out in `@tool(...)`.
        name: defaults to the function's name.
        description: defaults to the docstring without its parameters.
        timeout: how many seconds a call may take. A plain function cannot be stopped: its result is dropped.
        needs_approval: True if each call needs approval; or a function of the validated arguments that tells it.
        sequential: True if no other call of the same step may run at the same time.
        retries: how many times a call that raised is repeated before the model gets the error.
        idempotent: True if a call may run again after the process died while it ran.

    Raises:
        ConfigError: a parameter cannot be described to a model, or a setting is not valid.
    """
    if function is None:
        return partial(
            _made,
            name=name,
            description=description,
            timeout=timeout,
            needs_approval=needs_approval,
            sequential=sequential,
            retries=retries,
            idempotent=idempotent,
        )
    return _made(function)


def as_tool(given: Tool | Callable[..., Any]) -> Tool:
    """Return a tool, or the tool of a function.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(given, Tool):
        return given
    if callable(given):
        return _made(given)
    raise ConfigError(f"an entry of tools is a Tool, a function or an McpTools, not {given!r}")


def _made(
    function: Callable[..., Any],
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    **settings: Any,
) -> Tool:
    if not callable(cast("object", function)):
        raise ConfigError(
            f"a tool is made from a function, not from {function!r}; give its name as @tool(name='search')"
        )
    name = name or str(getattr(function, "__name__", type(function).__name__))
    seconds = cast("object", timeout)
    if seconds is not None and not (
        isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds > 0
    ):
        raise ConfigError(f"timeout of tool {name!r} is a number of seconds above 0, not {timeout!r}")
    times = cast("object", retries)
    if not isinstance(times, int) or isinstance(times, bool) or times < 0:
        raise ConfigError(f"retries of tool {name!r} is a number of further calls, 0 or more, not {retries!r}")
    call = _Function(function, name)
    return Tool(
        name=name,
        description=call.description if description is None else description,
        parameters=call.schema,
        run=call,
        timeout=timeout,
        retries=retries,
        **settings,
    )


class _Function:
    """Run a function with the arguments of a call."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        from docstring_parser import parse
        from pydantic import ConfigDict, Field, create_model

        self.function = function
        self._name = name
        docs = parse(inspect.getdoc(function) or "")
        descriptions = {param.arg_name.lstrip("*"): param.description for param in docs.params if param.description}
        self.description = "\n\n".join(part for part in (docs.short_description, docs.long_description) if part)
        fields: dict[str, Any] = {}
        self._names: dict[str, str] = {}  # of the model's fields, since a parameter may be called `copy` or `_x`
        self._context: str | None = None
        self._positional: list[str] = []
        extra = False
        for parameter, kind in _parameters(function, name):
            if _is_context(kind):
                self._context = parameter.name
            elif parameter.kind is parameter.VAR_KEYWORD:
                extra = True
            else:
                if parameter.kind is parameter.POSITIONAL_ONLY:
                    self._positional.append(parameter.name)
                field = f"parameter_{len(fields)}"
                self._names[field] = parameter.name
                given = Field(alias=parameter.name, title=parameter.name)
                told = descriptions.get(parameter.name)
                typed = Annotated[kind, Field(description=told)] if told and not _has_description(kind) else kind
                default = ... if parameter.default is parameter.empty else parameter.default
                fields[field] = (Annotated[typed, given], default)
        config = ConfigDict(extra="allow" if extra else "forbid", arbitrary_types_allowed=False)
        try:
            self._model = create_model(name, __config__=config, **fields)
            self.schema = _schema(self._model.model_json_schema(), self._names)
        except Exception as error:  # pydantic raises several unrelated classes
            raise ConfigError(
                f"the parameters of tool {name!r} cannot be described to a model: {error}; annotate them with types "
                "that pydantic can write as JSON Schema"
            ) from error

    async def __call__(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        values = self.validated(arguments)
        if self._context is not None:
            values[self._context] = context
        first = [values.pop(name) for name in self._positional]
        call = partial(self.function, *first, **values)
        if _is(inspect.isasyncgenfunction, self.function):
            return await _last(call(), context)
        if _is(inspect.iscoroutinefunction, self.function):
            return await call()
        if _is(inspect.isgeneratorfunction, self.function):
            call = partial(_last_of, call, context)
        found = await run_in_thread("tools", call, abandon=True)
        return await found if inspect.isawaitable(found) else found

    def validated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function takes them.

        Raises:
            ToolArgumentsError: they do not fit the signature.
        """
        from pydantic import ValidationError

        try:
            found = self._model.model_validate(dict(arguments))
        except ValidationError as error:
            reasons = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise ToolArgumentsError(f"the arguments of tool {self._name!r} do not fit: {reasons}") from error
        given = found.model_fields_set
        values = {name: getattr(found, field) for field, name in self._names.items() if field in given}
        return {**values, **(found.model_extra or {})}


def _parameters(function: Callable[..., Any], name: str) -> list[tuple[inspect.Parameter, Any]]:
    """Return the parameters with their types."""
    target = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    while isinstance(target, partial):
        target = target.func
    try:
        hints = get_type_hints(inspect.unwrap(target), include_extras=True)
        parameters = inspect.signature(function).parameters.values()
    except (NameError, TypeError, ValueError) as error:
        raise ConfigError(f"the signature of tool {name!r} cannot be read: {error}") from error
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise ConfigError(
                f"tool {name!r} has the parameter *{parameter.name}, but a model calls with named arguments: "
                "use a parameter of the type list"
            )
    return [(parameter, hints.get(parameter.name, str)) for parameter in parameters]


def _is(question: Callable[[Any], bool], function: Callable[..., Any]) -> bool:
    """Ask `inspect` about a function, or about the `__call__` of an object."""
    while isinstance(function, partial):
        function = function.func
    return question(function) or question(getattr(function, "__call__", None))  # noqa: B004


def _is_context(kind: Any) -> bool:
    return any(isinstance(one, type) and issubclass(one, ToolContext) for one in (kind, *get_args(kind)))


def _has_description(kind: Any) -> bool:
    """Return True for `Annotated[..., Field(description=...)]`."""
    if get_origin(kind) is not Annotated:
        return False
    return any(getattr(part, "description", None) for part in kind.__metadata__)


def _schema(schema: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the model's schema without the titles that pydantic makes of names."""
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    cleaned = {
        name: {key: value for key, value in one.items() if not (key == "title" and value == name)}
        for name, one in properties.items()
    }
    return {**{key: value for key, value in schema.items() if key != "title"}, "properties": cleaned}


async def _last(items: AsyncGenerator[Any], context: ToolContext) -> Any:
    """Report all that an async generator yields as progress but the last, and return that."""
    before: list[Any] = []
    async with opened(items) as found:
        async for item in found:
            if before:
                await context.progress(before.pop())
            before.append(item)
    return before.pop() if before else None


def _last_of(items: Callable[[], Iterable[Any]], context: ToolContext) -> Any:
    """Do the same for a plain generator, in its thread."""
    before: list[Any] = []
    for item in items():
        if before:
            context.progress(before.pop())
        before.append(item)
    return before.pop() if before else None
