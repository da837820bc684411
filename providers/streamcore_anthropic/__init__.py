"""Stream from Anthropic's Messages API through the `anthropic` SDK."""

from streamcore_anthropic.provider import VENDOR, AnthropicProvider, typed
from streamcore_anthropic.wire import AnthropicVocabulary

__all__ = ["VENDOR", "AnthropicProvider", "AnthropicVocabulary", "typed"]
