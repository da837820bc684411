"""Test that tool arguments that are nested too deeply raise an error of streamcore."""

from __future__ import annotations

import pytest

from streamcore import StreamcoreError, ToolCall
from streamcore.errors import ToolArgumentsError


@pytest.mark.parametrize("arguments", ["[" * 50_000 + "]" * 50_000, '{"cut": '])
def test_arguments_that_cannot_be_parsed_are_our_error(arguments: str) -> None:
    with pytest.raises(ToolArgumentsError) as caught:
        ToolCall(id="c", name="f", arguments=arguments, position=0).parse()
    assert isinstance(caught.value, StreamcoreError)
    assert isinstance(caught.value, ValueError)
