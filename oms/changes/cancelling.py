"""Cancelling an order: a controlled process, not the deletion of it (reference §19).

What a preview tells and what is carried out is found by one function, under the order's lock. If
something of the order is under way, nothing new is sent, and it is decided when that has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fulfillment.definitions.assessment import Assessment
from fulfillment.definitions.customer import TellSpec
from fulfillment.engine.plans import undoing, withholding
from fulfillment.engine.store import failpoints
from fulfillment.engine.store.halving import in_halves
from fulfillment.engine.work import cases
from fulfillment.engine.work.port import OrderTransition
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan
from fulfillment.published import definition_of
from fulfillment.states import PLAN_TERMINAL, PlanState
from oms import telling, terms
from oms.changes.assessed import refusals_document
from oms.changes.bundles import bundles_of
from oms.changes.following import denied, ended
from oms.changes.quoting import OCCASION, Quote
from oms.changes.standing import Standing, standing_in, standings
from oms.intake import feasibility, workflows
from oms.intake.feasibility import request_of
from oms.models import Asset, AssetState, CancellationRequest, CancellationState, Order, OrderItem
from oms.queries.orders import newest_plan
from oms.states import OrderState
from oms.transitions import change, change_request

logger = logging.getLogger(__name__)

_ACTOR = "cancellation"
_BATCH = 50
_NOTHING = Assessment(fates=(), charges=(), refusals=(), in_flight=())
"""Of an order without a plan, or whose plan has been given up already."""


class NotCancellable(Exception):
    """Nothing of this order can be cancelled any more."""

    code = "cancellation.order_is_over"

    def __init__(self, order: Order) -> None:
        self.order = order
        super().__init__(f"{order.reference} is {order.state}.")


class OrderIsComplete(NotCancellable):
    """What an order has done is changed by another order: `assets` are what it has left."""

    code = "cancellation.order_is_complete"

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        mine = Asset.objects.filter(order=order, state=AssetState.ACTIVE)
        self.assets = list(mine.order_by("asset_id").values_list("asset_id", flat=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """A request, and whether this call has made it: who comes second has the first one's."""

    request: CancellationRequest
    standing: Standing
    is_new: bool


def preview(*, order: Order) -> dict[str, Any]:
    """What `cancel` would do now, as a document; changes nothing. Raises NotCancellable.

    Of an order that is cancelled, or about to be, it is what was decided.
    """
    return run_unit(
        lambda unit: _previewed(unit, order.pk),
        fulfillment_ids=[order.fulfillment_id],
        actor=_ACTOR,
    )


def cancel(*, order: Order, requested_by: str, reason: str) -> Cancellation:
    """Cancel an order, or find out that it is not possible. Raises NotCancellable.

    The request is DONE, UNDOING, DENIED, or ASSESSING while something has to be settled first.
    """
    return run_unit(
        lambda unit: cancel_in(unit, order_id=order.pk, requested_by=requested_by, reason=reason),
        fulfillment_ids=[order.fulfillment_id],
        actor=requested_by,
    )


def cancel_in(unit: Unit, *, order_id: int, requested_by: str, reason: str) -> Cancellation:
    """`cancel` inside a unit that has locked the order's fulfillment."""
    order = Order.objects.get(pk=order_id)
    latest = CancellationRequest.objects.filter(order=order).first()
    if latest is not None and latest.state != CancellationState.DENIED:
        latest.order = order
        known = standings(order=order, requests=[latest])[latest.pk]
        return Cancellation(request=latest, standing=known, is_new=False)
    _check(order)
    request = CancellationRequest(
        order=order,
        number=1 if latest is None else latest.number + 1,
        requested_by=requested_by,
        reason=reason,
        order_state_before=str(order.state),
        requested_at=unit.now,
    )
    request.save()
    unit.record(
        fulfillment_id=order.fulfillment_id,
        entity="cancellation",
        entity_id=str(request.pk),
        name="request",
        before="",
        after=str(request.state),
        cause=reason,
        actor=requested_by,
    )
    _record(
        unit, [change(order, Order.assess_cancellation, cause=f"cancel: {reason}", now=unit.now)]
    )
    order.save(update_fields=["state"])
    _decide(unit, order, request, waited=False)
    return Cancellation(request=request, standing=standing_in(unit, request=request), is_new=True)


