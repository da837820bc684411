"""Check JSON Schemas, and data against them. The packages that do it are loaded with the first schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamcore.errors import ConfigError


def schema_validator(schema: Mapping[str, Any]) -> Any:
    """Return a validator for a JSON Schema; references to anything outside the schema are not followed.

    Raises:
        ConfigError: the schema is not valid.
    """
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    kind: Any = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        where = ".".join(map(str, error.absolute_path))
        raise ConfigError(
            f"the output schema is not a JSON Schema: {f'{where}: ' if where else ''}{error.message}"
        ) from error
    return kind(schema, registry=Registry())  # pyright: ignore[reportUnknownArgumentType]  empty: fetches nothing
