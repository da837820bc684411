"""Draw `img/trace.svg`: the trace of one run of a graph with an agent, that two workers serve.

Usage: python -m docs.make_trace, or `python docs/make_trace.py`. It needs redis-server.
"""

from __future__ import annotations

import sys
import tempfile
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.telemetry.otlp import Received, tree  # noqa: E402
from tests.telemetry.two_workers import CLIENT, spans_of_one_run  # noqa: E402

PICTURE = ROOT / "docs" / "img" / "trace.svg"
WIDTH, ROW, NAMES = 900, 26, 330
COLORS = {"worker 1": "#5c6bc0", "worker 2": "#26a69a"}


def drawn(rows: list[tuple[int, Received]]) -> str:
    """Return the picture: a row for each span, its bar from its start to its end."""
    first = min(span.start for _, span in rows)
    length = max(max(span.end for _, span in rows) - first, 1)
    scale = (WIDTH - NAMES - 90) / length
    height = ROW * (len(rows) + 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/><g font-family="sans-serif">',
    ]
    for number, (depth, span) in enumerate(rows):
        y = ROW * number + ROW // 2
        x, width = NAMES + (span.start - first) * scale, max((span.end - span.start) * scale, 2)
        milliseconds = (span.end - span.start) / 1e6
        lines += [
            f'<text x="{10 + 18 * depth}" y="{y + 14}" fill="#222222">{escape(span.name)}</text>',
            f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="14" rx="2" fill="{COLORS[span.worker]}"/>',
            f'<text x="{x + width + 6:.1f}" y="{y + 14}" fill="#666666" font-size="11">{milliseconds:.0f} ms</text>',
        ]
    for number, (worker, color) in enumerate(COLORS.items()):
        x = WIDTH - 190 + 95 * number
        lines += [
            f'<rect x="{x}" y="4" width="10" height="10" fill="{color}"/>',
            f'<text x="{x + 15}" y="13" fill="#222222" font-size="11">{worker}</text>',
        ]
    return "\n".join([*lines, "</g></svg>"]) + "\n"


def main() -> None:
    """Run the graph, and write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        spans = spans_of_one_run(Path(folder))
    PICTURE.write_text(drawn(tree(spans, CLIENT)), "utf-8")


if __name__ == "__main__":
    main()
