"""Keep the import path that users of yamlgraph know; the doors themselves are in `streamcore.execute`."""

from streamcore.execute import execute_prompt_async, execute_prompt_streaming, execute_prompts_concurrent

__all__ = ["execute_prompt_async", "execute_prompt_streaming", "execute_prompts_concurrent"]
