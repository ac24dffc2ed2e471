"""The page that says at a glance how the day is going; every number leads to its list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse

from fulfillment.admin.boards import Targets
from fulfillment.admin.figures import Figure, counted
from fulfillment.admin.pages import Page, page_address
from fulfillment.admin.reading import Badge, list_address
from fulfillment.admin.target_cards import health_badges
from fulfillment.models import (
    Approval,
    Disposition,
    FalloutCase,
    InboundEvent,
    Incident,
    ManualTask,
    TargetSystem,
    Task,
)
from fulfillment.queries.on_the_way import Way
from fulfillment.queries.open_cases import Money, Reason
from fulfillment.queries.systems import Health
from fulfillment.queries.workload import MOST, MOST_BESIDE, Age, Due, Queue
from oms.admin.order_filters import ANY
from oms.admin.order_page.signs import ORDER_SIGNS
from oms.models import Order
from oms.queries.today import Day, Part, how_long, in_words, today
from oms.states import OrderState

_SHOWN = 7
"""Rows of a table; the list behind it has all."""
_MODELS: Mapping[Part, type[Model]] = {
    Part.ORDERS: Order,
    Part.CASES: FalloutCase,
    Part.INCIDENTS: Incident,
    Part.MANUAL_TASKS: ManualTask,
    Part.APPROVALS: Approval,
    Part.EVENTS: InboundEvent,
    Part.TARGETS: TargetSystem,
    Part.TASKS: Task,
}
_OPEN = {"resolved_at__isempty": "1"}
_UNDECIDED = {"decided_at__isempty": "1"}


class Today(Page):
    name = "today"
    title = "Today"
    template_name = "desk/today/today.html"

    def content(self) -> Mapping[str, Any]:
        parts = frozenset(part for part, model in _MODELS.items() if _shows(self.request, model))
        day = today(parts=parts)
        return {
            "day": day,
            "sentences": in_words(day),
            "pressing": list(_pressing(day)),
            "well": list(_well(day)),
            "stuck": _stuck(day),
            "reasons": [_reason(day, one) for one in _reasons(day)[:_SHOWN]],
            "more_reasons": max(0, len(_reasons(day)) - _SHOWN),
            "systems": [_system(one) for one in day.in_trouble],
            "dear": day.dear[:_SHOWN],
            "more_dear": max(0, len(day.dear) - _SHOWN),
            "money": [_money(one, or_more=_is_capped(day)) for one in day.money],
            "queues": [_queue(one, or_more=_waiting(day) > MOST) for one in day.queues[:_SHOWN]],
            "more_queues": max(0, len(day.queues) - _SHOWN),
            "retries": [_retry(name, tasks) for name, tasks in day.retries.items()],
            "under_way": _orders(day.orders.under_way) if day.orders else [],
            "ended": _orders(day.orders.ended_today, ended="today") if day.orders else [],
            "lists": {
                "cases": list_address(FalloutCase, **_OPEN),
                "manual": list_address(ManualTask, **_UNDECIDED),
                "dear": list_address(Order, needs="high-value"),
                "targets": page_address(Targets),
            },
        }


def _shows(request: HttpRequest, model: type[Model]) -> bool:
    """Whether they may see the list to which its figures lead."""
    return bool(admin.site._registry[model].has_view_permission(request))


# --- what needs somebody --------------------------------------------------------------------------


def _pressing(day: Day) -> Iterator[Figure]:
    """The most pressing first; what there is none of is left out."""
    if day.stuck and day.stuck.since:
        yield from _some(
            day.stuck.total,
            words="orders stuck",
            more=f"the oldest for {how_long(day.now - day.stuck.since)}",
            address=list_address(Order, stuck=ANY),
        )
    if day.dear:
        yield from _some(
            len(day.dear),
            words="high-value orders blocked",
            more=f"worth up to {day.dear[0].worth:,.0f} {day.dear[0].currency}",
            address=list_address(Order, needs="high-value"),
            sign="▲",
            tone="failed",
        )
    yield from _due(day, Due.OVERDUE, sign="⚠", tone="failed")
    yield from _due(day, Due.SOON, sign="◷", tone="trouble")
    yield from _some(
        day.at_risk,
        words="orders that will be late",
        more="later than was promised",
        address=list_address(Order, needs="at-risk"),
        sign="◷",
    )
    yield from _some(
        day.backlog.incidents if Part.INCIDENTS in day.parts else 0,
        at_most=MOST_BESIDE,
        words="incidents open",
        more="one cause, many cases",
        address=list_address(Incident, **_OPEN),
        sign="!",
    )
    if day.fallout:
        yield from _some(
            day.fallout.total,
            words="cases open",
            more=_taken(day.fallout.unassigned, or_more=_is_capped(day)),
            address=list_address(FalloutCase, **_OPEN),
            sign="!",
        )
    yield from _some(
        _waiting(day),
        words="to decide",
        more=_taken(sum(queue.unclaimed for queue in day.queues), or_more=_waiting(day) > MOST),
        address=list_address(ManualTask, **_UNDECIDED),
        sign="☞",
        tone="moving",
    )
    yield from _some(
        day.backlog.to_approve if Part.APPROVALS in day.parts else 0,
        at_most=MOST_BESIDE,
        words="to approve",
        more="by a second person",
        address=list_address(Approval, state__exact="REQUESTED"),
        sign="☞",
        tone="moving",
    )
    yield from _some(
        day.backlog.unmatched if Part.EVENTS in day.parts else 0,
        at_most=MOST_BESIDE,
        words="events unmatched",
        more="reports of no task that is known",
        address=list_address(InboundEvent, disposition__exact=Disposition.UNMATCHED.value),
        sign="?",
    )


def _some(
    number: int,
    *,
    words: str,
    address: str,
    more: str = "",
    sign: str = "⚠",
    tone: str = "trouble",
    at_most: int = MOST,
) -> Iterator[Figure]:
    """Its figure; nothing of what there is none of."""
    if number:
        yield Figure(
            number=counted(number, at_most=at_most),
            words=words,
            more=more,
            address=address,
            sign=sign,
            tone=tone,
        )


def _taken(left: int, *, or_more: bool) -> str:
    if left:
        return f"{counted(left, or_more=or_more)} not taken yet"
    return "" if or_more else "somebody has each of them"


def _waiting(day: Day) -> int:
    """Manual tasks to decide, MOST + 1 at most."""
    return sum(queue.tasks for queue in day.queues)


def _is_capped(day: Day) -> bool:
    """More cases are open than were looked at."""
    return day.fallout is not None and day.fallout.is_capped


def _due(day: Day, due: Due, *, sign: str, tone: str) -> Iterator[Figure]:
    is_over = due is Due.OVERDUE
    manual = day.overdue_manual_tasks if is_over else day.manual_tasks_due_soon
    cases = (day.fallout.overdue if is_over else day.fallout.soon) if day.fallout else 0
    for number, model, words in (
        (cases, FalloutCase, "cases"),
        (manual, ManualTask, "manual tasks"),
    ):
        yield from _some(
            number,
            words=f"{words} {due.words}",
            address=list_address(model, due=due.value),
            sign=sign,
            tone=tone,
        )


def _well(day: Day) -> Iterator[str]:
    """What there is nothing to say of, each in a few words."""
    if day.stuck and not day.stuck.since:
        yield "no order is stuck"
    if Part.ORDERS in day.parts and not day.at_risk:
        yield "every order is expected in time"
    if day.fallout and not day.fallout.total:
        yield "no case is open"
    elif day.fallout and not day.fallout.overdue:
        yield "no case is overdue"
    if Part.MANUAL_TASKS in day.parts and not day.overdue_manual_tasks:
        yield "no manual task is overdue" if day.queues else "nothing is to be decided"
    if Part.APPROVALS in day.parts and not day.backlog.to_approve:
        yield "nothing waits for approval"
    if Part.EVENTS in day.parts and not day.backlog.unmatched:
        yield "every event has its task"
    if day.systems and not day.in_trouble:
        yield f"all {len(day.systems)} target systems are well"
    if Part.TASKS in day.parts and not day.retries:
        yield "nothing has to be tried again"


# --- cards ----------------------------------------------------------------------------------------


def _stuck(day: Day) -> list[Figure]:
    if not day.stuck:
        return []
    # The longest were counted first: of the youngest that there are, there may be more.
    youngest = next((age for age, number in day.stuck.by_age.items() if number), None)
    is_capped = day.stuck.total > MOST
    return [
        Figure(
            number=counted(number, or_more=is_capped and age is youngest),
            words=f"for {age.words}",
            address=list_address(Order, stuck=age.value),
            tone="failed" if age in (Age.FROM_4_TO_24_H, Age.OVER_24_H) else "trouble",
        )
        for age, number in day.stuck.by_age.items()
        if number
    ]


def _orders(found: Mapping[OrderState, int], **lookups: str) -> list[Figure]:
    return [
        Figure(
            number=counted(number),
            words=state.replace("_", " ").lower(),
            address=list_address(Order, state__exact=state.value, **lookups),
            sign=ORDER_SIGNS[state][0],
            tone=ORDER_SIGNS[state][1],
        )
        for state, number in found.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A row of a table: what it is about, and its numbers, which lead to their lists."""

    title: str
    address: str
    numbers: Sequence[tuple[str, str]]
    """(text, address) pairs; without an address where there is nothing to see."""
    since: str = ""
    badges: Sequence[Badge] = ()
    why: str = ""


