"""The JSON Schema of template files, for editors that check while one types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fulfillment.definitions.schema import WorkflowDefinition


def workflow_schema() -> dict[str, Any]:
    """Draft 2020-12. Which kind a task or dependency is, is told by its key, as the loader does:
    so an editor underlines what is wrong within it, and not all of it."""
    schema = WorkflowDefinition.model_json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_told_by_key(schema, schema["$defs"]),
    }


def _told_by_key(value: Any, models: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_told_by_key(member, models) for member in value]
    if not isinstance(value, dict):
        return value
    told = {name: _told_by_key(member, models) for name, member in value.items()}
    keys = _keys(value.get("oneOf", ()), models)
    if keys:
        del told["oneOf"]
        told["anyOf"] = [{"required": [key]} for key in keys]
        told["allOf"] = [
            {"if": {"required": [key]}, "then": alternative}
            for key, alternative in zip(keys, value["oneOf"], strict=True)
        ]
    return told


def _keys(alternatives: Any, models: Mapping[str, Any]) -> list[str]:
    """The required key of each alternative that no other has; empty when there is none."""
    found = []
    named = [models.get(str(one.get("$ref", "")).rpartition("/")[2]) for one in alternatives]
    for position, model in enumerate(named):
        if model is None:
            return []
        others = {
            key
            for place, other in enumerate(named)
            if place != position and other is not None
            for key in other["properties"]
        }
        own = [key for key in model["properties"] if key in model.get("required", ())]
        unique = [key for key in own if key not in others]
        if not unique:
            return []
        found.append(unique[0])
    return found
