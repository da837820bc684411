"""Provide what tests use in place of a vendor: scripted answers, recordings, a simulator, faults."""

from streamcore.testing.faults.fault_server import FaultServer
from streamcore.testing.faults.steps import Hold, Pause, Repeat, Reset, Send
from streamcore.testing.faults.table import FAULTS, Fault
from streamcore.testing.recordings.exchange import Exchange, Read, RecordedRequest, RecordingError
from streamcore.testing.recordings.matching import UnrecordedRequest
from streamcore.testing.recordings.recorder import Recorder, record
from streamcore.testing.recordings.recording import Recording
from streamcore.testing.recordings.replay import ReplayTransport
from streamcore.testing.scripted import FINISH, ScriptedProvider
from streamcore.testing.simulator.answers import Answer, PlannedCall, tokens
from streamcore.testing.simulator.server import Simulator
from streamcore.testing.stopwatch import Stopwatch

__all__ = [
    "FAULTS",
    "FINISH",
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
    "ScriptedProvider",
    "Send",
    "Simulator",
    "Stopwatch",
    "UnrecordedRequest",
    "record",
    "tokens",
]
