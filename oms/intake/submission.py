"""Submission: orders come in, are validated, planned and started, a batch in one unit of work.

The API, the demo and the benchmark all come through `submit`; one order is a batch of one.
"""

from __future__ import annotations

import enum
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import IntegrityError, connection, transaction

from fulfillment.engine.plans.planning import (
    FulfillmentRequest,
    PlanRequest,
    create_fulfillments,
    create_plans,
)
from fulfillment.engine.store.database import Table, allocate
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from oms import installed_base
from oms.intake import feasibility, workflows
from oms.intake.plans import Plannable, plan_request
from oms.intake.requests import OrderRequest
from oms.intake.rules import faults_of
from oms.models import ApiClient, Order
from oms.states import OrderState
from oms.transitions import change

MAXIMUM_BATCH = 500
"""Orders in one call: what one short transaction can carry."""
_RACES = 10
T = TypeVar("T")

_ORDERS = Table(
    "oms_order",
    id="bigint",
    reference="text",
    client_id="bigint",
    external_id="text",
    version="int",
    state="text",
    faults="jsonb",
    customer_id="text",
    customer_name="text",
    customer_tier="text",
    customer_email="text",
    billing_account="text",
    region="text",
    channel="text",
    requested_at="timestamptz",
    promised_at="timestamptz",
    priority="smallint",
    fulfillment_id="bigint",
    feasibility_due_at="timestamptz",
    feasibility_attempts="smallint",
    waiting_reason="text",
    submitted_at="timestamptz",
    finished_at="timestamptz",
)
_ITEMS = Table(
    "oms_orderitem",
    id="bigint",
    order_id="bigint",
    position="int",
    item_id="text",
    parent_id="bigint",
    action="text",
    offering="text",
    quantity="int",
    characteristics="jsonb",
    one_off_price="numeric",
    recurring_price="numeric",
    currency="text",
    place="jsonb",
    parties="jsonb",
    asset="text",
    relations="jsonb",
)


class Disposition(enum.StrEnum):
    CREATED = "created"
    DUPLICATE = "duplicate"
    """The client has an order with this external id; that one is referred to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What became of one order of the batch."""

    disposition: Disposition
    external_id: str
    reference: str
    state: OrderState
    faults: Sequence[Mapping[str, str]] = ()


def submit(*, client: ApiClient, requests: Sequence[OrderRequest], actor: str) -> list[Submitted]:
    """Create, validate, plan and start orders. Answers stand in the order of the requests.

    An order that breaks rules is kept as REJECTED with every fault. An external id that the
    client has used before, or twice in the batch, creates nothing. Raises ValueError for more
    than MAXIMUM_BATCH orders.
    """
    if len(requests) > MAXIMUM_BATCH:
        raise ValueError(f"{len(requests)} orders in one batch; {MAXIMUM_BATCH} are allowed.")

    def work(unit: Unit) -> list[Submitted]:
        return submit_in(unit, client=client, requests=requests)

    return run_intake(work, actor=actor)


def run_intake(work: Callable[[Unit], T], *, actor: str) -> T:
    """A unit that creates orders, run again when others use the same external ids meanwhile."""
    for last in (*[False] * _RACES, True):
        try:
            return run_unit(work, fulfillment_ids=(), actor=actor)
        except IntegrityError:
            # Somebody else has just used one of the external ids; now it can be seen.
            if last or connection.in_atomic_block:
                raise
    raise AssertionError("unreachable")


def submit_in(
    unit: Unit, *, client: ApiClient, requests: Sequence[OrderRequest]
) -> list[Submitted]:
    """`submit` inside a unit of work that the caller has opened."""
    known = {
        external_id: (reference, OrderState(state))
        for external_id, reference, state in Order.objects.filter(
            client=client, external_id__in=[request.external_id for request in requests]
        ).values_list("external_id", "reference", "state")
    }
    fresh: dict[str, OrderRequest] = {}
    for request in requests:
        if request.external_id not in known:
            fresh.setdefault(request.external_id, request)
    created = _create(unit, client, list(fresh.values()))
    answers = []
    for request in requests:
        order = created.get(request.external_id)
        if order is not None and fresh.get(request.external_id) is request:
            answers.append(
                Submitted(
                    disposition=Disposition.CREATED,
                    external_id=request.external_id,
                    reference=order.reference,
                    state=OrderState(order.state),
                    faults=order.faults,
                )
            )
        else:
            reference, state = (
                known[request.external_id]
                if order is None
                else (order.reference, OrderState(order.state))
            )
            answers.append(
                Submitted(
                    disposition=Disposition.DUPLICATE,
                    external_id=request.external_id,
                    reference=reference,
                    state=state,
                )
            )
    return answers


