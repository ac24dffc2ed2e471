"""What is told of a command that another has taken the place of never settles that other one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from adapters.contract import Outcome
from fulfillment import operations, stuck
from fulfillment.engine.dispatch import callbacks, sweeping
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.models import Attempt, Command, Disposition, FalloutCase, Task, Transition
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def charge(**spec: Any) -> dict[str, Any]:
    """Its first way is `alpha`, its second `beta`, its third `gamma`."""
    for name in ("alpha", "beta", "gamma"):
        desk.target(name)
    return desk.task(
        "alpha",
        outputs={"receipt": "string"},
        fallback=[
            {"target": "beta", "action": "charge_card"},
            {"target": "gamma", "action": "charge_account"},
        ],
        **spec,
    )


def an_order(**spec: Any) -> Order:
    desk.workflow({"charge": charge(**spec)})
    return desk.order()


def report(
    outcome: Outcome, *, revision: int = 1, event: str = "late", attempt: int | None = None
) -> callbacks.Receipt:
    command = Command.objects.get(revision=revision)
    return callbacks.receive(
        report=callbacks.Report(
            source=command.target_id,
            event_id=event,
            idempotency_key=command.idempotency_key,
            outcome=outcome,
            attempt=attempt,
            body={},
        )
    )


def overtaken_on_the_wire() -> tuple[Order, Claim]:
    """`alpha` has not answered the call yet when it reports that it does not do it."""
    order = an_order()
    (claim,) = desk.claim("alpha")
    assert report(desk.rejected(), event="no").disposition is Disposition.APPLIED
    assert Task.objects.get().target_id == "beta"
    return order, claim


def conflict() -> FalloutCase:
    return FalloutCase.objects.get(state="OPEN", category="CONFLICT")


@pytest.mark.parametrize(
    "answer",
    [desk.rejected(), desk.failed(retryable=False), desk.failed(), desk.unknown(), desk.accepted()],
    ids=lambda answer: str(answer.kind),
)
def test_the_answer_of_the_call_says_nothing_new_of_the_way_that_is_tried_instead(
    systems: ScriptedSystems, answer: Outcome
) -> None:
    order, claim = overtaken_on_the_wire()
    before = Task.objects.values().get()
    desk.settle(desk.result(claim, answer))
    assert Task.objects.values().get() == before
    assert Attempt.objects.get().outcome == answer.kind
    systems.sends["charge_card"] = [desk.succeeded(receipt="B")]
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert not FalloutCase.objects.exists()


def test_what_was_done_after_all_is_not_done_a_second_time(systems: ScriptedSystems) -> None:
    _, claim = overtaken_on_the_wire()
    desk.settle(desk.result(claim, desk.succeeded(receipt="A")))
    desk.finish()
    task = Task.objects.get()
    assert (task.state, systems.sent) == ("AWAITING_MANUAL", [])
    assert "alpha did charge after all" in task.blocked_reason
    case = conflict()
    assert "Nothing has been sent to beta" in case.explanation
    assert case.facts["done_after_all_1"] == {
        "target": "alpha",
        "action": "charge",
        "idempotency_key": claim.command.idempotency_key,
        "reference": "",
        "outputs": {"receipt": "A"},
        "undo": {"none": "Nothing to undo in a test."},
    }
    row = Transition.objects.get(name="conflicting_outcome")
    assert row.details["target"] == "alpha"
    assert (row.details["outcome"], row.details["revision"]) == ("SUCCEEDED", 1)


def test_while_another_does_it_a_person_is_told_and_nothing_more_is_sent(
    systems: ScriptedSystems, clock: Clock
) -> None:
    _, late = overtaken_on_the_wire()
    (now,) = desk.claim("beta")
    desk.settle(desk.result(late, desk.succeeded(receipt="A")))
    case = conflict()
    assert "alpha did charge after all" in case.explanation
    assert "beta was asked for charge_card meanwhile" in case.explanation
    desk.settle(desk.result(now, desk.failed()))
    clock(600)
    desk.finish()
    assert (Task.objects.get().state, systems.sent) == ("AWAITING_MANUAL", [])


def test_the_answer_of_the_way_that_was_tried_instead_still_counts(
    systems: ScriptedSystems,
) -> None:
    order, late = overtaken_on_the_wire()
    (now,) = desk.claim("beta")
    desk.settle(desk.result(late, desk.succeeded(receipt="A")))
    desk.settle(desk.result(now, desk.succeeded(receipt="B")))
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert Task.objects.get().outputs == {"receipt": "B"}
    assert conflict().facts["done_after_all_1"]["outputs"] == {"receipt": "A"}


@pytest.mark.parametrize("first", ["alpha", "beta"])
def test_both_answers_in_one_batch(systems: ScriptedSystems, first: str) -> None:
    _, late = overtaken_on_the_wire()
    (now,) = desk.claim("beta")
    both = [
        desk.result(late, desk.succeeded(receipt="A")),
        desk.result(now, desk.succeeded(receipt="B")),
    ]
    desk.settle(*(both if first == "alpha" else reversed(both)))
    task = Task.objects.get()
    assert (task.state, task.outputs) == ("SUCCEEDED", {"receipt": "B"})
    assert conflict().facts["done_after_all_1"]["target"] == "alpha"


def test_what_a_batch_itself_gives_up_is_overtaken_within_it(
    systems: ScriptedSystems, clock: Clock
) -> None:
    """The lease of the first send is lost, the second is refused, and then the first answers."""
    an_order()
    (first,) = desk.claim("alpha")
    clock(60)
    sweeping.sweep()
    systems.queries["charge"] = [desk.not_found()]
    desk.drain(["alpha"])
    clock(60)
    (second,) = desk.claim("alpha")
    desk.settle(
        desk.result(second, desk.rejected()), desk.result(first, desk.succeeded(receipt="A"))
    )
    assert Task.objects.get().state == "AWAITING_MANUAL"
    assert conflict().facts["done_after_all_1"]["target"] == "alpha"


def test_a_report_that_it_was_done_after_all_is_no_repetition(systems: ScriptedSystems) -> None:
    """Both have succeeded: that is twice, not the same once more."""
    an_order()
    systems.sends["charge"] = [desk.rejected()]
    systems.sends["charge_card"] = [desk.succeeded(receipt="B")]
    desk.finish()
    assert report(desk.succeeded(receipt="A")).disposition is Disposition.CONFLICTING
    assert "beta has done charge_card meanwhile: it has been done twice" in conflict().explanation


def test_a_report_of_what_was_given_up_is_told_under_the_lock(systems: ScriptedSystems) -> None:
    """The command was the newest when the report was looked up, and is not any more."""
    an_order()
    (claim,) = desk.claim("alpha")
    late = callbacks.Report(
        source="alpha",
        event_id="E",
        idempotency_key=claim.command.idempotency_key,
        outcome=desk.succeeded(receipt="A"),
        body={},
    )
    found = callbacks.command_by_key(key=late.idempotency_key, target=late.source)
    assert found is not None
    desk.settle(desk.result(claim, desk.rejected()))
    receipt = callbacks.run_unit(
        lambda unit: callbacks._receive(unit, late, found),
        fulfillment_ids=[found.fulfillment_id],
        actor="target alpha",
    )
    assert receipt.disposition is Disposition.CONFLICTING
    assert Task.objects.get().state == "AWAITING_MANUAL"


def test_a_lost_lease_does_not_count_against_the_way_that_is_tried_instead(
    systems: ScriptedSystems, clock: Clock
) -> None:
    desk.target("alpha", lost_leases_limit=1)
    desk.target("beta", lost_leases_limit=1)
    desk.workflow({"charge": desk.task(fallback=[{"target": "beta", "action": "charge_card"}])})
    desk.order()
    desk.claim("alpha")
    report(desk.rejected(), event="no")
    clock(60)
    sweeping.sweep()
    task = Task.objects.get()
    assert (task.state, task.lost_leases) == ("FAILED_RETRYABLE", 0)


def test_the_answer_to_a_question_about_what_was_given_up_changes_nothing(
    systems: ScriptedSystems,
) -> None:
    order = an_order()
    (send,) = desk.claim("alpha")
    desk.settle(desk.result(send, desk.unknown()))
    (question,) = desk.claim("alpha")
    report(desk.rejected(), event="no")
    desk.settle(desk.result(question, desk.rejected()))
    assert desk.states_of(order) == {"charge@1": "FAILED_RETRYABLE"}
    assert Task.objects.get().target_id == "beta"


@pytest.mark.parametrize(
    "answer", [desk.succeeded(receipt="A"), desk.rejected()], ids=lambda one: str(one.kind)
)
def test_after_a_retry_by_hand_a_late_answer_does_not_settle_the_new_command(
    systems: ScriptedSystems, answer: Outcome
) -> None:
    desk.target("alpha")
    desk.workflow({"charge": desk.task(outputs={"receipt": "string"})})
    order = desk.order()
    (claim,) = desk.claim("alpha")
    report(desk.rejected(), event="no")
    assert desk.states_of(order) == {"charge@1": "FAILED_FINAL"}
    operations.retry(task_id=Task.objects.get().pk, actor=by("a person"), reason="mended")
    desk.settle(desk.result(claim, answer))
    if answer.kind == "REJECTED":
        assert desk.states_of(order) == {"charge@1": "READY"}
    else:
        assert desk.states_of(order) == {"charge@1": "AWAITING_MANUAL"}
        assert "another command" in conflict().explanation


def expiring() -> Order:
    """`ship` has failed once without effect, and its reservation has expired since."""

    def reserved(_: Any) -> Outcome:
        return desk.succeeded(slot="A", until=(desk.now() + timedelta(seconds=60)).isoformat())

    for name in ("alpha", "beta", "gamma"):
        desk.target(name)
    desk.systems.sends["reserve"] = [reserved, reserved]
    desk.workflow(
        {
            "reserve": desk.task(
                "beta",
                outputs={"slot": {"type": "string", "valid_until": "until"}, "until": "string"},
            ),
            "ship": desk.task(
                "alpha",
                depends_on=[{"output": "reserve.slot", "expired": "reobtain"}],
                input={"slot": "${tasks.reserve.slot}"},
                fallback=[{"target": "gamma", "action": "ship_otherwise"}],
            ),
        }
    )
    order = desk.order()
    desk.drain(["beta"])
    return order


def test_what_was_sent_back_and_is_done_after_all_is_done(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = expiring()
    (claim,) = desk.claim("alpha")
    desk.settle(desk.result(claim, desk.failed()))
    clock(61)
    assert desk.claim("alpha") == []
    assert desk.states_of(order)["ship@1"] == "PENDING"
    desk.settle(desk.result(claim, desk.succeeded()))
    assert desk.states_of(order)["ship@1"] == "SUCCEEDED"
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert "ship" not in systems.actions()


def test_a_late_answer_to_what_was_sent_before_a_value_was_obtained_anew(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = expiring()
    (claim,) = desk.claim("alpha")
    desk.settle(desk.result(claim, desk.failed()))
    clock(61)
    assert desk.claim("alpha") == []
    desk.drain(["beta"])
    assert desk.states_of(order)["ship@1"] == "READY"
    desk.settle(desk.result(claim, desk.rejected()))
    assert desk.states_of(order)["ship@1"] == "READY"
    desk.settle(desk.result(claim, desk.succeeded()))
    assert desk.states_of(order)["ship@1"] == "AWAITING_MANUAL"


def test_what_begins_anew_begins_by_its_first_way(systems: ScriptedSystems, clock: Clock) -> None:
    """Its command and the target that it is sent to are of one way."""
    order = expiring()
    (claim,) = desk.claim("alpha")
    desk.settle(desk.result(claim, desk.rejected()))
    assert Task.objects.get(key="ship@1").target_id == "gamma"
    clock(61)
    assert desk.claim("gamma") == []
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert [(one.target, one.action) for one in systems.sent][-1] == ("alpha", "ship")


def test_a_refusal_that_comes_between_two_sends_leads_to_the_fallback(
    systems: ScriptedSystems,
) -> None:
    order = an_order()
    systems.sends["charge"] = [desk.failed()]
    desk.drain()
    assert desk.states_of(order) == {"charge@1": "FAILED_RETRYABLE"}
    report(desk.rejected(), event="no")
    systems.sends["charge_card"] = [desk.succeeded(receipt="B")]
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"


def test_a_fallback_begins_with_clean_counts(systems: ScriptedSystems) -> None:
    an_order()
    (claim,) = desk.claim("alpha")
    Task.objects.update(lost_leases=1, unanswered_queries=1, reference="A-1")
    desk.settle(desk.result(claim, desk.unknown()))
    report(desk.rejected(), event="no")
    task = Task.objects.get()
    assert (task.target_id, task.lost_leases, task.unanswered_queries) == ("beta", 0, 0)
    assert task.reference == ""


def test_the_case_of_what_was_done_after_all_is_the_reason_why_nothing_moves(
    systems: ScriptedSystems, clock: Clock
) -> None:
    _, claim = overtaken_on_the_wire()
    desk.settle(desk.result(claim, desk.succeeded(receipt="A")))
    clock(3600)
    stuck.detect_stuck()
    assert [case.reason_code for case in FalloutCase.objects.all()] == ["done_after_all"]


def test_an_answer_that_was_lost_of_the_way_before_is_no_doubt_about_this_one(
    systems: ScriptedSystems, clock: Clock
) -> None:
    desk.target("alpha")
    desk.target("beta", status_query=False)
    desk.target("gamma")
    desk.workflow(
        {
            "one": desk.task(
                fallback=[
                    {"target": "beta", "action": "two"},
                    {"target": "gamma", "action": "three"},
                ]
            )
        }
    )
    order = desk.order()
    systems.sends["one"] = [desk.unknown()]
    systems.queries["one"] = [desk.rejected()]
    systems.sends["two"] = [desk.failed(retryable=False)]
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert systems.actions() == ["one", "two", "three"]


def test_what_never_arrived_is_tried_by_hand_as_often_as_at_first(
    systems: ScriptedSystems, clock: Clock
) -> None:
    """The calls of the command before do not count."""
    desk.target("alpha")
    desk.workflow({"one": desk.task(retry={"maximum_attempts": 1})})
    order = desk.order()
    systems.sends["one"] = [desk.unknown()] * 100
    systems.queries["one"] = [desk.not_found()] * 100
    for _ in range(8):
        desk.drain()
        clock(600)
    assert desk.states_of(order) == {"one@1": "FAILED_FINAL"}
    sends = len(systems.sent)
    operations.retry(task_id=Task.objects.get().pk, actor=by("a person"), reason="mended")
    for _ in range(8):
        desk.drain()
        clock(600)
    assert len(systems.sent) == 2 * sends


@pytest.mark.parametrize("door", ["call", "report"])
def test_what_began_anew_under_another_plan_is_not_done_a_second_time(
    systems: ScriptedSystems, door: str
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(input={"amount": 1})})
    order = desk.order()
    (claim,) = desk.claim("alpha")
    report(desk.rejected(), event="no")
    desk.workflow({"one": desk.task(input={"amount": 2})}, version=2)
    (moved,) = operations.migrate_orders(
        workflow="thing",
        version=None,
        orders=[order.reference],
        reason="mended",
        actor=by("a person"),
    )
    assert moved.verdict is operations.Verdict.MOVED
    if door == "call":
        desk.settle(desk.result(claim, desk.succeeded()))
    else:
        key = claim.command.idempotency_key
        late = callbacks.Report(
            source="alpha", event_id="E", idempotency_key=key, outcome=desk.succeeded(), body={}
        )
        assert callbacks.receive(report=late).disposition is Disposition.CONFLICTING
    desk.finish()
    states = dict(Task.objects.values_list("plan__version", "state"))
    assert (states, systems.sent) == ({1: "FAILED_FINAL", 2: "AWAITING_MANUAL"}, [])
    assert conflict().facts["done_after_all_1"]["idempotency_key"] == claim.command.idempotency_key


def test_what_was_sent_back_and_became_another_task_is_not_settled_by_it(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = expiring()
    (claim,) = desk.claim("alpha")
    desk.settle(desk.result(claim, desk.failed()))
    clock(61)
    assert desk.claim("alpha") == []
    reserve = desk.task(
        "beta",
        outputs={"slot": {"type": "string", "valid_until": "until"}, "until": "string"},
    )
    ship = desk.step(decide=[{"otherwise": []}], depends_on=[{"output": "reserve.slot"}])
    desk.workflow({"reserve": reserve, "ship": ship}, version=2)
    (moved,) = operations.migrate_orders(
        workflow="thing",
        version=None,
        orders=[order.reference],
        reason="other",
        actor=by("a person"),
    )
    assert (moved.verdict, moved.reasons) == (operations.Verdict.MOVED, ())
    desk.settle(desk.result(claim, desk.succeeded()))
    assert Task.objects.get(key="ship@1").state == "AWAITING_MANUAL"
    assert "alpha did ship after all" in conflict().explanation