def _link(
    number: int, model: type[Model], *, or_more: bool = False, **lookups: Any
) -> tuple[str, str]:
    if not number:
        return ("–", "")
    return (counted(number, or_more=or_more), list_address(model, **lookups))


def _reasons(day: Day) -> Sequence[Reason]:
    return day.fallout.reasons if day.fallout else ()


def _incident_address(day: Day, incident_id: int) -> str:
    """Empty for whoever may not see incidents."""
    if Part.INCIDENTS not in day.parts:
        return ""
    return reverse("admin:fulfillment_incident_change", args=[incident_id])


def _reason(day: Day, one: Reason) -> _Row:
    or_more = _is_capped(day)
    if one.incident_id is not None:
        which: dict[str, Any] = {"incident__id__exact": one.incident_id, **_OPEN}
        address = _incident_address(day, one.incident_id)
    else:
        which = {
            "target__exact": one.target,
            "action__exact": one.action,
            "reason_code__exact": one.reason_code,
            "incident__isnull": "True",
            **_OPEN,
        }
        address = ""
    return _Row(
        title=one.title,
        address=address,
        numbers=[
            _link(one.cases, FalloutCase, or_more=or_more, **which),
            _link(one.unassigned, FalloutCase, or_more=or_more, state__exact="OPEN", **which),
            _link(one.overdue, FalloutCase, or_more=or_more, due=Due.OVERDUE.value, **which),
        ],
        since=how_long(day.now - one.since),
    )


