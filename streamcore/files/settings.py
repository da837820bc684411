"""Check dataclasses of settings that a call or a YAML file gives: declared once, with types and bounds, for both.

A field's metadata has `expected`, the end of the sentence "NAME is ..." in an error, and for numbers the bounds `gt`,
`ge` and `lt`. Values from Python are checked here; `streamcore.files.yaml_model.FromMapping` makes the model for YAML.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from streamcore.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

_WITHIN: Mapping[str, Callable[[Any, Any], bool]] = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt}


def from_mapping(kind: type[T], name: str, value: T | Mapping[str, Any]) -> T:
    """Return settings as an object; `name` is the argument or YAML key that they come from.

    Raises:
        ConfigError: a key is unknown, or a value is not valid.
    """
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is a mapping or {kind.__name__}, not {value!r}")
    given = dict[str, Any](value)
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError(f"{name}: unknown {', '.join(map(repr, unknown))}; known are {', '.join(known)}")
    return kind(**given)


def check_fields(settings: DataclassInstance, name: str) -> None:
    """Check the fields of settings against their types and bounds, as `__post_init__` does.

    Raises:
        ConfigError: a value is not valid; the message names it and what is expected.
    """
    kinds = _hints(type(settings))
    for field in fields(settings):
        value: object = getattr(settings, field.name)
        if not _fits(value, kinds[field.name], field.metadata):
            raise ConfigError(f"{name}: {field.name} is {field.metadata['expected']}, not {value!r}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: object, kind: Any, bounds: Mapping[str, Any]) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    kinds = get_args(kind) or (kind,)
    if value is None or isinstance(value, bool):
        return (NoneType if value is None else bool) in kinds
    if not isinstance(value, int | float) or not (int in kinds or float in kinds):
        return False
    if isinstance(value, float) and float not in kinds:
        return False
    return all(_WITHIN[name](value, bound) for name, bound in bounds.items() if name in _WITHIN)
