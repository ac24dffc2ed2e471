"""Reports of target systems as the engine takes them in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fulfillment.engine import callbacks
from fulfillment.engine.callbacks import Receipt, Report
from fulfillment.engine.claiming import Claim
from fulfillment.models import Command, Disposition, InboundEvent, Task, Transition
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture
def accepted(systems: ScriptedSystems) -> Claim:
    """The first of two tasks, which its target has accepted and will report."""
    desk.target("alpha", asynchronous=True)
    desk.workflow(
        {
            "one": desk.task(outputs={"number": {"type": "string", "optional": True}}),
            "two": desk.task(after=["one"]),
        }
    )
    desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.accepted()))
    return claim


def report(claim: Claim, outcome: desk.Outcome, event: str = "E-1", **body: Any) -> Receipt:
    return callbacks.receive(
        report=Report(
            source="alpha",
            event_id=event,
            idempotency_key=claim.command.idempotency_key,
            outcome=outcome,
            body=body,
        )
    )


def task_of(claim: Claim) -> Task:
    return Task.objects.get(pk=claim.task_id)


def test_a_report_settles_its_task_and_what_follows_becomes_runnable(accepted: Claim) -> None:
    receipt = report(accepted, desk.succeeded(number="N-1"), said="done")
    assert receipt == Receipt(disposition=Disposition.APPLIED, duplicate=False)
    assert task_of(accepted).outputs == {"number": "N-1"}
    assert desk.states_of(Order.objects.get()) == {"one@1": "SUCCEEDED", "two@1": "READY"}
    event = InboundEvent.objects.get()
    assert (event.task_id, event.body) == (accepted.task_id, {"said": "done"})
    assert Transition.objects.filter(name="succeed", actor="target alpha").count() == 1


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (desk.rejected(), "FAILED_FINAL"),
        (desk.failed(retryable=False), "FAILED_FINAL"),
        (desk.failed(), "FAILED_RETRYABLE"),
        (desk.unknown(), "OUTCOME_UNKNOWN"),
    ],
)
def test_a_report_may_say_no(accepted: Claim, outcome: desk.Outcome, state: str) -> None:
    assert report(accepted, outcome).disposition == Disposition.APPLIED
    assert task_of(accepted).state == state


def test_a_reported_failure_is_tried_again_under_the_same_key(
    accepted: Claim, systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    report(accepted, desk.failed(retry_after=timedelta(seconds=30)))
    desk.drain()
    assert systems.sent == []
    clock(30)
    desk.drain()
    assert systems.actions() == ["one", "two"]
    assert systems.sent[0].idempotency_key == accepted.command.idempotency_key


def test_a_report_may_be_faster_than_the_answer(systems: ScriptedSystems) -> None:
    desk.target("alpha", asynchronous=True)
    desk.workflow({"one": desk.task()})
    order = desk.order()

    def reports_before_it_answers(command: Any) -> desk.Outcome:
        receipt = callbacks.receive(
            report=Report(
                source="alpha",
                event_id="E-1",
                idempotency_key=command.idempotency_key,
                outcome=desk.succeeded(),
                body={},
            )
        )
        assert receipt.disposition == Disposition.APPLIED
        return desk.accepted()

    systems.sends["one"] = [reports_before_it_answers]
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert not Transition.objects.filter(to_state="ACCEPTED").exists()


@pytest.mark.parametrize(
    ("second", "disposition"),
    [
        (desk.succeeded(), "REDUNDANT"),
        (desk.accepted(), "REDUNDANT"),
        (desk.failed(), "REDUNDANT"),
        (desk.rejected(), "CONFLICTING"),
    ],
)
def test_a_second_report_about_a_settled_task(
    accepted: Claim, second: desk.Outcome, disposition: str
) -> None:
    report(accepted, desk.succeeded())
    assert report(accepted, second, event="E-2").disposition == disposition
    assert task_of(accepted).state == "SUCCEEDED"
    assert Command.objects.filter(action="two").count() == 1
    conflicts = Transition.objects.filter(name="conflicting_outcome")
    assert conflicts.count() == (disposition == "CONFLICTING")


def test_a_report_after_a_person_was_asked_settles_it(accepted: Claim) -> None:
    report(accepted, desk.succeeded(number=7))
    assert task_of(accepted).state == "AWAITING_MANUAL"
    report(accepted, desk.succeeded(number="N-7"), event="E-2")
    task = task_of(accepted)
    assert (task.state, task.outputs, task.blocked_reason) == ("SUCCEEDED", {"number": "N-7"}, "")
    assert desk.plan_of(Order.objects.get()).state == "RUNNING"


def test_a_report_for_a_command_that_was_never_sent_settles_it_once(
    systems: ScriptedSystems,
) -> None:
    """Somebody did it by hand and the target system says so: nothing is left to send."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    command = Command.objects.get()
    receipt = callbacks.receive(
        report=Report(
            source="alpha",
            event_id="E-1",
            idempotency_key=command.idempotency_key,
            outcome=desk.succeeded(),
            body={},
        )
    )
    assert receipt.disposition == Disposition.APPLIED
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert systems.sent == []
