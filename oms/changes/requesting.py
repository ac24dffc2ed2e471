"""Requests to amend: which is the same again, which is outdated, and how each one ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import transaction
from django.db.models import Max

from fulfillment.engine.work import cases, hints
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from oms.changes.documents import as_submitted, read_back
from oms.changes.errors import AmendmentError
from oms.environment import ORCHESTRATION_QUEUE
from oms.intake.requests import OrderRequest
from oms.models import AMENDMENT_OPEN, AmendmentRequest, AmendmentState, Mode, Order
from oms.states import OrderState

TASK = "oms.tasks.settle_amendments"
_ACTOR = "amendments"
_NOT_YET = frozenset(
    {OrderState.SUBMITTED, OrderState.VALIDATING, OrderState.READY_FOR_FULFILLMENT}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants an order to be."""

    order: OrderRequest
    """All of it, as orders are submitted."""
    version: int
    """The order version that this makes."""
    reason: str
    mode: Mode = Mode.AUTO

    def plain(self) -> Wish:
        """With the values as they are read back, so that wishes can be compared."""
        return replace(self, order=read_back(as_submitted(self.order)))


def wish_of(request: AmendmentRequest) -> Wish:
    return Wish(
        order=read_back(request.document),
        version=request.version,
        reason=request.reason,
        mode=Mode(request.mode),
    )


def same_again(order: Order, wish: Wish) -> AmendmentRequest | None:
    """The request that has asked for exactly this, and was not denied.

    Raises AmendmentError when the version stands for another order already.
    """
    taken = order.amendments.filter(version=wish.version).exclude(
        state__in=[AmendmentState.DENIED, AmendmentState.SUPERSEDED]
    )
    known = taken.order_by("number").last()
    if known is None:
        return None
    asked, now = wish_of(known), wish.plain()
    if (asked.order, asked.mode) == (now.order, now.mode):
        known.order = order
        return known
    raise AmendmentError(
        "amendment.version_used",
        f"Version {wish.version} of {order.reference} is another order than this one (amendment "
        f"{known.number}). Send this one with a higher version.",
        amendment=known.number,
        version=newest_version(order),
    )


def check_version(order: Order, wish: Wish) -> None:
    """Raises AmendmentError for a revision of what is not the newest version any more."""
    newest = newest_version(order)
    pending = open_request(order)
    if wish.version > newest or (pending is not None and wish.version == pending.version):
        return
    raise AmendmentError(
        "amendment.outdated",
        f"{order.reference} is at version {newest} by now. Read it again, revise it as it is, and "
        f"send that with version {newest + 1}.",
        version=newest,
    )


def newest_version(order: Order) -> int:
    """Of the order, and of what it may be about to become."""
    pending = open_request(order)
    return max(order.version, pending.version if pending else 0)


def open_request(order: Order) -> AmendmentRequest | None:
    return order.amendments.filter(state__in=AMENDMENT_OPEN).first()


def check_state(order: Order, *, mode: Mode) -> None:
    """Raises AmendmentError when an order in this state can't be amended."""
    state = OrderState(order.state)
    if state in (OrderState.ASSESSING_CANCELLATION, OrderState.CANCELLING):
        raise AmendmentError(
            "amendment.order_is_being_cancelled",
            f"{order.reference} is being cancelled. If that is denied, send this again; otherwise "
            "submit it as a new order.",
        )
    if state is OrderState.COMPLETED:
        done = order.amendments.filter(state=AmendmentState.CHANGE_ORDERED).last()
        if mode is Mode.CHANGE_ORDER and done is None:
            return
        raise AmendmentError(
            "amendment.order_is_over",
            f"{order.reference} is complete. "
            + (
                "Send this with the mode change_order, or submit an order that modifies or "
                "disconnects its assets."
                if done is None
                else f"{done.change_order} has changed it since. Submit an order that modifies or "
                "disconnects its assets."
            ),
            offers=[Mode.CHANGE_ORDER.value] if done is None else [],
        )
    if order.is_final:
        raise AmendmentError(
            "amendment.order_is_over",
            f"{order.reference} is {state}, and nothing of it is still to come. Submit what is "
            "wanted as a new order.",
            offers=[],
        )
    if state in _NOT_YET:
        why = order.waiting_reason or "it has no plan yet."
        raise AmendmentError(
            "amendment.too_early",
            f"{order.reference} is {state}: {why} Send the same again when it is IN_PROGRESS.",
        )


def record(
    unit: Unit, *, order: Order, wish: Wish, difference: Mapping[str, Any]
) -> AmendmentRequest:
    """A new request, ASSESSING."""
    last = order.amendments.aggregate(last=Max("number"))["last"] or 0
    request = AmendmentRequest.objects.create(
        order=order,
        number=last + 1,
        version=wish.version,
        mode=wish.mode,
        document=as_submitted(wish.order),
        difference=dict(difference),
        reason=wish.reason,
        requested_by=unit.actor[:150],
        requested_at=unit.now,
    )
    _audit(unit, request, name="request", before="", cause=wish.reason)
    return request


def move(
    unit: Unit,
    request: AmendmentRequest,
    transition: Callable[[AmendmentRequest], None],
    *,
    cause: str,
) -> None:
    """Apply a transition, write it, and note it for the audit."""
    before = str(request.state)
    transition(request)
    if request.decided_at is None:
        request.decided_at = unit.now
    if request.state not in AMENDMENT_OPEN:
        request.finished_at = unit.now
    request.save()
    _audit(unit, request, name=transition.__name__, before=before, cause=cause)


def deny(
    unit: Unit, request: AmendmentRequest, refusals: Sequence[Mapping[str, Any]], *, cause: str
) -> None:
    request.refusals = [dict(one) for one in refusals]
    move(unit, request, AmendmentRequest.deny, cause=cause)


def refusal(error: AmendmentError) -> dict[str, Any]:
    """What would have been an answer at once, for a request that is kept."""
    return {
        "code": error.code,
        "message": " ".join([error.message, *(fault.message for fault in error.faults)]),
        "task": None,
        "items": [],
    }


def nudge() -> None:
    """Look soon at what waits for orders to end; beat looks anyway."""
    transaction.on_commit(lambda: hints.nudge(task=TASK, queue=ORCHESTRATION_QUEUE), robust=True)


def case_of(request: AmendmentRequest) -> str:
    return f"amendment:{request.pk}"


def file(*, request_id: int, fulfillment_id: int, error: Exception) -> None:
    """A person is told of a request that the engine fails with."""
    request = AmendmentRequest.objects.select_related("order").get(pk=request_id)
    fallout = cases.poison(
        subject=case_of(request),
        what=f"Amendment {request.number} of {request.order.reference}",
        error=error,
        fulfillment_id=fulfillment_id,
    )
    run_unit(
        lambda unit: cases.open_case(unit, fallout=fallout),
        fulfillment_ids=[fulfillment_id],
        actor=_ACTOR,
    )


def _audit(unit: Unit, request: AmendmentRequest, *, name: str, before: str, cause: str) -> None:
    unit.record(
        fulfillment_id=request.order.fulfillment_id,
        entity="amendment",
        entity_id=str(request.pk),
        name=name,
        before=before,
        after=str(request.state),
        cause=cause,
        details={"number": request.number, "version": request.version},
    )
