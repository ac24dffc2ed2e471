"""How far an order is, as the API tells it: the five kinds of partial fulfilment."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from fulfillment.definitions.customer import Entitlement
from fulfillment.models import Plan
from oms import leaks
from oms.models import Leak, Order
from oms.queries import progress


class PartOut(BaseModel):
    """What is there, and what is missing; `partial` when both are something."""

    partial: bool
    there: list[str]
    missing: list[str]


class PartialOut(BaseModel):
    """The five kinds of partial fulfilment. Tasks by key, items by `item_id`."""

    operational: PartOut = Field(description="Tasks that are done.")
    commercial: PartOut = Field(description="Items for which every task that they need is done.")
    customer_visible: PartOut = Field(description="Milestones that are reached.")
    billing: PartOut = Field(
        description="Items that are billed; `missing` are active and not billed yet."
    )
    asset: PartOut = Field(description="Items that are active in the installed base.")


class MandatoryTasks(BaseModel):
    """Those without which the order can't complete; `share` is 0 to 1."""

    mandatory: int
    done: int
    share: float


class GapOut(BaseModel):
    """An item that is active and not billed, or billed and not active."""

    item: str = Field(description="Its `item_id`.")
    leak: Leak
    since: datetime
    due_at: datetime | None = Field(
        description="Until then it may be so; null when a case has been opened about it."
    )
    case: int | None = Field(description="The case, while it is open.")
    worth: str = Field(description="Such as `49.00 EUR recurring, 10.00 EUR once`.")


class FulfilmentOut(BaseModel):
    """How far the order is, computed from its tasks."""

    tasks: MandatoryTasks
    partial: PartialOut
    entitled: PartOut = Field(description="Items that the customer may use now.")
    entitlement: dict[str, Entitlement] = Field(
        description="By item: whether it may be used before it is billed."
    )
    gaps: list[GapOut] = Field(description="Where service and billing are not together.")


def fulfilment_document(order: Order, plan: Plan | None) -> FulfilmentOut:
    plans = {} if plan is None else {order.fulfillment_id: plan}
    found = progress.structured(orders=[order], plans=plans)[order.pk]
    return FulfilmentOut(
        tasks=MandatoryTasks(
            mandatory=found.tasks.mandatory,
            done=found.tasks.done,
            share=round(found.tasks.share, 4),
        ),
        partial=PartialOut(
            operational=part_document(found.operational),
            commercial=part_document(found.commercial),
            customer_visible=part_document(found.customer_visible),
            billing=part_document(found.billing),
            asset=part_document(found.asset),
        ),
        entitled=part_document(found.entitled),
        entitlement=dict(found.entitlement),
        gaps=[
            GapOut(
                item=gap.item.item_id,
                leak=gap.leak,
                since=gap.since,
                due_at=gap.due_at,
                case=gap.case_id,
                worth=leaks.in_words(gap.worth),
            )
            for gap in leaks.gaps(order=order)
        ],
    )


def part_document(part: progress.Part) -> PartOut:
    return PartOut(partial=part.is_partial, there=list(part.there), missing=list(part.missing))
