"""Pickle and copy every error class, with all attributes and causes, of any kind."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, get_type_hints

import httpx2
import pytest

import streamcore
import streamcore_anthropic
import streamcore_mistral
import streamcore_openai
from streamcore.completion import Attempt, Completion
from streamcore.errors import NodeError, ProviderError, StreamcoreError, StreamInterrupted

PACKAGES = (streamcore, streamcore_anthropic, streamcore_mistral, streamcore_openai)
SAMPLES: dict[str, Any] = {"errors": ({"type": "missing", "loc": ("a", 1), "msg": "m", "input": {"b": None}},)}
TEXT = "half \ud83d, 'quoted'\n{}"


def classes(kind: type[StreamcoreError]) -> Iterator[type[StreamcoreError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from classes(below)


def all_classes() -> list[type[StreamcoreError]]:
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__") and ".starter" not in module.name:
                importlib.import_module(module.name)
    found = {kind for kind in classes(StreamcoreError) if kind.__module__.startswith("streamcore")}
    return sorted(found, key=lambda kind: kind.__name__)


def sample(name: str, hint: object) -> Any:
    if name in SAMPLES:
        return SAMPLES[name]
    return next(value for text, value in (("float", 2.5), ("int", 3), ("bool", True), ("", "x")) if text in str(hint))


def made(kind: type[StreamcoreError]) -> StreamcoreError:
    """Return an error of a class with a value for every argument of its constructor."""
    hints = {} if kind.__init__ is StreamcoreError.__init__ else get_type_hints(kind.__init__)
    given = inspect.signature(kind).parameters.values() if hints else ()
    named = {one.name: sample(one.name, hints[one.name]) for one in given if one.kind is one.KEYWORD_ONLY}
    error = kind(TEXT, **named)
    attempt = Attempt("p", "m", "ServerError: no", None)
    error.partial = Completion(text="Hello", attempts=(attempt,))
    if isinstance(error, ProviderError):
        error.attempts = (attempt,)
    error.add_note("a note")
    return error


def pickled(error: StreamcoreError) -> StreamcoreError:
    again: StreamcoreError = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    return again


WAYS: tuple[Callable[[StreamcoreError], StreamcoreError], ...] = (pickled, copy.deepcopy, copy.copy)


@pytest.mark.parametrize("kind", all_classes(), ids=lambda kind: kind.__name__)
def test_every_error_is_pickled_and_copied(kind: type[StreamcoreError]) -> None:
    error = made(kind)
    error.__cause__ = NodeError("inner", graph="g", node="n")
    error.__cause__.__cause__ = OSError(2, "no file", "a.txt")
    for way in WAYS:
        again = way(way(error))
        assert again is not error
        assert type(again) is kind
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
        assert again.partial.attempts == getattr(again, "attempts", again.partial.attempts)
        assert isinstance(again.__cause__, NodeError)
        assert (again.__cause__.node, str(again.__cause__)) == ("n", "inner")
        assert isinstance(again.__cause__.__cause__, FileNotFoundError)
        assert again.__cause__.__cause__.filename == "a.txt"


def test_the_walk_finds_errors_outside_the_table() -> None:
    names = {kind.__name__ for kind in all_classes()}
    assert {"UnrecordedRequest", "ToolArgumentsError", "AnswerTooLarge", "ThreadConflict"} <= names


class NeedsMoreError(Exception):
    """An error that pickles, but cannot be loaded, as those of SDKs."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class LockedError(Exception):
    """An error that cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


@pytest.mark.parametrize("cause", [NeedsMoreError("why", code=1), LockedError("why")])
def test_a_cause_that_does_not_pickle_becomes_its_name_and_text(cause: Exception) -> None:
    error = StreamInterrupted("cut")
    error.__cause__ = cause
    cause.__cause__ = ValueError("below")
    for again in (pickled(error), pickled(pickled(error))):
        assert again.__cause__ is not None
        assert (type(again.__cause__).__name__, str(again.__cause__)) == (type(cause).__name__, "why")
        assert isinstance(again.__cause__.__cause__, ValueError)
    assert copy.deepcopy(error).__cause__ is cause


@pytest.mark.parametrize("grouped", [False, True])
def test_a_pickle_does_not_contain_the_request_of_a_cause(grouped: bool) -> None:
    request = httpx2.Request("POST", "http://vendor.test", headers={"x-api-key": "sk-planted-secret"})
    failed: Exception = httpx2.ConnectError("refused", request=request)
    error = StreamInterrupted("cut")
    error.__cause__ = ExceptionGroup("several", [failed]) if grouped else failed
    assert b"sk-planted-secret" not in pickle.dumps(error)
    assert "refused" in str(pickled(error).__cause__) or grouped


def test_attributes_that_do_not_pickle_become_text() -> None:
    error = ProviderError("no", provider="p", body={"lock": threading.Lock(), "kept": [1, {2: b"3"}]})
    error.partial = replace(Completion(text="Hello"), parsed=threading.Lock())
    again = pickled(error)
    assert isinstance(again, ProviderError)
    assert (again.partial.text, again.body["kept"], again.provider) == ("Hello", [1, {2: b"3"}], "p")
    assert "lock" in again.body["lock"]
    assert "lock" in again.partial.parsed
    copied = copy.deepcopy(error)
    assert copied.partial.text == "Hello"


def test_a_class_of_a_function_is_pickled_as_its_base() -> None:
    class LocalError(StreamInterrupted):
        pass

    again = pickled(LocalError("cut"))
    assert (type(again), str(again)) == (StreamInterrupted, "cut")
    assert type(copy.deepcopy(LocalError("cut"))) is LocalError


def test_long_chains_and_circles_of_causes_end() -> None:
    first = link = StreamInterrupted("0")
    for number in range(1, 3 * sys.getrecursionlimit()):
        link.__cause__ = following = StreamInterrupted(str(number))
        link = following
    link.__cause__ = first
    count, below = 1, pickled(first).__cause__
    while below is not None:
        below, count = below.__cause__, count + 1
    assert count == 3 * sys.getrecursionlimit()
    error = StreamInterrupted("itself")
    vars(error)["error"] = error
    assert str(pickled(error)) == "itself"
    copied = copy.deepcopy(error)
    assert vars(copied)["error"] is copied
