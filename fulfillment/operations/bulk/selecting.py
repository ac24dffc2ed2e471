"""What a job is about: named one by one, or by a filter that is evaluated once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Model, Q, QuerySet
from pydantic import Field

from fulfillment.errors import SelectionInvalid
from fulfillment.models import (
    IS_UNRESOLVED,
    CaseState,
    CaseTask,
    FalloutCase,
    Hold,
    ManualState,
    ManualTask,
    TargetSystem,
    Task,
)
from fulfillment.operations.repair import Parameters, checked
from fulfillment.states import TaskState

MOST = 100_000
"""Rows of one job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """`of` is the kind of list; `names` are those chosen from it, else `filter` says which."""

    of: str
    names: Sequence[str] = ()
    filter: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    """Where the names come from, for the record: an address, or a few words."""

    def document(self) -> dict[str, Any]:
        named = {"named": len(self.names)} if self.names else {"filter": dict(self.filter)}
        return {"of": self.of, **named, **({"note": self.note} if self.note else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list that may be selected from: what it can be filtered by, and the names in it."""

    about: str
    filters: type[Parameters]
    rows: Callable[[Any], QuerySet[Any]]
    """What a filter finds."""
    name: str = "pk"
    """The column by which operations name one."""


class TaskFilter(Parameters):
    state: TaskState = Field(default=TaskState.FAILED_FINAL, description="Of the tasks.")
    target: str = Field(default="", description="The target system, such as billing.")
    action: str = Field(default="", description="What it asks the target system for.")
    reason_code: str = Field(default="", description="Of the open case about it.")
    incident: int = Field(default=0, description="Whose open cases are about it.")


class CaseFilter(Parameters):
    state: CaseState | None = Field(default=None, description="Without: those not resolved.")
    category: str = Field(default="", description="Such as REFUSED.")
    severity: str = Field(default="", description="Such as HIGH.")
    reason_code: str = ""
    owner_queue: str = ""
    target: str = ""
    incident: int = 0


class ManualFilter(Parameters):
    state: ManualState = Field(default=ManualState.OPEN, description="Of the manual tasks.")
    queue: str = ""
    role: str = ""


class TargetFilter(Parameters):
    domain: str = Field(default="", description="Such as logistics.")


class HoldFilter(Parameters):
    scope: str = Field(default="", description="Such as ORDER.")
    placed_by: str = ""


_listings: dict[str, Listing] = {}
_ways: dict[tuple[str, str], Callable[[Sequence[str]], Iterable[str]]] = {}


def register_listing(*listings: Listing) -> None:
    """Called while apps start; the order desk adds its orders."""
    _listings.update({one.about: one for one in listings})


def register_way(*, of: str, to: str, names: Callable[[Sequence[str]], Iterable[str]]) -> None:
    """How the names of one kind lead to those of another: a case's tasks, an order's."""
    _ways[of, to] = names


def listings() -> Mapping[str, Listing]:
    """Every list that may be selected from, by its kind."""
    return _listings


def leads(*, of: str, to: str) -> bool:
    """Whether things of one kind lead to those of another."""
    return (of, to) in _ways


def select(*, selection: Selection, about: Sequence[str]) -> list[str]:
    """The subjects, each once, of a kind that an operation is about: the first where they have to
    be found from others.

    Raises SelectionInvalid (none, too many, or no way from this list to that kind) and
    ParametersInvalid for a filter that does not fit.
    """
    if selection.names:
        names: Sequence[str] = list(dict.fromkeys(selection.names))
    else:
        names = _filtered(selection)
    _check_number(names)
    kind = selection.of
    if kind not in about:
        kind = about[0]
        names = _led(names, of=selection.of, to=kind)
        _check_number(names)
    if not names:
        raise SelectionInvalid("Nothing is selected: the list is empty with this filter.")
    return [f"{kind}:{name}" for name in names]


def _filtered(selection: Selection) -> list[str]:
    listing = _listings.get(selection.of)
    if listing is None:
        known = ", ".join(sorted(_listings))
        raise SelectionInvalid(
            f"There is no list of {selection.of[:60]!r} to select from; there are: {known}."
        )
    wanted = checked(model=listing.filters, values=selection.filter)
    rows = listing.rows(wanted).order_by("pk")
    return [str(name) for name in rows.values_list(listing.name, flat=True)[: MOST + 1]]


def _led(names: Sequence[str], *, of: str, to: str) -> list[str]:
    way = _ways.get((of, to))
    if way is None:
        raise SelectionInvalid(
            f"This is done to a {to}, and the list is of {of}s: select from a list of {to}s."
        )
    return list(dict.fromkeys(way(names)))


def _check_number(names: Sequence[str]) -> None:
    if len(names) > MOST:
        raise SelectionInvalid(
            f"More than {MOST} are selected; narrow the filter, and make several jobs of it."
        )


def _given(**columns: Any) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if value}


def _tasks(wanted: TaskFilter) -> QuerySet[Task]:
    rows = Task.objects.filter(state=wanted.state, round=0, **_given(target_id=wanted.target))
    if wanted.action:
        rows = rows.filter(commands__action=wanted.action).distinct()
    if wanted.reason_code or wanted.incident:
        cases = CaseFilter(reason_code=wanted.reason_code, incident=wanted.incident)
        rows = rows.filter(pk__in=_tasks_of(_cases(cases)))
    return rows


def _cases(wanted: CaseFilter) -> QuerySet[FalloutCase]:
    state = IS_UNRESOLVED if wanted.state is None else Q(state=wanted.state)
    return FalloutCase.objects.filter(
        state,
        **_given(
            category=wanted.category,
            severity=wanted.severity,
            reason_code=wanted.reason_code,
            owner_queue=wanted.owner_queue,
            target=wanted.target,
            incident_id=wanted.incident,
        ),
    )


def _tasks_of(cases: QuerySet[FalloutCase]) -> QuerySet[Any, Any]:
    return CaseTask.objects.filter(case__in=cases, left_at=None).values("task_id")


def _manual(wanted: ManualFilter) -> QuerySet[ManualTask]:
    found = _given(queue=wanted.queue, role=wanted.role)
    return ManualTask.objects.filter(state=wanted.state, **found)


def _targets(wanted: TargetFilter) -> QuerySet[TargetSystem]:
    return TargetSystem.objects.filter(**_given(domain=wanted.domain))


def _holds(wanted: HoldFilter) -> QuerySet[Hold]:
    found = _given(scope=wanted.scope, placed_by=wanted.placed_by)
    return Hold.objects.filter(released_at=None, **found)


def _numbers(names: Sequence[str], *, of: type[Model]) -> QuerySet[Any]:
    rows: QuerySet[Any] = of._default_manager.filter(
        pk__in=[int(name) for name in names if name.isascii() and name.isdigit()]
    )
    return rows.order_by("pk")


def tasks_of_cases(names: Sequence[str]) -> Iterable[str]:
    """What has failed for good among what these cases are about."""
    failed = Task.objects.filter(
        pk__in=_tasks_of(_numbers(names, of=FalloutCase).order_by()),
        state=TaskState.FAILED_FINAL,
    )
    return map(str, failed.order_by("pk").values_list("pk", flat=True))


def failed_tasks_of_orders(names: Sequence[str]) -> Iterable[str]:
    """What has failed for good in the newest plans of these orders."""
    failed = Task.objects.filter(
        fulfillment__order_reference__in=list(names),
        state=TaskState.FAILED_FINAL,
        round=0,
        plan__state__in=["RUNNING", "BLOCKED", "COMPENSATING"],
    )
    return map(str, failed.order_by("pk").values_list("pk", flat=True))


def orders_of_cases(names: Sequence[str]) -> Iterable[str]:
    rows = _numbers(names, of=FalloutCase).exclude(fulfillment=None)
    return rows.values_list("fulfillment__order_reference", flat=True)


def orders_of_tasks(names: Sequence[str]) -> Iterable[str]:
    return _numbers(names, of=Task).values_list("fulfillment__order_reference", flat=True)


register_listing(
    Listing(about="task", filters=TaskFilter, rows=_tasks),
    Listing(about="case", filters=CaseFilter, rows=_cases),
    Listing(about="manual", filters=ManualFilter, rows=_manual),
    Listing(about="target", filters=TargetFilter, rows=_targets, name="name"),
    Listing(about="hold", filters=HoldFilter, rows=_holds),
)
register_way(of="case", to="task", names=tasks_of_cases)
register_way(of="order", to="task", names=failed_tasks_of_orders)
register_way(of="case", to="order", names=orders_of_cases)
register_way(of="task", to="order", names=orders_of_tasks)
