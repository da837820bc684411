"""Describe the server's side of the chat-completions dialect."""

from __future__ import annotations

from streamcore.wire.encoding.chat import CANNOT, ChatEncoder, ChatForm, error_body, whole_answer
from streamcore.wire.encoding.chat_reading import INFORMATIVE, SHARED, ChatRequests
from streamcore.wire.encoding.wire import STATUSES, Wire

_FORM = ChatForm()

WIRE = Wire(
    name="openai-chat",
    encoder=lambda head: ChatEncoder(head, _FORM),
    whole=lambda answer, head: whole_answer(answer, head, _FORM),
    read_request=ChatRequests().read,
    error_body=error_body,
    statuses=STATUSES,
    cannot=CANNOT,
    path="/v1/chat/completions",
    shared=SHARED,
    informative=INFORMATIVE,
    id_prefix="chatcmpl-",
)