def decide_due(*, fulfillment_ids: Sequence[int]) -> int:
    """Decide what has waited for something to end; what is decided is left alone.

    Returns how many requests were looked at.
    """
    rows = CancellationRequest.objects.filter(
        order__fulfillment__in=fulfillment_ids, state=CancellationState.ASSESSING
    )
    due = list(rows.order_by("order__fulfillment_id").values_list("pk", "order__fulfillment_id"))
    batches = (due[first : first + _BATCH] for first in range(0, len(due), _BATCH))
    return sum(sum(in_halves(batch, work=_decide_together, culprit=_leave)) for batch in batches)


def _decide_together(batch: Sequence[tuple[int, int]]) -> list[int]:
    wanted = [request_id for request_id, _ in batch]

    def work(unit: Unit) -> int:
        # Read under the locks: somebody else may have decided meanwhile.
        rows = CancellationRequest.objects.filter(
            pk__in=wanted, state=CancellationState.ASSESSING
        ).select_related("order")
        found = list(rows.order_by("pk"))
        for request in found:
            _decide(unit, request.order, request, waited=True)
        cases.resolve_cases(
            unit,
            subjects=[_case_of(request.pk) for request in found],
            resolution="It could be decided after all.",
        )
        return len(found)

    return [run_unit(work, fulfillment_ids=[pk for _, pk in batch], actor=_ACTOR)]


def _leave(row: tuple[int, int], error: Exception) -> None:
    """Its neighbours go on; it is looked at again, and a person is told."""
    request_id, fulfillment_id = row
    logger.error("a cancellation was not decided", exc_info=error, extra={"request": request_id})
    fallout = cases.poison(
        subject=_case_of(request_id),
        what="What becomes of a cancellation can't be told",
        error=error,
        fulfillment_id=fulfillment_id,
    )
    run_unit(
        lambda unit: cases.open_case(unit, fallout=fallout),
        fulfillment_ids=[fulfillment_id],
        actor=_ACTOR,
    )


def _case_of(request_id: int) -> str:
    return f"cancellation:{request_id}"


# --- what it means --------------------------------------------------------------------------------


def _previewed(unit: Unit, order_id: int) -> dict[str, Any]:
    order = Order.objects.get(pk=order_id)
    if order.state in (OrderState.CANCELLING, OrderState.CANCELLED):
        latest = CancellationRequest.objects.filter(order=order).first()
        if latest is not None:
            decided: dict[str, Any] = latest.quote
            return decided
    _check(order)
    _, quote = _assessed(unit, order)
    return quote.document()


def _check(order: Order) -> None:
    if order.state in (OrderState.COMPLETED, OrderState.PARTIALLY_COMPLETED):
        raise OrderIsComplete(order)
    if order.is_final:
        raise NotCancellable(order)


def _assessed(unit: Unit, order: Order) -> tuple[Plan | None, Quote]:
    """What cancelling it means as it is now: for the preview, and for what is carried out."""
    items = list(order.items.all())
    plan = _newest_plan(unit, order)
    found = _NOTHING
    if plan is not None and _may_be_given_up(plan):
        found = undoing.assess(
            unit, plan=plan, wanted=None, bundles=bundles_of([request_of(order)])
        )
    quote = Quote(
        order=order,
        items=items,
        names=dict(OrderItem.ever.filter(order=order).values_list("position", "item_id")),
        milestones=list(order.milestones.all()),
        assessment=found,
        tell=_tell(items, plan),
    )
    return plan, quote


