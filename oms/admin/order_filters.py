"""Filters of the list of orders: those that Today counts, and those alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.db.models.expressions import RawSQL
from django.http import HttpRequest

from fulfillment.admin.figures import ConditionFilter
from fulfillment.models import Plan
from fulfillment.queries import workload
from fulfillment.queries.workload import Age
from oms.queries import day

ANY = "any"


def _of_plans(condition: Q) -> Q:
    """Orders with such a plan; never one twice."""
    return Q(fulfillment__in=Plan.objects.filter(condition).values("fulfillment"))


class StuckFilter(ConditionFilter):
    """Orders in which nothing moves, by how long already."""

    title = "stuck"
    parameter_name = "stuck"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> Iterable[tuple[str, str]]:
        return [(ANY, "stuck"), *((age.value, f"for {age.words}") for age in Age)]

    def chosen(self, value: str, now: datetime) -> Q:
        if value == ANY:
            return _of_plans(workload.IS_STUCK)
        return _of_plans(workload.stuck_for(Age(value), now=now))


class NeedsFilter(ConditionFilter):
    """Orders that will be late, and those of high value that are blocked."""

    title = "what needs an eye"
    parameter_name = "needs"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> Iterable[tuple[str, str]]:
        return [("at-risk", "in jeopardy"), ("high-value", "of high value, and blocked")]

    def chosen(self, value: str, now: datetime) -> Q:
        if value == "at-risk":
            return _of_plans(workload.IS_AT_RISK)
        if value == "high-value":
            # One value: of thousands Django would make a statement of thousands.
            found = [one.order_id for one in day.blocked_of_high_value()]
            return Q(pk__in=RawSQL("SELECT unnest(%s::bigint[])", [found]))
        raise ValueError(value)


class EndedFilter(ConditionFilter):
    """Orders that have ended since midnight."""

    title = "ended"
    parameter_name = "ended"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> Iterable[tuple[str, str]]:
        return [("today", "today")]

    def chosen(self, value: str, now: datetime) -> Q:
        if value != "today":
            raise ValueError(value)
        return Q(finished_at__isnull=False, finished_at__gte=day.midnight(now))
