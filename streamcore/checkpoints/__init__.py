"""Save the state of threads between runs: in memory, in SQLite, in Redis or in PostgreSQL."""

from streamcore.checkpoints.config import open_checkpointer
from streamcore.checkpoints.memory import MemoryCheckpointer
from streamcore.checkpoints.protocol import Checkpointer, Saved

__all__ = ["Checkpointer", "MemoryCheckpointer", "Saved", "open_checkpointer"]
