"""Fallout cases: whatever can't go on by itself has one, with the evidence, until it goes on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from fulfillment import operations, stuck
from fulfillment.engine.dispatch import claiming, sweeping
from fulfillment.engine.plans import scanning
from fulfillment.engine.tasks import outcomes
from fulfillment.engine.work import audit
from fulfillment.models import CaseState, FalloutCase, HoldScope, Task, Transition
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def an_order(*, target: dict[str, Any] | None = None, **spec: Any) -> Order:
    desk.target("alpha", **(target or {}))
    desk.workflow({"one": desk.task(**spec), "two": desk.task(after=["one"])})
    return desk.order(
        desk.item(one_off_price=Decimal("100.00"), recurring_price=Decimal("9.50"), currency="EUR"),
        billing_account="BA-1",
    )


def the_case() -> FalloutCase:
    return FalloutCase.objects.get()


def test_a_refusal_opens_a_case_with_the_evidence(systems: ScriptedSystems) -> None:
    order = an_order()
    systems.sends["one"] = [desk.rejected("no_stock")]
    desk.drain()
    case = the_case()
    task = desk.tasks_of(order)["one@1"]
    assert (case.state, case.category, case.reason_code) == ("OPEN", "REFUSED", "no_stock")
    assert (case.fulfillment_id, case.task_id) == (order.fulfillment_id, task.pk)
    assert case.owner_queue == "operations"
    assert case.sla_due_at > case.opened_at
    assert "can't complete" in case.customer_impact
    assert case.revenue_impact == "100.00 EUR once, 9.50 EUR recurring"
    assert "task.retry" in case.repair_options
    (attempt,) = case.facts["evidence"]
    assert (attempt["outcome"], attempt["code"]) == ("REJECTED", "no_stock")
    assert case.facts["idempotency_key"] == systems.sent[0].idempotency_key
    trail = Transition.objects.filter(entity="case", entity_id=str(case.pk))
    assert [(row.from_state, row.to_state) for row in trail] == [("", "OPEN")]
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_what_nobody_can_find_out_goes_to_a_person_with_the_evidence(
    systems: ScriptedSystems,
) -> None:
    an_order(target={"idempotent": False, "status_query": False})
    systems.sends["one"] = [desk.unknown("cut")]
    desk.drain()
    case = the_case()
    assert (case.category, case.reason_code) == ("UNCERTAIN", "cut")
    assert "before anything is sent again" in case.explanation
    assert case.facts["evidence"][0]["message"] == "It may have happened."
    assert len(systems.sent) == 1


def test_a_late_confirmation_closes_the_case(systems: ScriptedSystems) -> None:
    order = an_order(target={"idempotent": False, "status_query": False})
    claim = desk.claim()[0]
    desk.settle(desk.result(claim, desk.unknown()))
    assert the_case().state == CaseState.OPEN
    desk.settle(desk.result(claim, desk.succeeded(), attempt_id=None, attempt_number=None))
    case = the_case()
    assert (case.state, case.resolved_by) == (CaseState.RESOLVED, "a test")
    assert case.resolution
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_two_answers_that_contradict_each_other_open_a_case_that_stays(
    systems: ScriptedSystems,
) -> None:
    order = an_order()
    claim = desk.claim()[0]
    desk.settle(desk.result(claim, desk.succeeded()))
    desk.drain()
    for _ in range(2):
        desk.settle(desk.result(claim, desk.rejected(), attempt_id=None, attempt_number=None))
    case = the_case()
    assert (case.category, case.severity, case.state) == ("CONFLICT", "HIGH", "OPEN")
    order.refresh_from_db()
    assert order.state == "COMPLETED"


def test_an_optional_task_that_fails_keeps_nobody_busy(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "extra": desk.task(required=False)})
    systems.sends["extra"] = [desk.rejected()]
    order = desk.order()
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert not FalloutCase.objects.exists()


def test_answers_that_can_not_be_used_are_a_case_about_data(systems: ScriptedSystems) -> None:
    an_order(outputs={"number": "string"})
    systems.sends["one"] = [desk.succeeded(number=7)]
    desk.drain()
    assert (the_case().category, the_case().owner_queue) == ("DATA", "data")


def test_a_person_is_told_after_so_many_sends_while_it_goes_on_being_tried(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = an_order(retry={"maximum_attempts": 6, "escalate_after": 2, "initial_interval": "PT1S"})
    systems.sends["one"] = [desk.failed("http_503")] * 4
    desk.drain()
    assert not FalloutCase.objects.exists()
    clock(60)
    desk.drain()
    case = the_case()
    assert (case.category, case.owner_queue) == ("RETRYING", "integration")
    assert "2 times" in case.explanation
    clock(60)
    desk.drain()
    assert "3 times" in the_case().explanation, "one case, brought up to date"
    for _ in range(3):
        clock(60)
        desk.drain()
    assert the_case().state == CaseState.RESOLVED
    order.refresh_from_db()
    assert order.state == "COMPLETED"


def lose_the_worker(clock: Clock, *, limit: int = 1, **given: Any) -> list[claiming.Claim]:
    """A worker takes commands and goes away; its leases end and are swept."""
    claims = desk.claim(limit=limit, **given)
    clock(21)
    sweeping.sweep()
    return claims


def test_a_command_that_takes_its_workers_down_is_quarantined_alone(
    systems: ScriptedSystems, clock: Clock
) -> None:
    """Poison: neighbours that were lost with it are cleared one by one and complete."""
    desk.target("alpha", lost_leases_limit=4)
    desk.workflow({"one": desk.task()})
    desk.submit_all(*[desk.request() for _ in range(5)])
    poison = Task.objects.order_by("id")[2]
    systems.queries["one"] = [desk.not_found()] * 100
    for _ in range(60):
        claims = desk.claim(limit=5)
        kills = any(claim.task_id == poison.pk and claim.purpose == "SEND" for claim in claims)
        for claim in claims:
            if not kills:
                answer = desk.not_found() if claim.purpose == "QUERY" else desk.succeeded()
                desk.settle(desk.result(claim, answer))
        clock(21)
        sweeping.sweep()
        clock(60)
    poison.refresh_from_db()
    assert poison.state == "AWAITING_MANUAL"
    assert poison.lost_leases == 4
    others = Task.objects.exclude(pk=poison.pk)
    assert {task.state for task in others} == {"SUCCEEDED"}
    case = the_case()
    assert (case.category, case.reason_code, case.task_id) == ("POISON", "quarantined", poison.pk)


def test_a_suspect_is_claimed_alone_or_not_at_all(systems: ScriptedSystems, clock: Clock) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.submit_all(*[desk.request(priority=n) for n in (3, 2, 1)])
    Task.objects.filter(priority=2).update(lost_leases=2)
    first = desk.claim(limit=5)
    assert len(first) == 1
    assert desk.claim(limit=5, alone=False) == []
    (suspect,) = desk.claim(limit=5)
    assert Task.objects.get(pk=suspect.task_id).priority == 2
    desk.settle(desk.result(suspect, desk.succeeded()))
    assert Task.objects.get(pk=suspect.task_id).lost_leases == 0


def test_a_question_that_takes_its_workers_down_is_quarantined_too(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = an_order(target={"lost_leases_limit": 3, "maximum_queries": 100})
    for _ in range(3):
        lose_the_worker(clock)
        clock(600)
    assert desk.states_of(order)["one@1"] == "AWAITING_MANUAL"
    assert the_case().reason_code == "quarantined"


def test_an_answer_clears_the_suspicion(systems: ScriptedSystems, clock: Clock) -> None:
    an_order()
    lose_the_worker(clock)
    assert Task.objects.get(lost_leases=1)
    systems.queries["one"] = [desk.not_found()]
    for _ in range(2):
        clock(5)
        desk.drain()
    assert not Task.objects.filter(lost_leases__gt=0).exists()


def test_a_task_that_can_not_be_claimed_has_a_case_and_its_neighbours_go_on(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    an_order()
    other = desk.order()
    bad = Task.objects.order_by("id").filter(key="one@1")[0]
    real = claiming._claimed

    def broken(unit: Any, target: Any, candidate: Any, *rest: Any) -> Any:
        if candidate.task.pk == bad.pk:
            raise ValueError("the stored graph can't be read")
        return real(unit, target, candidate, *rest)

    monkeypatch.setattr(claiming, "_claimed", broken)
    desk.drain()
    other.refresh_from_db()
    assert other.state == "COMPLETED"
    case = the_case()
    assert (case.category, case.task_id, case.reason_code) == ("POISON", bad.pk, "ValueError")
    assert "graph can't be read" in case.explanation
    monkeypatch.setattr(claiming, "_claimed", real)
    clock(61)
    desk.drain()
    assert the_case().state == CaseState.RESOLVED


def test_an_outcome_that_can_not_be_settled_has_a_case_and_its_neighbours_are_settled(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_order()
    other = desk.order()
    bad = Task.objects.order_by("id").filter(key="one@1")[0]
    real = outcomes._succeed

    def broken(unit: Any, task: Task, *rest: Any) -> None:
        if task.pk == bad.pk:
            raise RuntimeError("no such column")
        real(unit, task, *rest)

    monkeypatch.setattr(outcomes, "_succeed", broken)
    desk.drain()
    other.refresh_from_db()
    assert other.state == "COMPLETED"
    assert (the_case().category, the_case().task_id) == ("POISON", bad.pk)


def test_a_plan_in_which_nothing_moves_has_a_case_with_the_cause(
    systems: ScriptedSystems, clock: Clock
) -> None:
    desk.target("alpha", asynchronous=True)
    desk.workflow(
        {"one": desk.task(timeouts={"call": "PT10S", "callback": "PT10H"})},
        stalls_after="PT15M",
    )
    systems.sends["one"] = [desk.accepted()]
    order = desk.order()
    claim = desk.claim()[0]
    desk.settle(desk.result(claim, desk.accepted()))
    clock(15 * 60 + 1)
    assert stuck.detect_stuck() == 1
    case = the_case()
    assert (case.category, case.reason_code) == ("STUCK", "event_never_arrived")
    assert case.facts["open_tasks"] == {"one@1": "ACCEPTED"}
    stuck.detect_stuck()
    assert FalloutCase.objects.count() == 1
    desk.settle(desk.result(claim, desk.succeeded(), attempt_id=None, attempt_number=None))
    assert the_case().state == CaseState.RESOLVED
    order.refresh_from_db()
    assert order.state == "COMPLETED"


def test_who_is_held_by_a_person_needs_no_case_beside(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = an_order()
    operations.place_hold(scope=HoldScope.ORDER, name=order.reference, reason="x", actor=by("ann"))
    desk.drain()
    clock(3600)
    assert stuck.detect_stuck() == 1
    assert not FalloutCase.objects.exists()
    assert desk.plan_of(order).stuck_at is not None


@pytest.mark.parametrize("cause", ["target_paused", "target_held", "not_sent"])
def test_what_is_not_sent_says_whose_fault_it_is(
    systems: ScriptedSystems, clock: Clock, cause: str
) -> None:
    an_order()
    if cause == "target_paused":
        operations.pause_target(target="alpha", reason="x", actor=by("ann"))
    if cause == "target_held":
        operations.place_hold(scope=HoldScope.TARGET, name="alpha", reason="x", actor=by("ann"))
    clock(3600)
    scanning.scan()
    stuck.detect_stuck()
    assert the_case().reason_code == cause


def test_a_hold_on_one_branch_excuses_no_other(systems: ScriptedSystems, clock: Clock) -> None:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow({"one": desk.task("alpha"), "two": desk.task("beta")})
    desk.order()
    operations.place_hold(scope=HoldScope.ACTION, name="alpha/one", reason="x", actor=by("ann"))
    assert desk.drain(["alpha"]) == 0
    clock(3600)
    stuck.detect_stuck()
    assert the_case().reason_code == "not_sent"


def test_every_blocked_plan_has_an_open_case(systems: ScriptedSystems) -> None:
    orders = desk.messy_run(seed=7)
    for order in orders:
        order.refresh_from_db()
        cases = FalloutCase.objects.filter(
            fulfillment_id=order.fulfillment_id, state=CaseState.OPEN
        )
        assert order.state == "COMPLETED" or cases.exists(), order.reference
        assert audit.verify(fulfillment_id=order.fulfillment_id) == []
    assert any(order.state != "COMPLETED" for order in orders)


def test_the_pause_between_attempts_follows_the_target_s_own_policy(
    systems: ScriptedSystems, clock: Clock
) -> None:
    policies = {
        "*": {"maximum_attempts": 2},
        "one": {"maximum_attempts": 3, "non_retryable": ["no_use"], "retryable": ["http_404"]},
    }
    order = an_order(target={"retry_policies": policies, "reconcile_after": timedelta(0)})
    systems.sends["one"] = [desk.failed("http_404", retryable=False), desk.failed("no_use")]
    desk.drain()
    assert desk.states_of(order)["one@1"] == "FAILED_RETRYABLE"
    clock(60)
    desk.drain()
    assert desk.states_of(order)["one@1"] == "FAILED_FINAL"
    assert the_case().reason_code == "no_use"


def test_a_workflow_s_own_policy_goes_before_its_target_s(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = an_order(
        target={"retry_policies": {"*": {"maximum_attempts": 1}}}, retry={"maximum_attempts": 2}
    )
    systems.sends["one"] = [desk.failed()]
    desk.drain()
    clock(60)
    desk.drain()
    assert desk.states_of(order)["one@1"] == "SUCCEEDED"
    assert systems.actions() == ["one", "one", "two"]


def test_a_target_whose_word_is_not_enough_is_asked_before_every_further_send(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = an_order(target={"retry_policies": {"*": {"reconcile_first": True}}})
    systems.sends["one"] = [desk.failed()]
    systems.queries["one"] = [desk.not_found()]
    desk.drain()
    for _ in range(3):
        clock(60)
        desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert (len(systems.queried), systems.actions()) == (1, ["one", "one", "two"])
    assert len({command.idempotency_key for command in systems.sent[:2]}) == 1
