"""What a plan means to its order: the order desk's side of the engine's port."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from fulfillment.engine.database import Table, Update, cursor
from fulfillment.engine.port import Notice, OrderTransition, PlanChange
from fulfillment.errors import ConcurrentChange
from oms.models import Order

_WANTED = {"id", "reference", "external_id", "version", "state", "fulfillment_id", "finished_at"}
# `from_db` takes values in the order of the model's fields.
_COLUMNS = tuple(f.attname for f in Order._meta.concrete_fields if f.attname in _WANTED)
_BY_FULFILLMENT = (
    f"SELECT {', '.join(_COLUMNS)} FROM oms_order WHERE fulfillment_id = ANY(%s::bigint[])"
)
_CHANGED = Update("oms_order", guard="state", state="text", finished_at="timestamptz")
_MILESTONES = Table(
    "oms_milestone", order_id="bigint", name="text", title="text", reached_at="timestamptz"
)
_CAUSES: dict[PlanChange, tuple[Callable[[Order], None], str, str]] = {
    PlanChange.STARTED: (Order.start, "its plan started", "OrderStarted"),
    PlanChange.COMPLETED: (Order.complete, "its plan completed", "OrderCompleted"),
}


class OrderLifecycle:
    """Registered with the engine at start-up; runs inside its units, under its locks."""

    def notify(self, *, notices: Sequence[Notice], now: datetime) -> Sequence[OrderTransition]:
        """Move the orders, note their milestones, and report the transitions for the audit."""
        with cursor() as raw:
            raw.execute(
                _BY_FULFILLMENT, [sorted({n.fulfillment_id for n in notices})], prepare=True
            )
            orders = {
                order.fulfillment_id: order
                for order in (Order.from_db("default", _COLUMNS, row) for row in raw.fetchall())
            }
            before = {order.pk: str(order.state) for order in orders.values()}
            transitions: list[OrderTransition] = []
            milestones: dict[tuple[int, str], tuple[Any, ...]] = {}
            for notice in notices:
                order = orders.get(notice.fulfillment_id)
                if order is None:
                    continue
                if notice.change is PlanChange.MILESTONE_REACHED:
                    milestones[order.pk, notice.milestone] = (
                        order.pk,
                        notice.milestone,
                        notice.title,
                        now,
                    )
                else:
                    transitions.append(_moved(order, notice, now))
            _write(raw, orders.values(), before)
            known = _known_milestones(raw, milestones)
            _MILESTONES.insert(raw, [row for key, row in milestones.items() if key not in known])
        return transitions


def _moved(order: Order, notice: Notice, now: datetime) -> OrderTransition:
    transition, cause, event_type = _CAUSES[notice.change]
    return change(
        order,
        transition,
        cause=cause,
        now=now,
        event_type=event_type,
        plan_id=notice.plan_id,
    )


def change(
    order: Order,
    transition: Callable[[Order], None],
    *,
    cause: str,
    now: datetime,
    event_type: str = "",
    **event: Any,
) -> OrderTransition:
    """Apply a transition of the order's state machine, in memory."""
    before = str(order.state)
    transition(order)
    if order.is_final:
        order.finished_at = now
    return OrderTransition(
        fulfillment_id=order.fulfillment_id,
        order_id=order.reference,
        name=transition.__name__,
        from_state=before,
        to_state=str(order.state),
        cause=cause,
        event_type=event_type,
        event={
            "state": str(order.state),
            "version": order.version,
            "external_id": order.external_id,
            **event,
        }
        if event_type
        else {},
    )


def _write(raw: Any, orders: Any, before: dict[int, str]) -> None:
    changed = [
        (order.pk, str(order.state), order.finished_at, before[order.pk])
        for order in orders
        if order.state != before[order.pk]
    ]
    if _CHANGED.run(raw, changed) != len(changed):
        raise ConcurrentChange("An order was changed by somebody who did not hold its lock.")


def _known_milestones(
    raw: Any, milestones: dict[tuple[int, str], tuple[Any, ...]]
) -> set[tuple[int, str]]:
    if not milestones:
        return set()
    raw.execute(
        "SELECT order_id, name FROM oms_milestone WHERE order_id = ANY(%s::bigint[])",
        [sorted({order_id for order_id, _ in milestones})],
        prepare=True,
    )
    return set(raw.fetchall())
