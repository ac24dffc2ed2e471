"""The checker knows the language: bugs planted in decisions, lists, people's work and reports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.definitions.node_parts import FanOut as Declared
from fulfillment.engine.outbound import outbox
from fulfillment.engine.plans import signals
from fulfillment.engine.structure import branching, fanning
from fulfillment.engine.tasks import manual
from fulfillment.models import FanOut, Fulfillment, ManualTask, Task
from oms.models import Order
from tests import desk
from tests.chaos.books import Run
from tests.desk import by

TASKS: dict[str, Any] = {
    "goods": desk.step(
        wait={"milestone": "goods_received", "within": "P1D", "otherwise": "escalate"},
        outputs={"condition": "string"},
    ),
    "look": desk.step(
        after=["goods"],
        manual={
            "queue": "returns",
            "role": "clerk",
            "instructions": "Look.",
            "within": "P1D",
            "otherwise": "escalate",
            "outcomes": {"fine": "proceed", "broken": "refuse"},
        },
    ),
    "route": desk.step(
        after=["look"],
        decide=[{"when": "item.quantity > 1", "create": ["each", "note"]}, {"otherwise": ["bin"]}],
    ),
    "each": desk.task(
        "inventory",
        for_each={"over": "${item.characteristics.parts}", "at_once": 2, "tolerate": 0.5},
    ),
    "note": desk.task("crm"),
    "bin": desk.task("crm"),
    "close": desk.task("payment", after=["each", "note", "bin"], join="deferred"),
}


@pytest.fixture
def run(books_run: Run) -> Iterator[Run]:
    desk.workflow(TASKS)
    return books_run


def received(order: Order, **payload: Any) -> None:
    key = Fulfillment.objects.get(pk=order.fulfillment_id).business_key
    signals.receive(
        source="a test",
        event_id=f"e-{order.pk}",
        name="goods_received",
        subject=signals.of_order(business_key=key),
        payload=payload,
    )


def decided(run: Run, order: Order, outcome: str = "fine") -> None:
    asked = ManualTask.objects.get(fulfillment_id=order.fulfillment_id)
    operations.decide(manual_id=asked.pk, outcome=outcome, actor=by("ann"), reason="a test")
    run.told(decided=asked.pk, outcome=outcome)


def whole(run: Run, *, parts: int = 4) -> Order:
    """An order with all of it: reported, decided, spread over its parts, and closed."""
    order = run.order(desk.item(quantity=2, characteristics={"parts": list(range(parts))}))
    desk.finish()
    received(order, condition="as new")
    run.told(event_id=f"e-{order.pk}", name="goods_received")
    desk.finish()
    decided(run, order)
    desk.finish()
    outbox.publish_events()
    return order


def test_an_order_through_all_of_it_breaks_nothing(run: Run, systems: Any) -> None:
    systems.sends["each"] = [desk.rejected("not_done"), desk.failed("not_done")]
    order = whole(run)
    assert run.violations(at_the_end=False) == []
    desk.advance(60)
    run.finish()
    other = run.order(desk.item(quantity=1))
    desk.finish()
    received(other, condition="worn")
    desk.finish()
    decided(run, other, "broken")
    run.finish()
    assert run.violations() == []
    order.refresh_from_db()
    assert order.state == "COMPLETED"


def test_a_branch_that_was_not_chosen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    original = branching.instantiate

    def all_of_them(unit: Any, *, plan: Any, nodes: list[int], element: int) -> Any:
        original(unit, plan=plan, nodes=nodes, element=element)
        known = set(Task.objects.filter(plan_id=plan.pk).values_list("node", flat=True)) | set(
            nodes
        )
        original(unit, plan=plan, nodes=set(range(max(known))) - known, element=element)

    monkeypatch.setattr(branching, "instantiate", all_of_them)
    whole(run)
    assert "branch-unchosen" in run.broken(at_the_end=False)


def test_a_branch_that_was_chosen_and_forgotten(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    original = branching.instantiate

    def all_but_one(unit: Any, *, plan: Any, nodes: list[int], element: int) -> Any:
        return original(unit, plan=plan, nodes=nodes[:-1], element=element)

    monkeypatch.setattr(branching, "instantiate", all_but_one)
    whole(run)
    assert "branch-missing" in run.broken(at_the_end=False)


def test_mandatory_tasks_that_will_never_be_are_still_counted(run: Run) -> None:
    whole(run)
    run.as_owner(
        "ALTER TABLE fulfillment_plan DROP CONSTRAINT order_completes_on_evidence",
        "UPDATE fulfillment_plan SET mandatory_open = 1",
    )
    assert run.broken() == {"counters"}


def test_a_decision_that_no_rule_makes(run: Run) -> None:
    whole(run)
    run.as_owner(
        """UPDATE fulfillment_task SET outputs = '{"created": ["each"]}' WHERE key = 'route@1'"""
    )
    assert {"decision", "branch-unchosen"} <= run.broken()


def test_too_many_elements_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = fanning._declared

    def generous(*arguments: Any) -> Declared:
        found = declared(*arguments)
        object.__setattr__(found, "at_once", 10)
        return found

    monkeypatch.setattr(fanning, "_declared", generous)
    order = run.order(desk.item(quantity=2, characteristics={"parts": [1, 2, 3]}))
    desk.finish()
    received(order, condition="as new")
    decided(run, order)
    assert FanOut.objects.get().started == 3
    assert run.broken(at_the_end=False) == {"fan-out"}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE fulfillment_fanout SET done = done - 1",
        "UPDATE fulfillment_fanout SET failed = '[2]', done = done - 1",
        "UPDATE fulfillment_fanout SET started = total + 1",
        """UPDATE fulfillment_task SET outputs = '{"succeeded": 4, "failed": 0}' """
        "WHERE outputs->'succeeded' IS NOT NULL",
    ],
)
def test_a_list_that_is_counted_wrongly(run: Run, change: str) -> None:
    desk.workflow({**TASKS, "each": {**TASKS["each"], "outputs": {"file": "string"}}}, version=2)
    desk.systems.sends["each"] = [desk.succeeded(file=str(number)) for number in range(4)]
    whole(run)
    assert run.broken() == set()
    run.as_owner(change)
    assert "fan-out" in run.broken()


def test_two_effects_at_one_place(run: Run) -> None:
    whole(run)
    run.as_owner("UPDATE fulfillment_task SET key = 'each@1[1]', element = 1 WHERE key = 'note@1'")
    assert "one-effect-per-place" in run.broken()


def test_a_decision_of_a_person_that_does_not_stand(run: Run) -> None:
    whole(run)
    run.as_owner("UPDATE fulfillment_manualtask SET outcome = 'broken'")
    assert {"decided-once", "lost"} <= run.broken()


def test_a_decision_that_was_taken_twice(run: Run) -> None:
    order = whole(run)
    asked = ManualTask.objects.get(fulfillment_id=order.fulfillment_id)
    run.told(decided=asked.pk, outcome="fine")
    assert run.broken() == {"decided-once"}


def test_a_decision_that_moves_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = manual.settle

    def forgetful(unit: Any, *, task: Task, **what: Any) -> None:
        state = str(task.state)
        settle(unit, task=task, **what)
        unit.touched_tasks.discard(task.pk)
        Task._meta.get_field("state").set_state(task, state)

    monkeypatch.setattr(manual, "settle", forgetful)
    whole(run)
    assert "decided-once" in run.broken()


def test_a_report_that_was_acknowledged_and_is_gone(run: Run) -> None:
    whole(run)
    run.as_owner("DELETE FROM fulfillment_signal")
    assert run.broken() == {"lost", "report-invented"}


def test_a_report_that_nobody_is_told_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "settle", lambda **_: None)
    order = run.order(desk.item(quantity=1))
    desk.finish()
    received(order, condition="as new")
    run.finish()
    assert run.broken() == {"report-not-applied"}
    run.as_owner("UPDATE fulfillment_signal SET applied = false")
    assert run.broken() == {"report-not-applied"}


def test_a_task_that_succeeds_twice(run: Run) -> None:
    whole(run)
    run.as_owner(
        "UPDATE fulfillment_transition SET to_state = 'SUCCEEDED' WHERE to_state = 'DISPATCHED'"
    )
    assert "ended-twice" in run.broken()


def test_a_task_that_is_left_out_and_sent(run: Run) -> None:
    whole(run)
    run.as_owner("UPDATE fulfillment_task SET state = 'SKIPPED_BY_POLICY' WHERE key = 'note@1'")
    assert "skipped-sent" in run.broken()
