"""Pickle and copy errors: with attributes and causes, and without ever raising.

What an error has of the caller's or of another library's may not be picklable: a client in an attribute, a cause whose
constructor needs more arguments. Each value is therefore pickled by itself, and replaced by its text if that fails.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from operator import attrgetter
from typing import Any, TypeVar, cast

_REQUESTS = ("request", "_request", "response", "_response", "request_info")
"""Attributes of other libraries' errors whose headers have the API key."""
_DEPTH = 20
"""How many containers are searched for a part that cannot be pickled."""

_E = TypeVar("_E", bound=BaseException)
_Cause = tuple[str, str, bytes | None]  # name of the class, text, pickle


def reduced(error: BaseException, root: type[BaseException]) -> tuple[Any, ...]:
    """Return an error in the form that `__reduce__` returns; `root` is the base class of the errors that use this."""
    return _rebuilt, (*_parts(error), _causes(error, root))


def copied(error: _E, memo: dict[int, Any] | None) -> _E:
    """Return a copy of an error, deep if `memo` is given; it shares the causes, and what cannot be copied."""
    made = _made(type(error), error.args)
    if memo is not None:
        memo[id(error)] = made
        made.args = _deep_copy(error.args, memo)
    for name, value in vars(error).items():
        vars(made)[name] = value if memo is None else _deep_copy(value, memo)
    made.__cause__, made.__context__ = error.__cause__, error.__context__
    made.__suppress_context__ = error.__suppress_context__
    return made


def _deep_copy(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return deepcopy(value, memo)
    except Exception:  # noqa: BLE001  a class can raise anything here
        return value


def _parts(error: BaseException) -> tuple[type[BaseException], bytes, dict[str, bytes]]:
    return _importable(type(error)), _packed(error.args), {name: _packed(value) for name, value in vars(error).items()}


def _importable(kind: type[BaseException]) -> type[BaseException]:
    """Return the class, or its nearest base that another process can import."""
    for known in kind.__mro__:
        try:
            found = attrgetter(known.__qualname__)(sys.modules.get(known.__module__))
        except AttributeError:
            continue
        if found is known:
            return cast("type[BaseException]", known)
    return Exception


def _rebuilt(
    kind: type[BaseException], args: bytes, facts: Mapping[str, bytes], causes: Sequence[_Cause] = ()
) -> BaseException:
    """Return the error that `reduced` took apart."""
    error = _made(kind, _unpacked(args, ()))
    vars(error).update({name: _unpacked(value, None) for name, value in facts.items()})
    link = error
    for cause in causes:
        link.__cause__ = _cause(*cause)
        link = link.__cause__
    return error


def _made(kind: type[_E], args: tuple[Any, ...]) -> _E:
    """Return an error without a call of its constructor, which requires arguments that `args` does not have."""
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def _causes(error: BaseException, root: type[BaseException]) -> tuple[_Cause, ...]:
    """Return all causes, the nearest first. They are in one list, so that a long chain needs no recursion."""
    found: list[_Cause] = []
    seen, link = {id(error)}, error.__cause__
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        found.append((type(link).__name__, _text(link), _packed_cause(link, root)))
        link = link.__cause__
    return tuple(found)


def _packed_cause(error: BaseException, root: type[BaseException]) -> bytes | None:
    if _has_request(error):
        return None
    try:
        return pickle.dumps(_parts(error) if isinstance(error, root) else error)
    except Exception:  # noqa: BLE001  a class can raise anything here
        return None


def _has_request(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        members = cast("tuple[BaseException, ...]", error.exceptions)  # pyright: ignore[reportUnknownMemberType]
        return any(map(_has_request, members))
    return any(vars(error).get(name) is not None for name in _REQUESTS)


def _cause(name: str, text: str, packed: bytes | None) -> BaseException:
    """Return a cause; if it cannot be restored, return an error with the name of its class and its text."""
    if packed is not None:
        try:
            found: Any = pickle.loads(packed)  # noqa: S301  inside a pickle that is being loaded
            return found if isinstance(found, BaseException) else _rebuilt(*found)
        except Exception:  # noqa: BLE001, S110  a constructor can raise anything here; the text remains
            pass
    return cast("BaseException", type(name, (Exception,), {})(text))


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  a class can raise anything here
        return ""


def _packed(value: object) -> bytes:
    """Return the pickle of a value; parts that cannot be pickled are replaced by their text."""
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001  a class can raise anything here
        return pickle.dumps(_picklable(value))


def _picklable(value: Any, depth: int = 0) -> Any:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001  a class can raise anything here
        return _with_texts(value, depth + 1)
    return value


def _with_texts(value: Any, depth: int) -> Any:
    """Return a value that cannot be pickled with the text of each part that cannot."""
    if depth > _DEPTH:
        return _text(value)
    if type(value) is dict:
        given: Mapping[Any, Any] = cast("Any", value)
        return {_picklable(key, depth): _picklable(item, depth) for key, item in given.items()}
    if type(value) in (list, tuple):
        return type(value)([_picklable(item, depth) for item in value])
    if is_dataclass(value) and not isinstance(value, type):
        try:
            kept = {one.name: _picklable(getattr(value, one.name), depth) for one in fields(value) if one.init}
            made = replace(value, **kept)
            pickle.dumps(made)
        except Exception:  # noqa: BLE001  a class can raise anything here
            return _text(value)
        return made
    return _text(value)


def _unpacked(packed: bytes, default: Any) -> Any:
    try:
        return pickle.loads(packed)  # noqa: S301  inside a pickle that is being loaded
    except Exception:  # noqa: BLE001  a constructor can raise anything here
        return default
