"""How the day is going, of orders: how many are in which state, and which dear ones are blocked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.conf import settings

from fulfillment.engine.store.database import cursor
from fulfillment.models import CaseCategory
from fulfillment.queries.workload import MOST
from oms.states import ORDER_TERMINAL, OrderState

UNDER_WAY = tuple(state for state in OrderState if state not in ORDER_TERMINAL)
ENDED = tuple(state for state in OrderState if state in ORDER_TERMINAL)
_KEEPS_NOTHING = (
    CaseCategory.UNDELIVERED,
    CaseCategory.LEAKAGE,
    CaseCategory.JEOPARDY,
    CaseCategory.LATE,
)
"""Cases about orders that go on all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """How many there are in each state, without states that none is in; MOST + 1 is more."""

    under_way: Mapping[OrderState, int]
    ended_today: Mapping[OrderState, int]
    """Since midnight, UTC."""


_ORDERS = """
SELECT s.state, n.found FROM unnest(%(open)s::text[]) AS s(state) CROSS JOIN LATERAL (
    SELECT count(*) AS found FROM (
        SELECT FROM oms_order o WHERE o.state = s.state
        ORDER BY o.submitted_at DESC, o.id DESC LIMIT %(most)s
    ) these
) n
UNION ALL
SELECT s.state, n.found FROM unnest(%(ended)s::text[]) AS s(state) CROSS JOIN LATERAL (
    SELECT count(*) AS found FROM (
        SELECT FROM oms_order o
        WHERE o.state = s.state AND o.finished_at IS NOT NULL AND o.finished_at >= %(since)s
        ORDER BY o.finished_at LIMIT %(most)s
    ) these
) n
"""


def orders(*, now: datetime) -> Orders:
    """One query. An order is in one of its states, so both parts are told apart by that."""
    asked = {
        "open": list(map(str, UNDER_WAY)),
        "ended": list(map(str, ENDED)),
        "since": midnight(now),
        "most": MOST + 1,
    }
    with cursor() as raw:
        raw.execute(_ORDERS, asked)
        found = {OrderState(state): number for state, number in raw.fetchall() if number}
    return Orders(
        under_way={state: found[state] for state in UNDER_WAY if state in found},
        ended_today={state: found[state] for state in ENDED if state in found},
    )


def midnight(now: datetime) -> datetime:
    """When the day of `now` began."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dear:
    """An order of high value that can't go on by itself."""

    order_id: int
    reference: str
    customer: str
    worth: Decimal
    """All of its items, what is paid once and one period; in the currency of which most is over
    the limit."""
    currency: str


# Laterally, so that each is looked up by index: a join goes through all orders there are.
_DEAR = """
WITH blocked AS MATERIALIZED (
    SELECT DISTINCT fulfillment_id FROM (
        SELECT fulfillment_id, category FROM fulfillment_falloutcase WHERE resolved_at IS NULL
        ORDER BY resolved_at DESC NULLS FIRST, sla_due_at, id DESC LIMIT %(most)s
    ) open WHERE category <> ALL(%(beside)s::text[])
), worth AS (
    SELECT o.id AS order_id, i.currency, i.amount
    FROM blocked b
    CROSS JOIN LATERAL (
        SELECT id FROM oms_order
        WHERE fulfillment_id = b.fulfillment_id AND finished_at IS NULL LIMIT 1
    ) o
    CROSS JOIN LATERAL (
        SELECT currency, sum(
            (coalesce(one_off_price, 0) + coalesce(recurring_price, 0)) * quantity) AS amount
        FROM oms_orderitem WHERE order_id = o.id AND removed_in_version IS NULL
        GROUP BY currency
    ) i
), dear AS (
    SELECT DISTINCT ON (order_id) order_id, w.currency, w.amount, w.amount / l.amount AS how_much
    FROM worth w JOIN unnest(%(currencies)s::text[], %(amounts)s::numeric[]) AS l(currency, amount)
        ON l.currency = w.currency
        OR (l.currency = '' AND w.currency <> ALL(%(currencies)s::text[]))
    WHERE w.amount >= l.amount
    ORDER BY order_id, how_much DESC
)
SELECT o.id, o.reference, coalesce(nullif(o.customer_name, ''), o.customer_id), d.amount, d.currency
FROM dear d JOIN oms_order o ON o.id = d.order_id
ORDER BY d.how_much DESC, o.id
"""


def blocked_of_high_value() -> Sequence[Dear]:
    """Orders worth OMS_HIGH_VALUE or more that have an open case without whose end they don't go
    on, the dearest first. One query."""
    limits: Mapping[str, Decimal] = settings.OMS_HIGH_VALUE
    asked = {
        "most": MOST + 1,
        "beside": list(map(str, _KEEPS_NOTHING)),
        "currencies": list(limits),
        "amounts": list(limits.values()),
    }
    with cursor() as raw:
        raw.execute(_DEAR, asked)
        rows = raw.fetchall()
    return [
        Dear(order_id=order_id, reference=reference, customer=customer, worth=worth, currency=code)
        for order_id, reference, customer, worth, code in rows
    ]
