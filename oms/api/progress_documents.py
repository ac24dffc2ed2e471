"""How far an order is, as the API tells it: the five kinds of partial fulfilment."""

from __future__ import annotations

from pydantic import BaseModel, Field

from fulfillment.definitions.customer import Entitlement
from fulfillment.models import Plan
from oms import progress
from oms.models import Order


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


class FulfilmentOut(BaseModel):
    """How far the order is, computed from its tasks."""

    tasks: MandatoryTasks
    partial: PartialOut
    entitled: PartOut = Field(description="Items that the customer may use now.")
    entitlement: dict[str, Entitlement] = Field(
        description="By item: whether it may be used before it is billed."
    )


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
    )


def part_document(part: progress.Part) -> PartOut:
    return PartOut(partial=part.is_partial, there=list(part.there), missing=list(part.missing))