def _newest_plan(unit: Unit, order: Order) -> Plan | None:
    newest = newest_plan(order)
    if newest is None:
        return None
    unit.adopt_plans(plans_by_id(unit.raw, [newest.pk]))
    return unit.plans[newest.pk]


def _may_be_given_up(plan: Plan) -> bool:
    return plan.state not in PLAN_TERMINAL and plan.state != PlanState.COMPENSATING


def _tell(items: Iterable[OrderItem], plan: Plan | None) -> TellSpec:
    if plan is not None:
        return terms.of_graph(plan.graph_id).messages[OCCASION]
    wanted = [(item.offering, item.action) for item in items]
    newest = workflows.newest_versions(offerings={offering for offering, _ in wanted})
    ids = dict.fromkeys(newest[one] for one in wanted if one in newest)
    return terms.message_for(OCCASION, [definition_of(pk) for pk in ids])


# --- what follows ---------------------------------------------------------------------------------


def _decide(unit: Unit, order: Order, request: CancellationRequest, *, waited: bool) -> None:
    plan, quote = _assessed(unit, order)
    request.quote = quote.document()
    found = quote.assessment
    if plan is None:
        _end_without_plan(unit, order, request, quote)
    elif not quote.is_possible:
        _deny(unit, order, request, quote)
        if waited and not plan.giving_up:
            withholding.let_go_on(unit, plan=plan, reason="It is not cancelled.")
    elif not found.is_at_rest:
        request.save(update_fields=["quote"])
        withholding.await_rest(unit, plan=plan, reason=f"It is to be cancelled: {request.reason}")
    elif not _may_be_given_up(plan):
        # The engine undoes it already: it ends as its client wants.
        _begin(unit, order, request, plan)
    else:
        request.save(update_fields=["quote"])
        failpoints.reach("cancelling.decided")
        undoing.carry_out(
            unit,
            plan=plan,
            wanted=None,
            assessment=found,
            reason=f"cancelled: {request.reason}",
        )
        # The order and the request move with the plan, at once where nothing is to be undone.
        unit.notify_orders()
        order.refresh_from_db()
        request.refresh_from_db()


def _deny(unit: Unit, order: Order, request: CancellationRequest, quote: Quote) -> None:
    refusals = quote.assessment.refusals
    request.refusals = refusals_document(refusals, names=quote.names)
    cause = " ".join(dict.fromkeys(refusal.message for refusal in refusals))
    _record(unit, denied(order, request, cause=cause, now=unit.now))
    _save(order, request)


def _begin(unit: Unit, order: Order, request: CancellationRequest, plan: Plan) -> None:
    request.plan = plan
    cause = "what was done of it is being undone already"
    _record(unit, _begun(unit, order, request, cause))
    _save(order, request)


def _end_without_plan(unit: Unit, order: Order, request: CancellationRequest, quote: Quote) -> None:
    feasibility.forget(unit, order=order)
    cause = "nothing of it had begun"
    _record(unit, _begun(unit, order, request, cause))
    _record(unit, ended(order, request, cause=cause, now=unit.now))
    _save(order, request)
    assert quote.tell is not None
    saying = telling.Saying(order=order, occasion=OCCASION, tell=quote.tell)
    for event in telling.write(unit.raw, [saying], now=unit.now):
        unit.emit(
            fulfillment_id=event.fulfillment_id, event_type=event.event_type, payload=event.event
        )


def _begun(
    unit: Unit, order: Order, request: CancellationRequest, cause: str
) -> Iterable[OrderTransition]:
    yield change_request(
        request, CancellationRequest.begin_undoing, order=order, cause=cause, now=unit.now
    )
    yield change(order, Order.begin_cancelling, cause=cause, now=unit.now)


def _record(unit: Unit, changes: Iterable[OrderTransition]) -> None:
    for one in changes:
        unit.record_order(one)


def _save(order: Order, request: CancellationRequest) -> None:
    order.save(update_fields=["state", "finished_at", "feasibility_due_at", "waiting_reason"])
    request.save()
