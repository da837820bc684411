"""Make the simulator's page: its figures, and how to connect a service to it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Protocol

_SHOWN = 20  # requests


@dataclass(frozen=True, slots=True)
class Figures:
    """What a simulator has done so far; lags are in milliseconds."""

    open: int
    """Streams that are being sent now."""
    most_open: int
    served: int
    """Streams that were sent to their end."""
    abandoned: int
    """Streams that the client closed before their end."""
    paced: int
    """Pieces that were sent at a scheduled time, and so have a lag."""
    lag_p50: float
    lag_p99: float
    lag_max: float

    def describe(self) -> str:
        """Return the figures as one line for people."""
        text = f"streams: {self.served} served, {self.abandoned} abandoned, {self.open} open, {self.most_open} at most"
        if not self.paced:
            return text
        lag = f"p50 {self.lag_p50:.1f} ms, p99 {self.lag_p99:.1f} ms, max {self.lag_max:.1f} ms"
        return f"{text} · {self.paced} paced sends, own lag {lag}"

    def json(self) -> str:
        """Return the figures as one line of JSON."""
        return json.dumps({key: round(value, 2) for key, value in asdict(self).items()})


class ShownRequest(Protocol):
    """What the page shows of a request; never its headers or its texts."""

    @property
    def path(self) -> str:
        """Where it went."""
        ...

    @property
    def at(self) -> float:
        """When, as `time.time()`."""
        ...

    @property
    def body(self) -> Mapping[str, object]:
        """What was asked, of which the model's name is shown."""
        ...


def page(
    environment: Mapping[str, str], routes: Mapping[str, str], requests: Sequence[ShownRequest], now: Figures
) -> str:
    """Return the page as HTML that fetches nothing."""
    recent = [
        (
            time.strftime("%H:%M:%S", time.localtime(asked.at)),
            asked.path,
            str(asked.body.get("model", "")),
            routes.get(asked.path, "no such address"),
        )
        for asked in reversed(requests[-_SHOWN:])
    ]
    figures = {
        "open now": now.open,
        "open at most": now.most_open,
        "served": now.served,
        "abandoned by the client": now.abandoned,
        "paced sends": now.paced,
        "own lag": f"p50 {now.lag_p50:.1f} ms, p99 {now.lag_p99:.1f} ms, max {now.lag_max:.1f} ms",
    }
    exports = "\n".join(f"export {name}={value}" for name, value in environment.items())
    return _PAGE.format(
        exports=escape(exports),
        wires=_rows(routes.items()),
        figures=_rows((name, str(value)) for name, value in figures.items()),
        requests=_rows(recent) if recent else "<tr><td>none yet</td></tr>",
    )


def _rows(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>streamcore simulator</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
pre {{ padding: 1rem; border: 1px solid #8888; border-radius: 6px; overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; }}
td {{ border-top: 1px solid #8884; padding: .25rem .75rem .25rem 0; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>streamcore simulator</h1>
<p>It serves the APIs of Anthropic, OpenAI (both), Mistral, Google and Bedrock, and calls no model. Any key will do, and
none is shown.</p>
<h2>Aim a service at it</h2>
<p>A service that uses streamcore, or the SDK of Anthropic or OpenAI, needs only these variables:</p>
<pre>{exports}</pre>
<p>Mistral's own SDK reads no address from the environment: give it <code>server_url=</code> with the same value.
Any other server of the chat-completions dialect takes OpenAI's values.</p>
<h2>Wires</h2>
<table>{wires}</table>
<h2>Figures</h2>
<table>{figures}</table>
<p>The same as JSON: <a href="/statistics">/statistics</a></p>
<h2>Recent requests</h2>
<table>{requests}</table>
</body>
</html>
"""
