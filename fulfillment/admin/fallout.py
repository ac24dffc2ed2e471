"""The head of the list of cases: how many wait, and one click for each view of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from fulfillment.admin.figures import counted
from fulfillment.definitions.signs import in_words
from fulfillment.models import IS_UNRESOLVED
from fulfillment.queries.case_queue import CaseQueue, case_queue, queues_of
from fulfillment.queries.workload import Due

_OPEN = {"resolved_at__isempty": "1"}
_CHIPS = 6
_FACETS = (
    ("reason", "reason_code", "reason_code__exact"),
    ("target", "target", "target__exact"),
    ("queue", "owner_queue", "owner_queue"),
    ("kind", "category", "category__exact"),
    ("severity", "severity", "severity__exact"),
)
"""What is filtered by with one click: its word, its column, and how the list's address says it."""


class WhoseFilter(admin.SimpleListFilter):
    """Cases by who has them."""

    title = "who has it"
    parameter_name = "whose"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> Iterable[tuple[str, str]]:
        return [("mine", "I have it"), ("nobody", "nobody has it"), ("queues", "my queues")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        user = cast(User, request.user)
        match self.value():
            case "mine":
                chosen = Q(assigned_to=user.get_username()) & ~Q(assigned_to="")
            case "nobody":
                chosen = Q(assigned_to="")
            case "queues":
                chosen = Q(owner_queue__in=queues_of(user))
            case _:
                return queryset
        return queryset.filter(chosen, IS_UNRESOLVED)


class JoinedFilter(admin.SimpleListFilter):
    """Cases by whether they have their cause in common with others."""

    title = "incident"
    parameter_name = "joined"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> Iterable[tuple[str, str]]:
        return [("no", "of no incident"), ("yes", "of an incident")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in ("yes", "no"):
            return queryset
        return queryset.filter(incident__isnull=self.value() == "no")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A link that narrows the list, or widens it again."""

    words: str
    number: str
    address: str
    is_here: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The head of the list."""

    told: str
    """How many wait, and what that keeps, in one sentence."""
    tabs: Sequence[Choice]
    facets: Sequence[tuple[str, Sequence[Choice]]]
    is_narrowed: bool
    is_empty: bool


def queue_of(request: HttpRequest) -> Queue:
    """For whoever looks, as their list is filtered. Three queries."""
    found = case_queue()
    user = cast(User, request.user)
    mine = queues_of(user)
    asked = {name: str(value) for name, value in request.GET.items() if name not in ("p", "e")}
    return Queue(
        told=_told(found),
        tabs=list(_tabs(found, asked, user.get_username(), mine)),
        facets=[
            (words, choices)
            for words, column, name in _FACETS
            if (choices := list(_chips(found, asked, column, name)))
        ],
        is_narrowed=any(name in asked for _, _, name in _FACETS),
        is_empty=not found.cases,
    )


def _told(found: CaseQueue) -> str:
    if not found.cases:
        return "No case is open: nothing waits for a person."
    number = f"{found.cases:,}{'+' if found.is_capped else ''}"
    told = f"{number} open, {found.overdue:,} overdue"
    if found.revenue:
        told += f"; they keep {_money(found.revenue)} waiting"
    return f"{told}."


def _money(revenue: Mapping[str, Decimal]) -> str:
    sums = sorted(revenue.items(), key=lambda one: -one[1])
    return ", ".join(f"{amount:,.2f} {currency}" for currency, amount in sums[:4])


def _tabs(
    found: CaseQueue, asked: Mapping[str, str], name: str, queues: Sequence[str]
) -> Iterable[Choice]:
    """The views of the list: each forgets the others."""
    in_mine = sum(found.of("owner_queue", queue) for queue in queues)
    offered: list[tuple[str, int | None, dict[str, str]]] = [
        ("All open", found.cases, _OPEN),
        ("Overdue", found.overdue, {"due": Due.OVERDUE.value}),
        ("Mine", found.of("assigned_to", name), {"whose": "mine"}),
        ("Nobody's", found.of("assigned_to", ""), {"whose": "nobody"}),
        ("Of no incident", found.single, {**_OPEN, "joined": "no"}),
        ("Closed", None, {"state__exact": "RESOLVED"}),
    ]
    if queues:
        offered.insert(4, ("My queues", in_mine, {"whose": "queues"}))
    for words, number, wanted in offered:
        here = {
            key: asked[key] for key in ("due", "whose", "joined", "state__exact") if key in asked
        }
        if "resolved_at__isempty" in asked and not ({"due", "whose", "state__exact"} & set(here)):
            here |= _OPEN
        yield Choice(
            words=words,
            number="" if number is None else counted(number),
            address=f"?{urlencode(wanted)}",
            is_here=here == wanted,
        )


def _chips(found: CaseQueue, asked: Mapping[str, str], column: str, name: str) -> Iterable[Choice]:
    """The most frequent values; the one that is chosen is taken back by its own link."""
    values = [(value, number) for value, number in found.by.get(column, ()) if value]
    chosen = asked.get(name)
    if len(values) < 2 and chosen is None:
        return
    shown = values[:_CHIPS]
    if chosen is not None and chosen not in dict(shown):
        shown.append((chosen, found.of(column, chosen)))
    for value, number in shown:
        is_here = value == chosen
        wanted = {key: text for key, text in asked.items() if key != name}
        if not is_here:
            wanted = {**wanted, name: value}
        if not {"whose", "due", "state__exact"} & set(wanted):
            wanted |= _OPEN
        yield Choice(
            words=in_words(value) if column in ("category", "severity") else value,
            number=counted(number),
            address=f"?{urlencode(wanted)}",
            is_here=is_here,
        )
