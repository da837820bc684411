"""Stream LLM output token by token, from any vendor, with nothing lost."""

from streamcore.chunk import Chunk, ChunkKind, FinishReason, Opaque, ToolCall, Usage
from streamcore.completion import Attempt, Completion, Cost
from streamcore.errors import (
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
    stream_prompt,
    stream_request,
)
from streamcore.graph.load import Graph, load_graph
from streamcore.graph.stream import EventStream, stream_graph_with_tokens, stream_node_output
from streamcore.net.clients import aclose_providers, lifespan
from streamcore.pipeline.clocks import Timeouts
from streamcore.pipeline.smoother import StreamOptions
from streamcore.provider import Provider, get_provider, provider_names
from streamcore.request import Image, Message, Request, Text, Tool
from streamcore.stream import Stream, TextStream

__version__ = "0.1.0"

__all__ = [
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
    "Tool",
    "ToolCall",
    "Usage",
    "aclose_providers",
    "execute_prompt_async",
    "execute_prompt_streaming",
    "execute_prompts_concurrent",
    "get_provider",
    "lifespan",
    "load_graph",
    "provider_names",
    "stream_graph_with_tokens",
    "stream_node_output",
    "stream_prompt",
    "stream_request",
]
