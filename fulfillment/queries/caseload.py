"""Read models of cases and incidents: lists, what may be done, and what has helped before.

Each takes many and costs a fixed number of queries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, F, Max, Q, QuerySet
from django.utils import timezone

from fulfillment.actions import Action
from fulfillment.errors import ActionUnknown
from fulfillment.models import (
    IS_UNRESOLVED,
    CaseCategory,
    CaseState,
    CaseTask,
    FalloutCase,
    Incident,
    IncidentState,
    Operation,
    TargetCondition,
    Task,
)
from fulfillment.operations.catalog import repair_of
from fulfillment.states import TaskState

_CONSIDERED = 20
"""Cases of the same kind that are looked at for what has helped."""
_ACTIONS = frozenset(map(str, Action))
_OVER = (TaskState.SUCCEEDED, TaskState.SKIPPED_BY_POLICY, TaskState.WAIVED_BY_AUTHORIZED_USER)

TO_FIND_OUT: Mapping[CaseCategory, Sequence[str]] = {
    CaseCategory.REFUSED: (
        "Why does the target system refuse it: is it the payload, its own data, or a rule?",
        "Does the same thing fail for other orders too?",
    ),
    CaseCategory.UNCERTAIN: (
        "Does the target system know the idempotency key, or the customer and the item?",
        "If it was done: under which reference, and when?",
    ),
    CaseCategory.CONFLICT: (
        "Which of the two answers is true, as the target system's own records show it?",
        "What has gone on in reliance on the other one?",
    ),
    CaseCategory.DATA: (
        "Which value is missing or wrong, and who knows the right one?",
        "Is it wrong in the order, or in the mapping that every order uses?",
    ),
    CaseCategory.RETRYING: ("Is the target system ill, or is it this request alone?",),
    CaseCategory.STUCK: ("What does the order wait for, and who can end that?",),
    CaseCategory.LATE: ("What keeps it, and does the customer have to be told?",),
    CaseCategory.POISON: ("Which row or payload does the error name?",),
    CaseCategory.JEOPARDY: ("Can it be hurried, or has another date to be agreed?",),
    CaseCategory.UNDELIVERED: ("Does the subscriber's address answer?",),
    CaseCategory.LEAKAGE: ("Is the service in use, and is it billed: what do both systems say?",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which cases; what is empty is not asked about."""

    state: str = ""
    """A state, `open` for all that are not over, or `all`; empty: open."""
    queue: str = ""
    category: str = ""
    severity: str = ""
    reason_code: str = ""
    target: str = ""
    assigned_to: str = ""
    incident: int | None = None
    order: str = ""
    overdue: bool = False


def cases(wanted: Wanted) -> QuerySet[FalloutCase]:
    """These cases with their orders, without their evidence; in no order."""
    rows = FalloutCase.objects.select_related("fulfillment").defer("facts")
    if wanted.state in ("", "open") or wanted.overdue:
        rows = rows.filter(IS_UNRESOLVED)
    elif wanted.state != "all":
        rows = rows.filter(state=wanted.state)
        if wanted.state != CaseState.RESOLVED:
            rows = rows.filter(IS_UNRESOLVED)  # As the indexes of the open ones have it.
    if wanted.overdue:
        rows = rows.filter(sla_due_at__lt=timezone.now(), sla_paused_at=None)
    if wanted.incident is not None:
        rows = rows.filter(incident=wanted.incident)
    named = {
        "owner_queue": wanted.queue,
        "category": wanted.category,
        "severity": wanted.severity,
        "reason_code": wanted.reason_code,
        "target": wanted.target,
        "assigned_to": wanted.assigned_to,
        "fulfillment__order_reference": wanted.order,
    }
    return rows.filter(**{name: value for name, value in named.items() if value})


def is_overdue(case: FalloutCase) -> bool:
    """Somebody should have seen to it by now."""
    return (
        case.state != CaseState.RESOLVED
        and case.sla_paused_at is None
        and case.sla_due_at < timezone.now()
    )


def tasks_of(case: FalloutCase, *, at_most: int = 200) -> list[CaseTask]:
    """The tasks of a case with their states now, those that are still in it first."""
    rows = CaseTask.objects.filter(case=case).select_related("task")
    return list(rows.order_by(F("left_at").desc(nulls_first=True), "pk")[:at_most])


@dataclass(slots=True)
class _Standing:
    """How what a case is about stands now."""

    states: set[str] = field(default_factory=set)
    is_held: bool = False


def options(found: Collection[FalloutCase]) -> dict[int, list[Action]]:
    """By case, the operations that may help with it and are possible as its tasks stand now.

    Who may do them is another question. Nothing for what is closed.
    """
    still = [case for case in found if case.state != CaseState.RESOLVED]
    standing = _standing(still)
    conditions = TargetCondition.objects.filter(target__in={case.target for case in still})
    paused = dict(conditions.values_list("target", "paused_at"))
    return {
        case.pk: [
            action
            for action in _named(case.repair_options)
            if _is_possible(action, standing[case.pk], bool(paused.get(case.target)))
        ]
        for case in still
    }


def _named(names: Iterable[str]) -> Iterator[Action]:
    """Those of the release before were words for people."""
    return (Action(name) for name in names if name in _ACTIONS)


def _is_possible(action: Action, standing: _Standing, is_paused: bool) -> bool:
    try:
        repair = repair_of(action)
    except ActionUnknown:
        return False
    match action:
        case Action.HOLD_RELEASE:
            return standing.is_held
        case Action.TARGET_PAUSE:
            return not is_paused
        case Action.TARGET_RESUME:
            return is_paused
        case _ if repair.about == "task" and repair.from_states:
            return not standing.states.isdisjoint(repair.from_states)
        case _:
            return True


