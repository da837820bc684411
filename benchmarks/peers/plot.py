"""Draw horizontal bars on a logarithmic scale as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

_COLOURS = {"ours": "#2563eb", "floor": "#9ca3af", "sdk": "#6b7280", "peer": "#d97706"}
_INK = "#6b7280"  # readable on white and on black
_FONT = f'font-family="system-ui, sans-serif" font-size="13" fill="{_INK}"'
_LEFT, _WIDTH, _RIGHT, _ROW, _TOP = 230, 480, 90, 24, 40


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its label, what it is, its value and the range of it."""

    label: str
    kind: str
    value: float
    low: float
    high: float


def bars(title: str, panels: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """Return an SVG with a panel of bars under another, all on one scale."""
    everything = [bar for _, rows in panels for bar in rows]
    least = 10 ** math.floor(math.log10(min(bar.low for bar in everything)))
    most = max(bar.high for bar in everything)
    scale = _WIDTH / math.log10(most / least)

    def at(value: float) -> float:
        return _LEFT + math.log10(max(value, least) / least) * scale

    height = _TOP + sum((len(rows) + 2) * _ROW for _, rows in panels)
    width = _LEFT + _WIDTH + _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" {_FONT}>',
        f"<title>{escape(title)}</title>",
        f'<text x="8" y="22" font-size="15" font-weight="600">{escape(title)}</text>',
    ]
    top = float(_TOP)
    for name, rows in panels:
        parts.append(f'<text x="8" y="{top + 16}" font-weight="600">{escape(name)}</text>')
        for tick in _ticks(least, most):
            end = top + (len(rows) + 1) * _ROW
            parts.append(f'<path d="M{at(tick):.1f} {top + _ROW}V{end}" stroke="{_INK}" stroke-opacity=".25"/>')
            parts.append(f'<text x="{at(tick):.1f}" y="{top + 16}" text-anchor="middle" font-size="11">{tick:g}</text>')
        for number, bar in enumerate(rows):
            parts.extend(_bar(bar, top + (number + 1) * _ROW, at))
        top += (len(rows) + 2) * _ROW
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ticks(least: float, most: float) -> Iterator[float]:
    tick = least
    while tick <= most:
        yield tick
        tick *= 10


def _bar(bar: Bar, y: float, at: Callable[[float], float]) -> Iterator[str]:
    middle = y + _ROW / 2
    yield f'<text x="{_LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(bar.label)}</text>'
    size = f'width="{at(bar.value) - _LEFT:.1f}" height="{_ROW - 8}" rx="2"'
    yield f'<rect x="{_LEFT}" y="{y + 4}" {size} fill="{_COLOURS[bar.kind]}"/>'
    yield f'<path d="M{at(bar.low):.1f} {middle}H{at(bar.high):.1f}" stroke="{_INK}" stroke-width="2"/>'
    yield f'<text x="{at(bar.high) + 8:.1f}" y="{middle + 4}">{bar.value:.3g}</text>'
