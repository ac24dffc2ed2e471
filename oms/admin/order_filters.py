"""Filters of the list of orders: those that Today counts, and those alone."""

from __future__ import annotations

from django.db.models import Q
from django.db.models.expressions import RawSQL
from django.http import HttpRequest

from fulfillment.admin.figures import OfferedFilter
from fulfillment.models import Plan
from fulfillment.queries import workload
from fulfillment.queries.by_index import each_of
from fulfillment.queries.workload import Age
from oms.queries import day

ANY = "any"


def _of_plans(condition: Q, *, since: str) -> Q:
    """Orders with such a plan, never one twice; of too many those that have been so longest."""
    plans = Plan.objects.filter(condition).order_by(since).values("fulfillment")
    return Q(fulfillment__in=each_of(plans[: workload.MOST + 1]))


class StuckFilter(OfferedFilter):
    """Orders in which nothing moves, by how long already."""

    title = "stuck"
    parameter_name = "stuck"
    offered = ((ANY, "stuck"), *((age.value, f"for {age.words}") for age in Age))

    def chosen(self, value: str, *, request: HttpRequest) -> Q:
        if value == ANY:
            return _of_plans(workload.IS_STUCK, since="stuck_at")
        longer = workload.stuck_for(Age(value), now=workload.now())
        return _of_plans(longer, since="stuck_at")


class NeedsFilter(OfferedFilter):
    """Orders that will be late, and those of high value that are blocked."""

    title = "what needs an eye"
    parameter_name = "needs"
    offered = (("at-risk", "in jeopardy"), ("high-value", "of high value, and blocked"))

    def chosen(self, value: str, *, request: HttpRequest) -> Q:
        if value == "at-risk":
            return _of_plans(workload.IS_AT_RISK, since="at_risk_since")
        # One value: of thousands Django would make a statement of thousands.
        found = [one.order_id for one in day.blocked_of_high_value()]
        return Q(pk__in=RawSQL("SELECT unnest(%s::bigint[])", [found]))


class EndedFilter(OfferedFilter):
    """Orders that have ended since midnight."""

    title = "ended"
    parameter_name = "ended"
    offered = (("today", "today"),)

    def chosen(self, value: str, *, request: HttpRequest) -> Q:
        return Q(finished_at__isnull=False, finished_at__gte=day.midnight(workload.now()))
