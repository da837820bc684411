"""Check the Node.js that the tests of JavaScript clients run on."""

from __future__ import annotations

import json

from tests.node_clients import FOLDER, NodeClients


def test_the_node_of_npm_runs_scripts_with_the_packages(node: NodeClients) -> None:
    wanted = json.loads((FOLDER / "package.json").read_text("utf-8"))["dependencies"]["ai"]
    assert node.run("versions.mjs", "ai") == {"node": 22, "package": wanted}


def test_the_lock_file_names_no_registry() -> None:
    packages = json.loads((FOLDER / "package-lock.json").read_text("utf-8"))["packages"]
    assert not [name for name, package in packages.items() if "resolved" in package]
