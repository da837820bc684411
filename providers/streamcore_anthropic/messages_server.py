"""Describe the server's side of the Messages API."""

from __future__ import annotations

from streamcore.wire.encoding.wire import STATUSES, Wire
from streamcore_anthropic.encoder import CANNOT, MessagesEncoder, error_body, whole_message
from streamcore_anthropic.reading import INFORMATIVE, SHARED, read_request
from streamcore_anthropic.wire import WIRE as NAME

WIRE = Wire(
    name=NAME,
    encoder=MessagesEncoder,
    whole=whole_message,
    read_request=read_request,
    error_body=error_body,
    statuses={**STATUSES, "overloaded": 529, "conflict": 400},
    cannot=CANNOT,
    path="/v1/messages",
    request_id_header="request-id",
    shared=SHARED,
    informative=INFORMATIVE,
    required=frozenset({"max_tokens"}),
    id_prefix="msg_",
)
