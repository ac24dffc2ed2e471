"""The list of manual tasks: its head, its views, and what whoever looks may do to its rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import held_here, reach_here
from fulfillment.admin.figures import OfferedFilter, counted
from fulfillment.admin.tabs import by_whom
from fulfillment.models import ManualState
from fulfillment.queries.manual_queue import MOST, manual_queue, waits_for

_OPEN = {"decided_at__isempty": "1"}


class StateFilter(admin.ChoicesFieldListFilter):
    """Decided ones stand behind all that are open; by this the index finds where they begin."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if request.GET.get(self.lookup_kwarg) == ManualState.DECIDED:
            queryset = queryset.filter(decided_at__isnull=False)
        return super().queryset(request, queryset)


class WhoseFilter(OfferedFilter):
    """Open ones by who has them, or may."""

    title = "who has it"
    parameter_name = "whose"
    offered = (("mine", "I have it"), ("nobody", "nobody has it"), ("roles", "for my roles"))

    def chosen(self, value: str, *, request: HttpRequest) -> Q:
        return waits_for(whose=value, person=request.user.get_username(), roles=_roles(request))


def inbox(request: HttpRequest) -> dict[str, Any]:
    """The head of the list: how many there are, and one click for each view of them."""
    found = manual_queue(person=request.user.get_username(), roles=_roles(request))
    views = (
        ("All that is open", found.to_decide, ""),
        ("I have it", found.mine, "mine"),
        ("Nobody has it", found.nobodys, "nobody"),
        ("For my roles", found.of_roles, "roles"),
    )
    return {
        "told": _waiting(found.to_decide, found.overdue),
        "tabs": by_whom(request, within=_OPEN, views=views, at_most=MOST),
    }


def may_do(
    request: HttpRequest, pks: Sequence[int], *, among: Collection[Action] = frozenset(Action)
) -> dict[int, frozenset[Action]]:
    """What of this whoever looks may do to each of these now; a fixed number of queries."""
    held = [action for action in held_here(request) if action in among]
    found = operations.possible_among(about="manual", pks=pks, held=held, reach=reach_here(request))
    return {pk: frozenset(repair.action for repair in repairs) for pk, repairs in found.items()}


def _roles(request: HttpRequest) -> frozenset[str]:
    """The groups of whoever looks; read once for each page."""
    found: frozenset[str] | None = getattr(request, "roles", None)
    if found is None:
        user = cast(User, request.user)
        found = frozenset(user.groups.values_list("name", flat=True))
        request.roles = found  # type: ignore[attr-defined]
    return found


def _waiting(to_decide: int, overdue: int) -> str:
    if not to_decide:
        return "Nothing waits for a decision."
    late = (
        f"; {counted(overdue, at_most=MOST)} overdue, which stand first"
        if overdue
        else "; none is overdue"
    )
    verb = "waits" if to_decide == 1 else "wait"
    return f"{counted(to_decide, at_most=MOST)} {verb} for a decision{late}."
