"""Write `conventions.json`: the parts of OpenTelemetry's GenAI conventions that the tests compare with.

Usage: python tests/telemetry/make_conventions.py CHECKOUT, a checkout of open-telemetry/semantic-conventions at the tag
v1.41.1, the last one whose `model/gen-ai` has definitions; later ones are in a repository of their own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

VERSION = "1.41.1"
PLACE = Path(__file__).with_name("conventions.json")
SPANS = (
    "span.gen_ai.inference.client",
    "span.gen_ai.invoke_agent.internal",
    "span.gen_ai.execute_tool.internal",
    "span.gen_ai.invoke_workflow.internal",
)
METRICS = "metric.gen_ai.client."


def _groups(folder: Path) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted(folder.glob("*.yaml")):
        found |= {group["id"]: group for group in yaml.safe_load(path.read_text("utf-8")).get("groups", [])}
    return found


def _types(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the type of each attribute; of an enumeration its values."""
    found: dict[str, Any] = {}
    for group in groups.values():
        for attribute in group.get("attributes", ()):
            if "id" in attribute:
                kind = attribute["type"]
                values = attribute["type"]["members"] if not isinstance(kind, str) else ()
                found[attribute["id"]] = kind if isinstance(kind, str) else [one["value"] for one in values]
    return found


def _attributes(group: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return how each attribute of a group is required, those of the groups that it extends included."""
    found = _attributes(groups[group["extends"]], groups) if "extends" in group else {}
    for attribute in group.get("attributes", ()):
        level = attribute.get("requirement_level", found.get(attribute.get("ref"), "recommended"))
        found[attribute["ref"]] = level if isinstance(level, str) else next(iter(level))
    return found


def main(checkout: Path) -> None:
    """Write the file."""
    groups = _groups(checkout / "model" / "gen-ai")
    types = _types(groups) | {"error.type": "string", "server.address": "string", "server.port": "int"}
    spans = {
        name: {"kind": groups[name]["span_kind"], "attributes": _attributes(groups[name], groups)} for name in SPANS
    }
    metrics = {
        group["metric_name"]: {
            "instrument": group["instrument"],
            "unit": group["unit"],
            "attributes": _attributes(group, groups),
        }
        for name, group in groups.items()
        if name.startswith(METRICS)
    }
    data = {"version": VERSION, "attributes": types, "spans": spans, "metrics": metrics}
    PLACE.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
