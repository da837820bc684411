"""Hook into the build of the documentation site: add pages from outside docs/, refuse what must not be published.

`mkdocs.yml` names this file; `make docs` runs it. Two things fail the build: a public name without a docstring, and a
page that would load something from another host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "examples/**/*")
PUBLIC = (
    "streamcore",
    "streamcore.checkpoints",
    "streamcore.errors",
    "streamcore.node_factory",
    "streamcore.observe",
    "streamcore.provider",
    "streamcore.relay",
    "streamcore.sse",
    "streamcore.sync",
    "streamcore.telemetry",
    "streamcore.testing",
    "streamcore.web",
)
"""The modules whose public names the reference shows."""
LISTING = re.compile(r"^\[[^\]]+\]\([^)]+\):\n<!-- listing: (\S+) -->$", re.MULTILINE)
"""A link to a file of the checkout, which GitHub shows; the site shows the file."""
EXTERNAL = re.compile(r"""<(?:script|link|img|iframe|source|video)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^>]*>""")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the changelog, the guide for contributors and the examples, which are outside docs/."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and not {"__pycache__", "node_modules", ".next"} & {*path.parts}:
                name = path.relative_to(ROOT).as_posix()
                files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that lead out of docs/, or back into it, at the pages that `on_files` added."""
    if page.file.src_uri.startswith("examples/agent/notes/"):  # data of the example, and no documentation
        page.meta["search"] = {"exclude": True}
    markdown = LISTING.sub(_listing, markdown)
    if page.file.generated_by is None:
        return re.sub(r"\]\(((?:\.\./)*)\.\./(CHANGELOG|CONTRIBUTING|examples/)", r"](\1\2", markdown)
    return re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown) + _sources(ROOT / page.file.src_uri)


def _listing(found: re.Match[str]) -> str:
    """Return the text of a file of the checkout in place of a link to it."""
    text = (ROOT / found[1]).read_text("utf-8")
    return f'```yaml title="{found[1]}"\n{text}```\n'


def _sources(page: Path) -> str:
    """Return the text of an example's files, which have the name of its page: the site has them to copy."""
    files = [path for suffix in (".py", ".html") if (path := page.with_suffix(suffix)).is_file()]
    return "".join(f"\n## {path.name}\n\n```{path.suffix[1:]}\n{path.read_text('utf-8')}```\n" for path in files)


def on_pre_build(config: MkDocsConfig) -> None:
    """Refuse a public name without a docstring."""
    missing = [path for name, found in public_names() for path in _undocumented(found, name)]
    if missing:
        raise PluginError("public names without a docstring:\n" + "\n".join(missing))


def public_names() -> Iterator[tuple[str, Any]]:
    """Yield the path of every public name, and what it names."""
    root: Any = griffe.load("streamcore", search_paths=[str(ROOT)])
    for module in PUBLIC:
        package = root[module.partition(".")[2]] if "." in module else root
        exported = package.exports
        for name, member in package.members.items():
            public = name in exported if exported is not None else member.is_public and not member.is_imported
            if public and "TypeVar" not in str(getattr(member, "value", "")):
                yield f"{module}.{name}", member.final_target if member.is_alias else member


def _undocumented(found: Any, path: str) -> Iterator[str]:
    if not found.has_docstring:
        yield path
    if found.is_class:
        for name, member in found.members.items():
            if member.is_public and not name.startswith("__") and (member.is_function or "property" in member.labels):
                yield from _undocumented(member, f"{path}.{name}")


shown: set[str] = set()
"""The names that the reference shows."""


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would load something from another host: readers may be offline."""
    if page.file.src_uri.startswith("reference/"):
        shown.update(path.rpartition(".")[2] for path in re.findall(r'id="(streamcore[\w.]*)"', output))
    found = EXTERNAL.search(re.sub(r'<link rel="(?:canonical|prev|next)"[^>]*>', "", output))
    if found is not None:
        raise PluginError(f"{page.file.src_uri} would load from another host: {found[0]}")
    return output


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a public name that the reference does not show."""
    missing = [name for name, _ in public_names() if name.rpartition(".")[2] not in shown]
    if missing:
        raise PluginError("public names that docs/reference does not show:\n" + "\n".join(missing))
