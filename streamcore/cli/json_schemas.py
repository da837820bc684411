"""Generate the JSON Schemas of prompt, graph and recording files, with which editors complete and check them.

The schemas come from the models that read the files. `RULES` adds what the validators of those models refuse beyond
types, as far as JSON Schema can say it; the names of models and validators lead from one to the other. What refers to
other places, as the name of a node in an edge, or needs a parser, as an expression, only `streamcore check` finds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any, Literal, cast

from pydantic import BaseModel

from streamcore.files.yaml_file import is_list, is_mapping
from streamcore.graph.node_schema import IN_A_MAP, NODES
from streamcore.graph.schema import GraphFile
from streamcore.graph.tool_schema import TOOLS
from streamcore.prompts.prompt_file import PromptFile
from streamcore.testing.recordings.recording_file import RecordingFile

Kind = Literal["prompt", "graph", "recording"]
Schema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The draft that editors know best."""
_MODELS: Mapping[str, type[BaseModel]] = {"prompt": PromptFile, "graph": GraphFile, "recording": RecordingFile}
_FOLDER = "schemas"

_TEXT: Schema = {"type": "string"}
_PRESENT: Schema = {"not": {"type": "null"}}
_BASE64: Schema = {"type": "string", "pattern": r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"}


def schema_text(kind: Kind) -> str:
    """Return the JSON Schema of a kind of file as it is shipped."""
    return (files("streamcore.files") / _FOLDER / file_name(kind)).read_text("utf-8")


def file_name(kind: Kind) -> str:
    """Return the name under which a schema is shipped, and written by `streamcore init`."""
    return f"{kind}.schema.json"


def generate(kind: Kind) -> str:
    """Return the JSON Schema of a kind of file, made from its models."""
    model = _MODELS[kind]
    schema = model.model_json_schema(by_alias=True)
    definitions: dict[str, Schema] = schema.pop("$defs", {})
    if kind == "graph":
        definitions |= _node_definitions()
    for name, found in {**definitions, model.__name__: schema}.items():
        for rule in RULES.get(name, ()):
            rule(found)
    whole = {"$schema": DRAFT, "title": f"streamcore {kind} file", **_tidy(schema)}
    whole["definitions"] = {name: _tidy(definitions[name]) for name in sorted(definitions)}
    text = json.dumps(whole, indent=2, ensure_ascii=False)
    return text.replace('"#/$defs/', '"#/definitions/') + "\n"


def _node_definitions() -> dict[str, Schema]:
    """Return the definitions of every type of node, and of what they refer to."""
    found: dict[str, Schema] = {}
    for model in NODES.values():
        schema = model.model_json_schema(by_alias=True)
        found |= schema.pop("$defs", {})
        found[model.__name__] = schema
    for tool in TOOLS.values():
        found[tool.__name__] = tool.model_json_schema(by_alias=True)
    return {**found, "Node": _by_type(tuple(NODES)), "MapItem": _by_type(IN_A_MAP), "Tool": _tool()}


def _tool() -> Schema:
    """Return the schema of a tool; without a type it is a shell tool if it has a command, else a python tool."""
    branches: list[Schema] = []
    for kind, model in TOOLS.items():
        is_kind: Schema = {"properties": {"type": {"const": kind}}, "required": ["type"]}
        branches.append({"if": is_kind, "then": {"$ref": f"#/$defs/{model.__name__}"}})
    untyped: Schema = {"not": {"required": ["type"]}}
    by_command: Schema = {
        "if": {"required": ["command"]},
        "then": {"$ref": "#/$defs/ShellToolBlock"},
        "else": {"$ref": "#/$defs/PythonToolBlock"},
    }
    return {
        "type": "object",
        "properties": {"type": {"enum": [*TOOLS]}, "manifest": False},
        "allOf": [*branches, {"if": untyped, "then": by_command}],
    }


def _by_type(kinds: tuple[str, ...]) -> Schema:
    """Return the schema of a node that may have these types; without a type it is an llm node."""

    def branch(kind: str) -> Schema:
        is_kind: Schema = {"properties": {"type": {"const": kind}}}
        if kind != "llm":
            is_kind["required"] = ["type"]
        return {"if": is_kind, "then": {"$ref": f"#/$defs/{NODES[kind].__name__}"}}

    return {
        "type": "object",
        "properties": {"type": {"enum": list(kinds), "default": "llm"}},
        "allOf": [branch(kind) for kind in kinds],
    }


def _tidy(value: Any) -> Any:
    """Return a schema without pydantic's titles, and with descriptions of one paragraph."""
    if is_list(value):
        return [_tidy(item) for item in value]
    if not is_mapping(value):
        return value
    tidy: Schema = {}
    for key, inner in value.items():
        if key in ("properties", "$defs", "definitions") and is_mapping(inner):
            tidy[key] = {name: _tidy(one) for name, one in inner.items()}
        elif key == "description" and isinstance(inner, str):
            tidy[key] = re.sub(r"\s+", " ", inner.partition("\n\n")[0])
        elif not (key == "title" and isinstance(inner, str)) and not (key == "default" and inner is None):
            tidy[key] = _tidy(inner)
    return tidy


# Rules


def _add(*rules: Schema) -> Callable[[Schema], None]:
    """Return a rule that adds schemas which must all be valid."""
    return lambda schema: schema.setdefault("allOf", []).extend(rules)


def _exactly_one(*keys: str, type_: Schema = _TEXT) -> Schema:
    """Return the schema of an object that has one of the keys with a value; null is none."""
    return {"oneOf": [{"required": [key], "properties": {key: type_}} for key in keys]}


def _not_both(*keys: str) -> Schema:
    return {"not": {"required": [*keys], "properties": dict.fromkeys(keys, _PRESENT)}}


def _property(name: str, **more: Any) -> Callable[[Schema], None]:
    """Return a rule that adds keywords to a property."""
    return lambda schema: schema["properties"][name].update(more)


def _replaced(name: str, schema: Schema) -> Callable[[Schema], None]:
    """Return a rule that puts another schema in the place of a property's."""
    return lambda whole: whole["properties"].update({name: schema})


_GENERIC = r"(?:list|dict)\s*\[.*\]"
_KINDS: Mapping[str, tuple[str, Schema, tuple[str, ...]]] = {
    # For types of a field: how they are written, what a default must be, which constraints go with them.
    "text": ("str", {"type": "string"}, ("min_length", "max_length", "pattern")),
    "whole number": ("int", {"type": "integer"}, ("ge", "le", "gt", "lt")),
    "number": ("float", {"type": "number"}, ("ge", "le", "gt", "lt")),
    "true or false": ("bool", {"type": "boolean"}, ()),
    "anything": ("[Aa]ny", {}, ()),
    "list": (r"list(?:\s*\[.*\])?", {"type": "array"}, ("min_length", "max_length")),
    "mapping": (r"dict(?:\s*\[.*\])?", {"type": "object"}, ("min_length", "max_length")),
}


def _fields_by_type(schema: Schema) -> None:
    """Add what `SchemaField._known` and `._fitting` refuse."""
    _property("type", pattern=rf"^\s*(?:str|int|float|bool|[Aa]ny|list|dict|{_GENERIC})\s*$")(schema)
    for written, default, constraints in _KINDS.values():
        fitting = {"propertyNames": {"enum": list(constraints)}} if constraints else {"maxProperties": 0}
        then = {"properties": {"constraints": fitting, "default": {"anyOf": [default, {"type": "null"}]}}}
        is_type = {"properties": {"type": {"type": "string", "pattern": rf"^\s*{written}\s*$"}}, "required": ["type"]}
        _add({"if": is_type, "then": then})(schema)


def _prompt_tool(schema: Schema) -> None:
    """Add what `PromptToolBlock` refuses: settings of tools that run beside others, and none or two of the kinds."""
    running = ("timeout", "needs_approval", "sequential", "retries", "idempotent")
    only: Schema = {"properties": {"mcp": _PRESENT}, "required": ["mcp"], "maxProperties": 1}
    python: Schema = {"properties": {"python": _TEXT, "mcp": {"type": "null"}}, "required": ["python"]}
    plain: Schema = {"properties": {"name": _TEXT, "python": {"type": "null"}, "mcp": {"type": "null"}}}
    _add(
        {
            "oneOf": [
                only,
                {**python, "not": {"required": ["parameters"]}},
                {**plain, "required": ["name"], "not": {"anyOf": [{"required": [key]} for key in running]}},
            ]
        }
    )(schema)


def _checkpointer() -> Schema:
    """Return what `open_checkpointer` accepts; a text may name environment variables."""
    text = {"type": "string", "minLength": 1}
    ttl = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}, text]}
    redis: Schema = {
        "properties": {"type": {}, "url": text, "ttl": ttl, "prefix": text},
        "required": ["url"],
        "additionalProperties": False,
    }
    by_type: Mapping[str, Schema] = {
        "memory": {"properties": {"type": {}}, "additionalProperties": False},
        "sqlite": {"properties": {"type": {}, "path": text}, "required": ["path"], "additionalProperties": False},
        "redis": redis,
        "redis-simple": redis,
        "postgres": {
            "properties": {"type": {}, "url": text, "schema": text},
            "required": ["url"],
            "additionalProperties": False,
        },
    }
    branches = [
        {"if": {"properties": {"type": {"const": kind}}, "required": ["type"]}, "then": schema}
        for kind, schema in by_type.items()
    ]
    known: Schema = {"type": "object", "properties": {"type": {"enum": [*by_type]}}, "required": ["type"]}
    url = {"type": "string", "pattern": "^(postgres|postgresql|rediss?(\\+cluster)?|unix|sqlite)://."}
    return {"anyOf": [{**known, "allOf": branches}, url, {"type": "null"}]}


