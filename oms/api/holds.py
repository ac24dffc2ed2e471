"""Holds on a client's own orders: place, list, release."""

from __future__ import annotations

from typing import Any, Literal

from drf_spectacular.utils import extend_schema
from pydantic import Field, model_validator
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fulfillment import operations
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import HoldWouldBeOver
from fulfillment.models import Hold, HoldScope, Task
from oms.api import documents, schema
from oms.api.operating import Reason, actor_of, answered_once
from oms.api.orders import found_order, orders_of
from oms.api.parsing import json_body, validated
from oms.api.problems import Problem
from oms.api.requests import Closed, Identifier, Instant
from oms.intake.replay import Answer, Replayed
from oms.models import Order
from oms.queries.orders import active_holds, newest_plan


class HoldIn(Closed):
    """What is not to go on for the time being, and why."""

    scope: Literal["order", "item", "task"]
    item: Identifier | None = Field(None, description="The `item_id` of a line; for scope item.")
    task: Identifier | None = Field(
        None, description="As in `waiting`, such as `ship@1`; for scope task."
    )
    reason: Reason
    until: Instant | None = Field(None, description="It ends by itself then.")

    @model_validator(mode="after")
    def _names_its_scope(self) -> HoldIn:
        for scope, given in (("item", self.item), ("task", self.task)):
            if (given is None) == (self.scope == scope):
                raise ValueError(f"name the {scope} when the scope is {scope}, and only then")
        return self


class ReleaseIn(Closed):
    reason: Reason


class OrderHolds(APIView):
    """The holds on one order of the client whose key is used."""

    @extend_schema(
        operation_id="place_hold",
        tags=["Holds"],
        summary="Keep an order, an item or a task from going on",
        parameters=[schema.IDEMPOTENCY_KEY],
        examples=schema.HOLDS,
        request=HoldIn,
        responses={
            201: documents.PlacedHold,
            **schema.problems(400, 401, 403, 404, 409, 413, 415, 503),
        },
    )
    def post(self, request: Request, reference: str) -> Response:
        """When this answers, nothing more of it is sent until the hold is released.

        What was on the wire before goes on, and target systems are still asked what became of
        it; the answer waits a few seconds for that, and `in_flight` says how many are left.
        """
        data = json_body(request)
        wanted = validated(HoldIn, data)
        order = found_order(orders_of(request), reference)
        if order.is_final:
            raise Problem(
                status=409,
                code="hold.order_is_over",
                title="Nothing of this order is still to come",
                detail=f"It is {order.state}; nothing more of it is sent.",
            )
        done = _place(request, order, wanted, data)
        status, body = done.answer
        hold = Hold.objects.get(pk=body["id"])
        left = operations.await_in_flight(hold=hold, patience=operations.BRIEFLY)
        response = Response({**body, "in_flight": left}, status=status)
        if done.is_replay:
            response["Idempotent-Replayed"] = "true"
        return response

    @extend_schema(
        operation_id="list_holds",
        tags=["Holds"],
        summary="The holds that keep an order, or a part of it",
        responses={200: documents.HoldList, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, reference: str) -> Response:
        """Those in force, the oldest first; the timeline tells of released ones."""
        order = found_order(orders_of(request), reference)
        found = active_holds(order=order, plan=newest_plan(order))
        answer = documents.HoldList(holds=[documents.hold_document(hold) for hold in found])
        return Response(answer.model_dump(mode="json"))


class HoldRelease(APIView):
    @extend_schema(
        operation_id="release_hold",
        tags=["Holds"],
        summary="Release a hold that you have placed",
        request=ReleaseIn,
        responses={
            200: documents.HoldOut,
            **schema.problems(400, 401, 403, 404, 413, 415, 503),
        },
    )
    def post(self, request: Request, hold_id: str) -> Response:
        """What it kept back goes on. Releasing it again changes nothing."""
        wanted = validated(ReleaseIn, json_body(request))
        hold = _own_hold(request, int(hold_id))
        operations.release_hold(hold_id=hold.pk, reason=wanted.reason, actor=actor_of(request))
        hold.refresh_from_db()
        return Response(documents.hold_document(hold).model_dump(mode="json"))


def _place(request: Request, order: Order, wanted: HoldIn, data: Any) -> Replayed:
    scope, name = _named(order, wanted)
    new = operations.prepared(
        actor=actor_of(request),
        request=operations.hold_request(
            scope=scope, name=name, reason=wanted.reason, until=wanted.until
        ),
    )

    def answer(unit: Unit) -> Answer:
        hold = Hold.objects.get(pk=new.carry_out(unit).result["hold"])
        return 201, documents.hold_document(hold).model_dump(mode="json")

    try:
        return answered_once(
            request, data=data, fulfillment_ids=new.found.fulfillment_ids, answer=answer
        )
    except HoldWouldBeOver as error:
        raise Problem(
            status=400,
            code="hold.would_be_over",
            title="The hold would be over already",
            detail=str(error),
        ) from None


def _named(order: Order, wanted: HoldIn) -> tuple[HoldScope, str]:
    """Scope and name as the engine knows them. Raises Problem 404."""
    found: int | None = None
    match wanted.scope:
        case "order":
            return HoldScope.ORDER, order.reference
        case "item":
            items = order.items.filter(item_id=wanted.item)
            found = items.values_list("position", flat=True).first()
            if found is not None:
                return HoldScope.ITEM, f"{order.reference}/{found}"
        case "task":
            plan = newest_plan(order)
            tasks = Task.objects.filter(plan=plan, key=wanted.task, round=0)
            found = tasks.values_list("pk", flat=True).first() if plan else None
            if found is not None:
                return HoldScope.TASK, str(found)
    raise Problem(
        status=404,
        code="hold.nothing_to_hold",
        title=f"The order has no such {wanted.scope}",
        detail=f"{order.reference} has no {wanted.scope} {wanted.item or wanted.task!r}. Its "
        "`items` have their `item_id`; its graph names the tasks.",
    )


def _own_hold(request: Request, hold_id: int) -> Hold:
    """Raises Problem 404 for holds on what is not the client's, and 403 for those of others."""
    hold = Hold.objects.filter(pk=hold_id).first()
    about = operations.fulfillment_of(hold=hold) if hold else None
    mine = about is not None and orders_of(request).filter(fulfillment_id=about).exists()
    if hold is None or not mine:
        raise Problem(
            status=404,
            code="hold.not_found",
            title="There is no such hold",
            detail=f"None of your orders has a hold {hold_id}. The order lists its holds.",
        )
    if hold.scope == HoldScope.CHANGE:
        raise Problem(
            status=403,
            code="hold.of_engine",
            title="Nobody releases this hold",
            detail=f"{hold.reason} That is decided as soon as what is under way has ended, and "
            "then it goes on by itself.",
        )
    if hold.placed_by != actor_of(request).name:
        raise Problem(
            status=403,
            code="hold.placed_by_another",
            title="This hold is not yours to release",
            detail=f"{hold.placed_by} has placed it: {hold.reason} Ask there.",
        )
    return hold
