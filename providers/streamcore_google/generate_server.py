"""Describe the server's side of `generateContent`, for the simulator; `streamcore serve` does not serve it."""

from __future__ import annotations

from streamcore.wire.encoding.wire import STATUSES, Wire
from streamcore_google.encoder import CANNOT, GenerateEncoder, error_body, read_request, whole_response
from streamcore_google.turn import WIRE as NAME

WIRE = Wire(
    name=NAME,
    encoder=GenerateEncoder,
    whole=whole_response,
    read_request=read_request,
    error_body=error_body,
    statuses=STATUSES,
    cannot=CANNOT,
)
