"""Run the nodes that call the tools of a graph: `python`, `tool` and `tool_call`."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import anyio

from streamcore.concurrency.generators import opened
from streamcore.errors import ConfigError, RunLimitReached, ThreadConflict
from streamcore.files.yaml_file import is_mapping
from streamcore.graph.context import Context, State
from streamcore.graph.events import NodeEvent
from streamcore.graph.expressions import resolve
from streamcore.graph.node_schema import PythonNode, ToolCallNode, ToolNode
from streamcore.graph.time_limit import TimeLeft, in_time
from streamcore.graph.tools.graph import GraphTool
from streamcore.graph.tools.open import open_function, open_tool
from streamcore.graph.tools.protocol import RunnableTool, ToolFailed
from streamcore.graph.tools.python import call_function

log = logging.getLogger("streamcore")


async def run_python(name: str, node: PythonNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    """Call the function of a python node with a copy of the state, its `variables` over it."""
    function = open_function(context.graph, node.tool)
    tries = node.max_retries if node.on_error == "retry" else 0
    given = {**state, **resolve(node.variables or {}, state)}
    while True:
        try:
            result = await call_function(partial(function, deepcopy(given)), abandon=context.seconds is not None)
        except Exception as error:
            if tries == 0:
                raise
            tries -= 1
            log.info("calling the tool %r again after %s", node.tool, type(error).__name__)
        else:
            break
    output = result if is_mapping(result) else {} if result is None else {node.state_key or name: result}
    yield {"type": "node_complete", "node": name, "output": dict(output)}


async def run_tool(name: str, node: ToolNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    """Run the command of a tool node; its output becomes the node's."""
    tool = open_tool(context, node.tool, name)
    result = await tool.run(resolve(node.variables or {}, state))
    yield {"type": "node_complete", "node": name, "output": {node.state_key or name: result}}


async def run_tool_call(name: str, node: ToolCallNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    """Call the tool that the state names; a failure is part of the output, unless `on_error` is `fail`."""
    tool = resolve(node.tool, state)
    task = state.get("task")
    output: dict[str, Any] = {
        "task_id": task.get("id") if is_mapping(task) else None,
        "tool": tool,
        "success": False,
        "result": None,
        "error": None,
    }
    try:
        arguments = resolve(node.args, state)
        found = _known_tool(tool, context, name)
        given: dict[str, Any] = dict(arguments) if is_mapping(arguments) else {}
        if isinstance(found, GraphTool):
            left = TimeLeft(float("inf") if context.seconds is None else context.seconds)
            async with opened(in_time(found.events(given), left)) as events:
                async for event in events:
                    yield event
            output["result"] = found.result
        else:
            output["result"] = await _in_time(found, given, context.seconds)
        output["success"] = True
    except (ConfigError, RunLimitReached, ThreadConflict):
        raise
    except Exception as error:
        if node.on_error == "fail":
            raise
        log.info("tool_call %r: the tool %r failed with %s", name, tool, type(error).__name__)
        output["error"] = str(error)
    update: dict[str, Any] = {node.state_key or name: output}
    parsed = _parsed(output["result"])
    if node.parsed_key is not None and parsed is not None:
        update[node.parsed_key] = parsed
    yield {"type": "node_complete", "node": name, "output": update}


async def _in_time(tool: RunnableTool, arguments: Mapping[str, Any], seconds: float | None) -> Any:
    with anyio.move_on_after(seconds):
        return await tool.run(arguments)
    raise TimeoutError(f"it took longer than {seconds:g} s")


def _known_tool(tool: object, context: Context, node: str) -> RunnableTool:
    if isinstance(tool, str) and tool in context.graph.tools:
        return open_tool(context, tool, node)
    raise ToolFailed(f"Unknown tool: {tool}")


def _parsed(result: object) -> dict[str, Any] | None:
    """Return the JSON object that a text is, None if it is none."""
    try:
        found = json.loads(result) if isinstance(result, str) else None
    except (ValueError, RecursionError):
        return None
    return dict(found) if is_mapping(found) else None
