"""Pause garbage collection where very many objects are made, none of which is garbage."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Generator[None]:
    """Collect no garbage in the block, in any thread, and count what it made as old afterwards.

    It is for the import of a large package, about a tenth of which is spent on collections that find nothing, and for
    nothing that a process does often: young garbage counts as old afterwards, too, and is found by a full collection
    only. Where collection is off at the start, it stays off. Objects that the process has frozen (`gc.freeze`) stay
    frozen; the new ones then count as young.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            if not gc.get_freeze_count():
                gc.freeze()  # together with `unfreeze` it moves all objects to the oldest generation, without a look
                gc.unfreeze()
            gc.enable()
