"""Continue a run when its reader's connection breaks, and give a reader that reconnects exactly the rest."""

from streamcore.errors import InvalidRunId, RelayError, RunExists, RunExpired, RunNotFound, TooManyRuns
from streamcore.relay.log import ReadResult, RunLog, Status
from streamcore.relay.memory import MemoryLog
from streamcore.relay.open import open_log
from streamcore.relay.reader import Reader
from streamcore.relay.relay import Relay
from streamcore.relay.response import history_response, relay_response, run_response

__all__ = [
    "Found",
    "InvalidRunId",
    "MemoryLog",
    "ReadResult",
    "Reader",
    "Relay",
    "RelayError",
    "RunExists",
    "RunExpired",
    "RunLog",
    "RunNotFound",
    "Status",
    "TooManyRuns",
    "history_response",
    "open_log",
    "relay_response",
    "run_response",
]

Found = ReadResult
"""The name of `ReadResult` in earlier versions."""
