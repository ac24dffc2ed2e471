"""Cancelling a client's own orders: what it would mean, doing it, and how far it is."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from drf_spectacular.utils import extend_schema
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fulfillment.actions import Action
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from oms.api import schema
from oms.api.amendment_documents import AmendmentOut
from oms.api.amendments import answer_of, problem_of
from oms.api.cancellation_documents import (
    CancellationList,
    CancellationOut,
    QuoteOut,
    cancellation_document,
    cancellation_documents,
)
from oms.api.operating import Reason, actor_of, answered_once, permit, replied
from oms.api.orders import found_order, orders_of, query_of
from oms.api.parsing import json_body, validated
from oms.api.problems import Problem
from oms.api.requests import Closed, Identifier
from oms.changes import cancelling, leaving_items_out
from oms.changes.cancelling import Cancellation, NotCancellable, OrderIsComplete
from oms.changes.errors import AmendmentError
from oms.intake.replay import Answer, Replayed
from oms.models import CancellationState, Order


class CancelIn(Closed):
    reason: Reason
    items: Annotated[list[Identifier], Field(min_length=1, max_length=1000)] | None = Field(
        None, description="`item_id` of the items; default: the whole order."
    )


class CancelQuery(Closed):
    preview: bool = False


class OrderCancel(APIView):
    @extend_schema(
        operation_id="cancel_order",
        tags=["Changing orders"],
        summary="Cancel an order, or ask what that would mean",
        parameters=[schema.IDEMPOTENCY_KEY, schema.PREVIEW],
        examples=schema.CANCELLATIONS,
        request=CancelIn,
        responses={
            200: schema.one_of("CancellationOrQuote", CancellationOut, QuoteOut, AmendmentOut),
            202: schema.one_of("CancellationOrAmendment", CancellationOut, AmendmentOut),
            **schema.problems(400, 401, 403, 404, 409, 413, 415, 503),
        },
    )
    def post(self, request: Request, reference: str) -> Response:
        """What was done is undone, in the reverse order; nothing new is sent from the answer on.

        200: it is cancelled (`DONE`), or being undone (`UNDOING`). 202: something is under way
        whose outcome has to be known first (`ASSESSING`). 409: it is past a point of no return, and
        goes on. Who asks again gets the same request. With `preview=true` nothing changes, and the
        answer is what would be undone now, and what that costs.

        With `items` only these are cancelled, and what is nested in them: the order without them is
        an amendment of it, which is the answer, and the rest goes on.
        """
        data = json_body(request)
        wanted = validated(CancelIn, data)
        query = query_of(CancelQuery, request)
        order = found_order(orders_of(request), reference)
        permit(request, action=Action.ORDER_CANCEL, order=order)
        try:
            if query.preview:
                found = _previewed(request, order, wanted)
                return Response(QuoteOut(**found).model_dump(mode="json"))
            done = _cancel(request, order, wanted, data)
        except AmendmentError as error:
            raise problem_of(error) from None
        except OrderIsComplete as error:
            raise _complete(error) from None
        except NotCancellable as error:
            raise Problem(
                status=409,
                code=error.code,
                title="Nothing of this order can be cancelled",
                detail=f"{error} It has ended, and nothing of it is left to be undone.",
            ) from None
        response = replied(request, done)
        status, body = done.answer
        if status < 400 and "href" in body:
            response["Location"] = body["href"]
        return response


class OrderCancellations(APIView):
    @extend_schema(
        operation_id="list_cancellations",
        tags=["Changing orders"],
        summary="The requests to cancel an order",
        responses={200: CancellationList, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, reference: str) -> Response:
        """Also denied ones, the newest first."""
        order = found_order(orders_of(request), reference)
        rows = list(order.cancellations.order_by("-number"))
        answer = CancellationList(cancellations=cancellation_documents(order, rows))
        return Response(answer.model_dump(mode="json"))


class CancellationDetail(APIView):
    @extend_schema(
        operation_id="read_cancellation",
        tags=["Changing orders"],
        summary="How far a cancellation is, and what it waits for",
        responses={200: CancellationOut, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, reference: str, number: str) -> Response:
        """`number` counts the requests of one order, from 1."""
        order = found_order(orders_of(request), reference)
        rows = list(order.cancellations.filter(number=int(number)))
        if not rows:
            raise Problem(
                status=404,
                code="cancellation.not_found",
                title="There is no such cancellation",
                detail=f"{reference} has no cancellation {number}. "
                f"/api/v1/orders/{reference}/cancellations lists them.",
            )
        (document,) = cancellation_documents(order, rows)
        return Response(document.model_dump(mode="json"))


def _previewed(request: Request, order: Order, wanted: CancelIn) -> dict[str, Any]:
    if wanted.items is None:
        return cancelling.preview(order=order)
    return run_unit(
        partial(
            leaving_items_out.quote,
            order_id=order.pk,
            item_ids=wanted.items,
            reason=wanted.reason,
        ),
        fulfillment_ids=[order.fulfillment_id],
        actor=actor_of(request).name,
    )


def _cancel(request: Request, order: Order, wanted: CancelIn, data: Any) -> Replayed:
    def answer(unit: Unit) -> Answer:
        if wanted.items is not None:
            return answer_of(
                leaving_items_out.leave_out(
                    unit, order_id=order.pk, item_ids=wanted.items, reason=wanted.reason
                )
            )
        done = cancelling.cancel_in(
            unit, order_id=order.pk, requested_by=actor_of(request).name, reason=wanted.reason
        )
        return _answer(done)

    return answered_once(request, data=data, fulfillment_ids=[order.fulfillment_id], answer=answer)


def _answer(done: Cancellation) -> Answer:
    made = done.request
    document = cancellation_document(made.order, made, done.standing).model_dump(mode="json")
    if made.state == CancellationState.DENIED:
        reasons = " ".join(dict.fromkeys(refusal["message"] for refusal in made.refusals))
        problem = Problem(
            status=409,
            code="cancellation.refused",
            title="This order can't be cancelled any more",
            detail=f"{reasons} It goes on.",
            refusals=made.refusals,
            cancellation=document,
        )
        return 409, problem.document
    is_waiting = done.is_new and made.state == CancellationState.ASSESSING
    return 202 if is_waiting else 200, document


def _complete(error: OrderIsComplete) -> Problem:
    """What is done is changed by another order; the assets to be named there."""
    named = ", ".join(error.assets) if error.assets else "what it has left behind"
    return Problem(
        status=409,
        code=error.code,
        title="This order is complete",
        detail=f"{error} Submit another order that modifies or disconnects {named}.",
        offer={"kind": "change_order", "actions": ["modify", "disconnect"], "assets": error.assets},
    )
