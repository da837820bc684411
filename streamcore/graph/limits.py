"""Limit what one run of a graph may cost: items of a map, model calls, nodes."""

from __future__ import annotations

from dataclasses import dataclass

from streamcore.errors import RunLimitReached


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The limits of one run; None: no limit.

    Attributes:
        max_items: the most items of a `map` node's list.
        max_model_calls: the most answers of models, retries not counted.
        max_nodes: the most nodes that run, those of maps and loops included.
    """

    max_items: int | None = None
    max_model_calls: int | None = None
    max_nodes: int | None = None


class Budget:
    """Count what one run has used.

    Raises:
        RunLimitReached: by each method, if the run has reached the limit.
    """

    def __init__(self, limits: RunLimits | None = None) -> None:
        self._limits = limits or RunLimits()
        self._model_calls = 0
        self._nodes = 0

    def count_node(self, name: str) -> None:
        """Count a node that is about to run."""
        self._nodes += 1
        self._check("max_nodes", self._nodes, self._limits.max_nodes, name)

    def count_model_call(self, name: str) -> None:
        """Count an answer that is about to be asked for."""
        self._model_calls += 1
        self._check("max_model_calls", self._model_calls, self._limits.max_model_calls, name)

    def check_items(self, name: str, count: int) -> None:
        """Check the number of a map's items."""
        self._check("max_items", count, self._limits.max_items, name)

    @staticmethod
    def _check(limit: str, count: int, most: int | None, name: str) -> None:
        if most is not None and count > most:
            raise RunLimitReached(
                f"the run reached its limit {limit}={most} at node {name!r}; raise the limit, or end the loop or list "
                "earlier",
                limit=limit,
            )
