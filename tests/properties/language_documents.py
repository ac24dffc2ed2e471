"""A template as it is published: plain documents, with windows by the clock on the wall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.properties.language_state import Scope

Meaning = Callable[[Scope], Any]
Spec = dict[str, Any]
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Template:
    tasks: dict[str, Spec]
    parts: dict[str, Spec]
    """Sub-processes, in an order in which they can be published."""
    meanings: dict[str, Meaning]
    shared: dict[str, str]

    def documents(self, *, start: datetime) -> list[Spec]:
        """Everything that has to be published, the template last; windows count from `start`."""
        milestones = {
            name: {"title": "A milestone", "reached_by": task, "shared": True}
            for name, task in self.shared.items()
        }
        thing = {
            "workflow": "thing",
            "version": 1,
            "title": "A workflow",
            "fulfils": [{"offering": "thing", "actions": ["add"]}],
            "billing_trigger": "service_activation",
            "milestones": milestones,
            "tasks": self.tasks,
        }
        return [in_full(document, start) for document in (*self.parts.values(), thing)]

    def calendars(self, *, start: datetime) -> dict[str, Spec]:
        """Those that windows name."""
        windows = [spec["window"] for spec in self.every_task() if "window" in spec]
        return {
            _calendar(window): {
                "timezone": window["timezone"],
                "hours": [{"days": list(DAYS), "from": "00:00", "to": "24:00"}],
                "holidays": {"extra": [_opening_day(window, start, day) for day in window["but"]]},
            }
            for window in windows
            if not window["weekly"]
        }

    def every_task(self) -> list[Spec]:
        bodies = [part["tasks"] for part in self.parts.values()]
        return [spec for body in (self.tasks, *bodies) for spec in body.values()]


def in_full(document: Spec, start: datetime) -> Spec:
    """As it is published: with windows by the clock on the wall."""
    tasks = dict(document["tasks"])
    for name, spec in tasks.items():
        if "window" in spec:
            tasks[name] = {**spec, "window": _by_the_clock(spec["window"], start)}
    return {**document, "tasks": tasks}


def _by_the_clock(window: Spec, start: datetime) -> Spec:
    opens = (start + timedelta(hours=window["opens"])).astimezone(ZoneInfo(window["timezone"]))
    closes = opens + timedelta(hours=window["hours"])
    shut = (datetime.fromisoformat(_opening_day(window, start, day)) for day in window["but"])
    but = {day.weekday() for day in shut}
    found = {
        "days": [name for day, name in enumerate(DAYS) if not (window["weekly"] and day in but)],
        "from": f"{opens:%H:%M}",
        "to": f"{closes:%H:%M}",
        "timezone": window["timezone"],
    }
    return found if window["weekly"] else {**found, "calendar": _calendar(window)}


def _opening_day(window: Spec, start: datetime, day: int) -> str:
    opens = start + timedelta(hours=window["opens"], days=day)
    return opens.astimezone(ZoneInfo(window["timezone"])).date().isoformat()


def _calendar(window: Spec) -> str:
    said = (window["timezone"], window["opens"], *window["but"])
    return "-".join(map(str, said)).lower().translate(str.maketrans("/._", "---", ""))
