"""What is waited for where no target system is at work: a time, a report, a person, elements."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from fulfillment.definitions.graph import Node
from fulfillment.keeping import Keeper
from fulfillment.models import FanOut, ManualTask, Task
from fulfillment.states import TaskState

_AFTERWARDS: Mapping[str, str] = {
    "continue": "it goes on without",
    "fail": "it fails",
    "escalate": "a person is told",
    "undo": "the order is given up and undone",
}
ESCALATE = "escalate"
_LONGEST = 200
"""Characters of a progress; the task's page has all of it."""


def of_wait(task: Task, node: Node) -> str:
    """What ends a wait that is under way, and what becomes of it if nothing does."""
    wait = node.wait
    assert wait is not None
    if wait.kind in ("until", "delay"):
        return f"It waits until {moment(task.not_before)}."
    what = f"It waits for {_report(task, wait.kind, wait.name)} to be reported"
    if task.state != TaskState.ACCEPTED:
        return f"{what}, or for a person to decide."
    then = _AFTERWARDS.get(wait.otherwise, wait.otherwise)
    return f"{what}, until {moment(task.not_before)}; then {then}."


def of_progress(task: Task) -> str:
    """When its target system was heard of, and how far it was; empty when it has not been."""
    if task.heard_at is None:
        return ""
    how_far = "" if task.progress is None else f": {json.dumps(task.progress, ensure_ascii=False)}"
    return f" Its last sign of life was at {moment(task.heard_at)}{how_far[:_LONGEST]}."


def of_manual(manual: ManualTask) -> str:
    """Who has to decide what, and until when."""
    what = f"{manual.title} (queue {manual.queue})"
    who = manual.claimed_by or manual.role or "somebody"
    if manual.awaits and manual.stopped_at is not None:
        since = moment(manual.stopped_at)
        return f"The {manual.awaits} is awaited since {since}: {manual.question}"
    if manual.due_at is None:
        return f"{who} should have decided by now: {what}."
    then = "somebody is told" if manual.otherwise == ESCALATE else f"it is {manual.otherwise!r}"
    return f"{who} has to decide: {what}, until {moment(manual.due_at)}; then {then}."


def of_lock(name: str, keepers: Sequence[Keeper]) -> str:
    """Who has what it has to lock; nobody, when it is its turn in a moment."""
    resource, _, key = name.partition(":")
    what = f"It waits for {resource} {key}"
    if not keepers:
        return f"{what}, which is free: it has its turn in a moment."
    first = keepers[0]
    more = f" and {len(keepers) - 1} more" if len(keepers) > 1 else ""
    end = "" if first.task else ", until that is complete"
    return f"{what}, which {first.name}{more} has since {moment(first.since)}{end}."


def of_fan_out(fan_out: FanOut) -> str:
    """3 of 10 elements done, 1 failed."""
    failed = f", {len(fan_out.failed)} failed" if fan_out.failed else ""
    return f"{fan_out.done} of {fan_out.total} elements done{failed}"


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _report(task: Task, kind: str, name: str) -> str:
    """The milestone paid of order WEB-1, or the signal paid about INV-7."""
    _, _, subject = task.awaits.partition(" ")
    key = subject.partition(":")[2].partition("/")[2]
    if kind == "signal":
        return f"the signal {name} about {key}"
    return f"the milestone {name}" + (f" of order {key}" if is_of_other(task) else "")


def is_of_other(task: Task) -> bool:
    """Whether it waits for a milestone of another order."""
    _, _, subject = task.awaits.partition(" ")
    own = task.fulfillment.business_key or task.fulfillment.order_reference
    return subject.startswith("order:") and subject != f"order:{own}"
