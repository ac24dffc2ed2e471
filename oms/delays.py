"""Delay detected: the promised date has passed, or nothing has moved for too long (§25).

The customer is told once per order version, and not why: what keeps an order is for operators.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial

from fulfillment.engine.store.database import Row, Update, cursor
from fulfillment.engine.store.halving import in_halves
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from oms import telling, terms
from oms.models import Order
from oms.telling import Saying

logger = logging.getLogger(__name__)

OCCASION = "delayed"
_ACTOR = "delay detector"
_BATCH = 100
# An order without a plan of its own is judged by its promised date alone. Nobody is told that what
# they want cancelled comes later.
_FROM = """
FROM oms_order o
LEFT JOIN fulfillment_plan p ON p.fulfillment_id = o.fulfillment_id
    AND p.state NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SUPERSEDED')
WHERE o.finished_at IS NULL AND o.late_told_version < o.version
  AND o.state NOT IN ('ASSESSING_CANCELLATION', 'CANCELLING')
"""
_OVERDUE = f"""
SELECT o.id, o.fulfillment_id, p.graph_id, p.stuck_at, o.promised_at, fulfillment_now() {_FROM}
  AND o.promised_at < fulfillment_now() AND o.id > %s ORDER BY o.id LIMIT {_BATCH}
"""
_STUCK = f"""
SELECT o.id, o.fulfillment_id, p.graph_id, p.stuck_at, o.promised_at, fulfillment_now() {_FROM}
  AND p.stuck_at IS NOT NULL AND o.id > %s ORDER BY o.id LIMIT {_BATCH}
"""
_AGAIN = f"""
SELECT o.id, o.fulfillment_id, p.graph_id, p.stuck_at, o.promised_at, fulfillment_now() {_FROM}
  AND o.id = ANY(%s::bigint[]) ORDER BY o.id
"""
_TOLD = Update("oms_order", late_told_version="int")


def tell_delays() -> int:
    """Tell the customers of late orders that don't know yet. Returns how many were told."""
    told = 0
    for question in (_OVERDUE, _STUCK):
        for rows in _pages(question):
            late = [row for row in rows if _is_late(row)]
            if late:
                told += sum(in_halves(late, work=_tell_together, culprit=_leave))
    return told


def _pages(question: str) -> Iterator[list[Row]]:
    last = 0
    while True:
        with cursor() as raw:
            raw.execute(question, [last], prepare=True)
            rows = raw.fetchall()
        yield rows
        if len(rows) < _BATCH:
            return
        last = rows[-1][0]


def _is_late(row: Row) -> bool:
    _, _, graph_id, stuck_at, promised_at, now = row
    if promised_at is not None and promised_at < now:
        return True
    if graph_id is None or stuck_at is None:
        return False
    patience = terms.of_graph(graph_id).delay_after
    moment: datetime = stuck_at
    return bool(moment + patience <= now)


def _tell_together(rows: Sequence[Row]) -> list[int]:
    return [
        run_unit(
            partial(_tell, order_ids=[row[0] for row in rows]),
            fulfillment_ids=[row[1] for row in rows],
            actor=_ACTOR,
        )
    ]


def _leave(row: Row, error: Exception) -> None:
    logger.error("a customer was not told of a delay", exc_info=error, extra={"order": row[0]})


def _tell(unit: Unit, order_ids: Sequence[int]) -> int:
    # Read under the locks: what has finished or moved meanwhile is not late.
    unit.raw.execute(_AGAIN, [list(order_ids)], prepare=True)
    graphs = {row[0]: row[2] for row in unit.raw.fetchall() if _is_late(row)}
    orders = list(Order.objects.filter(pk__in=graphs).order_by("pk"))
    events = telling.write(
        unit.raw,
        [
            Saying(order=order, occasion=OCCASION, tell=_terms(graphs[order.pk]).messages[OCCASION])
            for order in orders
        ],
        now=unit.now,
    )
    _TOLD.run(unit.raw, [(order.pk, order.version) for order in orders])
    for event in events:
        unit.emit(
            fulfillment_id=event.fulfillment_id, event_type=event.event_type, payload=event.event
        )
    return len(orders)


def _terms(graph_id: int | None) -> terms.Terms:
    return terms.NOTHING if graph_id is None else terms.of_graph(graph_id)
