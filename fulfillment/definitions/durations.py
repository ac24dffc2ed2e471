"""Durations as ISO 8601 writes them, in the units that have a fixed length."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

LONGEST = timedelta(days=366)
PATTERN = (
    r"^P(?=[0-9T])(?:(?P<weeks>[0-9]{1,4})W)?(?:(?P<days>[0-9]{1,4})D)?"
    r"(?:T(?=[0-9])(?:(?P<hours>[0-9]{1,6})H)?(?:(?P<minutes>[0-9]{1,7})M)?"
    r"(?:(?P<seconds>[0-9]{1,9}(?:\.[0-9]{1,3})?)S)?)?$"
)
_ISO_8601 = re.compile(PATTERN)


def parse_duration(text: str) -> timedelta:
    """`PT15M`, `P2D`, `P1DT12H`, `PT0.5S`: above zero and at most 366 days.

    Years and months are refused because their length varies. Raises ValueError.
    """
    match = _ISO_8601.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a duration; write ISO 8601 in weeks, days, hours, minutes or "
            "seconds, such as PT30S, PT15M or P2D"
        )
    duration = timedelta(**{unit: float(count) for unit, count in match.groupdict("0").items()})
    if not timedelta(0) < duration <= LONGEST:
        raise ValueError(f"{text!r} must be longer than zero and at most {LONGEST.days} days")
    return duration


def format_duration(duration: timedelta) -> str:
    """The shortest usual spelling; durations of equal length are spelled the same."""
    minutes, seconds = divmod(duration.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    milliseconds = duration.microseconds // 1000
    fraction = f".{milliseconds:03d}".rstrip("0") if milliseconds else ""
    clock = "".join(
        f"{count}{unit}"
        for count, unit in ((hours, "H"), (minutes, "M"), (f"{seconds}{fraction}", "S"))
        if count not in (0, "0")
    )
    days = f"{duration.days}D" if duration.days else ""
    return f"P{days}" + (f"T{clock}" if clock else "")


def brief_duration(duration: timedelta) -> str:
    """As people read it at a glance, in its largest unit or two: `0.2 s`, `45 s`, `1 h 5 min`."""
    seconds = duration.total_seconds()
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days} d {hours % 24} h" if days < 10 and hours % 24 else f"{days} d"
    if hours:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{minutes} min"


def plain_seconds(duration: timedelta) -> float:
    """Seconds for a JSON document: an int when they are whole."""
    seconds = duration.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


def validated_duration(value: Any) -> timedelta:
    """A duration as it stands in a template. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    return parse_duration(value if isinstance(value, str) else repr(value))


Duration = Annotated[
    timedelta,
    BeforeValidator(validated_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": re.sub(r"\?P<[a-z]+>", "?:", PATTERN),
            "examples": ["PT30S", "PT15M", "P2D"],
        }
    ),
]
