"""Run the Jinja2 of a prompt or graph file: it reads plain data, changes nothing, and has limits of memory and work.

Jinja2's immutable sandbox blocks the attributes of Python objects and changes of its input. It does not block
`'a' * 10**9`. So every value that a template creates is measured when it is created (by operators, calls, filters,
literals, joined texts). What can create a large value from small ones in one step (padding, `replace`, `join`, formats,
products) is estimated before. Every iteration of a loop or macro counts as work.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, Sequence, ValuesView
from contextvars import ContextVar
from typing import Any, cast

from jinja2 import StrictUndefined, Template, Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateAssertionError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_TEXT = 4 * 1024 * 1024
"""The maximum size of a value that a template creates, in characters, approximately."""
MAX_WIDTH = 1000
"""The maximum width of padding or indentation."""
MAX_BITS = 4096
"""The maximum size of an integer that `*` and `**` create, in bits."""
MAX_WORK = 8 * MAX_TEXT
"""The maximum work of one run, in characters; an iteration of a loop counts 64, and 1 more per node in its body."""

MAX_SECONDS = 5.0
"""The maximum time of one run, in seconds; it is checked whenever work is counted."""


class _Run:
    """The work of one run, and the time at which it must have ended."""

    __slots__ = ("deadline", "work")

    def __init__(self) -> None:
        self.work = 0
        self.deadline = time.monotonic() + MAX_SECONDS


_work: ContextVar[_Run] = ContextVar("streamcore_sandbox_work")


class Sandbox(ImmutableSandboxedEnvironment):
    """A Jinja2 environment for untrusted templates.

    In addition to its base class: undefined names are errors; `x.items` without a call reads the key `items` of a
    mapping first; only data can be written, so that no `<built-in method ...>` gets into a prompt.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, *, nulls: bool = True) -> None:
        """Make an environment; with `nulls=False` a template that writes a null raises `NullWrittenError`."""
        super().__init__(undefined=_Undefined, keep_trailing_newline=True, finalize=_writable)
        self.globals["namespace"] = _Namespace
        del self.globals["lipsum"]
        for name in ("urlize", "wordwrap", "xmlattr"):
            del self.filters[name]
        self.filters["format"] = _format
        self.filters["default"] = self.filters["d"] = _default
        if not nulls:
            self.finalize = _not_null
            kept = {"default", "d", "tojson"}
            self.filters |= {name: _refusing_null(one) for name, one in self.filters.items() if name not in kept}
        self.filters = {name: _guarded(name, function) for name, function in self.filters.items()}
        self.filters |= {" kept": _kept, " turn": _turn, " read": _read}  # with the space, no template can name them
        self.tests = {name: _counted(cast("Any", function)) for name, function in self.tests.items()}
        self.compiled: Callable[[str], Template] = functools.lru_cache(maxsize=256)(self.from_string)

    def render(self, text: str, names: Mapping[str, Any]) -> str:
        """Return the rendered text; `names` must contain plain data (text, numbers, lists, dicts) only."""
        template = self.compiled(text)
        token = _work.set(_Run())
        try:
            return template.render(names)
        finally:
            _work.reset(token)

    def expression(self, text: str) -> Callable[[Mapping[str, Any]], Any]:
        """Return an expression, without braces, as a function of its names, which must contain plain data only."""
        compiled = self.compile_expression(text, undefined_to_none=False)

        def evaluate(names: Mapping[str, Any]) -> Any:
            token = _work.set(_Run())
            try:
                return compiled(names)
            finally:
                _work.reset(token)

        return evaluate

    def concat(self, parts: Iterable[str]) -> str:
        """Join the pieces of the whole text, of a macro, or of a block."""
        kept: list[str] = []
        size = 0
        for part in parts:
            size = _within(size + len(part))
            kept.append(part)
        _spend(size)
        return "".join(kept)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        owner = getattr(__obj, "__self__", None)
        name = getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name == "join":
            return __self.filters["join"](__context.eval_ctx, *args, owner)
        if isinstance(owner, str | bytes | list | tuple):
            _spend(_weigh(owner))
        if isinstance(owner, str | bytes | int):
            _estimate(name, owner, [*args, *kwargs.values()])
        return _kept(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        whole = isinstance(left, int) and isinstance(right, int)
        if operator == "*" and whole:
            _within(left.bit_length() + right.bit_length(), MAX_BITS, "bits in a number")
        elif operator == "**" and whole:
            _within(left.bit_length() * right, MAX_BITS, "bits in a number")
        elif operator == "*" and isinstance(left, int):
            _within(left * _weigh(right))
        elif operator == "*" and isinstance(right, int):
            _within(right * _weigh(left))
        elif operator == "%" and isinstance(left, str):
            _estimate_format(left, right)
        return _kept(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        owner = getattr(value, "__self__", None)
        name = getattr(value, "__name__", "")
        if not isinstance(owner, str) or name not in ("format", "format_map"):
            return None
        if name == "format_map":
            raise SecurityError("the method 'format_map' is not available in a template")
        return lambda *args, **kwargs: _Formatter(self).vformat(str(owner), args, kwargs)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Guards().add(source, self), *args, **kwargs)


class _Guards(NodeTransformer):
    """Add guards to a parsed template where the environment has no hook."""

    def add(self, template: nodes.Template, environment: Sandbox) -> nodes.Template:
        self.generic_visit(template)
        return template.set_environment(environment)  # type: ignore[return-value]

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:  # noqa: N802
        """Let `x.items` be the key `items`."""
        self.generic_visit(node)
        return nodes.Getitem(node.node, nodes.Const(node.attr), node.ctx, lineno=node.lineno)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802
        """Let `x.items()` be the method `items`."""
        called = node.node
        if isinstance(called, nodes.Getattr):
            self.generic_visit(called)
            node.node = nodes.Const(None)
        self.generic_visit(node)
        if isinstance(called, nodes.Getattr):
            node.node = called
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """Let `a ~ b` be `[a, b] | join`, which is guarded."""
        self.generic_visit(node)
        return _filter("join", nodes.List(node.nodes, lineno=node.lineno))

    def visit_List(self, node: nodes.List | nodes.Dict | nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return node if getattr(node, "ctx", "") == "store" else _filter(" kept", node)

    visit_Dict = visit_Tuple = visit_List  # noqa: N815

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        """Let comparisons and `in` count what they read."""
        self.generic_visit(node)
        node.expr = _filter(" read", node.expr)
        for operand in node.ops:
            operand.expr = _filter(" read", operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        """Let a slice count, which is a new text or list."""
        self.generic_visit(node)
        return _filter(" kept", node) if isinstance(node.arg, nodes.Slice) else node

    def visit_For(self, node: nodes.For | nodes.Macro) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        price = nodes.Const(64 + sum(1 for _ in node.find_all(nodes.Node)), lineno=node.lineno)
        node.body.insert(0, nodes.ExprStmt(_filter(" turn", price), lineno=node.lineno))
        return node

    visit_Macro = visit_For  # noqa: N815

    def visit_Include(self, node: nodes.Stmt) -> nodes.Node:  # noqa: N802
        raise TemplateAssertionError(
            "include, import and extends are not available in a prompt or graph file", node.lineno
        )

    visit_Import = visit_FromImport = visit_Extends = visit_Include  # noqa: N815


def _filter(name: str, value: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno)


class NullWrittenError(SecurityError):
    """A template writes a null, which would become the word `None` in its text."""


class _Undefined(StrictUndefined):
    """A missing name, which is an error also inside a list that is written."""

    __repr__ = StrictUndefined.__str__


class _Namespace(Namespace):
    """`namespace()`, whose text does not show its contents."""

    def __repr__(self) -> str:
        return "<namespace>"


class _Formatter(SandboxedFormatter):
    """`str.format` with limits for the width of fields and for the result."""

    _size = 0

    def format_field(self, value: Any, format_spec: str) -> str:
        for digits in re.findall(r"\d+", format_spec):
            _within(len(digits), 3, "digits in a width")
        text: str = super().format_field(value, format_spec)
        self._size = _within(self._size + len(text))
        return text


def _within(size: int, limit: int = MAX_TEXT, what: str = "characters in a text or list") -> int:
    if size > limit:
        raise SecurityError(f"the result is too large: the limit is {limit} {what}")
    return size


def _spend(work: int) -> None:
    """Count work against the limit of this run; constants that Jinja2 folds at compile time belong to no run."""
    run = _work.get(None)
    if run is not None:
        run.work += work
        if run.work > MAX_WORK:
            raise SecurityError(
                "the template does too much work: too many iterations of loops, or too much intermediate text"
            )
        if time.monotonic() > run.deadline:
            raise SecurityError(f"the template takes too long: the limit is {MAX_SECONDS} seconds")


@pass_context  # otherwise Jinja2 folds it
def _turn(_context: Context, price: int) -> None:
    _spend(price)


def _kept(value: Any) -> Any:
    """Return a value that a template created if it is not too large."""
    _spend(_within(_weigh(value)))
    return value


def _read(value: Any) -> Any:
    """Return a value that an operation reads, and count it as work."""
    _spend(_weigh(value))
    return value


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a test so that what it reads counts."""

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        for value in args:
            if isinstance(value, (str, bytes, dict, *_CONTAINERS)):
                _spend(_weigh(value))
        return function(*args, **kwargs)

    return counted


_READ_LITTLE = frozenset({"length", "count", "first", "last", "default", "d", "attr"})
"""Filters that read no more than the part of a value that they return."""

_CONTAINERS = (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)


def _weigh(value: Any) -> int:
    """Return the approximate number of characters of a value when it is written, and 8 per item in it.

    Counting stops above `MAX_TEXT`.
    """
    if isinstance(value, str | bytes):
        return len(value)
    total = 0
    waiting: list[Any] = [value]
    while waiting and total <= MAX_TEXT:
        item = waiting.pop()
        total += 8 + (len(item) if isinstance(item, str | bytes) else 0)
        if isinstance(item, dict):
            waiting.extend(item)  # pyright: ignore[reportUnknownArgumentType]
            waiting.extend(item.values())  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(item, _CONTAINERS):
            waiting.extend(item)  # pyright: ignore[reportUnknownArgumentType]
    return total


_PADDING = frozenset({"ljust", "rjust", "center", "zfill", "to_bytes", "batch", "slice", "round"})
_INDENTING = frozenset({"expandtabs", "indent", "tojson"})


def _estimate(name: str, value: Any, rest: Sequence[Any]) -> None:
    """Refuse a method or filter if its result would be too large; `rest` are its arguments after the value."""
    if name in _PADDING or name in _INDENTING:
        widths = [abs(one) if isinstance(one, int) else len(one) for one in rest if isinstance(one, int | str)]
        width = _within(max(widths, default=0), MAX_WIDTH, "for a width or count")
        if name in _INDENTING:
            places = value.count("\n") + value.count("\t") + 1 if isinstance(value, str) else _weigh(value)
            _within(width * places)
    elif name == "replace":
        # Keyword arguments have any order, so either may be the old text and either the new.
        text = str(value)
        for old, new in ((rest[0], rest[1]), (rest[1], rest[0])) if len(rest) > 1 else ():
            _within(text.count(str(old)) * len(str(new)))
    elif name == "join":
        _within(_weigh(value) + len(value) * max((len(str(part)) for part in rest), default=0))
    elif name == "translate":
        raise SecurityError("the method 'translate' is not available in a template")


_FIELD = re.compile(r"%(?:\([^()]*\))?[-+ #0]*\d{0,3}(?:\.\d{0,3})?[hlL]?[a-zA-Z%]")


def _estimate_format(text: str, values: Any) -> None:
    """Refuse `text % values` if a field is wide, has a computed width, or the result would be too large."""
    fields = len(_FIELD.findall(text))
    if "%" in _FIELD.sub("", text):
        raise SecurityError("the text before '%' or '| format' is no format with fields like %s or %5.2f")
    uses = fields if isinstance(values, Mapping) else 1  # every field may read all of a mapping
    _within(len(text) + fields * MAX_WIDTH + uses * _weigh(values))


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    """Replace the filter `format`."""
    _estimate_format(str(value), kwargs or args)
    return str(value) % (kwargs or args)


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    """Replace the filter `default`: a null counts as missing, too."""
    missing = value is None or isinstance(value, Undefined) or (boolean and not value)
    return default_value if missing else value


def _not_null(value: Any) -> Any:
    """Return what `{{ ... }}` writes, which is no null."""
    if value is None:
        raise NullWrittenError("a null is written")
    return _writable(value)


def _refusing_null(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter so that it refuses a null, which most filters turn into the text `None`."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def refusing(*args: Any, **kwargs: Any) -> Any:
        value = args[first] if len(args) > first else ...
        if value is None or (isinstance(value, list) and None in value and function.__name__ in _JOINING):
            raise NullWrittenError("a null is written")
        return function(*args, **kwargs)

    return refusing


_JOINING = ("do_join", "sync_do_join")


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter so that its result is estimated before and measured after the call."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0  # such a filter gets a context before the value

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        values = list(args)
        if len(values) > first:
            if name == "join" and not isinstance(values[first], str | Undefined):
                values[first] = list(values[first])
            _estimate(name, values[first], [*values[first + 1 :], *kwargs.values()])
            if name not in _READ_LITTLE:
                _spend(_weigh(values[first]))
        return _kept(function(*values, **kwargs))

    return guarded


def _writable(value: Any) -> Any:
    """Return the value that `{{ ... }}` writes, if it is data."""
    if value is None or isinstance(value, (str, bytes, int, float, dict, Undefined, *_CONTAINERS)):
        return value  # pyright: ignore[reportUnknownVariableType]
    if hasattr(value, "__next__"):
        raise SecurityError("this is a lazy sequence, not a value; end it with | join(', ') or | list")
    if callable(value):
        raise SecurityError(f"{getattr(value, '__name__', 'this')!r} is a function, not a value; call it with ()")
    raise SecurityError(f"a {type(value).__name__} cannot be written into a text")
