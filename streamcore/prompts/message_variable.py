"""Decide which variable of a prompt a user's message becomes, for conversations in a terminal or a browser."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from streamcore.errors import ConfigError
from streamcore.files.template import needed
from streamcore.prompts.prompt_file import Prompt

INPUTS = ("message", "query", "question", "input", "prompt", "text", "topic")
"""Names of variables, or keys of the state, that usually take a user's message; the first that exists is used."""


def message_variable(
    prompt: Prompt, given: Mapping[str, Any], message_as: str | None, client_variables: Collection[str] = ()
) -> str:
    """Return the variable that a message becomes.

    Args:
        prompt: the prompt.
        given: the variables that have a value already.
        message_as: the name that the user has chosen, None to infer it.
        client_variables: the variables that come with each message.

    Raises:
        ConfigError: it cannot be inferred.
    """
    others = {*given, *client_variables}
    wanted = [name for _, text in prompt.file.templates() for name in needed(text) if name not in others]
    if message_as is not None:
        wanted = [message_as, *(name for name in wanted if name != message_as)]
    named = [name for name in INPUTS if name in wanted]
    variable = message_as or (named[0] if named else wanted[0] if len(wanted) == 1 else None)
    if variable is None:
        what = f"needs {', '.join(wanted)}" if wanted else "needs no variable"
        raise ConfigError(
            f"prompt {prompt.name!r} {what}: name the one that a user's message becomes (message_as=, --input), and "
            "give values for the others (variables=, --var)"
        )
    return variable
