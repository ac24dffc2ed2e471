"""A page of a client's orders, newest first, read by index however many there are."""

from __future__ import annotations

from typing import Annotated

from django.db.models import Exists, OuterRef, Q, QuerySet
from pydantic import Field, StringConstraints

from fulfillment.models import Plan
from oms.api.problems import Problem
from oms.api.requests import Closed, Instant
from oms.models import Order
from oms.states import ORDER_TERMINAL, OrderState

Storable = Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00]*$")]
# Not by the key alone: the database would take a page of old orders for one that is found soon
# when it goes through all keys backwards.
_NEWEST_FIRST = ("-submitted_at", "-pk")


class OrderFilter(Closed):
    """Query of the list; `after` is the last id of the page before."""

    state: list[OrderState] = []
    customer: Storable | None = None
    external_id: Storable | None = None
    submitted_from: Instant | None = None
    submitted_before: Instant | None = None
    stuck: bool | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    after: Annotated[str, StringConstraints(pattern=r"^O-[0-9]{1,18}$")] | None = None


def page_of(orders: QuerySet[Order], query: OrderFilter) -> list[Order]:
    """What the query asks for of `orders`, those of one client, and one more when there is one.

    Raises Problem 400 when none of them is called `after`.
    """
    rows, count = _narrowed(orders, query), query.limit + 1
    states = _states(query)
    if query.customer is not None or query.external_id is not None or len(states) < 2:
        return list(rows.filter(state__in=states).order_by(*_NEWEST_FIRST)[:count])
    # The index has those of each state by their time.
    first, *others = (
        rows.filter(state=state).order_by(*_NEWEST_FIRST).values("pk", "submitted_at")[:count]
        for state in states
    )
    newest = list(first.union(*others, all=True).order_by(*_NEWEST_FIRST)[:count])
    found = Order.objects.in_bulk([row["pk"] for row in newest])
    return [found[row["pk"]] for row in newest]


def _states(query: OrderFilter) -> list[OrderState]:
    wanted = dict.fromkeys(query.state or OrderState)
    # What is over is not stuck.
    return [state for state in wanted if not (query.stuck and state in ORDER_TERMINAL)]


def _narrowed(orders: QuerySet[Order], query: OrderFilter) -> QuerySet[Order]:
    rows = orders
    if query.customer is not None:
        rows = rows.filter(customer_id=query.customer)
    if query.external_id is not None:
        rows = rows.filter(external_id=query.external_id)
    if query.submitted_from is not None:
        rows = rows.filter(submitted_at__gte=query.submitted_from)
    if query.submitted_before is not None:
        rows = rows.filter(submitted_at__lt=query.submitted_before)
    if query.stuck is not None:
        flagged = Plan.objects.filter(
            fulfillment_id=OuterRef("fulfillment_id"), stuck_at__isnull=False
        )
        rows = rows.filter(Exists(flagged) if query.stuck else ~Exists(flagged))
    if query.after is not None:
        rows = _behind(rows, orders=orders, reference=query.after)
    return rows


def _behind(rows: QuerySet[Order], *, orders: QuerySet[Order], reference: str) -> QuerySet[Order]:
    last = orders.filter(reference=reference).only("submitted_at").first()
    if last is None:
        raise Problem(
            status=400,
            code="request.invalid",
            title="There is no such page",
            detail=f"None of your orders is called {reference}. Take the address of the next page "
            "from `next`.",
            errors=[
                {
                    "path": "after",
                    "code": "shape.unknown_order",
                    "message": "is none of your orders",
                }
            ],
        )
    at = last.submitted_at
    return rows.filter(
        Q(submitted_at__lt=at) | Q(submitted_at=at, pk__lt=last.pk), submitted_at__lte=at
    )
