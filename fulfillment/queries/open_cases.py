"""Open cases in figures: by what they have in common, and what they keep from being earned (§28.2).

`workload.MOST` are counted, those that are due first; `now` is the time of the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from fulfillment.definitions.signs import in_words
from fulfillment.engine.store.database import cursor
from fulfillment.queries import workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Open cases that have one cause: those of an incident, or of the same target system, action
    and reason."""

    incident_id: int | None
    title: str
    target: str
    action: str
    reason_code: str
    cases: int
    overdue: int
    soon: int
    unassigned: int
    since: datetime
    """When the oldest of them was opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallout:
    """Open cases; where there are more than `workload.MOST`, those that are due first."""

    reasons: Sequence[Reason]
    """Those with the most cases first."""

    @property
    def total(self) -> int:
        return sum(one.cases for one in self.reasons)

    @property
    def is_capped(self) -> bool:
        """There are more than were looked at: what is counted of them is the least there is."""
        return self.total > workload.MOST

    @property
    def overdue(self) -> int:
        return sum(one.overdue for one in self.reasons)

    @property
    def soon(self) -> int:
        return sum(one.soon for one in self.reasons)

    @property
    def unassigned(self) -> int:
        return sum(one.unassigned for one in self.reasons)


_OPEN_CASES = """
WITH open AS MATERIALIZED (
    SELECT fulfillment_id, state, category, target, action, reason_code, incident_id, opened_at,
           revenue, revenue_currency, CASE WHEN sla_paused_at IS NULL THEN sla_due_at END AS due_at
    FROM fulfillment_falloutcase WHERE resolved_at IS NULL
    ORDER BY resolved_at DESC NULLS FIRST, sla_due_at, id DESC LIMIT %(most)s
)
"""
_CASES_OF_INCIDENT = """
WITH open AS MATERIALIZED (
    SELECT fulfillment_id, category, revenue, revenue_currency FROM fulfillment_falloutcase
    WHERE incident_id = %(incident)s AND resolved_at IS NULL LIMIT %(most)s
)
"""
_REASONS = f"""
{_OPEN_CASES}, reasons AS (
    SELECT incident_id, target, action, reason_code, count(*) AS cases,
           count(*) FILTER (WHERE due_at < %(now)s) AS overdue,
           count(*) FILTER (WHERE due_at >= %(now)s AND due_at < %(soon)s) AS soon,
           count(*) FILTER (WHERE state = 'OPEN') AS unassigned,
           min(category) AS category, min(opened_at) AS since
    FROM open GROUP BY incident_id, target, action, reason_code
)
SELECT r.incident_id, coalesce(i.title, ''), r.target, r.action, r.reason_code, cases, overdue,
       soon, unassigned, category, since
FROM reasons r LEFT JOIN fulfillment_incident i ON i.id = r.incident_id
ORDER BY cases DESC, since
"""


def fallout(*, now: datetime) -> Fallout:
    with cursor() as raw:
        raw.execute(_REASONS, {"most": workload.MOST + 1, "now": now, "soon": now + workload.SOON})
        rows = raw.fetchall()
    return Fallout(
        reasons=[
            Reason(
                incident_id=incident_id,
                title=title or _told(target, action, reason_code, category),
                target=target,
                action=action,
                reason_code=reason_code,
                cases=cases,
                overdue=overdue,
                soon=soon,
                unassigned=unassigned,
                since=since,
            )
            for (
                incident_id,
                title,
                target,
                action,
                reason_code,
                cases,
                overdue,
                soon,
                unassigned,
                category,
                since,
            ) in rows
        ]
    )


def _told(target: str, action: str, reason_code: str, category: str) -> str:
    """As incidents are called; without a target system by the kind of trouble."""
    place = " ".join(filter(None, (target, action)))
    return f"{place or in_words(category)}: {reason_code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """What open cases keep from being earned, in one currency: each item once, however many cases
    name it; what is paid once and one period."""

    currency: str
    waits: Decimal
    """Of orders that are not done."""
    leaks: Decimal
    """Of what is in use and not billed; it does not count as waiting too, whatever else fails."""
    cases: int
    """Those whose largest sum is in this currency."""

    @property
    def total(self) -> Decimal:
        return self.waits + self.leaks


_MONEY = """
, items AS (
    SELECT c.key AS currency, bool_or(category = 'LEAKAGE') AS leaks,
           max((c.value->>0)::numeric + (c.value->>1)::numeric) AS amount
    FROM open, jsonb_each(revenue) i, jsonb_each(i.value) c
    GROUP BY open.fulfillment_id, i.key, c.key
), cases AS (
    SELECT revenue_currency AS currency, count(*) AS n FROM open
    WHERE revenue_currency <> '' GROUP BY revenue_currency
)
SELECT currency, coalesce(sum(amount) FILTER (WHERE NOT leaks), 0),
       coalesce(sum(amount) FILTER (WHERE leaks), 0), coalesce(max(n), 0)
FROM items LEFT JOIN cases USING (currency)
GROUP BY currency HAVING sum(amount) > 0 ORDER BY sum(amount) DESC
"""


def money_at_risk(*, incident_id: int | None = None) -> list[Money]:
    """By currency, the largest sum first; without what is worth nothing. Of all open cases, or of
    those of an incident."""
    of = _OPEN_CASES if incident_id is None else _CASES_OF_INCIDENT
    with cursor() as raw:
        raw.execute((of + _MONEY).encode(), {"most": workload.MOST + 1, "incident": incident_id})
        rows = raw.fetchall()
    return [Money(currency=row[0], waits=row[1], leaks=row[2], cases=row[3]) for row in rows]
