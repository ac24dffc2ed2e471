"""Milestones and signals that clients report: about their own orders, each event once."""

from __future__ import annotations

from typing import Annotated

from drf_spectacular.utils import extend_schema
from pydantic import BaseModel, Field, JsonValue, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fulfillment.actions import Action
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.engine.plans import signals
from fulfillment.engine.work import subjects
from oms.api import schema
from oms.api.authentication import client_of
from oms.api.operating import actor_of, permit
from oms.api.orders import found_order, orders_of
from oms.api.parsing import json_body, validated
from oms.api.problems import Problem
from oms.api.requests import Closed, Instant

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
EventId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,200}$")]
Key = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class MilestoneIn(Closed):
    """Something has happened to one order, outside of this system."""

    name: Name = Field(description="As the workflow's `milestone` calls it.")
    event_id: EventId = Field(description="Your own name for this event; the same when repeated.")
    occurred_at: Instant | None = Field(None, description="When it happened; default: now.")
    payload: dict[str, JsonValue] = Field(
        {}, description="What it brings along: the outputs that the waiting task declares."
    )


class SignalIn(MilestoneIn):
    """Something has happened that orders wait for by a business key."""

    name: Name = Field(description="As the workflow's `signal` calls it.")
    key: Key = Field(description="What it is about: the key that your orders wait with.")


class Received(BaseModel):
    duplicate: bool = Field(description="You have reported this event before; nothing was done.")


class OrderMilestones(APIView):
    @extend_schema(
        operation_id="report_milestone",
        tags=["Milestones and signals"],
        summary="Report that something has happened to an order",
        examples=schema.MILESTONES,
        request=MilestoneIn,
        responses={
            202: Received,
            **schema.problems(400, 401, 403, 404, 409, 413, 415, 503),
        },
    )
    def post(self, request: Request, reference: str) -> Response:
        """Tasks that wait for it go on; one that begins to wait later finds it.

        `event_id` takes the place of an Idempotency-Key: the same event counts once.
        """
        wanted = validated(MilestoneIn, json_body(request))
        order = found_order(orders_of(request), reference)
        permit(request, action=Action.SIGNAL_SEND, order=order)
        key = client_of(request).business_key(order.external_id)
        return _receive(request, wanted, subjects.of_order(business_key=key))


class Signals(APIView):
    @extend_schema(
        operation_id="send_signal",
        tags=["Milestones and signals"],
        summary="Report something that orders wait for by a business key",
        examples=schema.SIGNALS,
        request=SignalIn,
        responses={202: Received, **schema.problems(400, 401, 403, 409, 413, 415, 503)},
    )
    def post(self, request: Request) -> Response:
        """Every one of your orders that waits for this name and key goes on; so does one that
        begins to wait later. Orders of other clients never hear of it.
        """
        wanted = validated(SignalIn, json_body(request))
        owner = client_of(request).owner
        authorize(
            actor=actor_of(request),
            action=Action.SIGNAL_SEND,
            context=Context(subject=f"key:{wanted.key}", owner=owner),
        )
        subject = subjects.of_key(owner=owner, key=wanted.key)
        return _receive(request, wanted, subject)


def _receive(request: Request, wanted: MilestoneIn, subject: str) -> Response:
    try:
        received = signals.receive(
            source=f"client:{client_of(request).owner}",
            event_id=wanted.event_id,
            name=wanted.name,
            subject=subject,
            payload=wanted.payload,
            occurred_at=wanted.occurred_at,
        )
    except signals.SignalReused as error:
        raise Problem(
            status=409,
            code=error.code,
            title="You have used this event_id for another event",
            detail=str(error),
        ) from None
    return Response(Received(duplicate=received.duplicate).model_dump(), status=202)
