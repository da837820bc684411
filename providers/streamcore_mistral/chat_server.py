"""Describe the server's side of Mistral's chat: the chat dialect, with reasoning as parts of the content."""

from __future__ import annotations

from streamcore.wire.encoding.chat import CANNOT, ChatEncoder, ChatForm, error_body, whole_answer
from streamcore.wire.encoding.chat_reading import INFORMATIVE, SHARED, ChatRequests
from streamcore.wire.encoding.wire import STATUSES, Wire
from streamcore_mistral.request import WIRE as NAME

_FORM = ChatForm(NAME, thinking_parts=True, usage_with_finish=True)
_REQUESTS = ChatRequests(NAME, seed="random_seed", required="any", usage_on_request=False)

WIRE = Wire(
    name=NAME,
    encoder=lambda head: ChatEncoder(head, _FORM),
    whole=lambda answer, head: whole_answer(answer, head, _FORM),
    read_request=_REQUESTS.read,
    error_body=error_body,
    statuses=STATUSES,
    cannot={**CANNOT, "fields of a thinking part beside its text": "are left out"},
    shared=SHARED,
    informative=INFORMATIVE,
)
