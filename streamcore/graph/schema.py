"""Define the keys of a graph file: edges, defaults, and the blocks of nodes and tools."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from streamcore.checkpoints.config import of_url
from streamcore.errors import ConfigError
from streamcore.files.template import TemplateError
from streamcore.files.yaml_file import is_mapping
from streamcore.files.yaml_model import FileModel, wrong
from streamcore.graph.expressions import check_condition
from streamcore.graph.node_schema import VerifyBlock, check_provider, check_thinking
from streamcore.prompts.prompt_file import ProviderBlock

START = "START"
END = "END"
METADATA = ("version", "name", "description", "exports")


_REFUSED_KEYS = {
    "observability": "set an observer in the program that runs the graph",
    "langsmith": "set an observer in the program that runs the graph",
    "verification": "use 'verify', whose checks are expressions",
    "pipelines": "write their steps as nodes",
    "pipeline": "write its steps as nodes",
}


class DefaultsBlock(FileModel):
    """`defaults:`, the values for nodes that do not set them."""

    provider: ProviderBlock | None = None
    model: str | None = None
    temperature: float | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    thinking_budget: int | None = Field(default=None, ge=0)
    on_overflow: Literal["error", "truncate"] = "error"
    prompts_relative: bool = False
    prompts_dir: str | None = None

    @model_validator(mode="after")
    def _sound(self) -> DefaultsBlock:
        check_thinking(self.thinking_budget)
        check_provider(self.provider, "provider")
        return self


class ConfigBlock(FileModel):
    """`config:`, limits of a run."""

    max_map_items: int = Field(default=100, ge=1)
    max_concurrency: int = Field(default=10, ge=1)
    timeout: float | None = Field(default=None, gt=0)
    recursion_limit: Any = None
    tool_load_mode: Any = None


class EdgeBlock(FileModel):
    """One entry of `edges:`."""

    from_: str = Field(alias="from")
    to: str | list[str]
    condition: str | None = None
    type: Literal["conditional"] | None = None

    @model_validator(mode="after")
    def _sound(self) -> EdgeBlock:
        if self.condition is not None:
            try:
                check_condition(self.condition)
            except TemplateError as error:
                raise wrong(str(error), "condition") from error
        return self

    def targets(self) -> list[str]:
        """Return the nodes that the edge leads to."""
        return [self.to] if isinstance(self.to, str) else self.to


class GraphFile(FileModel):
    """The keys of a graph file; each node and each tool is validated by the model of its type."""

    version: Any = None
    name: str | None = None
    description: str | None = None
    exports: Any = None
    suggestions: list[str] = Field(default_factory=list[str])
    prompts_relative: bool | None = None
    prompts_dir: str | None = None
    defaults: DefaultsBlock = Field(default_factory=DefaultsBlock)
    state: dict[str, Any] = Field(default_factory=dict[str, Any])
    variables: dict[str, Any] = Field(default_factory=dict[str, Any])
    data_files: dict[str, str] = Field(default_factory=dict[str, str])
    config: ConfigBlock = Field(default_factory=ConfigBlock)
    verify: list[VerifyBlock] = Field(default_factory=list[VerifyBlock])
    checkpointer: dict[str, Any] | None = None
    tools: dict[str, dict[str, Any]] = Field(default_factory=dict[str, dict[str, Any]])
    nodes: dict[str, dict[str, Any]] = Field(min_length=1)
    edges: list[EdgeBlock]
    loop_limits: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict[str, int])
    loop_exits: dict[str, str] = Field(default_factory=dict[str, str])

    @model_validator(mode="before")
    @classmethod
    def _refused(cls, data: Any) -> Any:
        for key in data if is_mapping(data) else ():
            if key in _REFUSED_KEYS:
                raise wrong(f"the key {key!r} is not supported: {_REFUSED_KEYS[key]}", key)
        return data

    @field_validator("checkpointer", mode="before")
    @classmethod
    def _of_url(cls, given: Any) -> Any:
        try:
            return of_url(given) if isinstance(given, str) else given
        except ConfigError as error:
            raise wrong(str(error)) from error

    @model_validator(mode="after")
    def _sound(self) -> GraphFile:
        for key, pattern in self.data_files.items():
            if "**" in pattern or pattern.startswith("/") or ".." in pattern.split("/"):
                raise wrong(
                    "expected a YAML file in the graph's folder, or a pattern such as data/*.yaml, without ** and ..",
                    "data_files",
                    key,
                )
        return self
