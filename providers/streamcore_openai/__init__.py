"""Stream from OpenAI's Chat Completions and Responses APIs, and from compatible gateways, through the `openai` SDK."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a provider of one API needs nothing of the other
    from streamcore_openai.chat import OpenAIProvider
    from streamcore_openai.gateways import Gateway
    from streamcore_openai.responses import OpenAIResponsesProvider
    from streamcore_openai.responses_wire import ResponsesVocabulary
    from streamcore_openai.sdk import typed

__all__ = ["Gateway", "OpenAIProvider", "OpenAIResponsesProvider", "ResponsesVocabulary", "typed"]

_MODULES = {
    "Gateway": "streamcore_openai.gateways",
    "OpenAIProvider": "streamcore_openai.chat",
    "OpenAIResponsesProvider": "streamcore_openai.responses",
    "ResponsesVocabulary": "streamcore_openai.responses_wire",
    "typed": "streamcore_openai.sdk",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(module), name)
    return found
