"""Define the root of the errors, and the one error that the lowest layer raises; `streamcore.errors` has the tree."""

from __future__ import annotations

from typing import Any, Self


class StreamcoreError(Exception):
    """Serve as the base class of every error that streamcore raises.

    Errors can be pickled and copied: a process pool and `copy.deepcopy` keep the attributes and the causes. A pickle
    has only the class name and the text of a cause that cannot be pickled, or that has an HTTP request, with its key.
    """

    partial: Any = None  # a `Completion`, which is in a higher layer
    """The answer that was received before the error; None if no answer had begun."""

    def __reduce__(self) -> tuple[Any, ...]:
        from streamcore.base.error_copies import reduced

        return reduced(self, StreamcoreError)

    def __copy__(self) -> Self:
        from streamcore.base.error_copies import copied

        return copied(self, None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        from streamcore.base.error_copies import copied

        return copied(self, memo)


class ToolArgumentsError(StreamcoreError, ValueError):
    """Report that the arguments of a tool call are not JSON, or are nested too deeply."""
