"""Say how each family of models is asked to reason: the Converse API has one field, and models have their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from streamcore.provider import Vendor

_FAMILY = re.compile(r"(?:^|[./])(anthropic|amazon|openai)\.([a-z0-9-]+)")
"""In an id, one of a cross-region profile (`us.anthropic.claude-...`), or an ARN that ends in either."""
_EFFORTS: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("low", "medium", "high", "xhigh", "max"),
    "amazon": ("low", "medium", "high"),
    "openai": ("minimal", "low", "medium", "high", "xhigh"),
    "": ("low", "medium", "high", "xhigh", "max"),
}


def reasoning_fields(effort: str | int, model: str, vendor: Vendor) -> dict[str, Any]:
    """Return the keys of the body that ask this model to reason.

    Models of Anthropic, Amazon and OpenAI have fields of their own; all others get `outputConfig.effort`.

    Raises:
        ConfigError: this family of models cannot be asked for this effort.
    """
    found = _FAMILY.search(model)
    family, name = (found[1], found[2]) if found else ("", "")
    if isinstance(effort, int):
        if family != "anthropic":
            raise vendor.unsupported(f"reasoning={effort} to {model!r}", "only Anthropic's models have a token budget")
        return _model_fields(thinking={"type": "enabled", "budget_tokens": effort})
    if effort == "none" and family in ("anthropic", "amazon"):
        key = "thinking" if family == "anthropic" else "reasoningConfig"
        return _model_fields(**{key: {"type": "disabled"}})
    if effort not in _EFFORTS[family]:
        known = ", ".join(map(repr, _EFFORTS[family]))
        raise vendor.unsupported(f"reasoning={effort!r} to {model!r}", f"give one of {known}")
    if family == "anthropic":
        return _model_fields(thinking={"type": "adaptive"}, output_config={"effort": effort})
    if family == "amazon":
        return _model_fields(reasoningConfig={"type": "enabled", "maxReasoningEffort": effort})
    if family == "openai":
        open_weights = name.startswith("gpt-oss")
        return _model_fields(**({"reasoning_effort": effort} if open_weights else {"reasoning": {"effort": effort}}))
    return {"outputConfig": {"effort": effort}}


def _model_fields(**fields: Any) -> dict[str, Any]:
    return {"additionalModelRequestFields": fields}
