"""Amendments whose order has ended meanwhile: the change order is submitted, or it is denied."""

from __future__ import annotations

import logging
from functools import partial

from django.db.models import F, Q

from fulfillment.engine.store.database import DATABASE_TROUBLE
from fulfillment.engine.work import cases
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan
from fulfillment.states import PLAN_GOING_ON
from oms.changes import amending, requesting
from oms.changes.change_orders import by_another_name
from oms.changes.errors import AmendmentError
from oms.intake.submission import Disposition, submit_in
from oms.models import AMENDMENT_OPEN, AmendmentRequest, AmendmentState, Order
from oms.states import OrderState

logger = logging.getLogger(__name__)

_ACTOR = "amendments"
_BATCH = 100


def settle_due() -> int:
    """Go on with every open request that nothing else will wake. Returns how many there were.

    Of orders that have ended; and those that are assessed, and of which nothing is awaited any
    more, such as after a cancellation that was denied.
    """
    awaited = Plan.objects.filter(state__in=PLAN_GOING_ON, rest_due_at__isnull=False)
    due = (
        AmendmentRequest.objects.filter(state__in=AMENDMENT_OPEN)
        .filter(
            Q(order__finished_at__isnull=False)
            | Q(state=AmendmentState.ASSESSING)
            & ~Q(order__fulfillment__in=awaited.values("fulfillment"))
        )
        .order_by(F("requested_at"))
        .values_list("pk", "order__fulfillment_id", "state")
    )
    rows = list(due[:_BATCH])
    for request_id, fulfillment_id, state in rows:
        if state == AmendmentState.ASSESSING:
            amending.decide_one(request_id=request_id, fulfillment_id=fulfillment_id)
        else:
            _order_change_alone(request_id, fulfillment_id)
    return len(rows)


def _order_change_alone(request_id: int, fulfillment_id: int) -> None:
    try:
        run_unit(
            partial(_order_change, request_id=request_id),
            fulfillment_ids=[fulfillment_id],
            actor=_ACTOR,
        )
    except DATABASE_TROUBLE:
        raise
    except Exception as error:
        logger.exception("a change order was not submitted", extra={"amendment": request_id})
        requesting.file(request_id=request_id, fulfillment_id=fulfillment_id, error=error)


def _order_change(unit: Unit, request_id: int) -> None:
    request = AmendmentRequest.objects.select_related("order__client").get(pk=request_id)
    order = request.order
    if request.state != AmendmentState.WAITING_FOR_COMPLETION or not order.is_final:
        return
    if order.state != OrderState.COMPLETED:
        cause = f"The order has ended as {order.state}, so there is nothing to change."
        error = AmendmentError("amendment.order_is_over", cause)
        requesting.deny(unit, request, [requesting.refusal(error)], cause=cause)
        return
    try:
        change = amending.change_of(order=order, request=request)
    except AmendmentError as error:
        requesting.deny(unit, request, [requesting.refusal(error)], cause=error.message)
        return
    (made,) = submit_in(unit, client=order.client, requests=[change])
    if made.disposition is Disposition.DUPLICATE:
        change = by_another_name(order=order, request=change, version=request.version)
        (made,) = submit_in(unit, client=order.client, requests=[change])
    request.change_order = Order.objects.get(reference=made.reference)
    requesting.move(
        unit,
        request,
        AmendmentRequest.order_change,
        cause=f"{order.reference} is complete; {made.reference} changes it",
    )
    cases.resolve_cases(
        unit, subjects=[requesting.case_of(request)], resolution="It has been ordered since."
    )
