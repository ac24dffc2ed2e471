"""Reports of target systems as the engine takes them in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fulfillment.engine.dispatch import callbacks, sweeping
from fulfillment.engine.dispatch.callbacks import Receipt, Report
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.models import (
    Attempt,
    Command,
    Disposition,
    FalloutCase,
    InboundEvent,
    Plan,
    Task,
    Transition,
)
from fulfillment.states import PlanState
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
            "two": desk.task(after=["one"], input={"region": "${order.region}"}),
        }
    )
    desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.accepted()))
    return claim


def report(
    claim: Claim,
    outcome: desk.Outcome,
    event: str = "E-1",
    attempt: int | None = None,
    **body: Any,
) -> Receipt:
    return callbacks.receive(
        report=Report(
            source="alpha",
            event_id=event,
            idempotency_key=claim.command.idempotency_key,
            outcome=outcome,
            attempt=attempt,
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


# Early: before our own answer is settled


@pytest.fixture
def on_the_wire(systems: ScriptedSystems) -> Claim:
    """A command that is being sent; nothing is known about it yet."""
    desk.target("alpha", asynchronous=True)
    desk.workflow({"one": desk.task()})
    desk.order()
    (claim,) = desk.claim()
    return claim


@pytest.mark.parametrize(
    "answer",
    [
        desk.accepted(),
        desk.succeeded(),
        desk.failed(),
        desk.failed(retryable=False),
        desk.unknown(),
    ],
    ids=["accepted", "succeeded", "unknown", "failed", "failed for good"],
)
def test_our_own_answer_changes_nothing_after_an_early_success(
    on_the_wire: Claim, answer: desk.Outcome
) -> None:
    assert report(on_the_wire, desk.succeeded()).disposition == Disposition.APPLIED
    history = Transition.objects.count()
    desk.settle(desk.result(on_the_wire, answer))
    assert task_of(on_the_wire).state == "SUCCEEDED"
    assert Transition.objects.count() == history
    assert Attempt.objects.get().outcome == answer.kind


@pytest.mark.parametrize("answer", [desk.accepted(), desk.failed(), desk.unknown()])
def test_our_own_answer_changes_nothing_after_an_early_failure(
    on_the_wire: Claim, answer: desk.Outcome
) -> None:
    assert report(on_the_wire, desk.failed(), attempt=1).disposition == Disposition.APPLIED
    desk.settle(desk.result(on_the_wire, answer))
    assert task_of(on_the_wire).state == "FAILED_RETRYABLE"
    assert Transition.objects.filter(to_state="FAILED_RETRYABLE").count() == 1


def test_our_own_success_is_the_truth_after_an_early_failure(on_the_wire: Claim) -> None:
    report(on_the_wire, desk.failed())
    desk.settle(desk.result(on_the_wire, desk.succeeded()))
    assert task_of(on_the_wire).state == "SUCCEEDED"


# Late, and in another order


def test_a_report_after_its_time_settles_what_was_given_up(
    accepted: Claim, systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    clock(3600)
    sweeping.sweep()
    assert task_of(accepted).state == "OUTCOME_UNKNOWN"
    assert report(accepted, desk.succeeded()).disposition == Disposition.APPLIED
    desk.drain()
    assert systems.queried == []
    assert desk.states_of(Order.objects.get()) == {"one@1": "SUCCEEDED", "two@1": "SUCCEEDED"}


@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize(
    ("outcomes", "dispositions", "state"),
    [
        ([desk.failed(), desk.succeeded()], ["APPLIED", "APPLIED"], "SUCCEEDED"),
        ([desk.succeeded(), desk.failed()], ["APPLIED", "REDUNDANT"], "SUCCEEDED"),
        (
            [desk.failed(retryable=False), desk.succeeded()],
            ["APPLIED", "CONFLICTING"],
            "FAILED_FINAL",
        ),
        ([desk.rejected(), desk.succeeded()], ["APPLIED", "CONFLICTING"], "FAILED_FINAL"),
        ([desk.succeeded(), desk.rejected()], ["APPLIED", "CONFLICTING"], "SUCCEEDED"),
        ([desk.rejected(), desk.failed()], ["APPLIED", "REDUNDANT"], "FAILED_FINAL"),
    ],
    ids=["+failed", "-failed", "+failed for good", "+rejected", "-rejected", "both"],
)
def test_two_reports_that_differ(
    systems: ScriptedSystems,
    idempotent: bool,
    outcomes: list[desk.Outcome],
    dispositions: list[str],
    state: str,
) -> None:
    desk.target("alpha", asynchronous=True, idempotent=idempotent)
    desk.workflow({"one": desk.task()})
    desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.accepted()))
    receipts = [
        report(claim, outcome, event=f"E-{number}") for number, outcome in enumerate(outcomes)
    ]
    assert [receipt.disposition for receipt in receipts] == dispositions
    assert task_of(claim).state == state
    assert not systems.sent


def test_a_report_on_a_task_of_a_superseded_plan_settles_it_and_nothing_follows(
    accepted: Claim,
) -> None:
    Plan.objects.update(state=PlanState.SUPERSEDED)
    assert report(accepted, desk.succeeded()).disposition == Disposition.APPLIED
    assert desk.states_of(Order.objects.get()) == {"one@1": "SUCCEEDED", "two@1": "PENDING"}
    assert Plan.objects.get().state == PlanState.SUPERSEDED


def test_a_contradiction_after_the_plan_is_finished_is_kept_and_changes_nothing(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha", asynchronous=True)
    desk.workflow({"one": desk.task(), "extra": desk.task(required=False)})
    systems.sends["extra"] = [desk.rejected()]
    order = desk.order()
    desk.drain()
    plan, task = desk.plan_of(order), desk.tasks_of(order)["extra@1"]
    assert (plan.state, task.state) == ("COMPLETED", "FAILED_FINAL")
    receipt = callbacks.receive(
        report=Report(
            source="alpha",
            event_id="E-1",
            idempotency_key=Command.objects.get(action="extra").idempotency_key,
            outcome=desk.succeeded(),
            body={},
        )
    )
    assert receipt.disposition == Disposition.CONFLICTING
    assert desk.tasks_of(order)["extra@1"] == task
    assert desk.tasks_of(order)["extra@1"].blocked_reason == task.blocked_reason
    assert desk.plan_of(order).finished_at == plan.finished_at
    assert Transition.objects.filter(name="conflicting_outcome").count() == 1


# A report that says which attempt it speaks of


@pytest.fixture
def sent_twice(systems: ScriptedSystems, clock: Callable[[float], None]) -> Claim:
    """The first send failed, as we heard when we asked; the second one is accepted.

    Attempts: 1 sent, 2 asked, 3 sent.
    """
    desk.target("alpha", idempotent=False, asynchronous=True)
    desk.workflow({"one": desk.task(timeouts={"callback": "PT45S"})})
    systems.sends["one"] = [desk.accepted()]
    later = timedelta(seconds=30)  # Not in the same breath, wherever the jitter falls.
    systems.queries["one"] = [desk.failed("job_failed", retry_after=later)]
    desk.order()
    desk.drain()
    clock(60)
    sweeping.sweep()
    desk.drain()
    clock(60)
    (second,) = desk.claim()
    assert second.command.attempt == 3
    desk.settle(desk.result(second, desk.accepted()))
    return second


@pytest.mark.parametrize(
    ("attempt", "disposition", "state"),
    [
        (1, "REDUNDANT", "ACCEPTED"),
        (3, "APPLIED", "FAILED_RETRYABLE"),
        # No send has these numbers, so they say as little as none.
        (2, "APPLIED", "OUTCOME_UNKNOWN"),
        (9, "APPLIED", "OUTCOME_UNKNOWN"),
        (None, "APPLIED", "OUTCOME_UNKNOWN"),
    ],
)
def test_a_failure_is_exact_when_it_names_its_attempt(
    sent_twice: Claim, attempt: int | None, disposition: str, state: str
) -> None:
    receipt = report(sent_twice, desk.failed("job_failed"), attempt=attempt)
    assert (receipt.disposition, task_of(sent_twice).state) == (disposition, state)


@pytest.mark.parametrize("attempt", [1, 9, None])
def test_a_failure_of_the_only_send_is_exact_whatever_number_it_names(
    accepted: Claim, attempt: int | None
) -> None:
    assert report(accepted, desk.failed("job_failed"), attempt=attempt).disposition == "APPLIED"
    assert task_of(accepted).state == "FAILED_RETRYABLE"


@pytest.mark.parametrize("attempt", [1, 2, 3, None])
def test_a_success_counts_whichever_attempt_it_names(
    sent_twice: Claim, attempt: int | None
) -> None:
    assert report(sent_twice, desk.succeeded(), attempt=attempt).disposition == "APPLIED"
    assert task_of(sent_twice).state == "SUCCEEDED"


def test_a_failure_of_the_last_send_is_exact_although_we_have_asked_since(
    accepted: Claim, systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    systems.queries["one"] = [desk.accepted()]
    clock(3600)
    sweeping.sweep()
    desk.drain()
    clock(60)
    desk.drain()
    task = task_of(accepted)
    assert (task.state, task.attempts) == ("ACCEPTED", 2)
    assert report(accepted, desk.failed(), attempt=1).disposition == "APPLIED"
    assert task_of(accepted).state == "FAILED_RETRYABLE"


# Reports that the engine itself fails with


@pytest.fixture
def poisoned(accepted: Claim) -> dict[str, Any]:
    """What the plan knows of its order can't be read; returns what stood there."""
    context: dict[str, Any] = Plan.objects.get().context
    Plan.objects.update(context={})
    return context


