"""Offer what services and their tests need instead of a vendor: answers, a simulator, faults, the demo provider."""

from streamcore.testing.answers import Answer, PlannedCall, tokens
from streamcore.testing.fault_server import FaultServer
from streamcore.testing.faults import FAULTS, Fault
from streamcore.testing.simulator import Simulator
from streamcore.testing.steps import Hold, Pause, Repeat, Reset, Send
from streamcore.testing.stopwatch import Stopwatch

__all__ = [
    "FAULTS",
    "Answer",
    "Fault",
    "FaultServer",
    "Hold",
    "Pause",
    "PlannedCall",
    "Repeat",
    "Reset",
    "Send",
    "Simulator",
    "Stopwatch",
    "tokens",
]
