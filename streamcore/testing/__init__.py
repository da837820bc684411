"""Offer what services and their tests need instead of a vendor: answers, recordings, a simulator, faults."""

from streamcore.testing.answers import Answer, PlannedCall, tokens
from streamcore.testing.fault_server import FaultServer
from streamcore.testing.faults import FAULTS, Fault
from streamcore.testing.matching import UnrecordedRequest
from streamcore.testing.recorder import Recorder, record
from streamcore.testing.recording import Exchange, Read, RecordedRequest, Recording, RecordingError
from streamcore.testing.replay import ReplayTransport
from streamcore.testing.simulator import Simulator
from streamcore.testing.steps import Hold, Pause, Repeat, Reset, Send
from streamcore.testing.stopwatch import Stopwatch

__all__ = [
    "FAULTS",
    "Answer",
    "Exchange",
    "Fault",
    "FaultServer",
    "Hold",
    "Pause",
    "PlannedCall",
    "Read",
    "RecordedRequest",
    "Recorder",
    "Recording",
    "RecordingError",
    "Repeat",
    "ReplayTransport",
    "Reset",
    "Send",
    "Simulator",
    "Stopwatch",
    "UnrecordedRequest",
    "record",
    "tokens",
]