def test_a_report_that_can_not_be_applied_is_kept_with_the_reason_and_has_an_owner(
    accepted: Claim, poisoned: dict[str, Any]
) -> None:
    receipt = report(accepted, desk.succeeded(), said="done")
    assert receipt == Receipt(disposition=Disposition.UNMATCHED, duplicate=False)
    event = InboundEvent.objects.get()
    assert (event.disposition, event.task_id, event.body) == ("UNMATCHED", None, {"said": "done"})
    (about,) = event.suggestions
    assert (about["task_id"], about["task"]) == (accepted.task_id, "one@1")
    assert "KeyError" in about["why"]
    case = FalloutCase.objects.get()
    assert (case.state, case.category, case.task_id) == ("OPEN", "POISON", accepted.task_id)
    assert case.facts["event_id"] == "E-1"
    assert task_of(accepted).state == "ACCEPTED"


def test_a_parked_report_stays_one_however_often_it_comes(
    accepted: Claim, poisoned: dict[str, Any]
) -> None:
    report(accepted, desk.succeeded())
    for _ in range(2):
        again = report(accepted, desk.succeeded())
        assert again == Receipt(disposition=Disposition.UNMATCHED, duplicate=True)
    assert InboundEvent.objects.count() == FalloutCase.objects.count() == 1


