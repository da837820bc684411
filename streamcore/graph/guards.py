"""Check what must be true before and after a node, and at the end of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamcore.errors import NodeError
from streamcore.files.template import TemplateError
from streamcore.graph.context import Context, State, failed
from streamcore.graph.expressions import guard_holds
from streamcore.graph.node_schema import GuardBlock, GuardedNode, Node, PostGuardBlock, VerifyBlock
from streamcore.graph.thread import as_json_data


class Halted(Exception):  # noqa: N818
    """Carry the error of a guard that ends the run, whatever `on_error` is."""

    def __init__(self, error: NodeError) -> None:
        super().__init__(str(error))
        self.error = error


class Guards:
    """The checks of one run of a node, and the warnings that they gave."""

    def __init__(self, name: str, node: Node, context: Context) -> None:
        guards = node.guards if isinstance(node, GuardedNode) else None
        self.warnings: list[dict[str, Any]] = []
        self._pre: list[GuardBlock] = guards.pre if guards is not None else []
        self._post: list[PostGuardBlock] = guards.post if guards is not None else []
        self._left = [guard.max_retries if context.restarts else 0 for guard in self._post]
        self._name = name
        self._key = node.state_key or name
        self._context = context

    def skips(self, state: State) -> str | None:
        """Run the checks before the node; return why it is skipped, None if it runs.

        Raises:
            Halted: a check with `on_fail: halt` failed.
        """
        for guard in self._pre:
            if self._holds(guard, state, None):
                continue
            if guard.on_fail == "skip":
                return _text(guard)
            self._fail(guard, "before it")
        return None

    def wants_again(self, state: State, output: Mapping[str, Any]) -> bool:
        """Run the checks after the node; return True if it must run again.

        Raises:
            Halted: a check with `on_fail: halt` failed, or its retries are used up.
        """
        output = as_json_data(output, f"the output of node {self._name!r}")
        value = output.get(self._key, output)
        for number, guard in enumerate(self._post):
            if self._holds(guard, {**state, **output}, value):
                continue
            if guard.on_fail == "retry" and self._left[number] > 0:
                self._left[number] -= 1
                return True
            self._fail(guard, "after it")
        return False

    def _holds(self, guard: GuardBlock | PostGuardBlock, state: State, output: Any) -> bool:
        try:
            return guard_holds(guard.check, state, output)
        except TemplateError as error:
            raise Halted(failed(self._name, self._context, f"a guard failed: {error}")) from error

    def _fail(self, guard: GuardBlock | PostGuardBlock, when: str) -> None:
        if guard.on_fail != "warn":
            raise Halted(failed(self._name, self._context, f"a guard {when} is not fulfilled: {_text(guard)}"))
        self.warnings.append(guard_error(self._name, guard))


def guard_error(name: str, guard: GuardBlock | PostGuardBlock | VerifyBlock) -> dict[str, Any]:
    """Return a check that failed as an entry of `errors` in the state."""
    return {"node": name, "type": "GuardFailed", "message": _text(guard), "tolerated": True}


def verify(checks: list[VerifyBlock], state: State, graph: str) -> list[dict[str, Any]]:
    """Run the checks at the end of a graph; return those that failed with `warn`, as entries of `errors`.

    Raises:
        NodeError: a check with `on_fail: halt` failed.
    """
    errors: list[dict[str, Any]] = []
    for check in checks:
        try:
            holds = guard_holds(check.check, state)
        except TemplateError as error:
            raise NodeError(f"the verification of graph {graph!r} failed: {error}", graph=graph) from error
        if not holds and check.on_fail == "halt":
            raise NodeError(f"the verification of graph {graph!r} failed: {_text(check)}", graph=graph)
        if not holds:
            errors.append(guard_error("verify", check))
    return errors


def _text(guard: GuardBlock | PostGuardBlock | VerifyBlock) -> str:
    return guard.message or guard.check
