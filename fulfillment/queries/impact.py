"""What an incident keeps: open cases, orders, revenue and queues; and how the same ended before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.db.models import F

from fulfillment.engine.store.database import cursor
from fulfillment.models import CaseState, FalloutCase, Incident, IncidentState
from fulfillment.queries.open_cases import money_at_risk

_OPEN_CASES = """
SELECT owner_queue, GROUPING(owner_queue), count(*), count(DISTINCT fulfillment_id),
    count(*) FILTER (WHERE sla_due_at < fulfillment_now() AND sla_paused_at IS NULL),
    count(*) FILTER (WHERE assigned_to <> ''), min(sla_due_at), max(opened_at)
FROM fulfillment_falloutcase WHERE incident_id = %s AND state <> 'RESOLVED'
GROUP BY GROUPING SETS ((), (owner_queue))
"""
_LOOKED_BACK = 200
"""Closed cases of the same fingerprint, in which incidents of before are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """Of its open cases, counted now."""

    cases: int = 0
    orders: int = 0
    overdue: int = 0
    taken: int = 0
    """Cases that somebody has."""
    revenue: Mapping[str, Decimal] = field(default_factory=dict)
    """What waits, by currency, the largest sum first; each item once."""
    queues: Sequence[tuple[str, int]] = ()
    """Who sees to them, and to how many."""
    due_at: datetime | None = None
    """When the first of them is due."""
    latest_at: datetime | None = None
    """When the newest of them was opened."""


def impact_of(*, incident: Incident) -> Impact:
    """Two statements."""
    with cursor() as raw:
        raw.execute(_OPEN_CASES, [incident.pk])
        rows = raw.fetchall()
    queues: list[tuple[str, int]] = []
    total: tuple[int, int, int, int, datetime | None, datetime | None] = (0, 0, 0, 0, None, None)
    for queue, is_total, cases, orders, overdue, taken, due_at, latest_at in rows:
        if is_total:
            total = (cases, orders, overdue, taken, due_at, latest_at)
        else:
            queues.append((queue, cases))
    cases, orders, overdue, taken, due_at, latest_at = total
    return Impact(
        cases=cases,
        orders=orders,
        overdue=overdue,
        taken=taken,
        revenue={one.currency: one.total for one in money_at_risk(incident_id=incident.pk)},
        queues=sorted(queues, key=lambda one: (-one[1], one[0])),
        due_at=due_at,
        latest_at=latest_at,
    )


def same_before(*, incident: Incident, at_most: int = 5) -> list[Incident]:
    """Incidents of the same cause that are over, the latest first."""
    closed = FalloutCase.objects.filter(
        fingerprint=incident.fingerprint,
        state=CaseState.RESOLVED,
        resolved_at__lt=incident.opened_at,
    ).order_by("-resolved_at")[:_LOOKED_BACK]
    rows = Incident.objects.filter(
        pk__in=closed.values("incident"), state=IncidentState.RESOLVED
    ).exclude(pk=incident.pk)
    return list(rows.order_by("-resolved_at")[:at_most])


def example_of(*, incident: Incident) -> FalloutCase | None:
    """One of its cases, to see what happened: the first, an open one where there is any."""
    rows = FalloutCase.objects.filter(incident=incident).defer("facts")
    first = F("resolved_at").desc(nulls_first=True)
    return rows.select_related("fulfillment").order_by(first, "pk").first()
