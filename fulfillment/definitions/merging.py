"""JSON merge patches (RFC 7386), and payloads that were corrected by them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Step = Mapping[str, Any]
"""{"replace": the whole payload} or {"merge": a JSON merge patch}."""


def merged(document: Any, patch: Any) -> Any:
    """The document with the patch applied: null takes a member away, lists are replaced."""
    if not isinstance(patch, Mapping):
        return patch
    found = dict(document) if isinstance(document, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


def corrected(document: Any, steps: Sequence[Step]) -> Any:
    """The document after every step; what begins with a replacement needs none."""
    for step in steps:
        document = step["replace"] if "replace" in step else merged(document, step["merge"])
    return document


def is_whole(steps: Sequence[Step]) -> bool:
    """Whether nothing is left of the document that they are applied to."""
    return bool(steps) and "replace" in steps[0]


def with_step(steps: Sequence[Step], step: Step) -> list[Step]:
    """The steps with one more; a replacement makes those before it needless."""
    return [step] if "replace" in step else [*steps, step]
