"""The head of the list of cases: how many wait, and one click for each view of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.db.models import Q
from django.http import HttpRequest

from fulfillment.admin.figures import OfferedFilter, counted
from fulfillment.admin.tabs import Tab
from fulfillment.definitions.signs import in_words
from fulfillment.models import IS_UNRESOLVED
from fulfillment.queries.case_queue import CaseQueue, case_queue, queues_of
from fulfillment.queries.open_cases import Money, money_at_risk
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


class WhoseFilter(OfferedFilter):
    """Cases by who has them."""

    title = "who has it"
    parameter_name = "whose"
    offered = (("mine", "I have it"), ("nobody", "nobody has it"), ("queues", "my queues"))

    def chosen(self, value: str, *, request: HttpRequest) -> Q:
        user = cast(User, request.user)
        chosen = {
            "mine": Q(assigned_to=user.get_username()) & ~Q(assigned_to=""),
            "nobody": Q(assigned_to=""),
        }
        whose = chosen.get(value) or Q(owner_queue__in=queues_of(user))
        return whose & IS_UNRESOLVED


class JoinedFilter(OfferedFilter):
    """Cases by whether they have their cause in common with others."""

    title = "incident"
    parameter_name = "joined"
    offered = (("no", "of no incident"), ("yes", "of an incident"))

    def chosen(self, value: str, *, request: HttpRequest) -> Q:
        return Q(incident__isnull=value == "no")


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The head of the list."""

    told: str
    """How many wait, and what that keeps, in one sentence."""
    tabs: Sequence[Tab]
    facets: Sequence[tuple[str, Sequence[Tab]]]
    is_narrowed: bool
    is_empty: bool


def queue_of(request: HttpRequest) -> Queue:
    """For whoever looks, as their list is filtered. Four queries."""
    found = case_queue()
    user = cast(User, request.user)
    mine = queues_of(user)
    asked = {name: str(value) for name, value in request.GET.items() if name not in ("p", "e")}
    return Queue(
        told=_told(found, money_at_risk()),
        tabs=list(_tabs(found, asked, user.get_username(), mine)),
        facets=[
            (words, choices)
            for words, column, name in _FACETS
            if (choices := list(_chips(found, asked, column, name)))
        ],
        is_narrowed=any(name in asked for _, _, name in _FACETS),
        is_empty=not found.cases,
    )


def _told(found: CaseQueue, money: Sequence[Money]) -> str:
    if not found.cases:
        return "No case is open: nothing waits for a person."
    number = f"{found.cases:,}{'+' if found.is_capped else ''}"
    told = f"{number} open, {found.overdue:,} overdue"
    if money:
        sums = ", ".join(f"{one.total:,.2f} {one.currency}" for one in money[:4])
        told += f"; they keep {sums} waiting"
    return f"{told}."


def _tabs(
    found: CaseQueue, asked: Mapping[str, str], name: str, queues: Sequence[str]
) -> Iterable[Tab]:
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
        # None among those that were looked at says nothing about the others.
        unknown = number is None or (found.is_capped and not number)
        yield Tab(
            words=words,
            number="" if unknown else counted(number or 0, or_more=found.is_capped),
            address=f"?{urlencode(wanted)}",
            is_here=here == wanted,
        )


def _chips(found: CaseQueue, asked: Mapping[str, str], column: str, name: str) -> Iterable[Tab]:
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
        # How many of the open ones have it; together with other wishes it would be fewer.
        is_alone = set(wanted) | {name} <= {name, "o", *_OPEN}
        yield Tab(
            words=in_words(value) if column in ("category", "severity") else value,
            number=counted(number, or_more=found.is_capped) if is_alone else "",
            address=f"?{urlencode(wanted)}",
            is_here=is_here,
        )
