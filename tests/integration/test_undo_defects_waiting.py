"""While an order is given up: what is shown of it, what it keeps, and what others learn (§14)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from fulfillment import operations, stuck
from fulfillment.definitions.concern import ChangeKind
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import rest, undoing, withholding
from fulfillment.engine.plans.concern import Wanted
from fulfillment.engine.store import graphs
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import HoldOfEngine
from fulfillment.models import FalloutCase, Hold, HoldScope, Plan, Signal, Task
from fulfillment.states import PlanState, TaskState
from oms.models import Order
from oms.queries.orders import active_holds, waits_as_a_whole
from oms.queries.reasons import reason_of
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db


def in_a_unit(order: Order, work: Any) -> Any:
    """`work` with the order's newest plan, under its lock."""
    plan_id = desk.newest_plan_of(order).pk

    def with_plan(unit: Unit) -> Any:
        unit.adopt_plans(plans_by_id(unit.raw, [plan_id]))
        return work(unit, unit.plans[plan_id])

    return run_unit(with_plan, fulfillment_ids=[order.fulfillment_id], actor="a test")


def give_up(order: Order) -> None:
    def work(unit: Unit, plan: Plan) -> None:
        found = undoing.assess(unit, plan=plan, wanted=None)
        undoing.carry_out(unit, plan=plan, wanted=None, assessment=found, reason="a test")

    in_a_unit(order, work)


def await_rest(order: Order, reason: str = "It is to be cancelled: no more need") -> None:
    in_a_unit(order, lambda unit, plan: withholding.await_rest(unit, plan=plan, reason=reason))


def two_steps(**more: Any) -> None:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow(
        {
            "reserve": desk.task(compensation={"action": "release"}),
            "ship": desk.task("beta", after=["reserve"]),
        },
        **more,
    )


def test_a_failed_undo_is_shown_until_it_is_tried_again(systems: ScriptedSystems) -> None:
    two_steps()
    systems.sends["release"] = [desk.rejected()]
    order = desk.order()
    desk.drain(["alpha"])
    give_up(order)
    desk.finish()
    plan = desk.newest_plan_of(order)
    assert (plan.state, "undo.v2/reserve@1" in plan.blocked_reason) == ("COMPENSATING", True)
    (shown,) = waits_as_a_whole(order=order, plan=plan)
    assert "undo.v2/reserve@1" in shown.reason
    assert "undo.v2/reserve@1" in reason_of(order).sentence
    desk.advance(3600)
    stuck.detect_stuck()
    assert desk.newest_plan_of(order).stuck_at is not None
    undo = desk.tasks_of(order)["undo.v2/reserve@1"]
    operations.retry(task_id=undo.pk, reason="it is well again", actor=by("ann"))
    plan = desk.newest_plan_of(order)
    assert (plan.blocked_reason, plan.stuck_at) == ("", None)
    desk.finish()
    assert desk.newest_plan_of(order).state == PlanState.CANCELLED
    assert not FalloutCase.objects.filter(state="OPEN").exists()


