"""Offer what services and their tests need instead of a vendor: answers, recordings, a simulator, a demo provider."""

from streamcore.testing.answers import Answer, PlannedCall, tokens
from streamcore.testing.matching import UnrecordedRequest
from streamcore.testing.recorder import Recorder, record
from streamcore.testing.recording import Exchange, Read, RecordedRequest, Recording, RecordingError
from streamcore.testing.replay import ReplayTransport
from streamcore.testing.simulator import Simulator
from streamcore.testing.stopwatch import Stopwatch

__all__ = [
    "Answer",
    "Exchange",
    "PlannedCall",
    "Read",
    "RecordedRequest",
    "Recorder",
    "Recording",
    "RecordingError",
    "ReplayTransport",
    "Simulator",
    "Stopwatch",
    "UnrecordedRequest",
    "record",
    "tokens",
]
