"""What the API answers about orders; each list costs a fixed number of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, Field

from fulfillment.models import (
    CaseCategory,
    ClockPolicy,
    FalloutCase,
    Hold,
    HoldScope,
    Plan,
    Severity,
)
from fulfillment.queries import fulfillments
from fulfillment.states import Cause, PlanState, TaskState
from fulfillment.waits.conditions import KeptBy
from fulfillment.waits.elements import fan_outs
from oms import assets
from oms.api.asset_documents import AssetOut, asset_document
from oms.api.manual_documents import FanOutOut, ManualSummary, fan_out_document, manual_summary
from oms.api.progress_documents import FulfilmentOut, fulfilment_document
from oms.models import Order, OrderItem
from oms.queries.orders import (
    active_holds,
    newest_plan,
    open_cases,
    open_manual_tasks,
    promises,
    told_to_its_client,
    waits_as_a_whole,
    waits_of_tasks,
)
from oms.states import ItemAction, OrderState


class CustomerOut(BaseModel):
    id: str
    name: str
    tier: str
    email: str


class Progress(BaseModel):
    """How far the newest plan is: of the tasks that the order needs, how many have succeeded."""

    plan: PlanState | None
    tasks: int
    done: int
    percent: int


class OrderSummary(BaseModel):
    id: str
    external_id: str
    version: int
    state: OrderState
    customer: CustomerOut
    priority: int
    submitted_at: datetime
    finished_at: datetime | None
    progress: Progress
    stuck: bool = Field(description="The detector has flagged it; `waiting` says why.")


class PriceOut(BaseModel):
    one_off: Decimal | None
    recurring: Decimal | None
    currency: str


class ItemOut(BaseModel):
    item_id: str
    parent: str | None
    action: ItemAction
    offering: str
    quantity: int
    characteristics: dict[str, Any]
    price: PriceOut | None
    place: dict[str, Any]
    parties: list[dict[str, Any]]
    asset: str
    relations: list[dict[str, Any]]


class FaultOut(BaseModel):
    """Why an order was rejected."""

    code: str
    path: str
    message: str


class MilestoneOut(BaseModel):
    """A promise to the customer; `reached_at` is null until it is kept."""

    name: str
    title: str
    reached_at: datetime | None


class WaitOut(BaseModel):
    """Why it is not further. `task` is null when it is the order or its plan as a whole."""

    task: str | None
    title: str | None
    kind: str | None = Field(
        description="`command` for what a target system does; `wait`, `manual`, `decision`, "
        "`spread` and `gather` (a fan-out), `enter` and `leave` (a sub-process)."
    )
    target: str | None
    state: TaskState | None
    reason: str
    until: datetime | None = Field(description="When the engine looks at it again by itself.")
    sends: int | None = Field(description="How often it has been sent; null without a target.")
    maximum_attempts: int | None = Field(description="How often it is sent at the most.")
    cause: Cause | None = Field(description="In one word; null for the order or plan as a whole.")
    kept_by: KeptBy | None = Field(description="What keeps it back although it could go.")
    manual_task: int | None = Field(description="The manual task that somebody has to decide.")


class CaseOut(BaseModel):
    """What a person has to look into; it is open."""

    id: int
    category: CaseCategory
    severity: Severity
    title: str
    explanation: str
    opened_at: datetime
    due_at: datetime = Field(description="By then somebody should have looked at it.")


class HoldOut(BaseModel):
    """Nothing in its scope is sent until it is released, or until `until`."""

    id: int
    scope: HoldScope
    name: str = Field(description="The order, `<order>/<position>`, the number of a task …")
    reason: str
    placed_by: str
    placed_at: datetime
    until: datetime | None = Field(description="It ends by itself then.")
    clock_policy: ClockPolicy
    released_by: str | None
    released_at: datetime | None
    release_reason: str | None


class PlacedHold(HoldOut):
    in_flight: int = Field(description="Calls of before that are still on the wire.")


class HoldList(BaseModel):
    holds: list[HoldOut]


class Links(BaseModel):
    self: str
    timeline: str
    graph: str
    holds: str
    cancellations: str
    amendments: str


class OrderOut(OrderSummary):
    billing_account: str
    region: str
    channel: str
    requested_at: datetime | None
    promised_at: datetime | None
    items: list[ItemOut]
    faults: list[FaultOut]
    milestones: list[MilestoneOut]
    fulfilment: FulfilmentOut
    assets: list[AssetOut]
    waiting: list[WaitOut]
    manual_tasks: list[ManualSummary] = Field(description="What somebody has to decide.")
    fan_outs: list[FanOutOut]
    cases: list[CaseOut]
    holds: list[HoldOut]
    links: Links


class OrderPage(BaseModel):
    orders: list[OrderSummary]
    next: str | None = Field(description="The next page, or null.")


class SubmittedOrder(BaseModel):
    id: str
    external_id: str
    state: OrderState
    faults: list[FaultOut] = []
    href: str


class SubmissionResult(BaseModel):
    """`duplicate`: you have an order with this external id; it is the one named here."""

    status: Literal["created", "duplicate"]
    order: SubmittedOrder


class SubmissionOut(BaseModel):
    results: list[SubmissionResult]


class Entry(BaseModel):
    """One thing that happened; `kind` says which further members it has."""

    kind: Literal["transition", "command", "attempt"]
    at: datetime


class Timeline(BaseModel):
    entries: list[Entry]
    next: str | None = Field(description="The next page, or null.")


class GraphOut(BaseModel):
    plan: int
    state: PlanState
    nodes: list[dict[str, Any]]
    edges: list[dict[str, Any]]


class ProblemOut(BaseModel):
    """RFC 9457; `code` is stable."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
    errors: list[FaultOut] = []


