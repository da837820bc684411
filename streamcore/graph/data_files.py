"""Give a graph's state its first values: `variables`, and the YAML files that `data_files` names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamcore.errors import GraphError
from streamcore.files.yaml_file import load_yaml
from streamcore.graph.load import Graph


def read_data_files(graph: Graph) -> dict[str, Any]:
    """Return the data of each key of `data_files`: a file's, or for a pattern `{name: data}` by the files' names.

    Raises:
        GraphError: a file is missing, not valid, or not in the graph's folder.
    """
    found: dict[str, Any] = {}
    for key, written in graph.file.data_files.items():
        where = f"{graph.path}:{graph.source.line(('data_files', key))}: data_files.{key}"
        folder = graph.path.parent
        if "*" in written or "?" in written:
            paths = sorted(path for path in folder.glob(written) if path.is_file())
            found[key] = {path.stem: _read(path, folder, where) for path in paths}
        elif not (folder / written).is_file():
            raise GraphError(f"{where}: there is no file {folder / written}")
        else:
            found[key] = _read(folder / written, folder, where)
    return found


def _read(path: Path, folder: Path, where: str) -> Any:
    if not path.resolve().is_relative_to(folder.resolve()):
        raise GraphError(f"{where}: {path} leads out of the graph's folder")
    data = load_yaml(path, GraphError).data
    return {} if data is None else data
