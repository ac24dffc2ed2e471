"""Signs of life of what a target system works on for long, and where it goes on from."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapters.contract import Outcome, OutcomeKind, Reply
from adapters.reports import ReportIn, outcome_of
from fulfillment import stuck
from fulfillment.engine.dispatch import callbacks, replies, sweeping
from fulfillment.engine.dispatch.callbacks import Report
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.engine.plans.rerunning import rerun
from fulfillment.engine.work.running import run_unit
from fulfillment.models import (
    Command,
    Disposition,
    FalloutCase,
    InboundEvent,
    Plan,
    Task,
    Transition,
)
from fulfillment.waits.waiting import waiting
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
Clock = Callable[[float], None]
NOON = datetime(2026, 7, 5, 12, tzinfo=UTC)


@pytest.fixture
def at_work(systems: ScriptedSystems) -> Claim:
    """A task that its target has accepted; it has to be heard of every minute."""
    desk.target("alpha", asynchronous=True)
    desk.target("beta")
    desk.workflow(
        {
            "one": desk.task(
                timeouts={"callback": "PT1H", "heartbeat": "PT1M"},
                fallback=[{"target": "beta", "action": "instead"}],
            )
        }
    )
    desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.accepted()))
    return claim


def task() -> Task:
    return Task.objects.get()


def tell(claim: Claim, event: str = "E-1", **body: Any) -> str:
    report = ReportIn.model_validate(
        {
            "idempotency_key": claim.command.idempotency_key,
            "status": "in_progress",
            **body,
        }
    )
    receipt = callbacks.receive(
        report=Report(
            source=claim.command.target,
            event_id=event,
            idempotency_key=report.idempotency_key,
            outcome=outcome_of(report=report),
            attempt=report.attempt,
            body=report.model_dump(mode="json"),
        )
    )
    return f"{receipt.disposition}{' again' if receipt.duplicate else ''}"


def test_what_is_asked_and_still_at_work_has_as_long_as_after_any_acceptance(
    at_work: Claim, clock: Clock, systems: ScriptedSystems
) -> None:
    clock(61)
    sweeping.sweep()
    systems.queries["one"] = [desk.accepted()]
    clock(57 * 60)
    desk.drain()
    assert task().state == "ACCEPTED"
    for minute in range(5):
        clock(55)
        tell(at_work, f"E-{minute}")
        assert sweeping.sweep() == 0


def test_but_no_longer_than_its_send_may_take(clock: Clock, systems: ScriptedSystems) -> None:
    desk.target("alpha", asynchronous=True)
    timeouts = {"callback": "PT5M", "start_to_close": "PT8M", "heartbeat": "PT2M"}
    desk.workflow({"one": desk.task(timeouts=timeouts)})
    desk.order()
    systems.sends["one"] = [desk.accepted()]
    desk.drain()
    clock(4 * 60 + 30)
    sweeping.sweep()
    systems.queries["one"] = [desk.accepted()]
    desk.drain()
    assert task().report_by is not None
    left = task().report_by - desk.now()
    assert timedelta(minutes=3) < left < timedelta(minutes=4)


def test_what_is_heard_of_is_not_asked_about(at_work: Claim, clock: Clock) -> None:
    for minute in range(5):
        clock(55)
        assert tell(at_work, f"E-{minute}", progress={"done": minute}) == "APPLIED"
        assert sweeping.sweep() == 0
    assert (task().state, task().progress) == ("ACCEPTED", {"done": 4})
    clock(61)
    assert sweeping.sweep() == 1
    assert task().state == "OUTCOME_UNKNOWN"
    assert "heartbeat_missed" in task().blocked_reason


def test_signs_of_life_do_not_put_off_the_report(at_work: Claim, clock: Clock) -> None:
    for minute in range(59):
        clock(60)
        tell(at_work, f"E-{minute}")
    assert task().not_before - desk.now() <= timedelta(minutes=1)
    clock(61)
    sweeping.sweep()
    assert "report_overdue" in task().blocked_reason


def test_a_sign_of_life_is_no_change_of_state(at_work: Claim) -> None:
    before = Transition.objects.count()
    changed_at = task().changed_at
    tell(at_work, progress={"done": 1})
    assert (Transition.objects.count(), task().changed_at) == (before, changed_at)
    assert task().heard_at is not None
    event = InboundEvent.objects.get()
    assert (event.disposition, event.task_id) == (Disposition.APPLIED, task().pk)


def test_the_same_sign_of_life_counts_once(at_work: Claim, clock: Clock) -> None:
    tell(at_work, progress={"done": 1})
    looked_at = task().not_before
    clock(30)
    assert tell(at_work, progress={"done": 1}) == "APPLIED again"
    assert task().not_before == looked_at


def test_an_older_sign_of_life_that_comes_later_changes_nothing(
    at_work: Claim, clock: Clock
) -> None:
    tell(
        at_work, "E-2", progress={"done": 2}, occurred_at=(NOON + timedelta(minutes=2)).isoformat()
    )
    looked_at = task().not_before
    clock(30)
    late = tell(at_work, "E-1", progress={"done": 1}, occurred_at=NOON.isoformat())
    assert late == "REDUNDANT"
    assert (task().progress, task().not_before) == ({"done": 2}, looked_at)


def test_a_sign_of_life_without_progress_keeps_what_was_told_before(at_work: Claim) -> None:
    tell(at_work, "E-1", progress={"done": 1})
    tell(at_work, "E-2")
    assert task().progress == {"done": 1}


def test_what_has_ended_shows_no_signs_of_life(at_work: Claim) -> None:
    desk.settle(desk.result(at_work, desk.succeeded(), attempt_id=None, attempt_number=None))
    assert tell(at_work, progress={"done": 1}) == "REDUNDANT"
    assert (task().state, task().progress) == ("SUCCEEDED", None)


def test_a_sign_of_life_that_overtakes_the_answer_is_kept(systems: ScriptedSystems) -> None:
    desk.target("alpha", asynchronous=True)
    desk.workflow({"one": desk.task(timeouts={"callback": "PT1H", "heartbeat": "PT1M"})})
    desk.order()
    (claim,) = desk.claim()
    assert tell(claim, progress={"done": 1}) == "APPLIED"
    assert (task().state, task().progress) == ("DISPATCHED", {"done": 1})
    desk.settle(desk.result(claim, desk.accepted()))
    assert (task().state, task().progress) == ("ACCEPTED", {"done": 1})


def died_and_sent_again(claim: Claim, clock: Clock, systems: ScriptedSystems) -> Claim:
    """Nothing is heard, the target has never seen the key, so it is sent once more."""
    systems.queries["one"] = [desk.not_found()]
    clock(61)
    sweeping.sweep()
    desk.drain()
    clock(120)
    (again,) = desk.claim()
    return again


def test_the_next_send_says_where_to_go_on(
    at_work: Claim, clock: Clock, systems: ScriptedSystems
) -> None:
    assert at_work.command.resume_from is None
    tell(at_work, progress={"step": 3, "of": 9})
    again = died_and_sent_again(at_work, clock, systems)
    assert again.command.resume_from == {"step": 3, "of": 9}
    # Beside the payload: that of a key never changes.
    assert again.command.idempotency_key == at_work.command.idempotency_key
    assert again.command.payload == at_work.command.payload
    assert Command.objects.count() == 1


def test_signs_of_life_of_another_send_are_ignored(
    at_work: Claim, clock: Clock, systems: ScriptedSystems
) -> None:
    again = died_and_sent_again(at_work, clock, systems)
    desk.settle(desk.result(again, desk.accepted()))
    looked_at = task().not_before
    clock(30)
    first, second = at_work.command.attempt, again.command.attempt
    assert tell(at_work, "E-1", attempt=first, progress={"done": 1}) == "REDUNDANT"
    assert tell(at_work, "E-2", attempt=99, progress={"done": 1}) == "REDUNDANT"
    assert (task().not_before, task().progress) == (looked_at, None)
    assert tell(at_work, "E-3", attempt=second, progress={"done": 1}) == "APPLIED"
    assert task().not_before > looked_at


def test_another_target_is_not_told_of_the_progress_of_the_first(
    at_work: Claim, systems: ScriptedSystems
) -> None:
    tell(at_work, progress={"step": 3})
    desk.settle(desk.result(at_work, desk.rejected(), attempt_id=None, attempt_number=None))
    assert (task().target_id, task().progress) == ("beta", None)
    assert tell(at_work, "E-2", progress={"step": 4}) == "REDUNDANT"  # of the command before
    (other,) = desk.claim("beta")
    assert other.command.resume_from is None


def test_what_is_tried_again_by_hand_goes_on_where_it_was(systems: ScriptedSystems) -> None:
    desk.target("alpha", asynchronous=True)
    desk.workflow({"one": desk.task(timeouts={"callback": "PT1H", "heartbeat": "PT1M"})})
    desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.accepted()))
    tell(claim, progress={"step": 3})
    desk.settle(desk.result(claim, desk.rejected(), attempt_id=None, attempt_number=None))
    run_unit(
        lambda unit: rerun(unit, task_id=task().pk),
        fulfillment_ids=[task().fulfillment_id],
        actor="ann",
    )
    (again,) = desk.claim()
    assert again.command.resume_from == {"step": 3}
    assert again.command.idempotency_key != claim.command.idempotency_key


def test_whoever_is_asked_and_at_work_says_how_far_it_is(
    at_work: Claim, clock: Clock, systems: ScriptedSystems
) -> None:
    systems.queries["one"] = [
        desk.Outcome(kind=desk.OutcomeKind.ACCEPTED, progress={"done": 7}),
    ]
    clock(61)
    sweeping.sweep()
    desk.drain()
    assert (task().state, task().progress) == ("ACCEPTED", {"done": 7})
    assert timedelta(0) < task().not_before - desk.now() <= timedelta(minutes=1)


def test_a_reply_by_message_may_be_a_sign_of_life(at_work: Claim) -> None:
    body = {"status": "in_progress", "progress": {"done": 1}}
    replies.record(
        Reply(
            body=json.dumps(body).encode(),
            message_id="M-1",
            correlation_id=at_work.command.idempotency_key,
        ),
        target="alpha",
        stop=threading.Event(),
    )
    assert (task().state, task().progress) == ("ACCEPTED", {"done": 1})


def test_a_report_in_the_moment_of_the_sweep_is_heard(at_work: Claim, clock: Clock) -> None:
    clock(61)
    found = [result for look in sweeping._LOOKS for result in look(sweeping._FIRST, 10)[0]]
    assert len(found) == 1
    tell(at_work)
    sweeping._settle(found)
    assert task().state == "ACCEPTED"


@pytest.mark.parametrize(
    ("when_sent", "state"),
    [("resolve", "OUTCOME_UNKNOWN"), ("retry", "READY"), ("escalate", "AWAITING_MANUAL")],
)
def test_what_is_not_heard_of_is_followed_by_what_its_template_says(
    when_sent: str, state: str, clock: Clock, systems: ScriptedSystems
) -> None:
    desk.target("alpha", asynchronous=True)
    timeouts = {"callback": "PT1H", "heartbeat": "PT1M", "when_sent": when_sent}
    desk.workflow({"one": desk.task(timeouts=timeouts)})
    systems.sends["one"] = [desk.accepted()]
    desk.order()
    desk.drain()
    clock(61)
    sweeping.sweep()
    assert task().state == state


def test_whoever_asks_why_it_waits_is_told_how_far_it_is(at_work: Claim) -> None:
    tell(at_work, progress={"step": 3, "of": 9})
    (wait,) = waiting(fulfillment_ids=[at_work.fulfillment_id])[at_work.fulfillment_id]
    assert '{"of": 9, "step": 3}' in wait.reason


def test_work_of_which_is_heard_is_not_stuck(at_work: Claim, clock: Clock) -> None:
    for minute in range(30):
        clock(50)
        tell(at_work, f"E-{minute}")
        sweeping.sweep()
        stuck.detect_stuck()
    assert Plan.objects.get().stuck_at is None
    assert not FalloutCase.objects.exists()


def test_progress_that_can_not_be_kept_is_a_sign_of_life_all_the_same(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha", asynchronous=True)
    desk.workflow({"one": desk.task()})
    desk.order()
    (claim,) = desk.claim()
    told = Outcome(kind=OutcomeKind.ACCEPTED, progress={"step": "a\x00b"})
    desk.settle(desk.result(claim, told))
    assert (task().state, task().progress) == ("ACCEPTED", None)
    assert task().heard_at is not None


def test_a_time_that_is_far_from_come_does_not_outdate_what_follows(at_work: Claim) -> None:
    tell(at_work, "E-1", progress={"done": 1}, occurred_at="2099-01-01T00:00:00Z")
    later = (desk.now() + timedelta(minutes=1)).isoformat()
    told = tell(at_work, "E-2", progress={"done": 2}, occurred_at=later)
    assert (told, task().progress) == ("APPLIED", {"done": 2})
