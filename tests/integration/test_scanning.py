"""The scanner as the safety net, and the detector of orders that stand still."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import celery
import pytest

from fulfillment import stuck
from fulfillment.definitions.graph import Graph
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import scanning
from fulfillment.engine.store import graphs
from fulfillment.errors import DefinitionInvalid, Fault
from fulfillment.models import Command, Plan, Task, Transition
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

Clock = Callable[[float], None]


@pytest.fixture
def scanner_alone(settings: Any) -> None:
    """The fast path is off: what became runnable is found by the scanner."""
    settings.OMS_FAST_PATH = False


def a_diamond() -> Order:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow(
        {
            "root": desk.task(),
            "left": desk.task("beta", after=["root"]),
            "right": desk.task(after=["root"]),
            "end": desk.task("beta", after=["left", "right"]),
        }
    )
    return desk.order()


@pytest.mark.django_db
def test_without_the_fast_path_nothing_is_selected_but_by_the_scanner(
    systems: ScriptedSystems, scanner_alone: None
) -> None:
    order = a_diamond()
    assert set(desk.states_of(order).values()) == {"PENDING"}
    order.refresh_from_db()
    assert order.state == "IN_PROGRESS"
    assert desk.drain() == 0
    rounds = []
    while desk.plan_of(order).state != "COMPLETED":
        assert scanning.scan() == 1
        sent = len(systems.sent)
        desk.drain()
        if len(systems.sent) > sent:
            rounds.append(sorted(systems.actions()[sent:]))
        assert desk.plan_of(order).state != "BLOCKED"
    assert rounds == [["root"], ["left", "right"], ["end"]]
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert scanning.scan() == 0


@pytest.mark.django_db
def test_with_the_fast_path_the_scanner_is_not_needed(systems: ScriptedSystems) -> None:
    order = a_diamond()
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"


@pytest.mark.django_db
@pytest.mark.parametrize("fast_path", [True, False])
def test_both_paths_lead_to_the_same_history(
    systems: ScriptedSystems, settings: Any, fast_path: bool
) -> None:
    settings.OMS_FAST_PATH = fast_path
    order = a_diamond()
    for _ in range(4):
        scanning.scan()
        desk.drain()
    rows = Transition.objects.filter(fulfillment_id=order.fulfillment_id)
    names = sorted(set(rows.values_list("entity", "name")))
    assert names == [
        ("order", "accept"),
        ("order", "complete"),
        ("order", "start"),
        ("order", "submit"),
        ("order", "validate"),
        ("plan", "complete"),
        ("plan", "create"),
        ("plan", "graph_validated"),
        ("plan", "start"),
        ("task", "dispatch"),
        ("task", "make_ready"),
        ("task", "succeed"),
    ]
    assert Transition.objects.filter(entity="task").count() == 12


@pytest.mark.django_db
def test_a_scan_repeated_changes_nothing(systems: ScriptedSystems, scanner_alone: None) -> None:
    a_diamond()
    assert scanning.scan() == 1

    def everything() -> list[Any]:
        models = (Plan, Task, Command, Transition)
        return [list(model.objects.order_by("pk").values()) for model in models]

    before = everything()
    assert [scanning.scan(), scanning.scan()] == [0, 0]
    assert everything() == before
    # Even when a selection is asked for again, what is selected already is left alone.
    Plan.objects.update(selection_due_at=desk.now())
    assert scanning.scan() == 1
    assert everything() == before


@pytest.mark.django_db
def test_one_scan_selects_in_more_plans_than_a_batch_holds(
    systems: ScriptedSystems, scanner_alone: None
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    count = scanning._BATCH * 2 + 1
    desk.submit_all(*(desk.request() for _ in range(count)))
    assert scanning.scan() == count
    assert set(Task.objects.values_list("state", flat=True)) == {"READY"}


@pytest.mark.django_db
def test_a_plan_that_can_not_be_selected_does_not_hold_up_the_others(
    systems: ScriptedSystems, scanner_alone: None, clock: Clock
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(input={"id": "${order.id}"})})
    orders = [desk.order() for _ in range(5)]
    spoilt = desk.plan_of(orders[1])
    Plan.objects.filter(pk=spoilt.pk).update(context={})
    scanning.scan()
    for order in orders:
        expected = "PENDING" if order == orders[1] else "READY"
        assert desk.states_of(order) == {"one@1": expected}
    assert scanning.scan() == 0  # it waits, so that it never fills the batches of the others
    Plan.objects.filter(pk=spoilt.pk).update(context=desk.plan_of(orders[0]).context)
    clock(60)
    assert scanning.scan() == 1
    assert desk.states_of(orders[1]) == {"one@1": "READY"}


@pytest.mark.usefixtures("committed_db")
def test_a_lost_hint_is_repeated_by_the_scanner(redis_url: str, systems: ScriptedSystems) -> None:
    def hints() -> list[str]:
        with celery.current_app.connection_for_read() as connection:
            waiting = connection.default_channel.client.lrange("crm", 0, -1)
            return [
                json.loads(json.loads(raw)["headers"]["kwargsrepr"].replace("'", '"'))["target"]
                for raw in waiting
            ]

    def lose_everything() -> None:
        with celery.current_app.connection_for_write() as connection:
            connection.default_channel.client.flushdb()

    lose_everything()  # What was left by others.
    a_diamond()
    assert hints() == ["alpha"]
    lose_everything()
    scanning.scan()
    assert hints() == ["alpha"]
    for _ in range(5):
        scanning.scan()
    assert len(hints()) == 2  # bounded: each stands for all the work that there is
    desk.drain()
    lose_everything()
    scanning.scan()
    assert hints() == []  # nothing is claimable any more


# --- standing still ---------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_blocked_order_is_flagged_with_its_reason_until_it_moves(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(outputs={"number": "string"})})
    order = desk.order()
    (claim,) = desk.claim()
    assert stuck.detect_stuck() == 0
    desk.settle(desk.result(claim, desk.succeeded()))
    assert stuck.detect_stuck() == 1
    assert stuck.detect_stuck() == 0  # it is flagged already
    plan = desk.plan_of(order)
    assert plan.stuck_at is not None
    assert "Nothing can move without help" in plan.stuck_reason
    assert "one@1: alpha confirmed one" in plan.stuck_reason
    desk.settle(desk.result(claim, desk.succeeded(number="N-1")))
    plan.refresh_from_db()
    assert (plan.state, plan.stuck_at, plan.stuck_reason) == ("COMPLETED", None, "")


@pytest.mark.django_db
def test_an_order_in_which_nothing_happens_for_too_long_is_flagged(
    systems: ScriptedSystems, clock: Clock
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(timeouts={"callback": "PT3H"}),
            "two": desk.task(after=["one"]),
        },
        stalls_after="PT1H",
    )
    systems.sends["one"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    clock(3599)
    assert stuck.detect_stuck() == 0
    clock(2)
    assert stuck.detect_stuck() == 1
    plan = desk.plan_of(order)
    assert plan.state == "RUNNING"
    assert "Nothing has happened since" in plan.stuck_reason
    assert "one@1 (ACCEPTED" in plan.stuck_reason
    assert "two@1" not in plan.stuck_reason
    clock(3 * 3600)
    sweeping.sweep()
    desk.drain()
    plan.refresh_from_db()
    assert (plan.state, plan.stuck_at, plan.stuck_reason) == ("COMPLETED", None, "")


@pytest.mark.django_db
def test_trying_again_and_again_is_no_progress(systems: ScriptedSystems, clock: Clock) -> None:
    desk.target("alpha")
    retry = {"initial_interval": "PT1M", "maximum_interval": "PT1M", "maximum_attempts": 1000}
    desk.workflow({"one": desk.task(retry=retry)}, stalls_after="PT1H")
    systems.sends["one"] = [desk.failed("busy")] * 200
    order = desk.order()
    for _ in range(65):
        desk.drain()
        clock(60)
    assert len(systems.sent) > 50
    stuck.detect_stuck()
    reason = desk.plan_of(order).stuck_reason
    assert "one@1 (FAILED_RETRYABLE, busy" in reason
    desk.drain()
    stuck.detect_stuck()
    assert desk.plan_of(order).stuck_reason == reason


@pytest.mark.django_db
def test_finished_orders_are_never_stuck(systems: ScriptedSystems, clock: Clock) -> None:
    order = a_diamond()
    desk.drain()
    Plan.objects.filter(fulfillment=desk.order().fulfillment_id).update(state="SUPERSEDED")
    clock(10 * 24 * 3600)
    assert stuck.detect_stuck() == 0
    assert desk.plan_of(order).stuck_at is None


@pytest.mark.django_db
def test_a_plan_that_can_not_be_read_keeps_no_other_from_being_claimed(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.workflow({"one": desk.task(), "two": desk.task()}, offering="other")
    bad = desk.order(desk.item("other"), priority=9)
    healthy = [desk.order() for _ in range(3)]
    unreadable = desk.plan_of(bad).graph_id
    readable = graphs.by_id

    def by_id(graph_id: int) -> Graph:
        if graph_id == unreadable:
            raise DefinitionInvalid([Fault(code="graph.format", message="Of a newer version.")])
        return readable(graph_id)

    monkeypatch.setattr(graphs, "by_id", by_id)
    desk.drain()
    assert [desk.plan_of(order).state for order in healthy] == ["COMPLETED"] * 3
    task = desk.tasks_of(bad)["one@1"]
    assert task.state == "READY"
    assert "Of a newer version" in task.blocked_reason
    monkeypatch.setattr(graphs, "by_id", readable)
    desk.advance(61)
    desk.drain()
    assert desk.plan_of(bad).state == "COMPLETED"
