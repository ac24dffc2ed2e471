"""Filters of the list of orders: those that Today counts, and those alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Func, Q
from django.db.models.expressions import RawSQL
from django.http import HttpRequest

from fulfillment.admin.figures import ConditionFilter
from fulfillment.models import Plan
from fulfillment.queries import workload
from fulfillment.queries.workload import Age
from oms.queries import day

ANY = "any"


class _EachOf(Func):
    """The elements of an array. The database looks each of them up by index; those of a subquery
    it would join, and go through all orders for that."""

    function = "unnest"
    template = "(SELECT %(function)s(%(expressions)s))"


def _of_plans(condition: Q, *, since: str) -> Q:
    """Orders with such a plan, never one twice; of too many those that have been so longest."""
    plans = Plan.objects.filter(condition).order_by(since).values("fulfillment")
    return Q(fulfillment__in=_EachOf(ArraySubquery(plans[: workload.MOST + 1])))


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
            return _of_plans(workload.IS_STUCK, since="stuck_at")
        return _of_plans(workload.stuck_for(Age(value), now=now), since="stuck_at")


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
            return _of_plans(workload.IS_AT_RISK, since="at_risk_since")
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
