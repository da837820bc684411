"""Keep the import path of yamlgraph's executor; the functions are in `streamcore.execute` and `streamcore.graph`."""

from streamcore.execute import execute_prompt_async, execute_prompt_streaming, execute_prompts_concurrent
from streamcore.graph.stream import stream_graph_with_tokens, stream_node_output

__all__ = [
    "execute_prompt_async",
    "execute_prompt_streaming",
    "execute_prompts_concurrent",
    "stream_graph_with_tokens",
    "stream_node_output",
]
