"""Fixtures that several files of these tests use."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from celery import Celery
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.work import hints
from fulfillment.models import (
    Approval,
    BulkJob,
    BulkRow,
    BusinessCalendar,
    Command,
    Delivery,
    HoldScope,
    InboundEvent,
    Incident,
    ManualTask,
    OutboxEvent,
    Resource,
    ResourceLock,
    RoutingRule,
    Signal,
    Subscription,
)
from fulfillment.operations import bulk
from oms.keys import create_key
from oms.models import AmendmentRequest, CancellationRequest, Order, PendingAsset, Scope
from tests import desk, people
from tests.desk import ScriptedSystems, by


@pytest.fixture
def boss(db: None, client: Client) -> Client:
    """A browser in which a superuser is logged in."""
    client.force_login(User.objects.create(username="boss", is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def halfway(db: None, systems: ScriptedSystems) -> Order:
    """An order that can't go on half-way, with something in every table."""
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(outputs={"number": "string"}, title="Fetch <b>a number</b>"),
            "two": desk.task(depends_on=[{"output": "one.number"}], title="Use it"),
        },
        milestones={"ready": {"title": "It is ready", "reached_by": "one"}},
        activation="one",
    )
    systems.sends["one"] = [desk.succeeded(number="N-1")]
    systems.sends["two"] = [desk.rejected("no_stock")]
    order = desk.order(customer_name="<script>alert(1)</script>", external_id="SHOP-7")
    desk.drain()
    PendingAsset.objects.create(
        item=order.items.get(),
        order=order,
        position=1,
        client=order.client,
        asset_id=f"{order.reference}-1",
        customer_id=order.customer_id,
        change="modify",
        offering="thing",
        expected_state="ACTIVE",
        since=order.submitted_at,
    )
    event = OutboxEvent.objects.latest("id")
    Delivery.objects.create(
        subscription=Subscription.objects.create(
            name="shop", url="https://shop.example/hook", secret="whsec_c2VjcmV0"
        ),
        event=event,
        fulfillment_id=event.fulfillment_id,
        state="DEAD",
        not_before=event.occurred_at,
    )
    create_key(client=desk.client(), scopes=[Scope.ORDERS_READ])
    command = Command.objects.order_by("id").first()
    assert command is not None
    InboundEvent.objects.create(
        source="alpha",
        event_id="e-1",
        idempotency_key=command.idempotency_key,
        body={"a": 1},
        disposition="REDUNDANT",
        task=command.task,
        received_at=command.created_at,
    )
    hours = {"days": ["mon"], "from": "08:00", "to": "17:00"}
    BusinessCalendar.objects.create(
        name="office", title="Office", spec={"timezone": "Europe/Vienna", "hours": [hours]}
    )
    ManualTask.objects.create(
        task=command.task,
        fulfillment_id=event.fulfillment_id,
        queue="approvals",
        role="manager",
        title="Approve it",
        instructions="Look at <b>it</b>.",
        outcomes={"approved": "proceed"},
        due_at=event.occurred_at,
        otherwise="escalate",
        opened_at=event.occurred_at,
    )
    job = BulkJob.objects.create(
        action="task.retry",
        reason="It is <b>mended</b>.",
        selection={"of": "task", "named": 1},
        canary=1,
        stages=[50],
        goes_on=False,
        most_failures=1,
        most_failures_percent=10,
        actor="anna",
        actor_kind="PERSON",
        drafted_at=event.occurred_at,
        changed_at=event.occurred_at,
    )
    BulkRow.objects.create(job=job, position=1, subject=f"task:{command.task_id}")
    AmendmentRequest.objects.create(
        order=order,
        number=1,
        version=2,
        mode="auto",
        document={"external_id": "SHOP-7", "items": [{"item_id": "<b>1</b>"}]},
        requested_by="client a-client",
        reason="One <b>more</b>.",
        requested_at=event.occurred_at,
    )
    Signal.objects.create(
        source="client:1",
        event_id="s-1",
        name="paid",
        subject="order:1/SHOP-7",
        occurred_at=event.occurred_at,
        received_at=event.occurred_at,
    )
    CancellationRequest.objects.create(
        order=order,
        number=1,
        requested_by="client a-client",
        reason="Too <b>late</b>.",
        order_state_before="IN_PROGRESS",
        requested_at=event.occurred_at,
    )
    Incident.objects.create(
        fingerprint="a test",
        target="alpha",
        action="two",
        reason_code="no_stock",
        title="alpha has no <b>stock</b>",
        severity="HIGH",
        owner_queue="supply",
        opened_at=event.occurred_at,
    )
    RoutingRule.objects.create(
        name="no-stock",
        position=1,
        reason_code="no_stock",
        owner_queue="supply",
        severity="HIGH",
        sla=timedelta(hours=4),
        updated_at=event.occurred_at,
    )
    Resource.objects.create(name="depot", kept_by="PLAN")
    ResourceLock.objects.create(
        name="depot:7",
        fulfillment_id=event.fulfillment_id,
        plan_id=command.task.plan_id,
        taken_at=event.occurred_at,
    )
    asker = people.operator("asker", Action.TASK_WAIVE)
    Approval.objects.create(
        action=Action.TASK_WAIVE,
        subject=f"task:{command.task_id}",
        fulfillment_id=event.fulfillment_id,
        needs=Action.APPROVE_OPERATIONS,
        payload={"parameters": {}, "reason": "<b>Sold</b> out.", "evidence": "A call."},
        payload_hash="a test",
        version="a test",
        told="It would be waived.",
        requested_by=asker,
        requested_at=event.occurred_at,
        expires_at=event.occurred_at + timedelta(hours=24),
    )
    operations.place_hold(scope=HoldScope.CUSTOMER, name="C-9", reason="Unpaid.", actor=by("anna"))
    bulk.draft(
        actor=by("anna"),
        action=Action.TASK_RETRY,
        selection=bulk.Selection(of="task", names=[str(command.task_id)]),
        reason="They have <b>mended</b> it.",
    )
    return order


@pytest.fixture
def broker_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody listens where this process's broker should be."""
    away = Celery("away", broker=f"redis+socket://{tmp_path}/nobody.sock", set_as_current=False)
    away.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    monkeypatch.setattr(hints.celery, "current_app", away)
    monkeypatch.setattr(hints, "_away_until", 0.0)
    yield
    hints._away_until = 0.0