def test_a_parked_report_is_applied_when_it_comes_again_after_the_repair(
    accepted: Claim, poisoned: dict[str, Any]
) -> None:
    report(accepted, desk.succeeded())
    Plan.objects.update(context=poisoned)
    again = report(accepted, desk.succeeded())
    assert again == Receipt(disposition=Disposition.APPLIED, duplicate=False)
    event = InboundEvent.objects.get()
    assert (event.disposition, event.task_id, event.suggestions) == (
        *("APPLIED", accepted.task_id),
        [],
    )
    assert desk.states_of(Order.objects.get()) == {"one@1": "SUCCEEDED", "two@1": "READY"}
    assert FalloutCase.objects.get().state == "RESOLVED"
    assert report(accepted, desk.succeeded()).duplicate


def test_an_id_that_was_another_commands_is_refused_and_changes_nothing(accepted: Claim) -> None:
    report(accepted, desk.succeeded())
    with pytest.raises(callbacks.EventIdReused, match="E-1"):
        callbacks.receive(
            report=Report(
                source="alpha",
                event_id="E-1",
                idempotency_key=Command.objects.get(action="two").idempotency_key,
                outcome=desk.succeeded(),
                body={},
            )
        )
    assert InboundEvent.objects.get().task_id == accepted.task_id
    assert desk.states_of(Order.objects.get())["two@1"] == "READY"
