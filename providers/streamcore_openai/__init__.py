"""Stream from OpenAI's Chat Completions and Responses APIs, and from compatible gateways, through the `openai` SDK."""

from streamcore_openai.chat import OpenAIProvider
from streamcore_openai.gateways import Gateway
from streamcore_openai.responses import OpenAIResponsesProvider
from streamcore_openai.responses_wire import ResponsesVocabulary
from streamcore_openai.sdk import typed

__all__ = ["Gateway", "OpenAIProvider", "OpenAIResponsesProvider", "ResponsesVocabulary", "typed"]
