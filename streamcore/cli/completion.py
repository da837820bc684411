"""Complete names of prompts, providers and faults in the shell."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import typer


def prompts(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the prompts in the folder that the options or the environment name."""
    folder = Path(ctx.params.get("prompts_dir") or os.environ.get("STREAMCORE_PROMPTS_DIR") or "prompts")
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return _beginning(names, incomplete)


def providers(incomplete: str) -> list[str]:
    """Return the providers that are installed."""
    from streamcore.provider import provider_names

    return _beginning(provider_names(), incomplete)


def faults(incomplete: str) -> list[tuple[str, str]]:
    """Return the faults that the simulator plays, with their descriptions."""
    from streamcore.testing.faults.table import FAULTS

    return [
        (name, fault.says) for name, fault in FAULTS.items() if fault.place == "server" and name.startswith(incomplete)
    ]


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
