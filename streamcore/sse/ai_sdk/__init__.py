"""Speak the UI message stream of the AI SDK, which `useChat` reads."""