def test_that_an_order_is_about_to_be_cancelled_is_shown_while_it_comes_to_rest(
    systems: ScriptedSystems,
) -> None:
    two_steps()
    systems.sends["reserve"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    await_rest(order)
    (hold,) = active_holds(order=order, plan=desk.newest_plan_of(order))
    assert hold.reason == "It is to be cancelled: no more need"


def test_nobody_releases_by_hand_what_is_kept_back_until_it_is_decided(
    systems: ScriptedSystems,
) -> None:
    two_steps()
    systems.sends["reserve"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    await_rest(order)
    hold = Hold.objects.get(scope=HoldScope.CHANGE)
    with pytest.raises(HoldOfEngine):
        operations.release_hold(hold_id=hold.pk, reason="why not", actor=by("ann"))
    hold.refresh_from_db()
    assert hold.released_at is None


def test_a_hold_of_a_person_keeps_also_what_would_only_be_found_out(
    systems: ScriptedSystems,
) -> None:
    two_steps()
    desk.target("alpha", status_query=False)
    order = desk.order()
    desk.claim()
    desk.advance(60)
    sweeping.sweep()
    await_rest(order)
    operations.place_hold(
        scope=HoldScope.ORDER, name=order.reference, reason="a person says so", actor=by("ann")
    )
    desk.advance(600)
    desk.finish()
    assert systems.actions() == []


def test_who_waits_for_a_milestone_that_a_change_takes_away_learns_it(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow(
        {"lay": desk.task("beta"), "reserve": desk.task()},
        milestones={"laid": {"title": "It is laid", "reached_by": "lay", "shared": True}},
    )
    desk.workflow({"other": desk.task()}, offering="other", workflow="other")
    order = desk.order(desk.item(), desk.item("other", item_id="2"))
    desk.drain(["alpha"])

    def work(unit: Unit, plan: Plan) -> None:
        withholding.give_up(unit, plan=plan, reason="a test", what=withholding.What(items=(1,)))

    in_a_unit(order, work)
    rest.look()
    signal = Signal.objects.get(name="laid")
    assert signal.will_not_come


def test_an_order_that_is_being_changed_is_not_migrated(systems: ScriptedSystems) -> None:
    two_steps()
    systems.sends["reserve"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    await_rest(order)
    two_steps(version=2, title="Another title")
    (found,) = operations.migrate_orders(
        workflow="thing", version=2, orders=None, reason="new", actor=by("ann")
    )
    assert found.verdict == operations.Verdict.UNSAFE
    assert desk.newest_plan_of(order).version == 1


def test_undos_that_have_not_begun_are_not_lost_by_a_migration(systems: ScriptedSystems) -> None:
    two_steps()
    order = desk.order()
    desk.drain(["alpha"])

    def again(unit: Unit, plan: Plan) -> None:
        context = graphs.context_of(plan)
        wanted = Wanted(
            graph=graphs.by_id(plan.graph_id),
            context=context,
            order_version=2,
            changed={0: [ChangeKind.ITEMS]},
            anew=True,
        )
        found = undoing.assess(unit, plan=plan, wanted=wanted)
        undoing.carry_out(unit, plan=plan, wanted=wanted, assessment=found, reason="a test")

    in_a_unit(order, again)
    assert desk.states_of(order)["undo.v2/reserve@1"] == TaskState.READY
    two_steps(version=2, title="Another title")
    (found,) = operations.migrate_orders(
        workflow="thing", version=2, orders=None, reason="new", actor=by("ann")
    )
    assert found.verdict == operations.Verdict.UNSAFE
    desk.finish()
    assert systems.actions() == ["reserve", "release", "reserve", "ship"]


def test_a_plan_that_can_not_be_undone_for_a_fault_of_ours_has_a_case(
    systems: ScriptedSystems,
) -> None:
    two_steps(on_failure="compensate")
    systems.sends["ship"] = [desk.rejected()]
    order = desk.order()
    desk.drain()
    plan = desk.newest_plan_of(order)
    Plan.objects.filter(pk=plan.pk).update(giving_up_what={"nonsense": [1]})
    rest.look()
    case = FalloutCase.objects.get(state="OPEN", subject=f"plan:{plan.pk}")
    assert case.category == "POISON"


def test_what_is_done_after_all_is_told_also_when_its_order_was_given_up(
    systems: ScriptedSystems,
) -> None:
    """Its task had no effect as far as was known, and was withdrawn."""
    two_steps()
    systems.sends["ship"] = [desk.failed(retry_after=timedelta(minutes=9))]
    order = desk.order()
    desk.drain()
    give_up(order)
    desk.finish()
    task = Task.objects.get(key="ship@1")
    assert task.state == TaskState.CANCELLED
    command = task.commands.get()
    desk.settle(
        desk.Result(
            task_id=task.pk,
            plan_id=task.plan_id,
            fulfillment_id=task.fulfillment_id,
            node=task.node,
            command_id=command.pk,
            outcome=desk.succeeded(),
        )
    )
    case = FalloutCase.objects.get(state="OPEN", task=task)
    assert case.category == "CONFLICT"


def test_an_assessment_asks_no_query_per_element(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "build": desk.task(
                for_each={"over": "${item.characteristics.sites}"},
                input={"site": "${element}", "size": "${item.quantity}"},
                compensation={"action": "tear_down", "input": {"site": "${element}"}},
                point_of_no_return={"kind": "soft", "reason": "x", "cost": "${item.quantity}"},
            ),
            "last": desk.task(after=["build"]),
        }
    )
    counts = []
    for many in (2, 12):
        sites = [f"s{at}" for at in range(many)]
        systems.sends["last"] = [desk.accepted()]
        order = desk.order(desk.item(characteristics={"sites": sites}))
        desk.finish()

        def look(unit: Unit, plan: Plan) -> int:
            context = graphs.context_of(plan)
            wanted = Wanted(
                graph=graphs.by_id(plan.graph_id),
                context=context,
                order_version=2,
                changed={},
            )
            before = scans_of_fan_outs()
            undoing.assess(unit, plan=plan, wanted=wanted)
            undoing.assess(unit, plan=plan, wanted=None)
            return scans_of_fan_outs() - before

        counts.append(in_a_unit(order, look))
    assert counts[0] == counts[1]


def scans_of_fan_outs() -> int:
    """How often their table was looked into in this transaction."""
    with connection.cursor() as raw:
        raw.execute(
            "SELECT seq_scan + idx_scan FROM pg_stat_xact_user_tables "
            "WHERE relname = 'fulfillment_fanout'"
        )
        found: int = raw.fetchone()[0]
        return found


def test_an_order_that_is_given_up_keeps_its_lock_until_everything_is_undone(
    systems: ScriptedSystems,
) -> None:
    two_steps(locks=[{"resource": "customer", "key": "${order.customer.id}"}])
    systems.sends["ship"] = [desk.rejected()]
    one = desk.order()
    desk.finish()
    two = desk.order()
    desk.finish()
    assert desk.states_of(two)["reserve@1"] == TaskState.READY
    give_up(one)
    desk.finish()
    assert systems.actions() == ["reserve", "ship", "release", "reserve", "ship"]
    assert desk.newest_plan_of(one).state == PlanState.CANCELLED
    assert desk.newest_plan_of(two).state == PlanState.COMPLETED
