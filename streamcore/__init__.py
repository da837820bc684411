"""Stream LLM output token by token, from any vendor, with nothing lost."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamcore.chunk import Chunk, ChunkKind, FinishReason, Opaque, ToolCall, ToolResult, Usage
from streamcore.completion import Attempt, Completion
from streamcore.cost import Cost
from streamcore.errors import (
    AgentLimitReached,
    AnswerTooLarge,
    AuthenticationError,
    BadRequestError,
    CheckpointError,
    ConfigError,
    ConnectionFailed,
    ContentRefused,
    GraphError,
    MalformedStream,
    MissingAPIKey,
    NodeError,
    NotFoundError,
    OutputValidationError,
    OverloadedError,
    PromptError,
    PromptNotFound,
    ProviderError,
    ProviderNotFound,
    ProviderNotInstalled,
    RateLimitError,
    RunLimitReached,
    ServerError,
    StreamcoreError,
    StreamError,
    StreamInterrupted,
    StreamTimeout,
    ThreadConflict,
)
from streamcore.execute import (
    execute_prompt_async,
    execute_prompt_streaming,
    execute_prompts_concurrent,
    stream_agent,
    stream_prompt,
    stream_request,
)
from streamcore.net.clients import aclose_providers, lifespan, warm_up
from streamcore.pipeline.smoother import StreamOptions
from streamcore.provider import Provider, get_provider, provider_names
from streamcore.request import Document, Image, Message, Request, Text, Tool
from streamcore.stream import Stream, TextStream
from streamcore.timeouts import Timeouts

if TYPE_CHECKING:
    from streamcore.graph.load import Graph, load_graph
    from streamcore.graph.stream import EventStream, stream_graph_with_tokens, stream_node_output
    from streamcore.token_count import TokenCount, count_tokens

__version__ = "0.1.0"

__all__ = [
    "AgentLimitReached",
    "AnswerTooLarge",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "CheckpointError",
    "Chunk",
    "ChunkKind",
    "Completion",
    "ConfigError",
    "ConnectionFailed",
    "ContentRefused",
    "Cost",
    "Document",
    "EventStream",
    "FinishReason",
    "Graph",
    "GraphError",
    "Image",
    "MalformedStream",
    "Message",
    "MissingAPIKey",
    "NodeError",
    "NotFoundError",
    "Opaque",
    "OutputValidationError",
    "OverloadedError",
    "PromptError",
    "PromptNotFound",
    "Provider",
    "ProviderError",
    "ProviderNotFound",
    "ProviderNotInstalled",
    "RateLimitError",
    "Request",
    "RunLimitReached",
    "ServerError",
    "Stream",
    "StreamError",
    "StreamInterrupted",
    "StreamOptions",
    "StreamTimeout",
    "StreamcoreError",
    "Text",
    "TextStream",
    "ThreadConflict",
    "Timeouts",
    "TokenCount",
    "Tool",
    "ToolCall",
    "ToolResult",
    "Usage",
    "aclose_providers",
    "count_tokens",
    "execute_prompt_async",
    "execute_prompt_streaming",
    "execute_prompts_concurrent",
    "get_provider",
    "lifespan",
    "load_graph",
    "provider_names",
    "stream_agent",
    "stream_graph_with_tokens",
    "stream_node_output",
    "stream_prompt",
    "stream_request",
    "warm_up",
]

_IMPORTED_WHEN_USED = {
    "EventStream": "streamcore.graph.stream",
    "Graph": "streamcore.graph.load",
    "TokenCount": "streamcore.token_count",
    "count_tokens": "streamcore.token_count",
    "load_graph": "streamcore.graph.load",
    "stream_graph_with_tokens": "streamcore.graph.stream",
    "stream_node_output": "streamcore.graph.stream",
}
"""The names that a single prompt does not need, and their modules."""


def __getattr__(name: str) -> Any:
    module = _IMPORTED_WHEN_USED.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(module), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
