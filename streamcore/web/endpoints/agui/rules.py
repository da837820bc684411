"""Say what models have to know of AG-UI as a wire."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AguiRules:
    """The rules of a wire without parameters that other wires share; see `WireRules`."""

    name: str = "agui"
    shared: frozenset[str] = frozenset()
    informative: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()


RULES = AguiRules()
