"""Whether what a target returned is what the task declares. Pure; nothing is coerced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from fulfillment.definitions.node_parts import Output
from fulfillment.errors import Fault

_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def kind_of(value: Any) -> str:
    """What a JSON value is, in the words of the language."""
    for kind in ("boolean", "integer", "number", "string", "list", "object"):
        if _CHECKS[kind](value):
            return kind
    return "null"


def output_faults(*, declared: Mapping[str, Output], returned: Mapping[str, Any]) -> list[Fault]:
    """Every declared output that is missing, null or of another type.

    Undeclared outputs are allowed: a target may say more than a workflow wants to know.
    """
    faults = []
    for name, output in declared.items():
        value = returned.get(name)
        if value is None:
            if not output.optional:
                message = f"{name!r} is missing, which the task declares."
                faults.append(Fault(code="output.missing", path=f"outputs.{name}", message=message))
        elif not _CHECKS[output.type](value):
            message = f"{name!r} should be {output.type}, but is {kind_of(value)}."
            faults.append(Fault(code="output.type", path=f"outputs.{name}", message=message))
    for end in sorted({one.valid_until for one in declared.values() if one.valid_until}):
        value = returned.get(end)
        if isinstance(value, str) and instant(value) is None:
            message = f"{end!r} should be an instant such as 2026-07-05T08:00:00Z, not {value!r}."
            faults.append(Fault(code="output.instant", path=f"outputs.{end}", message=message))
    return faults


def instant(value: Any) -> datetime | None:
    """An aware time in UTC from RFC 3339 text; None when it is no such text."""
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found.astimezone(UTC) if found.tzinfo is not None else None