def _standing(found: Sequence[FalloutCase]) -> dict[int, _Standing]:
    standing: dict[int, _Standing] = defaultdict(_Standing)
    rows = CaseTask.objects.filter(case__in=found, left_at=None)
    columns = ("task__state", "task__held_by")
    for case_id, state, held_by in rows.values_list("case", *columns).distinct():
        standing[case_id].states.add(state)
        standing[case_id].is_held |= held_by is not None
    plans = {case.plan_id: case.pk for case in found if case.pk not in standing and case.plan_id}
    open_ones = Task.objects.filter(plan__in=plans, round=0).exclude(state__in=_OVER)
    for plan_id, state, held_by in open_ones.values_list("plan", "state", "held_by").distinct():
        standing[plans[plan_id]].states.add(state)
        standing[plans[plan_id]].is_held |= held_by is not None
    return standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that somebody has done about a case."""

    kind: str
    subject: str
    actor: str
    reason: str
    happened_at: datetime

    @property
    def words(self) -> str:
        """What was done, and to what."""
        return f"{self.kind.replace('_', ' ')} ({self.subject})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedied:
    """A case of the same kind that is over, and what was done about it."""

    case_id: int
    order_reference: str
    resolved_at: datetime
    resolved_by: str
    resolution: str
    took: timedelta
    """From when it was opened."""
    steps: Sequence[Step]


def fixed_before(
    *, fingerprint: str, besides: int = 0, before: datetime | None = None, at_most: int = 5
) -> list[Remedied]:
    """Same target, action and reason: the cases that were resolved last, and what has helped.

    Those about which somebody has done something come first.
    """
    if not fingerprint:
        return []
    closed = list(
        FalloutCase.objects.filter(fingerprint=fingerprint, state=CaseState.RESOLVED)
        .exclude(pk=besides)
        .filter(**({"resolved_at__lt": before} if before else {}))
        .select_related("fulfillment")
        .defer("facts")
        .order_by("-resolved_at")[:_CONSIDERED]
    )
    steps = _steps(closed)
    found = [
        Remedied(
            case_id=case.pk,
            order_reference=case.fulfillment.order_reference if case.fulfillment else "",
            resolved_at=case.resolved_at,
            resolved_by=case.resolved_by,
            resolution=case.resolution,
            took=case.resolved_at - case.opened_at,
            steps=steps.get(case.pk, ()),
        )
        for case in closed
        if case.resolved_at is not None
    ]
    return sorted(found, key=lambda one: not one.steps)[:at_most]


def _steps(closed: Iterable[FalloutCase]) -> dict[int, list[Step]]:
    by_id = {case.pk: case for case in closed}
    subjects: dict[str, set[int]] = defaultdict(set)
    references: dict[str, set[int]] = defaultdict(set)
    for case in by_id.values():
        subjects[f"case:{case.pk}"].add(case.pk)
        if case.fulfillment is not None:
            references[case.fulfillment.order_reference].add(case.pk)
    tasks = CaseTask.objects.filter(case__in=by_id).values_list("case", "task")
    for case_id, task_id in tasks:
        subjects[f"task:{task_id}"].add(case_id)
    rows = Operation.objects.filter(Q(subject__in=subjects) | Q(order_reference__in=references))
    found: dict[int, list[Step]] = defaultdict(list)
    for row in rows.order_by("pk"):
        for case_id in subjects.get(row.subject) or references.get(row.order_reference) or ():
            case = by_id[case_id]
            assert case.resolved_at is not None
            if case.opened_at <= row.happened_at <= case.resolved_at:
                found[case_id].append(
                    Step(
                        kind=row.kind,
                        subject=row.subject,
                        actor=row.actor,
                        reason=row.reason,
                        happened_at=row.happened_at,
                    )
                )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much an incident has, counted now."""

    cases: int = 0
    open_cases: int = 0
    orders: int = 0
    """Of all its cases."""
    open_orders: int = 0
    """Of those that are open."""
    latest_at: datetime | None = None
    """When its newest case was opened."""


def incidents(*, state: str = "", target: str = "") -> QuerySet[Incident]:
    """Incidents, those that are open first, the newest first; `state` as in `Wanted`."""
    rows = Incident.objects.order_by(F("resolved_at").desc(nulls_first=True), "-pk")
    if state in ("", "open"):
        rows = rows.exclude(state=IncidentState.RESOLVED)
    elif state != "all":
        rows = rows.filter(state=state)
    return rows.filter(target=target) if target else rows


def extents(found: Collection[Incident]) -> dict[int, Extent]:
    """By incident, what it has."""
    rows = (
        FalloutCase.objects.filter(incident__in=found)
        .values_list("incident")
        .annotate(
            cases=Count("pk"),
            open_cases=Count("pk", filter=IS_UNRESOLVED),
            orders=Count("fulfillment", distinct=True),
            open_orders=Count("fulfillment", distinct=True, filter=IS_UNRESOLVED),
            latest_at=Max("opened_at"),
        )
    )
    counted = {
        pk: Extent(
            cases=cases,
            open_cases=still,
            orders=orders,
            open_orders=open_orders,
            latest_at=latest,
        )
        for pk, cases, still, orders, open_orders, latest in rows
    }
    return {incident.pk: counted.get(incident.pk, Extent()) for incident in found}
