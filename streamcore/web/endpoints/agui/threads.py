"""Name the threads of AG-UI clients, and read the answers to their interrupts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from streamcore.tools.decisions import Approve, Deny
from streamcore.web.endpoints.agui.reading import Answer
from streamcore.web.input_check import refuse_value, size_of
from streamcore.wire.encoding.wire import RequestRefused
from streamcore.wire.lenient import is_object, mapping

NO_ANSWER = "The user gave no answer."


def thread_key(service: str, target: str, who: str, thread_id: str) -> str:
    """Return the name of a user's thread with a target of a service in the stores."""
    return f"agui/{hashed(service, target, who, thread_id)}"


def hashed(*parts: str) -> str:
    """Return a hash of some names."""
    return hashlib.sha256("\0".join(map(ascii, parts)).encode()).hexdigest()[:40]


def answers_to(asked: Sequence[str], resume: Sequence[Answer] | None, most: int) -> Mapping[str, Answer]:
    """Return the answer to each interrupt of a thread by its id.

    Args:
        asked: the ids of the interrupts that wait.
        resume: what the client sent.
        most: the maximum number of characters of an answer.

    Raises:
        RequestRefused: an interrupt has no answer, or an answer has no interrupt, or is not valid.
    """
    found = {answer.interrupt: answer for answer in resume or ()}
    if not asked and resume:
        raise _refused("no interrupt of this thread waits for an answer; it may have been answered already")
    if set(found) != set(asked) or len(found) != len(resume or ()):
        listed = ", ".join(map(repr, asked))
        raise _refused(f"exactly these interrupts of the thread must be answered, each once: {listed}")
    for answer in found.values():
        why = refuse_value(answer.payload)
        if why is not None:
            raise RequestRefused(f"resume: {why}", param="resume")
        if answer.payload is not None and size_of(answer.payload) > most:
            raise RequestRefused(
                f"resume: an answer may have at most {most} characters", param="resume", kind="too_large"
            )
        if not answer.cancelled and answer.payload is None:
            raise RequestRefused("resume: an answer with the status 'resolved' needs a payload", param="resume")
    return found


def _refused(why: str) -> RequestRefused:
    return RequestRefused(f"resume: {why}", param="resume", kind="conflict")


def decision_in(answer: Answer) -> Any:
    """Return the decision about a call, as `stream_agent` takes it.

    A payload is true or false, or an object as the interrupt's schema describes it: `approved`, with `editedArgs` or
    `reason`.

    Raises:
        RequestRefused: it is none of them.
    """
    if answer.cancelled:
        return Deny(NO_ANSWER)
    payload = answer.payload
    if isinstance(payload, bool):
        return payload
    if isinstance(payload, Mapping):
        given = mapping(payload)  # pyright: ignore[reportUnknownArgumentType]
        approved, reason = given.get("approved"), given.get("reason")
        edited = given.get("editedArgs")
        known = not given.keys() - {"approved", "editedArgs", "reason"}
        if (
            known
            and isinstance(approved, bool)
            and (edited is None or is_object(edited))
            and isinstance(reason, str | None)
        ):
            if approved:
                return Approve(edited)
            return Deny(reason or "")
    raise RequestRefused(
        'resume: the payload of a decision is true, false, or {"approved": true} or {"approved": false}, with '
        "editedArgs (an object) or reason (a text)",
        param="resume",
    )
