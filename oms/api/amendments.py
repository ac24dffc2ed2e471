"""Amending an order while it is fulfilled: previewed, requested, followed."""

from __future__ import annotations

from typing import Annotated, Any

from drf_spectacular.utils import extend_schema
from pydantic import Field, StrictInt
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fulfillment.actions import Action
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from oms.api import schema
from oms.api.amendment_documents import (
    AmendmentDetail,
    AmendmentList,
    AmendmentOut,
    AmendmentPreview,
    amendment_detail,
    amendment_document,
    preview_document,
)
from oms.api.operating import Reason, actor_of, answered_once, permit, replied
from oms.api.orders import found_order, orders_of, query_of
from oms.api.parsing import json_body, validated
from oms.api.problems import Problem
from oms.api.requests import Closed, OrderIn
from oms.changes import amending
from oms.changes.errors import AmendmentError
from oms.changes.requesting import Wish
from oms.intake.replay import Answer
from oms.models import AMENDMENT_OPEN, AmendmentRequest, AmendmentState, Mode, Order

_TITLES = {
    "amendment.outdated": "There is a newer version of this order",
    "amendment.version_used": "This version is another order",
    "amendment.invalid": "The revised order breaks rules",
    "amendment.changes_nothing": "There is nothing to change",
    "amendment.nothing_left": "Nothing would be left of the order",
    "amendment.too_early": "The order can't be amended yet",
    "amendment.order_is_being_cancelled": "The order is being cancelled",
    "amendment.order_is_being_undone": "What was done for the order is being undone",
    "amendment.order_is_over": "The order has ended",
    "amendment.item_unknown": "The order has no such item",
}


class AmendIn(Closed):
    """The whole order as it shall be, and the version that this makes of it."""

    version: Annotated[StrictInt, Field(ge=1, le=2**31 - 1)] = Field(
        description="Higher than the order's; usually by one. The highest wins."
    )
    reason: Reason
    mode: Mode = Field(Mode.AUTO, description="How it shall come about; default: as is possible.")
    order: OrderIn

    def wish(self) -> Wish:
        return Wish(
            order=self.order.request(), version=self.version, reason=self.reason, mode=self.mode
        )


class AmendQuery(Closed):
    preview: bool = False


class Amend(APIView):
    """The order of the client whose key is used, as it shall be from now on."""

    @extend_schema(
        operation_id="amend_order",
        tags=["Changing orders"],
        summary="Amend an order, or see what that would mean",
        parameters=[schema.IDEMPOTENCY_KEY, schema.PREVIEW],
        examples=schema.AMENDMENTS,
        request=AmendIn,
        responses={
            200: schema.one_of("AmendmentOrPreview", AmendmentOut, AmendmentPreview),
            202: AmendmentOut,
            **schema.problems(400, 401, 403, 404, 409, 413, 415, 503),
        },
    )
    def post(self, request: Request, reference: str) -> Response:
        """200 when it is done, 202 when something that is under way has to end first, or the
        order has to be complete; 409 when it is refused, with every reason.

        With `preview=true` nothing is changed: it shows what becomes of each task, and the costs.
        """
        query = query_of(AmendQuery, request)
        data = json_body(request)
        wish = validated(AmendIn, data).wish()
        order = found_order(orders_of(request), reference)
        permit(request, action=Action.ORDER_CHANGE, order=order)
        try:
            if query.preview:
                return Response(_preview(request, order, wish))
            return _amend(request, order, wish, data)
        except AmendmentError as error:
            raise problem_of(error) from None


class OrderAmendments(APIView):
    @extend_schema(
        operation_id="list_amendments",
        tags=["Changing orders"],
        summary="Every request to amend an order, the oldest first",
        responses={200: AmendmentList, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, reference: str) -> Response:
        """With what became of each."""
        rows = _of(found_order(orders_of(request), reference))
        answer = AmendmentList(amendments=[amendment_document(row) for row in rows])
        return Response(answer.model_dump(mode="json"))


class OrderAmendment(APIView):
    @extend_schema(
        operation_id="read_amendment",
        tags=["Changing orders"],
        summary="One request to amend an order, and what became of it",
        responses={200: AmendmentDetail, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, reference: str, number: str) -> Response:
        """With the revised order, and the order as it was before."""
        row = _of(found_order(orders_of(request), reference)).filter(number=int(number)).first()
        if row is None:
            raise Problem(
                status=404,
                code="amendment.not_found",
                title="There is no such amendment",
                detail=f"{reference} has no amendment {number}. The list has them all.",
            )
        return Response(amendment_detail(row).model_dump(mode="json"))


def _of(order: Order) -> Any:
    return AmendmentRequest.objects.filter(order=order).select_related("order", "change_order")


def _preview(request: Request, order: Order, wish: Wish) -> dict[str, Any]:
    def work(unit: Unit) -> dict[str, Any]:
        found = amending.preview(unit, order_id=order.pk, wish=wish)
        return preview_document(found, wish)

    return run_unit(work, fulfillment_ids=[order.fulfillment_id], actor=actor_of(request).name)


def _amend(request: Request, order: Order, wish: Wish, data: Any) -> Response:
    def answer(unit: Unit) -> Answer:
        return answer_of(amending.amend(unit, order_id=order.pk, wish=wish))

    done = answered_once(request, data=data, fulfillment_ids=[order.fulfillment_id], answer=answer)
    return replied(request, done)


def answer_of(amendment: AmendmentRequest) -> Answer:
    """Status and body: how far the request is, or why it is refused."""
    document = amendment_document(amendment).model_dump(mode="json")
    if amendment.state != AmendmentState.DENIED:
        return (202 if amendment.state in AMENDMENT_OPEN else 200), document
    offers = document["offers"]
    way = (
        " Send it with the mode change_order to have it changed once it is complete."
        if offers
        else ""
    )
    reasons = " ".join(refusal["message"] for refusal in document["refusals"])
    refused = Problem(
        status=409,
        code="amendment.refused",
        title="The order can't be amended like this any more",
        detail=f"{reasons} The order goes on as it is.{way}",
        refusals=document["refusals"],
        offers=offers,
        amendment=document,
    )
    return 409, refused.document


def problem_of(error: AmendmentError) -> Problem:
    """Of what nothing is kept of."""
    return Problem(
        status=400 if error.faults else 409,
        code=error.code,
        title=_TITLES[error.code],
        detail=error.message,
        errors=[
            {"code": fault.code, "path": f"order.{fault.path}", "message": fault.message}
            for fault in error.faults
        ],
        **error.facts,
    )
