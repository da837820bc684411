"""Stream from Mistral's chat API through the `mistralai` SDK."""

from streamcore_mistral.provider import VENDOR, MistralProvider, typed

__all__ = ["VENDOR", "MistralProvider", "typed"]
