"""Print the JSON Schema of a kind of file: `streamcore schema prompt`."""

from __future__ import annotations

from typing import Annotated

import typer

from streamcore.cli.output import put


def schema(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="prompt, graph or recording.")],
) -> None:
    """Print the JSON Schema of prompt, graph or recording files, with which editors complete and check YAML.

    Example: streamcore schema prompt > .streamcore/prompt.schema.json

    `streamcore init` writes these files into .streamcore/, and names them in the first line of what it writes:
    # yaml-language-server: $schema=.streamcore/graph.schema.json
    """
    from streamcore.cli.json_schemas import generate, kinds
    from streamcore.cli.output import bad_input

    for known in kinds():
        if kind == known:
            put(generate(known))
            return
    bad_input(f"there is no schema {kind!r}; give one of {', '.join(kinds())}")
