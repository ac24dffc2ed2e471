"""Cancelling an order by hand, at the cost that whoever cancels it has seen (reference §19)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from pydantic import Field

from fulfillment.actions import Action
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible
from fulfillment.operations.repair import (
    Agreement,
    CameAbout,
    Done,
    Found,
    Parameters,
    Repair,
    Why,
)
from fulfillment.operations.showing import amount
from oms.changes import cancelling
from oms.changes.cancelling import Cancellation, NotCancellable, OrderIsComplete
from oms.models import CancellationState, Order
from oms.repairs.quoted import quote_tables
from oms.repairs.subjects import desk_order_found, desk_order_version, order_of
from oms.states import ORDER_TERMINAL, OrderState

_UNDER_WAY = frozenset({OrderState.ASSESSING_CANCELLATION, OrderState.CANCELLING})


class QuoteChanged(NotPossible):
    """Cancelling costs something else than whoever asks has agreed to."""

    code = "cancellation.quote_changed"


class Cancelling(Parameters):
    accepted_cost: dict[str, Decimal] = Field(
        {},
        description="By currency, what it costs the customer, as the preview says it; whoever "
        "cancels has told the customer. Needed where it costs something.",
    )


class CancelOrder(Repair):
    """As its client may: what was done is undone, and the customer is told in the end."""

    action = Action.ORDER_CANCEL
    kind = "cancel_order"
    about = "order"
    parameters = Cancelling
    agreed = frozenset({"accepted_cost"})
    is_shown_first = True

    def find(self, *, name: str) -> Found:
        return desk_order_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        return desk_order_version(unit, found)

    def is_offered(self, found: Found) -> bool:
        return found.state not in ORDER_TERMINAL | _UNDER_WAY

    def carry_out(self, unit: Unit, found: Found, parameters: Cancelling, why: Why) -> Done:
        order = order_of(found)
        before = str(order.state)
        done = _cancelled(unit, order, why)
        request, quote = done.request, done.request.quote
        return Done(
            told=_told(done),
            before={"state": before},
            after={
                "state": str(request.order.state),
                "cancellation": request.number,
                "quote": quote,
            },
            customer_impact=_customer_impact(quote),
            financial_impact=_financial_impact(quote),
            result={"cancellation": request.number, "cost": _cost(quote)},
            tables=quote_tables(quote),
        )

    def agreement(self, done: Done) -> Agreement | None:
        cost = done.result["cost"]
        if not cost:
            return None
        return Agreement(
            words=f"The customer has agreed to pay {_money(cost)} for the cancellation.",
            parameters={"accepted_cost": cost},
        )

    def confirm(self, done: Done, parameters: Cancelling) -> None:
        cost = {currency: Decimal(paid) for currency, paid in done.result["cost"].items()}
        if cost == {currency: paid for currency, paid in parameters.accepted_cost.items() if paid}:
            return
        told = _money(done.result["cost"]) or "nothing"
        if parameters.accepted_cost:
            raise QuoteChanged(f"The quote has changed: cancelling it costs {told} now.")
        raise QuoteChanged(
            f"Cancelling it costs the customer {told}. Agree that with the customer first, and say "
            "so (accepted_cost)."
        )

    def came_about(self, *, pks: Collection[int]) -> Mapping[int, CameAbout]:
        states = Order.objects.filter(fulfillment__in=pks).values_list("fulfillment_id", "state")
        return {
            pk: CameAbout(
                is_so=None if state in _UNDER_WAY else state == OrderState.CANCELLED,
                told=f"The order is {state}.",
            )
            for pk, state in states
        }


def _cancelled(unit: Unit, order: Order, why: Why) -> Cancellation:
    """Raises NotPossible, with what keeps it or who was quicker."""
    try:
        done = cancelling.cancel_in(
            unit, order_id=order.pk, requested_by=why.actor.name, reason=why.reason
        )
    except OrderIsComplete as error:
        assets = ", ".join(error.assets) or "what it has left behind"
        raise NotPossible(
            f"{error} What is complete is changed by another order, which modifies or disconnects "
            f"{assets}."
        ) from None
    except NotCancellable as error:
        raise NotPossible(f"{error} Nothing of it is left to be cancelled.") from None
    request = done.request
    if not done.is_new:
        raise NotPossible(
            f"{request.requested_by} has asked to cancel it already (cancellation "
            f"{request.number}): {request.state}."
        )
    if request.state == CancellationState.DENIED:
        raise NotPossible(
            " ".join(dict.fromkeys(refusal["message"] for refusal in request.refusals))
        )
    return done


def _told(done: Cancellation) -> str:
    order = done.request.order.reference
    undone = [key for item in done.request.quote["items"] for key in item["undone"]]
    listed = f" Undone: {', '.join(sorted(set(undone))[:20])}." if undone else ""
    match done.request.state:
        case CancellationState.DONE:
            return f"{order} is cancelled.{listed}"
        case CancellationState.UNDOING:
            return f"{order} is being undone, and is cancelled then.{listed}"
        case _:
            waits = ", ".join(done.standing.waits_for[:20])
            return f"{order} is cancelled as soon as it is known what becomes of {waits}.{listed}"


def _cost(quote: Mapping[str, Any]) -> dict[str, str]:
    """By currency, what the customer pays."""
    return {
        one["currency"]: one["amount"]
        for one in quote["sums"]
        if one["direction"] == "cost" and Decimal(one["amount"])
    }


def _money(cost: Mapping[str, str]) -> str:
    return ", ".join(amount(paid, currency) for currency, paid in sorted(cost.items()))


def _customer_impact(quote: Mapping[str, Any]) -> str:
    told = [one["text"] for one in quote["impacts"] if one["kind"] == "customer"]
    message = quote["message"]
    if message is not None:
        told.append(f"The customer is told: {message['subject']}")
    return " ".join(dict.fromkeys(["The customer does not get this order.", *told]))


def _financial_impact(quote: Mapping[str, Any]) -> str:
    words = {"cost": "The customer pays", "refund": "The customer gets back"}
    told = [
        f"{words[one['direction']]} {amount(one['amount'], one['currency'])}."
        for one in quote["sums"]
    ]
    told += [one["text"] for one in quote["impacts"] if one["kind"] == "financial"]
    return " ".join(dict.fromkeys(told)) or "None."
