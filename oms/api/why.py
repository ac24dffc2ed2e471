"""`GET /orders/{id}/why`: one sentence, the chain down to the root cause, and what helps."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema
from pydantic import BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fulfillment.queries.why import Link, Why
from fulfillment.states import Cause, TaskState
from fulfillment.waits.waiting import Wait
from oms.api import schema
from oms.api.orders import found_order, orders_of
from oms.models import Order
from oms.queries.reasons import reason_of


class CauseOut(BaseModel):
    """One wait."""

    task: str
    title: str
    cause: Cause
    reason: str
    state: TaskState
    until: datetime | None = Field(description="When the engine looks at it again by itself.")


class LinkOut(CauseOut):
    order: str
    behind: int = Field(description="Open tasks of that order that come after this one.")


class RemedyOut(BaseModel):
    action: str
    words: str
    command: str = Field(description="Of `manage.py`.")
    call: str = Field(description="Of this API; empty when there is none.")


class WhyOut(BaseModel):
    order: str
    waiting: bool
    sentence: str
    cause: Cause = Field(description="Of the root; empty when no task waits.")
    until: datetime | None
    chain: list[LinkOut] = Field(description="From the order down to the root, which is the last.")
    others: list[CauseOut] = Field(description="What the order waits for beside that.")
    remedies: list[RemedyOut] = Field(description="What may be done about the root.")


class OrderWhy(APIView):
    @extend_schema(
        operation_id="read_why",
        tags=["Orders"],
        summary="Why an order is not further",
        responses={200: WhyOut, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, reference: str) -> Response:
        """One sentence, the chain down to the root cause, and what may be done about it.

        Of orders that belong to other clients nothing is told but that there is one.
        """
        order = found_order(orders_of(request), reference)
        found = reason_of(order)
        names = [link.order_reference for link in found.why.chain]
        mine = set(
            orders_of(request).filter(reference__in=names).values_list("reference", flat=True)
        )
        told = found.why.told_to(owner_of=mine)
        sentence = found.preface + told.sentence if told.sentence else found.sentence
        return Response(_document(order, told, sentence, found.is_waiting))


def _document(order: Order, told: Why, sentence: str, waiting: bool) -> dict[str, Any]:
    return WhyOut(
        order=order.reference,
        waiting=waiting,
        sentence=sentence,
        cause=told.cause,
        until=told.until,
        chain=[_link(link) for link in told.chain],
        others=[CauseOut(**_cause(wait)) for wait in told.others],
        remedies=[
            RemedyOut(action=one.action, words=one.words, command=one.command, call=one.call)
            for one in told.remedies
        ],
    ).model_dump(mode="json")


def _link(link: Link) -> LinkOut:
    return LinkOut(order=link.order_reference, behind=link.behind, **_cause(link.wait))


def _cause(wait: Wait) -> dict[str, Any]:
    return {
        "task": wait.task,
        "title": wait.title,
        "cause": wait.cause,
        "reason": wait.reason,
        "state": wait.state,
        "until": wait.until,
    }
