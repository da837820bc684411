"""Decode Anthropic's events in the binary event stream of Bedrock's `InvokeModelWithResponseStream`.

The payload of each frame is JSON with the event in Base64. The client `AsyncAnthropicBedrock` sends through that API.
"""

from __future__ import annotations

import msgspec

from streamcore.wire.event_stream import EventStreamDecoder, Frame
from streamcore.wire.sse import Event


class _Payload(msgspec.Struct, gc=False):
    event: bytes = msgspec.field(name="bytes")


_decode = msgspec.json.Decoder(_Payload).decode


class BedrockDecoder(EventStreamDecoder):
    """Decode the event stream of Bedrock; the contract is that of `StreamDecoder`."""

    unwrapped = False

    def event(self, frame: Frame) -> Event:
        """Return the event in a frame; the event's JSON names its type."""
        return Event(_decode(frame.payload).event) if frame.name == b"chunk" else Event(frame.payload, frame.name)
