"""Check graph and prompt files without running them: `streamcore check FILE...`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamcore.cli.output import BAD_INPUT, note
from streamcore.cli.variables import Var, VarFile, VarsFile, gather
from streamcore.errors import ConfigError, GraphError

if TYPE_CHECKING:
    from streamcore.files.yaml_model import FileModel


def check(
    files: Annotated[list[Path], typer.Argument(help="Graph files, or prompt files.", metavar="FILE...")],
    var: Var = None,
    var_file: VarFile = None,
    vars_file: VarsFile = None,
    diagram: Annotated[bool, typer.Option("--mermaid", help="Print each graph as a Mermaid diagram.")] = False,
) -> None:
    """Check graph files with their prompts, or prompt files, without running anything.

    Example: streamcore check graphs/interview.yaml

    It finds unknown keys, types and providers, nodes that do not exist or are never reached, loops without a limit,
    missing prompts and variables. It imports the Python functions that prompt files name as tools. With --var it also
    finds the variables that a run with these values would lack. Prints a line for each problem, and exits with code 2
    if there is one.
    """
    problems = 0
    given = gather(var, var_file, vars_file) if var or var_file or vars_file else None
    for file in files:
        try:
            found = _problems(file, given)
        except ConfigError as error:
            found = str(error).splitlines()
        for problem in found:
            note(problem)
        problems += len(found)
        if diagram:
            _draw(file)
        elif not found:
            typer.echo(f"{file}: fine")
    if problems:
        note(f"{problems} problem{'' if problems == 1 else 's'} found")
        raise typer.Exit(BAD_INPUT)


def _problems(file: Path, given: Mapping[str, Any] | None) -> list[str]:
    from streamcore.files.yaml_file import is_mapping, load_yaml
    from streamcore.graph.check import check_graph, check_prompt
    from streamcore.graph.schema import GraphFile
    from streamcore.prompts.prompt_file import PromptFile, load_prompt

    data = load_yaml(file, GraphError).data
    keys = data.keys() if is_mapping(data) else set[str]()
    only_prompts, only_graphs = _keys(PromptFile) - _keys(GraphFile), _keys(GraphFile) - _keys(PromptFile)
    if not keys & only_graphs and keys & {*only_prompts, "provider", "model"}:
        prompt = load_prompt(file.stem, prompts_dir=file.parent)
        found = check_prompt(prompt)
        if given is not None:
            prompt.render(given, {})
        return found
    return check_graph(file, given)


def _keys(model: type[FileModel]) -> set[str]:
    """Return the keys that a file of this kind may have."""
    return {field.alias or name for name, field in model.model_fields.items()}


def _draw(file: Path) -> None:
    from streamcore.graph.load import load_graph
    from streamcore.graph.mermaid import mermaid

    try:
        typer.echo(mermaid(load_graph(file)), nl=False)
    except GraphError:
        return  # already reported
