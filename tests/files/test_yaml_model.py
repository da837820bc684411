"""Test the error for a YAML file that does not fit its model: file, line, key, what was expected, a suggestion."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, model_validator

from streamcore.files.yaml_file import parse_yaml
from streamcore.files.yaml_model import FileModel, did_you_mean, validate, wrong


class Leaf(FileModel):
    text: str = ""
    number: float = Field(default=1, ge=0)
    kind: Literal["red", "green"] = "red"
    either: str | list[str] | None = None
    flag: bool = False


class Tree(FileModel):
    leaf: Leaf | None = None
    leaves: list[Leaf] = Field(default_factory=list[Leaf])
    named: dict[str, Leaf] = Field(default_factory=dict)
    rest: dict[str, list[Leaf]] = Field(default_factory=dict)
    class_: str = Field(default="", alias="class")
    needed: int

    @model_validator(mode="after")
    def _small(self) -> Tree:
        if self.needed > 9:
            raise wrong("that is too many", "needed")
        if self.needed == 9:
            raise ValueError("nine never")
        return self


BRACKET = "a text that begins with a bracket must be in quotes or in a block (key: |)"


def said(text: str) -> list[str]:
    with pytest.raises(LookupError) as caught:
        validate(Tree, parse_yaml(Path("tree.yaml"), text.encode(), ValueError), LookupError)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("needed: 1\nleef: {}", ["tree.yaml:2: unknown key 'leef'; did you mean 'leaf'?"]),
        ("needed: 1\nCLASS: x", ["tree.yaml:2: unknown key 'CLASS'; did you mean 'class'?"]),
        ("needed: 1\nclass_: x", ["tree.yaml:2: unknown key 'class_'; did you mean 'class'?"]),
        ("needed: 1\nqqq: 1", ["tree.yaml:2: unknown key 'qqq'; known are leaf, leaves, named, rest, class, needed"]),
        ("needed: 1\nleaf:\n  txt: x", ["tree.yaml:3: unknown key 'leaf.txt'; did you mean 'text'?"]),
        (
            "needed: 1\nleaves:\n  - text: x\n    nmber: 1",
            ["tree.yaml:4: unknown key 'leaves.0.nmber'; did you mean 'number'?"],
        ),
        ("needed: 1\nnamed:\n  a:\n    kid: x", ["tree.yaml:4: unknown key 'named.a.kid'; did you mean 'kind'?"]),
        ("needed: 1\nrest:\n  a:\n  - flagg: x", ["tree.yaml:4: unknown key 'rest.a.0.flagg'; did you mean 'flag'?"]),
        ("leaf: {}", ["tree.yaml:1: the key 'needed' is missing"]),
        ("needed: 1.5", ["tree.yaml:1: needed: expected a whole number, not 1.5"]),
        ("needed: '1'", ["tree.yaml:1: needed: expected a whole number, not '1'"]),
        ("needed:", ["tree.yaml:1: needed: expected a whole number, but there is nothing"]),
        ("needed: 10", ["tree.yaml:1: needed: that is too many"]),
        ("needed: 9", ["tree.yaml:1: nine never"]),
        ("needed: 1\n2: 3", ["tree.yaml:2: a key is text, not 2"]),
        ("- a", ["tree.yaml:1: expected a mapping (key: value), not a list"]),
        ("", ["tree.yaml:1: expected a mapping (key: value), but there is nothing"]),
        ("needed: 1\nleaf: {text: 5}", ["tree.yaml:2: leaf.text: expected text, not 5; put it in quotes"]),
        ("needed: 1\nleaf: {text: true}", ["tree.yaml:2: leaf.text: expected text, not true; put it in quotes"]),
        (
            "needed: 1\nleaf:\n  text: {name}",
            [f"tree.yaml:3: leaf.text: expected text, not a mapping; {BRACKET}"],
        ),
        ("needed: 1\nleaf:\n  text:\n    a: b", ["tree.yaml:3: leaf.text: expected text, not a mapping"]),
        ("needed: 1\nleaf: {number: -1}", ["tree.yaml:2: leaf.number: expected at least 0, not -1"]),
        ("needed: 1\nleaf: {number: .nan}", ["tree.yaml:2: leaf.number: expected a finite number, not nan"]),
        ("needed: 1\nleaf: {number: yes}", ["tree.yaml:2: leaf.number: expected a number, not 'yes'"]),
        ("needed: 1\nleaf: {flag: yes}", ["tree.yaml:2: leaf.flag: expected true or false, not 'yes'"]),
        ("needed: 1\nleaf: {kind: blue}", ["tree.yaml:2: leaf.kind: expected 'red' or 'green', not 'blue'"]),
        (
            "needed: 1\nleaf: {either: 5}",
            ["tree.yaml:2: leaf.either: expected text or a list, not 5; put it in quotes"],
        ),
        (
            "needed: 1\nleaf:\n  either:\n    - a\n    - 5",
            ["tree.yaml:5: leaf.either.1: expected text, not 5; put it in quotes"],
        ),
        ("needed: 1\nleaves: 5", ["tree.yaml:2: leaves: expected a list, not 5"]),
        (
            "leaf: {text: 5}\nlef: 1\nneeded: x",
            [
                "tree.yaml:1: leaf.text: expected text, not 5; put it in quotes",
                "tree.yaml:2: unknown key 'lef'; did you mean 'leaf'?",
                "tree.yaml:3: needed: expected a whole number, not 'x'",
            ],
        ),
        ("needed: " + "x" * 100, ["tree.yaml:1: needed: expected a whole number, not '" + "x" * 56 + "..."]),
    ],
)
def test_messages(text: str, lines: list[str]) -> None:
    assert said(text) == lines


def test_a_fitting_file_is_the_model() -> None:
    source = parse_yaml(Path("tree.yaml"), b"needed: 1\nclass: x\nleaf: {either: [a]}", ValueError)
    assert validate(Tree, source, LookupError) == Tree.model_validate(
        {"needed": 1, "class": "x", "leaf": Leaf(either=["a"])}
    )


@pytest.mark.parametrize(
    ("word", "hint"), [("gret", "; did you mean 'greet'?"), ("GREET", "; did you mean 'greet'?"), ("x", "")]
)
def test_did_you_mean(word: str, hint: str) -> None:
    assert did_you_mean(word, ["chat", "greet"]) == hint
