"""Test what a client of an endpoint learns about an error."""

from __future__ import annotations

import pytest

from streamcore.errors import AuthenticationError, OverloadedError, ProviderError, ServerError
from streamcore.web.endpoints.problems import problem_of
from streamcore.wire.encoding.wire import wires


@pytest.mark.parametrize(
    ("error", "chat", "messages"),
    [
        (ServerError("failed", status=500), 500, 500),
        (ServerError("bad gateway", status=502), 502, 502),
        (ServerError("gateway timeout", status=504), 504, 504),
        (OverloadedError("unavailable", status=503), 503, 529),
        (OverloadedError("overloaded", status=529), 503, 529),
        (AuthenticationError("wrong key", status=401), 500, 500),
    ],
)
def test_a_vendors_failure_is_a_status_that_clients_try_again_on(
    error: ProviderError, chat: int, messages: int
) -> None:
    problem = problem_of(error)
    assert wires()["openai-chat"].status(problem) == chat
    assert wires()["anthropic-messages"].status(problem) == messages
