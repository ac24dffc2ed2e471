"""Numbers that lead to their lists, and the filters by which a list shows exactly those rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest

from fulfillment.models import FalloutCase
from fulfillment.queries import workload
from fulfillment.queries.workload import MOST, Due
from fulfillment.waits.conditions import IS_TO_BE_SENT, is_called

TO_BE_SENT, CALLED = "to-be-sent", "called"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number with its words and the list of its rows; `templates/html/desk/frame/figure.html`."""

    number: str
    words: str
    address: str
    sign: str = ""
    tone: str = "waiting"
    more: str = ""


def counted(number: int, *, at_most: int = MOST) -> str:
    """`1,234`; or `10,000+` when no more were counted."""
    return f"{at_most:,}+" if number > at_most else f"{number:,}"


class ConditionFilter(admin.SimpleListFilter):
    """Rows for which a condition of a read model holds at the time of asking."""

    def chosen(self, value: str, now: datetime) -> Q:
        """Raises ValueError for what is no choice."""
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        try:
            return queryset.filter(self.chosen(value, workload.now()))
        except ValueError:
            return queryset.none()


class DueFilter(ConditionFilter):
    """Cases and manual tasks by the time that is left."""

    title = "time left"
    parameter_name = "due"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> Iterable[tuple[str, str]]:
        self.model: type[Model] = model_admin.model
        return [(due.value, due.words) for due in Due]

    def chosen(self, value: str, now: datetime) -> Q:
        condition: Callable[..., Q] = (
            workload.case_is if self.model is FalloutCase else workload.manual_task_is
        )
        return condition(Due(value), now=now)


class WayFilter(ConditionFilter):
    """Tasks that are to be sent to their target systems, and those that are being sent."""

    title = "on the way"
    parameter_name = "way"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> Iterable[tuple[str, str]]:
        return [(TO_BE_SENT, "to be sent"), (CALLED, "with a call under way")]

    def chosen(self, value: str, now: datetime) -> Q:
        if value == TO_BE_SENT:
            return IS_TO_BE_SENT
        if value == CALLED:
            return is_called(now=now)
        raise ValueError(value)
