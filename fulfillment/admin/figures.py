"""Numbers that lead to their lists, and the filters by which a list shows exactly those rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from fulfillment.queries import workload
from fulfillment.queries.on_the_way import Way, on_the_way
from fulfillment.queries.workload import MOST, Due


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number with its words and the list of its rows; `templates/html/desk/frame/figure.html`."""

    number: str
    words: str
    address: str
    sign: str = ""
    tone: str = "waiting"
    more: str = ""


def counted(number: int, *, at_most: int = MOST, or_more: bool = False) -> str:
    """`1,234`; or `10,000+` when no more were counted. `or_more`: only some of all were looked at,
    and so many of them are so."""
    if number > at_most:
        return f"{at_most:,}+"
    return f"{number:,}+" if or_more else f"{number:,}"


class OfferedFilter(admin.SimpleListFilter):
    """Rows by one of a few conditions; of a value that is not offered there are none."""

    offered: Sequence[tuple[str, str]] = ()
    """Each value as the address says it, and in words."""

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> Iterable[tuple[str, str]]:
        return self.offered

    def chosen(self, value: str, *, request: HttpRequest) -> Q:
        """The condition of a value that is offered."""
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        if value not in dict(self.offered):
            return queryset.none()
        return queryset.filter(self.chosen(value, request=request))


class _DueFilter(OfferedFilter):
    title = "time left"
    parameter_name = "due"
    offered = [(due.value, due.words) for due in Due]


class CaseDueFilter(_DueFilter):
    """Cases by the time that is left."""

    def chosen(self, value: str, *, request: HttpRequest) -> Q:
        return workload.case_is(Due(value), now=workload.now())


class ManualDueFilter(_DueFilter):
    """Manual tasks by the time that is left."""

    def chosen(self, value: str, *, request: HttpRequest) -> Q:
        return workload.manual_task_is(Due(value), now=workload.now())


class WayFilter(OfferedFilter):
    """Tasks that are to be sent to their target systems, are being sent, or done there."""

    title = "on the way"
    parameter_name = "way"
    offered = tuple((way.value, way.words) for way in Way)

    def chosen(self, value: str, *, request: HttpRequest) -> Q:
        target = request.GET.get("target__name__exact", "")
        return on_the_way(Way(value), target=target, now=workload.now())
