"""The closed model that every part of a template is, and the kinds of text that stand in it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, JsonValue, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""Tasks, outputs, milestones, retry policies, actions."""
NameOrMapping = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$|\$\{", max_length=200)
]
"""A name, or a reference or an expression that gives one."""
DashedName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
"""Workflows and target systems."""
Offering = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$")]
OutputReference = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}\.[a-z][a-z0-9_]{0,62}$")
]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Condition = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]
"""A CEL expression that is true or false (docs/expressions.md)."""
Instructions = Annotated[
    str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)
]
ErrorCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,100}$")]
Input = dict[str, JsonValue]


class Closed(BaseModel):
    """No unknown keys, no changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)