def _system(one: Health) -> _Row:
    queue = one.status.waiting + one.status.later
    tasks: dict[str, Any] = {"target__name__exact": one.name}
    return _Row(
        title=one.name,
        address=reverse("admin:fulfillment_targetsystem_change", args=[one.name]),
        numbers=[
            _link(one.status.called, Task, way=Way.CALLED.value, **tasks),
            _link(queue, Task, way=Way.TO_BE_SENT.value, **tasks),
        ],
        badges=health_badges(one),
        why=one.trouble,
    )


def _money(one: Money, *, or_more: bool) -> _Row:
    lookups = {"revenue_currency__exact": one.currency, **_OPEN}
    more = "+" if or_more else ""
    return _Row(
        title=one.currency,
        address="",
        numbers=[
            (f"{one.waits:,.2f}{more}" if one.waits else "–", ""),
            (f"{one.leaks:,.2f}{more}" if one.leaks else "–", ""),
            _link(one.cases, FalloutCase, or_more=or_more, **lookups),
        ],
    )


def _queue(one: Queue, *, or_more: bool) -> _Row:
    which = {"queue": one.name, **_UNDECIDED}
    return _Row(
        title=one.name,
        address="",
        numbers=[
            _link(one.tasks, ManualTask, or_more=or_more, **which),
            _link(one.unclaimed, ManualTask, or_more=or_more, state__exact="OPEN", **which),
            _link(one.overdue, ManualTask, or_more=or_more, due=Due.OVERDUE.value, **which),
            _link(one.soon, ManualTask, or_more=or_more, due=Due.SOON.value, **which),
        ],
    )


def _retry(target: str, tasks: int) -> Figure:
    return Figure(
        number=counted(tasks),
        words=target,
        address=list_address(Task, target__name__exact=target, way=Way.RETRIED.value),
        sign="↻",
        tone="trouble",
    )
