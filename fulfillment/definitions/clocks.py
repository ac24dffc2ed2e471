"""The clocks that a template sets: how long something may take, and what happens then (§13).

A time that is up says that no answer came, not that nothing happened. What a task may do then
depends on whether anything of it has been sent, so there is one action for each of the two.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from fulfillment.definitions.closed import Closed
from fulfillment.definitions.durations import (
    LONGEST,
    Duration,
    format_duration,
    parse_duration,
    plain_seconds,
    validated_duration,
)

CLOCKS = (
    "call",
    "callback",
    "start_to_close",
    "schedule_to_start",
    "schedule_to_close",
    "heartbeat",
)
Report = Callable[[str, str, str], None]
_SHORTEST_SECONDS = 0.001
"""As ISO 8601 text is read; what is shorter would be no time at all."""


class WhenSent(enum.StrEnum):
    """What follows when it may have happened."""

    RESOLVE = "resolve"
    """The target is asked, or sent the same key again, or a person looks: what it can do."""
    RETRY = "retry"
    """The same key is sent again without asking; only where the target deduplicates."""
    ESCALATE = "escalate"
    """A person looks it up."""


class WhenUnsent(enum.StrEnum):
    """What follows when nothing has happened, for certain."""

    ESCALATE = "escalate"
    """A person is told; it goes on being tried."""
    CANCEL = "cancel"
    """It is given up: its fallback is taken, or it fails."""


def _validated(value: Any) -> timedelta | str:
    return value if is_computed(value) else validated_duration(value)


def is_computed(value: Any) -> bool:
    """Whether a time is a mapping that is evaluated while the order runs."""
    return isinstance(value, str) and value.startswith("${")


def seconds_of(value: Any) -> float:
    """What a computed time comes to: seconds, or ISO 8601 text. Raises ValueError."""
    if isinstance(value, str):
        return plain_seconds(parse_duration(value))
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not usable or not _SHORTEST_SECONDS <= value <= LONGEST.total_seconds():
        raise ValueError(
            f"{value!r} is no time; seconds are from {_SHORTEST_SECONDS} to those of "
            f"{LONGEST.days} days"
        )
    return float(value)


Time = Annotated[
    timedelta | str,
    BeforeValidator(_validated),
    PlainSerializer(
        lambda value: value if isinstance(value, str) else format_duration(value), return_type=str
    ),
    WithJsonSchema({"type": "string", "examples": ["PT30S", "${plan.in_jeopardy ? 10 : 30}"]}),
]
"""A duration, or a mapping whose value is one: ISO 8601 text, or a number of seconds."""


class TimeoutSpec(Closed):
    call: Time = timedelta(seconds=10)
    """Total deadline of one call, from connect to the last byte."""
    callback: Time = timedelta(minutes=5)
    """How long a task that the target accepted may wait for its report."""
    start_to_close: Time | None = None
    """From a send to its result, the call and the report together; anew for each send."""
    schedule_to_start: Time | None = None
    """From when it may be sent to its first send."""
    schedule_to_close: Time | None = None
    """From when it may be sent to its end, over all attempts."""
    heartbeat: Time | None = None
    """Between two signs of life of a task that the target accepted."""
    when_sent: WhenSent = WhenSent.RESOLVE
    when_unsent: WhenUnsent = WhenUnsent.ESCALATE

    @property
    def computed(self) -> dict[str, str]:
        """Those that are evaluated while the order runs, by name."""
        found = {name: getattr(self, name) for name in CLOCKS}
        return {name: value for name, value in found.items() if isinstance(value, str)}


class DeadlineSpec(Closed):
    """By when the whole plan shall be done; a person is told when it is not."""

    within: Duration


class Standing(enum.StrEnum):
    """What the clocks that a customer was promised do meanwhile."""

    RUN = "run"
    STOP = "stop"


_NEVER_SHORTER = (
    ("start_to_close", "call"),
    ("schedule_to_close", "call"),
    ("schedule_to_close", "schedule_to_start"),
    ("schedule_to_close", "start_to_close"),
    ("callback", "heartbeat"),
    ("start_to_close", "heartbeat"),
    ("schedule_to_close", "heartbeat"),
)
"""(longer, shorter): otherwise the shorter one would never run out, or always too early."""


def check_timeouts(path: str, timeouts: TimeoutSpec, report: Report) -> None:
    """Clocks that contradict each other, and an action that nothing would ever lead to."""
    for longer, shorter in _NEVER_SHORTER:
        outer, inner = getattr(timeouts, longer), getattr(timeouts, shorter)
        known = isinstance(outer, timedelta) and isinstance(inner, timedelta)
        if known and outer < inner:
            message = (
                f"{longer} ({format_duration(outer)}) is shorter than {shorter} "
                f"({format_duration(inner)}); make it at least as long."
            )
            report("timeout_order", f"{path}.{longer}", message)
    if timeouts.when_unsent is WhenUnsent.CANCEL and not (
        timeouts.schedule_to_start or timeouts.schedule_to_close
    ):
        message = "Nothing is cancelled without schedule_to_start or schedule_to_close."
        report("timeout_unused", f"{path}.when_unsent", message)
