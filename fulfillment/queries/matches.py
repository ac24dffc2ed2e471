"""Read model of what an unmatched event may be about: the likely tasks, why, and how sure.

It looks anew each time: what the event is about may have been sent, or come to wait, after it
came in. What was suggested then and is not found any more comes last. A fixed number of queries.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fulfillment.engine.dispatch import suggesting
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import cursor
from fulfillment.models import Command, Disposition, InboundEvent, Task
from fulfillment.states import TASK_TERMINAL, TaskState

_NEAR = timedelta(hours=1)
"""What was sent so shortly before the event came in speaks for it."""
_SETTLED = TASK_TERMINAL - {TaskState.FAILED_FINAL}
"""What has failed may have been done after all, and that is what the event says."""


class Sureness(enum.IntEnum):
    """The higher, the likelier."""

    POSSIBLE = 1
    LIKELY = 2
    ALMOST_CERTAIN = 3

    @property
    def words(self) -> str:
        return self.name.replace("_", " ").lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One task that the event may be about."""

    task_id: int
    task: str
    title: str
    """Empty where the task is not there any more."""
    order_reference: str
    state: TaskState | None
    action: str
    """What its newest command to the event's system asks for."""
    sent_at: datetime | None
    """When that was made."""
    why: tuple[str, ...]
    sureness: Sureness
    key: str
    """The idempotency key of that command; empty: there is none, so it can't be matched."""


def matches(*, event: InboundEvent) -> list[Match]:
    """Of an unmatched event, the surest first; of any other nothing."""
    if event.disposition != Disposition.UNMATCHED:
        return []
    with cursor() as raw:
        found = suggesting.suggest(
            raw, target=event.source, key=event.idempotency_key, body=_members(event.body)
        )
    once: dict[int, dict[str, Any]] = {}
    for one in (*found, *event.suggestions):
        once.setdefault(one["task_id"], one)
    tasks = (
        Task.objects.select_related("plan", "fulfillment")
        .defer("outputs", "plan__context")
        .in_bulk(once.keys())
    )
    commands = _newest_commands(event.source, list(tasks))
    made = [
        _match(event, one, tasks.get(task_id), commands.get(task_id))
        for task_id, one in once.items()
    ]
    return sorted(made, key=lambda one: (not one.key, -one.sureness))


def _newest_commands(target: str, task_ids: Sequence[int]) -> dict[int, Command]:
    rows = Command.objects.filter(task__in=task_ids, target=target).defer("payload")
    return {row.task_id: row for row in rows.order_by("task_id", "revision")}


def _match(
    event: InboundEvent, said: Mapping[str, Any], task: Task | None, command: Command | None
) -> Match:
    sureness, why = _how_sure(said["why"]), [said["why"]]
    state = None if task is None else TaskState(task.state)
    if command is not None and _is_near(command.created_at, event.received_at):
        why.append("It was asked for shortly before the event came in.")
        if sureness is Sureness.POSSIBLE:
            sureness = Sureness.LIKELY
    if state in _SETTLED:
        why.append("But this task has come to its end already.")
        sureness = Sureness(max(Sureness.POSSIBLE, sureness - 1))
    if command is None:
        why.append(f"But {event.source} has not been asked for anything by it.")
        sureness = Sureness.POSSIBLE
    return Match(
        task_id=said["task_id"],
        task=said["task"],
        title="" if task is None else _title(task),
        order_reference=said["order"],
        state=state,
        action="" if command is None else command.action,
        sent_at=None if command is None else command.created_at,
        why=tuple(why),
        sureness=sureness,
        key="" if command is None else command.idempotency_key,
    )


def _how_sure(why: str) -> Sureness:
    """By what the engine has found them by: a key or a reference is hardly ever two tasks'."""
    if why == suggesting.BY_ACTION.format(action=why.partition(" ")[0]):
        return Sureness.POSSIBLE  # The action is the sender's own word, whatever it contains.
    if "key" in why or "reference" in why:
        return Sureness.ALMOST_CERTAIN
    if "names this order" in why:
        return Sureness.LIKELY
    return Sureness.POSSIBLE


def _is_near(asked: datetime, received: datetime) -> bool:
    return asked <= received <= asked + _NEAR


def _title(task: Task) -> str:
    return graphs.routed(task.plan.graph_id, task.node, task.route).title


def _members(body: Any) -> Mapping[str, Any]:
    """A report is an object; what else came in has nothing to be looked for."""
    return body if isinstance(body, dict) else {}
