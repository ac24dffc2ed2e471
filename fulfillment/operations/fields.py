"""The parameters of an operation one by one, as forms and command lines ask for them."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fulfillment.operations.repair import Repair


class FieldKind(enum.StrEnum):
    TEXT = "text"
    TIME = "time"
    INTEGER = "integer"
    NUMBER = "number"
    YES_NO = "yes or no"
    CHOICE = "choice"
    NUMBERS = "whole numbers"
    """Several, such as `10, 50`."""
    JSON = "JSON"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterField:
    """What a form has to know of one parameter."""

    name: str
    title: str
    help: str
    kind: FieldKind
    is_required: bool
    choices: tuple[str, ...] = ()
    default: Any = None


def fields_of(repair: Repair) -> list[ParameterField]:
    """In the order in which they are declared."""
    schema = repair.parameters.model_json_schema()
    definitions = schema.get("$defs", {})
    required = set(schema.get("required", ()))
    return [
        _field(name, spec, definitions, is_required=name in required)
        for name, spec in schema.get("properties", {}).items()
    ]


def parsed(field: ParameterField, text: str) -> Any:
    """What somebody has typed, as the operation takes it. Raises ValueError in plain words."""
    match field.kind:
        case FieldKind.TEXT | FieldKind.TIME | FieldKind.CHOICE:
            return text
        case FieldKind.YES_NO:
            words = {"true": True, "yes": True, "false": False, "no": False}
            if text.lower() not in words:
                raise ValueError(f"{field.name} is yes or no, and not {text!r}")
            return words[text.lower()]
        case FieldKind.INTEGER | FieldKind.NUMBER:
            try:
                return int(text) if field.kind is FieldKind.INTEGER else float(text)
            except ValueError:
                raise ValueError(f"{field.name} is a number, and not {text!r}") from None
        case FieldKind.NUMBERS if not text.lstrip().startswith("["):
            return numbers_of(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{field.name} is JSON, and {text[:60]!r} is none") from None


def numbers_of(text: str) -> list[int]:
    """`10, 50` as a list. Raises ValueError in plain words."""
    try:
        return [int(one) for one in text.replace(",", " ").split()]
    except ValueError:
        raise ValueError(f"{text[:60]!r} are no whole numbers, such as 10, 50") from None


def _field(
    name: str, spec: Mapping[str, Any], definitions: Mapping[str, Any], *, is_required: bool
) -> ParameterField:
    kind, choices = _kind(spec, definitions)
    return ParameterField(
        name=name,
        title=_title(name, spec),
        help=spec.get("description", ""),
        kind=kind,
        is_required=is_required,
        choices=choices,
        default=spec.get("default"),
    )


def _title(name: str, spec: Mapping[str, Any]) -> str:
    """The one that was given; else its name as the beginning of a sentence."""
    words = name.replace("_", " ")
    given = spec.get("title") or ""
    return words.capitalize() if given in ("", words.title()) else given


def _kind(
    spec: Mapping[str, Any], definitions: Mapping[str, Any]
) -> tuple[FieldKind, tuple[str, ...]]:
    if "$ref" in spec:
        return _kind(definitions[spec["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in spec:
        kinds = [_kind(one, definitions) for one in spec["anyOf"] if one.get("type") != "null"]
        if len(kinds) == 1:
            return kinds[0]
        # A decimal may be written as a number or as text: as text nothing of it is lost.
        simple = {FieldKind.NUMBER, FieldKind.INTEGER, FieldKind.TEXT}
        is_text = all(kind in simple for kind, _ in kinds)
        return (FieldKind.TEXT if is_text else FieldKind.JSON), ()
    if "enum" in spec or "const" in spec:
        values = spec["enum"] if "enum" in spec else [spec["const"]]
        return FieldKind.CHOICE, tuple(str(value) for value in values)
    match spec.get("type"), spec.get("format"):
        case "string", "date-time":
            return FieldKind.TIME, ()
        case "string", _:
            return FieldKind.TEXT, ()
        case "integer", _:
            return FieldKind.INTEGER, ()
        case "number", _:
            return FieldKind.NUMBER, ()
        case "boolean", _:
            return FieldKind.YES_NO, ()
        case "array", _ if spec.get("items", {}).get("type") == "integer":
            return FieldKind.NUMBERS, ()
    return FieldKind.JSON, ()
