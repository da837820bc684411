"""Answer every request with the same burst, plain and over TLS: a process of its own for `benchmarks/limits.py`.

python benchmarks/readers/burst_server.py CERTIFICATE TOKENS ... prints three ports for each length of a burst: plain,
TLS with one event a record, TLS with many.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from itertools import product
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from benchmarks.peers.wires import PATHS  # noqa: E402
from streamcore.testing.simulator.answers import counted  # noqa: E402
from streamcore.testing.simulator.frames import frames  # noqa: E402

WIRES = {
    "openai": "openai-chat",
    "openai-responses": "openai-responses",
    "anthropic": "anthropic-messages",
    "mistral": "mistral-chat",
}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
RECORD = 16 * 1024  # bytes; a TLS record has no more


def pieces(wire: str, tokens: int, *, many: bool) -> list[bytes]:
    """Return what is written at once: one HTTP chunk for each event, alone or many together."""
    events = [b"%x\r\n%b\r\n" % (len(data), data) for data, _ in frames(WIRES[wire], counted(tokens))]
    written = [HEAD, *events, b"0\r\n\r\n"]
    if not many:
        return written
    together = b"".join(written)
    return [together[start : start + RECORD] for start in range(0, len(together), RECORD)]


async def serve(certificate: str, lengths: list[int]) -> None:
    """Listen on three ports for each length until the process is ended."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    ports: list[str] = []
    servers: list[asyncio.Server] = []
    shapes = ((True, None), (False, context), (True, context))
    for tokens, (many, tls) in product(lengths, shapes):
        bodies = {PATHS[wire].encode(): pieces(wire, tokens, many=many) for wire in WIRES}

        async def answer(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bodies: dict[bytes, list[bytes]] = bodies
        ) -> None:
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                    await reader.readexactly(int(length or b"0"))
                    for piece in bodies[head.split(b" ", 2)[1]]:
                        writer.write(piece)
                        await writer.drain()
            except (asyncio.IncompleteReadError, OSError):
                writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
        servers.append(server)
        ports.append(str(server.sockets[0].getsockname()[1]))
    sys.stdout.write(" ".join(ports) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], [int(length) for length in sys.argv[2:]]))
