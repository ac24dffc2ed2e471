"""What the API tells of cancelling an order: what it means, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, Field

from fulfillment.definitions.assessment import Becomes, Direction
from oms.api.change_documents import ChargeOut, RefusalOut
from oms.changes.quoting import Verdict
from oms.changes.standing import Standing, standings
from oms.models import CancellationRequest, CancellationState, Order
from oms.states import OrderState


class ItemQuoteOut(BaseModel):
    item_id: str
    offering: str
    verdict: Verdict
    undone: list[str] = Field(description="Tasks, by key.")
    stays: list[str] = Field(description="Done, and not undone: nothing has to be, or nothing can.")
    withdrawn: list[str] = Field(description="Not done, and not to be done any more.")


class TaskQuoteOut(BaseModel):
    task: str
    title: str
    items: list[str]
    becomes: Becomes
    done: bool
    undo: str | None = Field(description="The target system and the action that undo it.")
    why: str


class SumOut(BaseModel):
    direction: Direction
    currency: str
    amount: Decimal


class ImpactOut(BaseModel):
    """What undoing a task means, as its workflow says."""

    task: str
    kind: Literal["customer", "financial", "legal"]
    text: str


class ReachedOut(BaseModel):
    """What the customer has been promised, and knows to be done."""

    name: str
    title: str
    reached_at: datetime


class MessageOut(BaseModel):
    subject: str
    text: str
    channels: list[str]


class QuoteOut(BaseModel):
    """What cancelling the order undoes, and what that costs."""

    possible: bool
    verdict: Verdict = Field(description="The worst of the items'.")
    items: list[ItemQuoteOut]
    tasks: list[TaskQuoteOut]
    charges: list[ChargeOut]
    sums: list[SumOut] = Field(description="Costs and refunds by currency.")
    impacts: list[ImpactOut]
    refusals: list[RefusalOut]
    waits_for: list[str] = Field(
        description="Tasks that are under way: whether they are done has to be known first."
    )
    milestones: list[ReachedOut] = Field(description="What is reached stays told.")
    message: MessageOut | None = Field(description="What the customer is told in the end.")


class UndoProgress(BaseModel):
    """Of the tasks that undo something, how many are done."""

    tasks: int
    done: int
    waits_for: list[str] = Field(description="Tasks whose end is awaited, by key.")


class CancellationOut(BaseModel):
    number: int
    order: str
    state: CancellationState
    order_state: OrderState
    order_state_before: OrderState
    reason: str
    requested_by: str
    requested_at: datetime
    decided_at: datetime | None
    finished_at: datetime | None
    refusals: list[RefusalOut]
    progress: UndoProgress
    quote: QuoteOut = Field(description="As it was when it was decided.")
    href: str


class CancellationList(BaseModel):
    cancellations: list[CancellationOut]


def cancellation_documents(
    order: Order, requests: Sequence[CancellationRequest]
) -> list[CancellationOut]:
    """In the order of `requests`; a fixed number of queries."""
    found = standings(order=order, requests=requests)
    return [cancellation_document(order, request, found[request.pk]) for request in requests]


def cancellation_document(
    order: Order, request: CancellationRequest, standing: Standing
) -> CancellationOut:
    """Of one request."""
    return CancellationOut(
        number=request.number,
        order=order.reference,
        state=CancellationState(request.state),
        order_state=OrderState(order.state),
        order_state_before=OrderState(request.order_state_before),
        reason=request.reason,
        requested_by=request.requested_by,
        requested_at=request.requested_at,
        decided_at=request.decided_at,
        finished_at=request.finished_at,
        refusals=[RefusalOut(**refusal) for refusal in request.refusals],
        progress=UndoProgress(
            tasks=standing.total, done=standing.done, waits_for=list(standing.waits_for)
        ),
        quote=QuoteOut(**request.quote),
        href=f"/api/v1/orders/{order.reference}/cancellations/{request.number}",
    )