def _create(unit: Unit, client: ApiClient, requests: Sequence[OrderRequest]) -> dict[str, Order]:
    if not requests:
        return {}
    selectors = workflows.newest_versions(
        offerings={item.offering for request in requests for item in request.items}
    )
    order_ids = allocate(unit.raw, "oms_order", len(requests))
    numbers = [next(order_ids) for _ in requests]
    fulfillments = create_fulfillments(
        unit,
        requests=[
            FulfillmentRequest(
                order_reference=f"O-{number}",
                correlation_id=secrets.token_hex(16),
                priority=request.priority,
                customer=request.customer_id,
                business_key=client.business_key(request.external_id),
            )
            for number, request in zip(numbers, requests, strict=True)
        ],
    )
    owners = installed_base.owners(
        unit.raw,
        client_id=client.pk,
        asset_ids=(item.asset for request in requests for item in request.items),
    )
    orders: dict[str, Order] = {}
    plans: list[PlanRequest] = []
    graphs = Plannable()
    for number, fulfillment_id, request in zip(numbers, fulfillments, requests, strict=True):
        order = _order(unit, number, fulfillment_id, client, request)
        orders[request.external_id] = order
        _validate(unit, order, request, selectors, graphs, owners)
        if order.state == OrderState.READY_FOR_FULFILLMENT:
            plans.append(plan_request(order, request, selectors))
    _write(unit, orders, requests)
    create_plans(unit, requests=plans)
    unit.notify_orders()
    for order in orders.values():
        if order.state == OrderState.READY_FOR_FULFILLMENT:
            order.start()
    return orders


def _order(
    unit: Unit, number: int, fulfillment_id: int, client: ApiClient, request: OrderRequest
) -> Order:
    order = Order(
        id=number,
        reference=f"O-{number}",
        client_id=client.pk,
        external_id=request.external_id,
        customer_id=request.customer_id,
        customer_name=request.customer_name,
        customer_tier=request.customer_tier,
        customer_email=request.customer_email,
        billing_account=request.billing_account,
        region=request.region,
        channel=request.channel,
        requested_at=request.requested_at,
        promised_at=request.promised_at,
        priority=request.priority,
        fulfillment_id=fulfillment_id,
        submitted_at=unit.now,
    )
    unit.record(
        fulfillment_id=fulfillment_id,
        entity="order",
        entity_id=order.reference,
        name="submit",
        before="",
        after=OrderState.SUBMITTED,
        cause=f"submitted by {client.name}",
    )
    return order


def _validate(
    unit: Unit,
    order: Order,
    request: OrderRequest,
    selectors: Mapping[tuple[str, str], int],
    graphs: Plannable,
    owners: Mapping[str, str],
) -> None:
    unit.record_order(change(order, Order.validate, cause="its rules run", now=unit.now))
    found = faults_of(request, selectors=selectors, owners=owners)
    found = found or graphs.faults_of(request, selectors)
    faults = [fault.document() for fault in found]
    if faults:
        order.faults = faults
        codes = ", ".join(dict.fromkeys(fault["code"] for fault in faults))
        unit.record_order(
            change(
                order,
                Order.reject,
                cause=f"it breaks rules: {codes}",
                now=unit.now,
                event_type="OrderRejected",
                faults=faults,
            )
        )
    elif feasibility.checks_of(request, selectors):
        order.feasibility_due_at = unit.now
        order.waiting_reason = feasibility.ASKING
        transaction.on_commit(feasibility.nudge, robust=True)
    else:
        unit.record_order(change(order, Order.accept, cause="every rule passed", now=unit.now))


def _write(unit: Unit, orders: Mapping[str, Order], requests: Sequence[OrderRequest]) -> None:
    _ORDERS.insert(
        unit.raw,
        [
            [
                json.dumps(order.faults) if column == "faults" else _plain(order, column)
                for column in _ORDERS.columns
            ]
            for order in orders.values()
        ],
    )
    item_ids = allocate(unit.raw, "oms_orderitem", sum(len(r.items) for r in requests))
    rows = []
    for request in requests:
        order = orders[request.external_id]
        ids: dict[str, int] = {}
        for position, item in request.lines():
            ids[item.item_id] = own_id = next(item_ids)
            rows.append(
                (
                    own_id,
                    order.pk,
                    position,
                    item.item_id,
                    ids.get(item.parent_id) if item.parent_id else None,
                    item.action,
                    item.offering,
                    item.quantity,
                    json.dumps(item.characteristics),
                    item.one_off_price,
                    item.recurring_price,
                    item.currency,
                    json.dumps(item.place),
                    json.dumps(item.parties),
                    item.asset,
                    json.dumps(item.relations),
                )
            )
    _ITEMS.insert(unit.raw, rows)


def _plain(order: Order, column: str) -> Any:
    value = order.__dict__[column]
    return str(value) if column == "state" else value
