"""Stream from Google's Gemini models, by the Gemini API or Vertex AI, through the `google-genai` SDK."""

from streamcore_google.provider import VENDOR, GoogleProvider, typed
from streamcore_google.wire import GeminiDecoder, GeminiVocabulary

__all__ = ["VENDOR", "GeminiDecoder", "GeminiVocabulary", "GoogleProvider", "typed"]
