"""Describe the server's side of the Responses API, and of Open Responses."""

from __future__ import annotations

from streamcore.wire.encoding.wire import STATUSES, Wire
from streamcore_openai.responses_encoder import CANNOT, ResponsesEncoder
from streamcore_openai.responses_object import error_body, whole_response
from streamcore_openai.responses_reading import INFORMATIVE, SHARED, read_request
from streamcore_openai.responses_wire import WIRE as NAME

WIRE = Wire(
    name=NAME,
    encoder=ResponsesEncoder,
    whole=whole_response,
    read_request=read_request,
    error_body=error_body,
    statuses=STATUSES,
    cannot=CANNOT,
    path="/v1/responses",
    shared=SHARED,
    informative=INFORMATIVE,
    id_prefix="resp_",
    stored=True,
)
