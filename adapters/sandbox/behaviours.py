"""Scripts: which command meets which misbehaviour."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator


class Kind(StrEnum):
    LATENCY = "latency"
    """Waits, then does it and answers."""
    STATUS = "status"
    """Answers with an HTTP status and an error."""
    REJECT = "reject"
    """Refuses for business reasons: nothing is done, and the status query says so."""
    HANG = "hang"
    """Never answers, and does nothing."""
    SUCCEED_THEN_TIMEOUT = "succeed_then_timeout"
    """Does it, then never answers."""
    CUT_CONNECTION = "cut_connection"
    """Does it, then closes the connection without an answer."""
    GARBAGE = "garbage"
    """Does it, then answers 200 with half a JSON document."""
    OVERSIZED = "oversized"
    """Does it, then answers 200 with 20 MB."""
    DRIP = "drip"
    """Does it, then sends its answer byte by byte."""
    ASYNCHRONOUS = "asynchronous"
    """Accepts, and reports by callback."""
    DUPLICATE_CALLBACK = "duplicate_callback"
    """Accepts, and reports the same event twice."""
    CALLBACK_BEFORE_ANSWER = "callback_before_answer"
    """Reports before it has answered that it accepts."""
    NEVER_CALL_BACK = "never_call_back"
    """Accepts and does it, but never reports; only the status query tells."""
    STEPWISE = "stepwise"
    """Accepts, works in steps and reports each of them; may die on the way."""


class Ending(StrEnum):
    """How an asynchronous command ends."""

    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    FAILED = "failed"


_IDLE = frozenset({Kind.STATUS, Kind.REJECT, Kind.HANG})
_MAY_CHOOSE_EFFECT = frozenset(
    {Kind.STATUS, Kind.HANG, Kind.GARBAGE, Kind.OVERSIZED, Kind.CUT_CONNECTION, Kind.DRIP}
)
ACCEPTING = frozenset(
    {
        Kind.ASYNCHRONOUS,
        Kind.DUPLICATE_CALLBACK,
        Kind.CALLBACK_BEFORE_ANSWER,
        Kind.NEVER_CALL_BACK,
        Kind.STEPWISE,
    }
)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Behaviour(_Model):
    kind: Kind
    latency_ms: Annotated[int, Field(ge=0, le=3_600_000)] | None = None
    """Before doing (latency), answering (status, reject), giving up the silence (hang,
    succeed_then_timeout), the next byte (drip) or the callback (the asynchronous ones)."""
    status: Annotated[int, Field(ge=300, le=599)] | None = None
    code: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    retry_after_seconds: Annotated[int, Field(ge=0)] | None = None
    effect: bool | None = None
    """Whether the side effect happens, where the kind leaves that open."""
    ending: Ending = Ending.SUCCEEDED
    steps: Annotated[int, Field(ge=1, le=1000)] = 4
    """Of stepwise; `latency_ms` is for one of them."""
    dies_after: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Steps after which nothing more is heard, and nobody knows of the key any longer."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.effect is not None and self.kind not in _MAY_CHOOSE_EFFECT:
            raise ValueError(
                f"effect can be chosen for {', '.join(sorted(_MAY_CHOOSE_EFFECT))} only"
            )
        if self.status is not None and self.kind not in (Kind.STATUS, Kind.REJECT):
            raise ValueError("status belongs to the kinds status and reject")
        if self.retry_after_seconds is not None and self.kind is not Kind.STATUS:
            raise ValueError("retry_after_seconds belongs to the kind status")
        if self.ending is not Ending.SUCCEEDED and self.kind not in ACCEPTING:
            raise ValueError("ending belongs to the asynchronous kinds")
        if self.dies_after is not None and self.kind is not Kind.STEPWISE:
            raise ValueError("dies_after belongs to the kind stepwise")
        return self

    @property
    def has_effect(self) -> bool:
        return self.kind not in _IDLE if self.effect is None else self.effect

    def latency_seconds(self, *, default: float) -> float:
        return default if self.latency_ms is None else self.latency_ms / 1000


class Match(_Model):
    """What is left out matches everything."""

    target: str | None = None
    action: str | None = None
    order: str | None = None
    attempt: Annotated[int, Field(ge=1)] | None = None


class Rule(_Model):
    match: Match = Match()
    times: Annotated[int, Field(ge=1)] | None = None
    """Used up after so many commands; None never is."""
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of keys that it applies to. A key always falls on the same side."""
    behaviour: Behaviour


RULES: TypeAdapter[list[Rule]] = TypeAdapter(Annotated[list[Rule], Field(max_length=1000)])


@dataclass(slots=True)
class Scripted:
    rule: Rule
    used: int = 0

    def document(self) -> dict[str, Any]:
        return {**self.rule.model_dump(mode="json", exclude_defaults=True), "used": self.used}


class Script:
    """The rules in their order; the first one that applies to a command decides."""

    def __init__(self, scripted: Iterable[Scripted] = ()) -> None:
        self.scripted = list(scripted)

    def choose(
        self, *, target: str, action: str, order: str, attempt: int, key: str
    ) -> tuple[int, Behaviour] | None:
        """Position and behaviour of the rule that applies, which is thereby used once more."""
        command = {"target": target, "action": action, "order": order, "attempt": attempt}
        for position, scripted in enumerate(self.scripted):
            rule = scripted.rule
            wanted = rule.match.model_dump(exclude_none=True)
            if any(command[name] != value for name, value in wanted.items()):
                continue
            if rule.times is not None and scripted.used >= rule.times:
                continue
            if _share(rule.behaviour.kind, key) >= rule.probability:
                continue
            scripted.used += 1
            return position, rule.behaviour
        return None


def _share(kind: Kind, key: str) -> float:
    """A number in [0, 1) that looks random across keys and is always the same for one."""
    digest = hashlib.sha256(f"{kind}:{key}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
