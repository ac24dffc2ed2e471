"""What holds and pauses keep back: counted before they are placed, and when they let go."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from fulfillment.engine.protection import holds
from fulfillment.engine.store.database import Row
from fulfillment.models import HoldScope
from fulfillment.states import TASK_SENDABLE

_MOST = 10_000
_SENDABLE = ", ".join(f"'{state}'" for state in sorted(TASK_SENDABLE))
_CANDIDATES = f"""
SELECT t.id, t.plan_id, t.node, t.route, t.target_id, f.order_reference, f.customer, p.graph_id,
       t.fulfillment_id
FROM fulfillment_task t
JOIN fulfillment_fulfillment f ON f.id = t.fulfillment_id
JOIN fulfillment_plan p ON p.id = t.plan_id
WHERE t.state IN ({_SENDABLE}) AND {{condition}} LIMIT {_MOST + 1}
"""
_ORDER = "f.order_reference = split_part(%s, '/', 1)"
_NARROWED = {
    HoldScope.ORDER: _ORDER,
    HoldScope.ITEM: _ORDER,
    HoldScope.PLAN: "t.plan_id = %s::bigint",
    HoldScope.TASK: "t.id = %s::bigint",
    HoldScope.TARGET: "t.target_id = %s",
    HoldScope.ACTION: "t.target_id = split_part(%s, '/', 1)",
    HoldScope.CUSTOMER: "f.customer = %s",
}
_HELD = f"""
SELECT count(*), count(DISTINCT fulfillment_id) FROM (
    SELECT fulfillment_id FROM fulfillment_task WHERE held_by_id = %s LIMIT {_MOST + 1}
) held
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBack:
    """How much would be sent now, or soon, if nothing kept it back."""

    tasks: int
    orders: int

    def document(self) -> dict[str, int]:
        return {"tasks": self.tasks, "orders": self.orders}

    def __str__(self) -> str:
        if not self.tasks:
            return "nothing that is ready to be sent"
        if self.tasks > _MOST:
            return f"more than {_MOST:,} tasks"
        tasks = "1 task" if self.tasks == 1 else f"{self.tasks:,} tasks"
        return f"{tasks} of {'1 order' if self.orders == 1 else f'{self.orders:,} orders'}"


def ready_in(raw: psycopg.Cursor[Row], *, scope: HoldScope, name: str) -> KeptBack:
    """What is ready to be sent in the scope of a hold; counting ends at some thousands."""
    subject = holds.subject_of(scope=scope, name=name)
    raw.execute(_CANDIDATES.format(condition=_NARROWED[scope]), [name])
    orders = [
        fulfillment_id
        for (
            task_id,
            plan_id,
            node,
            route,
            target,
            reference,
            customer,
            graph_id,
            fulfillment_id,
        ) in raw.fetchall()
        if subject
        in holds.subjects_of(
            holds.Held(
                task_id=task_id,
                plan_id=plan_id,
                node=node,
                route=route,
                target=target,
                order_reference=reference,
                customer=customer,
                graph_id=graph_id,
            )
        )
    ]
    return KeptBack(tasks=len(orders), orders=len(set(orders)))


def held_by(raw: psycopg.Cursor[Row], *, hold_id: int) -> KeptBack:
    """What has met a hold, and waits for its release."""
    raw.execute(_HELD, [hold_id])
    ((tasks, orders),) = raw.fetchall()
    return KeptBack(tasks=tasks, orders=orders)
