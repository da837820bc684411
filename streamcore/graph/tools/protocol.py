"""Define what every tool of a graph has, and how its result becomes text for a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol


class ToolFailed(Exception):  # noqa: N818
    """Report that a tool did not produce a result; the message is meant for the model and for `error` in the state."""


class RunnableTool(Protocol):
    """A tool that is ready to run."""

    @property
    def name(self) -> str:
        """The tool's name in the graph file."""
        ...

    @property
    def description(self) -> str:
        """What the tool does, for a model."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON Schema of the arguments."""
        ...

    async def run(self, arguments: Mapping[str, Any]) -> Any:
        """Run the tool and return its result.

        Raises:
            ToolFailed: the tool reported a failure, or the arguments do not fit.
            Exception: what a Python function raises.
        """
        ...


def result_text(result: object) -> str:
    """Return a result as the text that a model gets: `Success` for None, JSON for what is not text."""
    if result is None:
        return "Success"
    if isinstance(result, str):
        return result
    try:
        return json.dumps(result, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(result)
