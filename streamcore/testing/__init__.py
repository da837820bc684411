"""Offer what services and their tests need instead of a vendor: answers, a simulator, the demo provider."""

from streamcore.testing.answers import Answer, PlannedCall, tokens
from streamcore.testing.simulator import Simulator

__all__ = ["Answer", "PlannedCall", "Simulator", "tokens"]
