"""Keep the calls of a conversation that wait for approval, and check the decisions that clients send about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamcore.chunk import ToolCall
from streamcore.completion import Completion
from streamcore.errors import ConfigError
from streamcore.net.well_formed import well_formed_json
from streamcore.request import Message
from streamcore.tools.decisions import decision_of, unanswered
from streamcore.web.files import UserFile
from streamcore.web.models import Question


@dataclass(frozen=True, slots=True)
class Waiting:
    """A turn whose calls wait for approval."""

    user: str
    """The user's message."""
    text: str
    """The text of all answers so far."""
    variables: Mapping[str, Any]
    """The other variables of the prompt that the client sent."""
    messages: Sequence[Message]
    """The whole conversation, the calls last."""
    asked: Sequence[str]
    """The ids of the calls that wait."""
    decided: bool = False
    """True once decisions were sent: they are used once, so that no call runs twice, whatever becomes of the run."""
    files: Sequence[UserFile] = ()
    """The files of the user's message."""
    model: str = ""
    """The model that the user has chosen."""

    @property
    def calls(self) -> list[ToolCall]:
        """The calls that wait."""
        return [call for call in unanswered(self.messages) if call.id in self.asked]

    def question(self) -> Question:
        """Return the question that a client answers with decisions."""
        calls = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in self.calls]
        return Question(node="", message=well_formed_json({"calls": calls}), resume_key="decisions")

    def refuse(self, answer: Any) -> str | None:
        """Return why an answer does not decide about all calls that wait, None if it does."""
        if not isinstance(answer, Mapping | bool):
            return 'the answer is a decision for each call, as in {"CALL_ID": {"approve": true}}, or one for all.'
        given: Mapping[str, Any] = {} if isinstance(answer, bool) else answer  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(answer, bool) and set(given) != set(self.asked):
            return f"the answer must decide about exactly these calls: {', '.join(self.asked)}."
        for decision in given.values():
            try:
                decision_of(decision)
            except ConfigError as error:
                return str(error)
            if isinstance(decision, Mapping) and not isinstance(decision.get("arguments", {}), Mapping):  # pyright: ignore[reportUnknownMemberType]
                return "`arguments` of a decision is an object."
        return None

    def to_data(self) -> dict[str, Any]:
        """Return the turn as JSON data for the store."""
        return {
            "user": self.user,
            "text": self.text,
            "variables": dict(self.variables),
            "messages": [message.to_json() for message in self.messages],
            "asked": list(self.asked),
            "decided": self.decided,
            "files": [file.to_data() for file in self.files],
            "model": self.model,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Waiting:
        """Return the turn that `to_data` wrote."""
        messages = [Message.from_json(one) for one in data["messages"]]
        files = [UserFile.from_data(one) for one in data.get("files", ())]
        known = (data["user"], data["text"], data["variables"], messages, data["asked"], data["decided"])
        return cls(*known, files, data.get("model", ""))


def text_of(answer: Completion) -> str:
    """Return the text of all steps of an answer."""
    return "".join(step.text or step.refusal for step in answer.steps or (answer,))
