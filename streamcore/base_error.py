"""Define the root of the errors, and the one error that the lowest layer raises; `streamcore.errors` has the tree."""

from __future__ import annotations

from typing import Any


class StreamcoreError(Exception):
    """Serve as the base class of every error that streamcore raises.

    Errors can be pickled and copied: a process pool and `copy.deepcopy` keep all attributes.
    """

    partial: Any = None  # a `Completion`, which is in a higher layer
    """The answer that was received before the error; None if no answer had begun."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args), self.__dict__


def _rebuilt(kind: type[StreamcoreError], args: tuple[Any, ...]) -> StreamcoreError:
    """Rebuild an error without its constructor, which requires keyword arguments that `args` does not have."""
    error = kind.__new__(kind, *args)
    error.args = args
    return error


class ToolArgumentsError(StreamcoreError, ValueError):
    """The arguments of a tool call are not JSON, or are nested too deeply."""
