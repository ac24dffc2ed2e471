"""Changing an order by hand: an amendment while it runs, a change order afterwards (§20)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from fulfillment.actions import Action
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Why
from fulfillment.operations.showing import amount
from oms.api.requests import OrderIn
from oms.changes import amending, requesting
from oms.changes.documents import as_submitted
from oms.changes.errors import AmendmentError
from oms.changes.requesting import Wish, newest_version
from oms.intake.feasibility import request_of
from oms.models import AmendmentRequest, AmendmentState, Mode
from oms.repairs.compared import assessment_tables, difference_table, price_table
from oms.repairs.subjects import desk_order_found, desk_order_version, most, order_of, sold_for
from oms.states import OrderState


class Changing(Parameters):
    version: Annotated[int, Field(ge=1, le=2**31 - 1)] = Field(
        description="The order version that this makes; higher than the order's."
    )
    mode: Mode = Field(Mode.AUTO, description="How it shall come about; auto: as is possible.")
    order: OrderIn = Field(description="All of the order as it shall be, as orders are submitted.")


class ChangeOrder(Repair):
    """The order becomes the revised one, or another order changes what it has made."""

    action = Action.ORDER_CHANGE
    kind = "change_order"
    about = "order"
    parameters = Changing

    def find(self, *, name: str) -> Found:
        return desk_order_found(name=name)

    def aim(self, found: Found, parameters: Changing) -> Found:
        """What it comes to is within the grant as well as what it was."""
        wanted = parameters.order.request()
        context = replace(
            found.context,
            products=found.context.products | {item.offering for item in wanted.items},
            amounts=most(found.context.amounts, sold_for(wanted.items)),
        )
        if wanted.region == context.region:
            return replace(found, context=context)
        there = replace(context, region=wanted.region)
        return replace(found, context=context, parts=(context, there))

    def version(self, unit: Unit, found: Found) -> str:
        return desk_order_version(unit, found)

    def is_offered(self, found: Found) -> bool:
        return found.state in (OrderState.IN_PROGRESS, OrderState.COMPLETED)

    def suggested(self, found: Found) -> dict[str, Any]:
        """The order as it is, to be rewritten; of a complete one another order changes it."""
        order = order_of(found)
        begun = {"version": newest_version(order) + 1, "order": as_submitted(request_of(order))}
        is_complete = order.state == OrderState.COMPLETED
        return begun | ({"mode": Mode.CHANGE_ORDER.value} if is_complete else {})

    def carry_out(self, unit: Unit, found: Found, parameters: Changing, why: Why) -> Done:
        order = order_of(found)
        before, version = request_of(order), order.version
        wish = Wish(
            order=parameters.order.request(),
            version=parameters.version,
            reason=why.reason,
            mode=parameters.mode,
        )
        try:
            known = requesting.same_again(order, wish)
            if known is None:
                request = amending.amend(unit, order_id=order.pk, wish=wish)
        except AmendmentError as error:
            faults = [fault.message for fault in error.faults]
            raise NotPossible(" ".join([error.message, *faults])) from None
        if known is not None:
            raise NotPossible(
                f"{known.requested_by} has asked for exactly this already (amendment "
                f"{known.number}): {known.state}."
            )
        if request.state == AmendmentState.DENIED:
            raise NotPossible(
                " ".join(dict.fromkeys(refusal["message"] for refusal in request.refusals))
            )
        assessed = request.assessment or {}
        return Done(
            told=_told(request),
            before={"version": version},
            after={
                "amendment": request.number,
                "state": str(request.state),
                "version": request.version,
                "difference": request.difference,
                "assessment": assessed,
            },
            customer_impact="The customer gets the order as it is now."
            if request.state == AmendmentState.APPLIED
            else "None yet.",
            financial_impact=_financial_impact(assessed),
            result={"amendment": request.number, "state": str(request.state)},
            tables=(
                difference_table(before=before, after=wish.order),
                price_table(before=before, after=wish.order),
                *assessment_tables(assessed),
            ),
        )


def _told(request: AmendmentRequest) -> str:
    order = request.order.reference
    match request.state:
        case AmendmentState.APPLIED:
            return f"{order} is version {request.version} now."
        case AmendmentState.WAITING_FOR_COMPLETION:
            return f"Another order changes what {order} makes, once that is complete."
        case _:
            waits = ", ".join((request.assessment or {}).get("waits_for", [])[:20])
            return (
                f"{order} becomes version {request.version} as soon as it is known what becomes "
                f"of {waits}."
            )


def _financial_impact(assessed: dict[str, Any]) -> str:
    words = {"cost": "The customer pays", "refund": "The customer gets back"}
    told = [
        f"{words[one['direction']]} {amount(one['amount'], one['currency'])} for {one['task']}."
        for one in assessed.get("charges", [])
    ]
    return " ".join(told) or "The prices are those of the order as it is now."
