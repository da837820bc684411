"""Define the keys of a graph file: edges, defaults, and the blocks of nodes and tools."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from streamcore.files.template import TemplateError
from streamcore.files.yaml_model import FileModel, wrong
from streamcore.graph.expressions import check_condition
from streamcore.prompts.prompt_file import ProviderBlock

START = "START"
END = "END"
METADATA = ("version", "name", "description", "exports")


class DefaultsBlock(FileModel):
    """`defaults:`, the values for nodes that do not set them."""

    provider: ProviderBlock | None = None
    model: str | None = None
    temperature: float | None = Field(default=None, ge=0)
    prompts_relative: bool = False
    prompts_dir: str | None = None


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
    prompts_relative: bool | None = None
    prompts_dir: str | None = None
    defaults: DefaultsBlock = Field(default_factory=DefaultsBlock)
    state: dict[str, Any] = Field(default_factory=dict[str, Any])
    checkpointer: dict[str, Any] | None = None
    tools: dict[str, dict[str, Any]] = Field(default_factory=dict[str, dict[str, Any]])
    nodes: dict[str, dict[str, Any]] = Field(min_length=1)
    edges: list[EdgeBlock]
    loop_limits: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict[str, int])
    loop_exits: dict[str, str] = Field(default_factory=dict[str, str])
