"""Planning the rest of an order anew by hand (`plan.regenerate`)."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import withholding
from fulfillment.engine.store import graphs
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import (
    Denied,
    NotPossible,
    OutcomeInDoubt,
    ParametersInvalid,
    SubjectChanged,
)
from fulfillment.models import Command, FalloutCase, Operation, Plan, Transition
from fulfillment.pinning import versions_of
from fulfillment.states import PlanState
from oms.models import Order
from tests import by_hand, desk, people
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

REGENERATE = Action.PLAN_REGENERATE


def undone_by(action: str, **more: object) -> dict[str, object]:
    return {"action": action, "input": {}, **more}


def a_shop(*, version: int = 1, **tasks: Any) -> None:
    """reserve → ship → bill, and tell beside them; `bill` uses what reserve has returned."""
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(
                outputs={"number": "string"}, compensation=undone_by("release", refund="49.50")
            ),
            "ship": desk.task(after=["reserve"], compensation=undone_by("fetch_back")),
            "bill": desk.task(
                after=["ship"],
                depends_on=[{"output": "reserve.number"}],
                input={"number": "${tasks.reserve.number}"},
            ),
            **tasks,
        },
        version=version,
    )


def regenerate(order: Order, **parameters: Any) -> Any:
    asked = by_hand.request(REGENERATE, by_hand.of(order), **parameters)
    if parameters.get("redo"):  # What is done is undone by two.
        actor = people.anybody("anna", REGENERATE, Action.PLAN_COMPENSATE)
        if operations.prepared(actor=actor, request=asked).needs is not None:
            return by_hand.done_by_two(asked, actor=actor)
    return operations.perform(actor=desk.by("ops"), request=asked)


@pytest.fixture
def stuck(systems: ScriptedSystems) -> Order:
    """reserve is done, ship has failed for good, bill has not begun."""
    a_shop()
    systems.sends["reserve"] = [desk.succeeded(number="N-1"), desk.succeeded(number="N-2")]
    systems.sends["ship"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    systems.sent.clear()
    return order


def test_what_is_done_stays_and_what_is_open_begins_anew(
    stuck: Order, systems: ScriptedSystems
) -> None:
    first = desk.plan_of(stuck)
    done = regenerate(stuck)
    assert "From its beginning: ship@1." in done.told
    second = desk.newest_plan_of(stuck)
    assert (second.version, Plan.objects.get(pk=first.pk).state) == (2, PlanState.SUPERSEDED)
    keys = Command.objects.filter(action="ship").values_list("idempotency_key", flat=True)
    assert len(set(keys)) == 2
    desk.finish()
    assert systems.actions() == ["ship", "bill"]
    assert systems.sent[-1].payload == {"number": "N-1"}
    stuck.refresh_from_db()
    assert str(stuck.state) == "COMPLETED"
    assert not FalloutCase.objects.filter(state="OPEN").exists()
    assert by_hand.is_intact(stuck)


def test_the_preview_is_what_is_done_and_changes_nothing(stuck: Order) -> None:
    asked = by_hand.request(REGENERATE, by_hand.of(stuck), redo=["reserve@1"])
    before = by_hand.everything()
    actor = people.anybody("anna", REGENERATE, Action.PLAN_COMPENSATE)
    seen = by_hand.previewed(asked, actor=actor)
    assert by_hand.differing(before) == []
    assert seen.needs == Action.APPROVE_OPERATIONS
    assert [one["action"] for one in seen.commands] == ["release"]
    assert "The customer gets back 49.50" in seen.done.financial_impact
    done = regenerate(stuck, redo=["reserve@1"])
    assert done.told == seen.done.told
    assert done.after["tasks"] == seen.done.after["tasks"]
    made = Transition.objects.filter(fulfillment_id=stuck.fulfillment_id, actor="anna")
    made = made.exclude(entity="approval")
    assert [
        (one["entity"], one["transition"], one["from"], one["to"]) for one in seen.transitions
    ] == [
        (one.entity, one.name, one.from_state, one.to_state)
        for one in made.order_by("sequence")
        if one.from_state != one.to_state
    ]


def test_what_is_named_is_undone_and_done_again_with_what_has_used_it(
    stuck: Order, systems: ScriptedSystems
) -> None:
    done = regenerate(stuck, redo=["reserve@1"])
    assert "Undone and done again: reserve@1." in done.told
    desk.finish()
    assert systems.actions() == ["release", "reserve", "ship", "bill"]
    assert systems.sent[-1].payload == {"number": "N-2"}
    stuck.refresh_from_db()
    assert str(stuck.state) == "COMPLETED"


def test_what_is_under_way_goes_on_with_its_key(systems: ScriptedSystems) -> None:
    a_shop(other=desk.task())
    systems.sends["other"] = [desk.rejected()]
    systems.sends["reserve"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    key = Command.objects.get(action="reserve").idempotency_key
    regenerate(order)
    assert desk.states_of(order)["reserve@1"] == "ACCEPTED"
    systems.queries["reserve"] = [desk.succeeded(number="N-1")]
    desk.advance(3600)
    sweeping.sweep()
    desk.finish()
    assert Command.objects.get(action="reserve").idempotency_key == key
    order.refresh_from_db()
    assert str(order.state) == "COMPLETED"
    assert systems.actions().count("reserve") == 1


def test_what_is_under_way_is_not_done_again(systems: ScriptedSystems) -> None:
    a_shop()
    order = desk.order()
    desk.claim()
    before = by_hand.everything()
    with pytest.raises(OutcomeInDoubt, match="Under way, or in doubt: reserve@1"):
        regenerate(order, redo=["reserve@1"])
    assert by_hand.differing(before) == []


def test_by_the_newest_workflows(stuck: Order, systems: ScriptedSystems) -> None:
    a_shop(
        version=2,
        ship=desk.task(after=["reserve"], action="ship_by_air"),
        tell=desk.task(after=["bill"]),
    )
    done = regenerate(stuck, workflows="newest")
    assert done.after["workflows"] == {"thing": 2}
    assert versions_of(graphs.by_id(desk.newest_plan_of(stuck).graph_id)) == {"thing": 2}
    desk.finish()
    assert systems.actions() == ["ship_by_air", "bill", "tell"]
    stuck.refresh_from_db()
    assert str(stuck.state) == "COMPLETED"


@pytest.mark.parametrize(
    ("later", "why"),
    [
        ({"reserve": desk.task(action="reserve_more", outputs={"number": "string"})}, "reserve@1"),
        ({"first": desk.task(), "reserve": desk.task(after=["first"])}, "reserve@1"),
    ],
)
def test_the_newest_workflows_never_change_what_is_done(
    stuck: Order, later: dict[str, Any], why: str
) -> None:
    if "first" in later:
        later = {**later, "reserve": {**later["reserve"], "outputs": {"number": "string"}}}
    a_shop(version=2, **later)
    before = by_hand.everything()
    with pytest.raises(NotPossible, match=why):
        regenerate(stuck, workflows="newest")
    assert by_hand.differing(before) == []


def test_what_the_newest_workflows_do_not_know_is_not_undone_by_the_way(stuck: Order) -> None:
    desk.workflow({"ship": desk.task(), "bill": desk.task(after=["ship"])}, version=2)
    with pytest.raises(NotPossible, match=r"don't know what is done: reserve@1"):
        regenerate(stuck, workflows="newest")


def test_where_nothing_would_begin_anew_nothing_is_done(systems: ScriptedSystems) -> None:
    a_shop()
    order = desk.order()
    desk.claim()
    with pytest.raises(NotPossible, match="Nothing of it would begin anew"):
        regenerate(order)
    assert Plan.objects.count() == 1


def test_what_it_can_not_be_told_is_refused(stuck: Order) -> None:
    with pytest.raises(NotPossible, match="no task nothing@1"):
        regenerate(stuck, redo=["nothing@1"])
    with pytest.raises(NotPossible, match="has not begun, so it can't begin anew: bill@1"):
        regenerate(stuck, redo=["bill@1"])
    with pytest.raises(ParametersInvalid):
        regenerate(stuck, workflows="oldest")
    with pytest.raises(ParametersInvalid):
        regenerate(stuck, plan=1)


def test_whoever_may_not_changes_nothing(stuck: Order) -> None:
    asked = by_hand.request(REGENERATE, by_hand.of(stuck))
    before = by_hand.everything()
    for actor in (
        people.anybody(),
        people.actor(people.operator("bob", REGENERATE, regions=["ID"])),
        people.actor(people.operator("eve", REGENERATE, targets=["beta"])),
    ):
        with pytest.raises(Denied):
            operations.perform(actor=actor, request=asked)
    assert by_hand.differing(before) == []


def test_whoever_comes_second_is_told_what_has_changed(stuck: Order) -> None:
    anna, bob = people.anybody("anna", REGENERATE), people.anybody("bob", REGENERATE)
    asked = by_hand.request(REGENERATE, by_hand.of(stuck))
    seen = by_hand.previewed(asked, actor=bob)
    operations.perform(actor=anna, request=asked)
    before = by_hand.everything()
    late = by_hand.request(REGENERATE, by_hand.of(stuck), expected=seen.version)
    with pytest.raises(SubjectChanged, match="by anna"):
        operations.perform(actor=bob, request=late)
    assert by_hand.differing(before) == []
    assert Operation.objects.filter(kind="regenerate_plan").count() == 1


def test_while_it_is_given_up_or_changed_nothing_is_planned_anew(stuck: Order) -> None:
    plan_id = desk.plan_of(stuck).pk

    def give_up(unit: Unit) -> None:
        unit.adopt_plans(plans_by_id(unit.raw, [plan_id]))
        withholding.give_up(unit, plan=unit.plans[plan_id], reason="A test.")

    run_unit(give_up, fulfillment_ids=[stuck.fulfillment_id], actor="a test")
    with pytest.raises(NotPossible, match="It is being given up already: A test"):
        regenerate(stuck)


def test_a_complete_order_is_not_planned_anew(systems: ScriptedSystems) -> None:
    a_shop()
    systems.sends["reserve"] = [desk.succeeded(number="N-1")]
    order = desk.order()
    desk.finish()
    with pytest.raises(NotPossible, match="It is complete"):
        regenerate(order, redo=["ship@1"])


def test_people_who_would_be_asked_the_same_are_left_in_peace(systems: ScriptedSystems) -> None:
    manual = {
        "queue": "approvals",
        "role": "manager",
        "instructions": "Look at it.",
        "outcomes": {"approved": "proceed"},
        "within": "PT5H",
        "otherwise": "escalate",
    }
    desk.target("alpha")
    desk.workflow(
        {
            "approve": desk.step(manual=manual),
            "late": desk.step(
                wait={"milestone": "paid", "within": "PT5H", "otherwise": "escalate"}
            ),
            "ship": desk.task(),
        }
    )
    systems.sends["ship"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    before = {key: task.pk for key, task in desk.tasks_of(order).items()}
    regenerate(order)
    newest = desk.newest_plan_of(order)
    now = {task.key: task.pk for task in newest.tasks.all()}
    assert now["approve@1"] == before["approve@1"]
    assert now["late@1"] == before["late@1"]
    assert now["ship@1"] != before["ship@1"]


def test_the_record_has_both_plans_and_every_fate(stuck: Order) -> None:
    regenerate(stuck)
    record = Operation.objects.get(kind="regenerate_plan")
    plans = list(Plan.objects.order_by("version").values_list("pk", flat=True))
    assert (record.before["plan"], record.after["plan"]) == tuple(plans)
    assert record.after["tasks"] == {"ship@1": "redone"}
    closed = Transition.objects.get(name="supersede")
    assert "planned anew by hand: The customer has rung." in closed.cause
    assert closed.actor == "ops"
