"""Stream from the models of Amazon Bedrock through its Converse API."""

from streamcore_bedrock.provider import VENDOR, BedrockProvider, BedrockSettings, typed
from streamcore_bedrock.wire import ConverseVocabulary

__all__ = ["VENDOR", "BedrockProvider", "BedrockSettings", "ConverseVocabulary", "typed"]
