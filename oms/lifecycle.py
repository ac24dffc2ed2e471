"""What a plan means to its order: the order desk's side of the engine's port."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg

from fulfillment.engine.store.database import Row, Table, Update, cursor
from fulfillment.engine.work.port import Filed, Notice, OrderEvent, OrderTransition, PlanChange
from fulfillment.engine.work.rows import stored
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ConcurrentChange
from oms import installed_base, leakage, telling, terms
from oms.changes import amending, by_people, cancelling
from oms.changes.following import Asked
from oms.changes.quoting import OCCASION
from oms.models import (
    AmendmentRequest,
    AmendmentState,
    CancellationRequest,
    CancellationState,
    Order,
)
from oms.telling import Saying
from oms.terms import Terms
from oms.transitions import change

_WANTED = {
    "id",
    "reference",
    "external_id",
    "version",
    "state",
    "customer_id",
    "customer_name",
    "customer_email",
    "requested_at",
    "promised_at",
    "fulfillment_id",
    "finished_at",
}
# The others are read when they are asked for.
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
_PARTLY: tuple[Callable[[Order], None], str, str] = (
    Order.complete_partly,
    "its plan completed without items that have failed",
    "OrderPartiallyCompleted",
)
_OCCASIONS = {PlanChange.STARTED: "accepted", PlanChange.COMPLETED: "completed"}


class OrderLifecycle:
    """Registered with the engine at start-up; runs inside its units, under its locks."""

    def notify(
        self, *, notices: Sequence[Notice], now: datetime
    ) -> Sequence[OrderTransition | OrderEvent]:
        """Move the orders, note their milestones and assets, and tell their customers.

        Returns the transitions for the audit, and the events for subscribers.
        """
        with cursor() as raw:
            raw.execute(
                _BY_FULFILLMENT, [sorted({n.fulfillment_id for n in notices})], prepare=True
            )
            orders = {
                order.fulfillment_id: order
                for order in (stored(Order, _COLUMNS, row) for row in raw.fetchall())
            }
            before = {order.pk: str(order.state) for order in orders.values()}
            asked = Asked(orders.values())
            transitions: list[OrderTransition] = []
            sayings: list[Saying] = []
            milestones: dict[tuple[int, str], tuple[Any, ...]] = {}
            for notice in notices:
                order = orders.get(notice.fulfillment_id)
                if order is None:
                    continue
                said = _said(order, notice, asked)
                if said is not None:
                    sayings.append(said)
                if notice.change is PlanChange.TASK_SUCCEEDED:
                    continue
                if notice.change is PlanChange.MILESTONE_REACHED:
                    milestones[order.pk, notice.milestone] = (
                        order.pk,
                        notice.milestone,
                        notice.title,
                        now,
                    )
                else:
                    transitions += _moved(order, notice, asked, now)
            _write(raw, orders.values(), before)
            asked.write(raw)
            known = _known_milestones(raw, milestones)
            _MILESTONES.insert(raw, [row for key, row in milestones.items() if key not in known])
            _update_installed_base(raw, notices, orders, now)
            _match_billing(raw, notices, orders, now)
            told = {(order_id, telling.of_milestone(name)) for order_id, name in known}
            events = telling.write(
                raw,
                [one for one in sayings if (one.order.pk, one.occasion) not in told],
                now=now,
            )
        return [*transitions, *events]

    def watched(self, *, graph_id: int) -> Collection[int]:
        """The tasks that make assets real, those that bill, and those that undo either."""
        return terms.of_graph(graph_id).watched

    def decide(self, *, fulfillment_ids: Sequence[int]) -> None:
        """What could not be decided while something was under way; cancellations come first."""
        cancelling.decide_due(fulfillment_ids=fulfillment_ids)
        amending.decide_due(fulfillment_ids=fulfillment_ids)

    def ask_customer(self, unit: Unit, *, fulfillment_id: int, question: str, number: str) -> None:
        by_people.ask_customer(
            unit, fulfillment_id=fulfillment_id, question=question, number=number
        )

    def cancel(self, unit: Unit, *, fulfillment_id: int, requested_by: str, reason: str) -> Filed:
        return by_people.cancel(
            unit, fulfillment_id=fulfillment_id, requested_by=requested_by, reason=reason
        )

    def awaits_rest(self, *, fulfillment_id: int) -> bool:
        """Somebody wants it cancelled or amended, and that is not decided yet."""
        return (
            CancellationRequest.objects.filter(
                order__fulfillment_id=fulfillment_id, state=CancellationState.ASSESSING
            ).exists()
            or AmendmentRequest.objects.filter(
                order__fulfillment_id=fulfillment_id, state=AmendmentState.ASSESSING
            ).exists()
        )


def _said(order: Order, notice: Notice, asked: Asked) -> Saying | None:
    """What the customer is told on this occasion, if anything."""
    agreed = terms.of_graph(notice.graph_id)
    if notice.change is PlanChange.MILESTONE_REACHED:
        tell = agreed.milestones.get(notice.milestone)
        occasion = telling.of_milestone(notice.milestone)
    else:
        occasion = _OCCASIONS.get(notice.change, "")
        if notice.given_up:
            occasion = "partly_completed"
        if asked.is_cancelled_by(notice, order=order):
            occasion = OCCASION
        tell = agreed.messages.get(occasion)
    if tell is None:
        return None
    return Saying(order=order, occasion=occasion, tell=tell, title=notice.title)


def _update_installed_base(
    raw: psycopg.Cursor[Row],
    notices: Sequence[Notice],
    orders: Mapping[int, Order],
    now: datetime,
) -> None:
    planned: set[tuple[int, int]] = set()
    providing: set[tuple[int, int]] = set()
    active: set[tuple[int, int]] = set()
    started: set[int] = set()
    complete: set[int] = set()
    undone: set[tuple[int, int]] = set()
    for notice in notices:
        order = orders.get(notice.fulfillment_id)
        if order is None:
            continue
        agreed: Terms = terms.of_graph(notice.graph_id)
        if notice.change is PlanChange.STARTED:
            started.add(order.pk)
            planned.update((order.pk, position) for position in agreed.planned)
            providing.update((order.pk, position) for position in agreed.providing)
        elif notice.change is PlanChange.TASK_SUCCEEDED and notice.node is not None:
            active.update(
                (order.pk, position) for position in agreed.activating.get(notice.node, ())
            )
            undone.update(
                (order.pk, position) for position in agreed.deactivating.get(notice.node, ())
            )
            if undone:
                planned.update((order.pk, position) for position in agreed.planned)
        elif notice.change is PlanChange.COMPLETED:
            complete.add(order.pk)
            fulfilled = agreed.active_with_order.difference(notice.given_up)
            active.update((order.pk, position) for position in fulfilled)
    installed_base.expect(raw, order_ids=started, planned=planned, providing=providing, now=now)
    installed_base.realise(raw, active=active, complete=complete, now=now)
    installed_base.undo(raw, undone=undone, planned=planned, now=now)
    installed_base.give_up(raw, order_ids={o.pk for o in orders.values() if o.is_final})


def _match_billing(
    raw: psycopg.Cursor[Row],
    notices: Sequence[Notice],
    orders: Mapping[int, Order],
    now: datetime,
) -> None:
    within: dict[tuple[int, int], timedelta] = {}
    active: set[tuple[int, int]] = set()
    billed: set[tuple[int, int]] = set()
    inactive: set[tuple[int, int]] = set()
    unbilled: set[tuple[int, int]] = set()
    for notice in notices:
        order = orders.get(notice.fulfillment_id)
        if order is None:
            continue
        agreed = terms.of_graph(notice.graph_id)
        items: Collection[int]
        if notice.change is PlanChange.COMPLETED:
            items = agreed.active_with_order.difference(notice.given_up)
        elif notice.change is PlanChange.TASK_SUCCEEDED and notice.node is not None:
            items = agreed.activating.get(notice.node, ())
            if not notice.waived:  # Who waives a billing does not bill.
                billed.update((order.pk, one) for one in agreed.charging.get(notice.node, ()))
                unbilled.update((order.pk, one) for one in agreed.uncharging.get(notice.node, ()))
            inactive.update((order.pk, one) for one in agreed.deactivating.get(notice.node, ()))
        else:
            continue
        active.update((order.pk, item) for item in items if item in agreed.billing)
        within.update(((order.pk, item), time) for item, time in agreed.billed_within.items())
    leakage.note(raw, active=active, billed=billed, within=within, now=now)
    leakage.take_back(raw, inactive=inactive, unbilled=unbilled, within=within, now=now)


def _moved(order: Order, notice: Notice, asked: Asked, now: datetime) -> Iterator[OrderTransition]:
    if notice.change not in _CAUSES:
        yield from asked.moved(order, notice, now)
    else:
        transition, cause, event_type = _CAUSES[notice.change]
        if notice.given_up:
            transition, cause, event_type = _PARTLY
        yield change(
            order,
            transition,
            cause=cause,
            now=now,
            event_type=event_type,
            plan_id=notice.plan_id,
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
