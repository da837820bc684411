"""Check graph and prompt files without running them: `streamcore check FILE...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamcore.cli.output import BAD_INPUT, note
from streamcore.errors import ConfigError, GraphError


def check(
    files: Annotated[list[Path], typer.Argument(help="Graph files, or prompt files.", metavar="FILE...")],
    diagram: Annotated[bool, typer.Option("--mermaid", help="Print each graph as a Mermaid diagram.")] = False,
) -> None:
    """Check graph files with their prompts, or prompt files, without running anything.

    Example: streamcore check graphs/interview.yaml

    Found are unknown keys and types, nodes that nothing leads to or that do not exist, loops without a limit, prompts
    and variables that are missing. Exit code 2 if there is anything, with a list, a line each.
    """
    problems = 0
    for file in files:
        try:
            found = _problems(file)
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


def _problems(file: Path) -> list[str]:
    from streamcore.files.yaml_file import is_mapping, load_yaml
    from streamcore.graph.check import check_graph
    from streamcore.prompts.prompt_file import load_prompt

    data = load_yaml(file, GraphError).data
    if is_mapping(data) and "nodes" not in data and data.keys() & {"user", "template", "system"}:
        load_prompt(file.stem, prompts_dir=file.parent)
        return []
    return check_graph(file)


def _draw(file: Path) -> None:
    from streamcore.graph.load import load_graph
    from streamcore.graph.mermaid import mermaid

    try:
        typer.echo(mermaid(load_graph(file)), nl=False)
    except GraphError:
        return  # it has been told