_FALLBACK: Schema = {
    "if": {"properties": {"on_error": {"const": "fallback"}}, "required": ["on_error"]},
    "then": {
        "required": ["fallback"],
        "properties": {"fallback": {"anyOf": [{"type": "object"}, {"type": "array", "minItems": 1}]}},
    },
}


def _without(*keys: str) -> Schema:
    return {"not": {"anyOf": [{"required": [key]} for key in keys]}}


_NO_SINGLE_MODEL = _without("provider", "model", "fallback")
_WITH_CANDIDATES: Schema = {"required": ["candidates"], "properties": {"candidates": {"type": "array"}}}
_NAMES: Schema = {"propertyNames": {"not": {"enum": ["START", "END"]}}}
_FROM_START: Schema = {"contains": {"properties": {"from": {"const": "START"}}, "required": ["from"]}}

RULES: Mapping[str, tuple[Callable[[Schema], None], ...]] = {
    "PromptFile": (_add(_exactly_one("user", "template"), _not_both("schema", "output_schema")),),
    "PromptToolBlock": (_prompt_tool, _property("python", pattern=r"^.+:[^\W\d]\w*$")),
    "McpBlock": (
        _add(
            _exactly_one("command", "url", type_=_PRESENT),
            *(_not_both(*keys) for keys in (("url", "env"), ("url", "cwd"), ("command", "headers"))),
        ),
    ),
    "SchemaBlock": (_property("fields", propertyNames={"not": {"pattern": "^_"}}),),
    "SchemaField": (_fields_by_type,),
    "Constraints": (_property("pattern", format="regex"),),
    "LlmNode": (_add(_FALLBACK),),
    "RouterNode": (_add(_FALLBACK, {"if": _WITH_CANDIDATES, "then": _NO_SINGLE_MODEL}),),
    "RaceNode": (_add(_NO_SINGLE_MODEL, _without("guards", "cache")),),
    "InterruptNode": (
        _add(_FALLBACK, _without("guards", "cache", "timeout"), _exactly_one("message", "prompt", type_=_PRESENT)),
    ),
    "MapNode": (_replaced("node", {"$ref": "#/$defs/MapItem"}),),
    "PythonToolBlock": (_add(_exactly_one("module", "path")),),
    "GraphFile": (
        _property("nodes", additionalProperties={"$ref": "#/$defs/Node"}, **_NAMES),
        _property("edges", **_FROM_START),
        _property("tools", additionalProperties={"$ref": "#/$defs/Tool"}),
        _replaced("checkpointer", _checkpointer()),
    ),
    "ReadBlock": (_add(_exactly_one("text", "base64")), _replaced("base64", {"anyOf": [_BASE64, {"type": "null"}]})),
    "RequestBlock": (
        _add(_not_both("body", "body_base64")),
        _replaced("body_base64", {"anyOf": [_BASE64, {"type": "null"}]}),
    ),
}
"""For each model, what to add to its schema."""


def kinds() -> tuple[Kind, ...]:
    """Return the kinds of files that have a schema."""
    return cast("tuple[Kind, ...]", tuple(_MODELS))