def summaries(orders: Sequence[Order]) -> list[OrderSummary]:
    """In the order of `orders`."""
    plans = fulfillments.newest_plans(fulfillment_ids=[order.fulfillment_id for order in orders])
    return [OrderSummary(**_summary(order, plans.get(order.fulfillment_id))) for order in orders]


def order_document(order: Order) -> OrderOut:
    """Everything about one order; read it with its items and milestones prefetched."""
    plan = newest_plan(order)
    href = order_href(order.reference)
    return OrderOut(
        **_summary(order, plan),
        billing_account=order.billing_account,
        region=order.region,
        channel=order.channel,
        requested_at=order.requested_at,
        promised_at=order.promised_at,
        items=_items(list(order.items.all())),
        faults=[FaultOut(**fault) for fault in order.faults],
        milestones=[MilestoneOut(**asdict(one)) for one in promises(order=order, plan=plan)],
        fulfilment=fulfilment_document(order, plan),
        assets=[asset_document(known) for known in assets.of_order(order)],
        waiting=_waiting(order, plan),
        manual_tasks=[manual_summary(manual) for manual in open_manual_tasks(order)],
        fan_outs=[fan_out_document(one) for one in fan_outs(plan=plan)] if plan else [],
        cases=[_case(case) for case in open_cases(order)],
        holds=[hold_document(hold) for hold in active_holds(order=order, plan=plan)],
        links=Links(
            self=href,
            timeline=f"{href}/timeline",
            graph=f"{href}/graph",
            holds=f"{href}/holds",
            cancellations=f"{href}/cancellations",
            amendments=f"{href}/amendments",
        ),
    )


def order_href(reference: str) -> str:
    return f"/api/v1/orders/{reference}"


def hold_document(hold: Hold) -> HoldOut:
    return HoldOut(
        id=hold.pk,
        scope=HoldScope(hold.scope),
        name=hold.subject.partition(":")[2],
        reason=hold.reason,
        placed_by=hold.placed_by,
        placed_at=hold.placed_at,
        until=hold.until,
        clock_policy=ClockPolicy(hold.clock_policy),
        released_by=hold.released_by or None,
        released_at=hold.released_at,
        release_reason=hold.release_reason or None,
    )


def _case(case: FalloutCase) -> CaseOut:
    return CaseOut(
        id=case.pk,
        category=CaseCategory(case.category),
        severity=Severity(case.severity),
        title=case.title,
        explanation=case.explanation,
        opened_at=case.opened_at,
        due_at=case.sla_due_at,
    )


def _summary(order: Order, plan: Plan | None) -> dict[str, Any]:
    progress = fulfillments.progress_of(plan)
    return {
        "id": order.reference,
        "external_id": order.external_id,
        "version": order.version,
        "state": order.state,
        "customer": CustomerOut(
            id=order.customer_id,
            name=order.customer_name,
            tier=order.customer_tier,
            email=order.customer_email,
        ),
        "priority": order.priority,
        "submitted_at": order.submitted_at,
        "finished_at": order.finished_at,
        "progress": Progress(
            plan=PlanState(plan.state) if plan else None,
            tasks=progress.total,
            done=progress.done,
            percent=progress.percent,
        ),
        "stuck": bool(plan and plan.stuck_at),
    }


def _items(items: Sequence[OrderItem]) -> list[ItemOut]:
    names = {item.pk: item.item_id for item in items}
    return [
        ItemOut(
            item_id=item.item_id,
            parent=names[item.parent_id] if item.parent_id else None,
            action=ItemAction(item.action),
            offering=item.offering,
            quantity=item.quantity,
            characteristics=item.characteristics,
            price=PriceOut(
                one_off=item.one_off_price,
                recurring=item.recurring_price,
                currency=item.currency,
            )
            if item.currency
            else None,
            place=item.place,
            parties=item.parties,
            asset=item.asset,
            relations=item.relations,
        )
        for item in items
    ]


def _waiting(order: Order, plan: Plan | None) -> list[WaitOut]:
    return [
        WaitOut(
            task=None,
            title=None,
            kind=None,
            target=None,
            state=None,
            reason=whole.reason,
            until=whole.until,
            sends=None,
            maximum_attempts=None,
            kept_by=None,
            cause=None,
            manual_task=None,
        )
        for whole in waits_as_a_whole(order=order, plan=plan)
    ] + [
        WaitOut(
            task=wait.task,
            title=wait.title,
            kind=wait.kind.value.lower(),
            target=wait.target or None,
            state=wait.state,
            reason=wait.reason,
            until=wait.until,
            sends=wait.sends if wait.target else None,
            maximum_attempts=wait.maximum_attempts if wait.target else None,
            kept_by=wait.kept_by,
            cause=wait.cause,
            manual_task=wait.manual_id,
        )
        for wait in told_to_its_client(order=order, waits=waits_of_tasks(order))
    ]
