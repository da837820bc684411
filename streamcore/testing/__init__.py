"""Offer what services and their tests need instead of a vendor: answers, a simulator, the demo provider."""

from streamcore.testing.answers import Answer, PlannedCall, tokens
from streamcore.testing.simulator import Simulator
from streamcore.testing.stopwatch import Stopwatch

__all__ = ["Answer", "PlannedCall", "Simulator", "Stopwatch", "tokens"]
