"""How the day is going: all of its figures, and what they come to in plain words (§28.2).

Only the parts that are asked for are read; each takes a fixed number of queries.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fulfillment.definitions.durations import brief_duration
from fulfillment.queries import open_cases, workload
from fulfillment.queries.open_cases import Fallout, Money
from fulfillment.queries.systems import Health, Level, health
from fulfillment.queries.workload import MOST, MOST_BESIDE, Backlog, Queue, Stuck
from oms.queries import day as orders_of_the_day
from oms.queries.day import Dear, Orders

_NAMED = 3
"""Target systems that a sentence names."""


class Part(enum.Enum):
    """What somebody may see or not."""

    ORDERS = enum.auto()
    CASES = enum.auto()
    INCIDENTS = enum.auto()
    MANUAL_TASKS = enum.auto()
    APPROVALS = enum.auto()
    EVENTS = enum.auto()
    TARGETS = enum.auto()
    TASKS = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What was not asked for is None, or empty."""

    now: datetime
    parts: Collection[Part]
    backlog: Backlog
    """All of it; who shows it looks at `parts`."""
    orders: Orders | None
    stuck: Stuck | None
    at_risk: int
    dear: Sequence[Dear]
    fallout: Fallout | None
    money: Sequence[Money]
    queues: Sequence[Queue]
    """Of manual tasks."""
    systems: Sequence[Health]
    retries: Mapping[str, int]
    """By target system, tasks that wait for their next try."""

    @property
    def in_trouble(self) -> list[Health]:
        """Target systems that need somebody's eye, the worst first."""
        return [one for one in self.systems if one.level > Level.BUSY]

    @property
    def overdue_manual_tasks(self) -> int:
        return sum(queue.overdue for queue in self.queues)

    @property
    def manual_tasks_due_soon(self) -> int:
        return sum(queue.soon for queue in self.queues)


def today(*, parts: Collection[Part]) -> Day:
    now = workload.now()
    shows_orders, shows_cases = Part.ORDERS in parts, Part.CASES in parts
    return Day(
        now=now,
        parts=parts,
        backlog=workload.backlog(),
        orders=orders_of_the_day.orders(now=now) if shows_orders else None,
        stuck=workload.stuck(now=now) if shows_orders else None,
        at_risk=workload.at_risk() if shows_orders else 0,
        dear=orders_of_the_day.blocked_of_high_value() if shows_orders else (),
        fallout=open_cases.fallout(now=now) if shows_cases else None,
        money=open_cases.money_at_risk() if shows_cases else (),
        queues=workload.queues(now=now) if Part.MANUAL_TASKS in parts else (),
        systems=health() if Part.TARGETS in parts else (),
        retries=workload.retries() if Part.TASKS in parts else {},
    )


def in_words(day: Day) -> list[str]:
    """The day in a few sentences, what presses most first; never none."""
    said = [*_stuck(day), *_causes(day), *_late(day), *_systems(day), *_people(day)]
    return said or [_quiet(day)]


def _stuck(day: Day) -> list[str]:
    found = []
    if day.stuck and day.stuck.since:
        total, span = day.stuck.total, how_long(day.now - day.stuck.since)
        oldest = f"for {span}" if total == 1 else f"the oldest for {span}"
        found.append(f"{_many(total, 'order is', 'orders are')} stuck, {oldest}.")
    if day.dear:
        found.append(
            f"{_many(len(day.dear), 'blocked order is', 'blocked orders are')} of high value."
        )
    if day.at_risk:
        found.append(f"{_many(day.at_risk, 'order', 'orders')} will be later than was promised.")
    return found


def _causes(day: Day) -> list[str]:
    if not day.fallout or not day.fallout.total:
        return []
    total, most = day.fallout.total, day.fallout.reasons[0]
    if day.fallout.is_capped:
        told = f"More than {MOST:,} cases are open"
        if most.cases == 1:
            return [f"{told}."]
        many = f"{min(most.cases, MOST):,}"
        return [f"{told}; of those due first, {many} have one cause: {most.title}."]
    if most.cases == 1:
        apart = ", each with a reason of its own" if total > 1 else ""
        return [f"{_many(total, 'case is', 'cases are')} open{apart}."]
    if most.cases == total:
        return [f"All {_number(total)} open cases have one cause: {most.title}."]
    return [f"{_number(most.cases)} of {_number(total)} open cases have one cause: {most.title}."]


def _late(day: Day) -> list[str]:
    found = []
    for words, cases, manual in (
        (
            "overdue",
            day.fallout.overdue if day.fallout else 0,
            day.overdue_manual_tasks,
        ),
        (
            "due within the hour",
            day.fallout.soon if day.fallout else 0,
            day.manual_tasks_due_soon,
        ),
    ):
        told = [
            *([_many(cases, "case", "cases")] if cases else []),
            *([_many(manual, "manual task", "manual tasks")] if manual else []),
        ]
        if told:
            are = "is" if cases + manual == 1 else "are"
            found.append(f"{' and '.join(told)} {are} {words}.")
    return found


def _systems(day: Day) -> list[str]:
    found = []
    for level, verbs in (
        (Level.FAILING, ("is failing", "are failing")),
        (Level.STOPPED, ("is stopped by somebody", "are stopped by somebody")),
    ):
        names = [one.name for one in day.in_trouble if one.level is level]
        if names:
            shown, more = names[:_NAMED], len(names) - _NAMED
            told = [*shown, f"{more} more"] if more > 0 else shown
            listed = " and ".join(filter(None, (", ".join(told[:-1]), told[-1])))
            found.append(f"{listed} {verbs[len(names) > 1]}.")
    return found


def _people(day: Day) -> list[str]:
    """What waits for people and is in time."""
    found = []
    waiting = sum(queue.tasks for queue in day.queues)
    if waiting and not day.overdue_manual_tasks and not day.manual_tasks_due_soon:
        found.append(f"{_many(waiting, 'decision waits', 'decisions wait')}, all of them in time.")
    approvals = day.backlog.to_approve if Part.APPROVALS in day.parts else 0
    if approvals:
        told = _many(approvals, "approval waits", "approvals wait", at_most=MOST_BESIDE)
        found.append(f"{told} for a second person.")
    unmatched = day.backlog.unmatched if Part.EVENTS in day.parts else 0
    if unmatched:
        told = _many(
            unmatched,
            "report of a target system is",
            "reports of target systems are",
            at_most=MOST_BESIDE,
        )
        found.append(f"{told} about no task that is known.")
    return found


def _quiet(day: Day) -> str:
    if day.orders is None:
        return "Nothing needs anybody now."
    under_way = sum(day.orders.under_way.values())
    if not under_way and not day.orders.ended_today:
        return "Nothing needs anybody now: no order is under way, and none has ended today."
    ended = sum(day.orders.ended_today.values())
    moving = _many(under_way, "order is", "orders are") if under_way else "No order is"
    over = f"{_number(ended) if ended else 'none'} {'has' if ended <= 1 else 'have'} ended today"
    return f"Nothing needs anybody now. {moving} under way, {over}."


def how_long(span: timedelta) -> str:
    """What begins while one looks has been so for no time."""
    return brief_duration(max(span, timedelta(0)))


def _number(number: int, *, at_most: int = MOST) -> str:
    return f"more than {at_most:,}" if number > at_most else f"{number:,}"


def _many(number: int, one: str, several: str, *, at_most: int = MOST) -> str:
    told = f"{_number(number, at_most=at_most)} {one if number == 1 else several}"
    return told[0].upper() + told[1:]
