"""Decisions, the branches that they create, and joins behind them."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment.engine.work import audit
from fulfillment.models import Task
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

ROUTING: dict[str, Any] = {
    "check": desk.task(),
    "route": desk.step(
        after=["check"],
        decide=[
            {"when": "item.quantity < 10", "create": ["auto"]},
            {"when": "item.quantity < 50", "create": ["manager"]},
            {"otherwise": ["manager", "finance"]},
        ],
    ),
    "auto": desk.task(),
    "manager": desk.task(),
    "finance": desk.task(),
    "close": desk.task(after=["auto", "manager", "finance"], join="deferred"),
    "notify": desk.task(after=["close"]),
}


@pytest.fixture(params=[True, False], ids=["fast path", "scanner"])
def fast_path(request: pytest.FixtureRequest, settings: Any) -> bool:
    settings.OMS_FAST_PATH = request.param
    return bool(request.param)


def run(quantity: int) -> dict[str, str]:
    order = desk.order(desk.item(quantity=quantity))
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []
    return desk.states_of(order)


@pytest.mark.parametrize(
    ("quantity", "taken"), [(1, {"auto"}), (10, {"manager"}), (50, {"manager", "finance"})]
)
def test_only_the_chosen_branches_come_to_exist_and_the_join_waits_for_those(
    systems: ScriptedSystems, fast_path: bool, quantity: int, taken: set[str]
) -> None:
    desk.target("alpha")
    desk.workflow(ROUTING)
    states = run(quantity)
    assert set(states) == {f"{name}@1" for name in {"check", "route", "close", "notify"} | taken}
    assert set(states.values()) == {"SUCCEEDED"}
    assert [sent.action for sent in systems.sent][-2:] == ["close", "notify"]
    assert {sent.action for sent in systems.sent} == {"check", "close", "notify"} | taken


def test_a_decision_may_create_nothing(systems: ScriptedSystems, fast_path: bool) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "route": desk.step(decide=[{"otherwise": []}]),
            "never": desk.task(required=False),
            "after_never": desk.task(after=["never"], required=False),
            "close": desk.task(after=["never"], join="deferred", required=True),
        }
        | {
            "route": desk.step(
                decide=[{"when": "item.quantity > 5", "create": ["never"]}, {"otherwise": []}]
            ),
            "never": desk.task(),
            "after_never": desk.task(after=["never"]),
        }
    )
    assert set(run(1)) == {"route@1", "close@1"}
    assert set(run(6)) == {"route@1", "never@1", "after_never@1", "close@1"}


def test_what_stands_behind_a_branch_exists_only_with_it(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "route": desk.step(
                decide=[{"when": "item.quantity > 5", "create": ["big"]}, {"otherwise": ["small"]}]
            ),
            "big": desk.task(),
            "behind_big": desk.task(after=["big"]),
            "small": desk.task(),
            "end": desk.task(after=["behind_big", "small"], join="deferred"),
        }
    )
    assert set(run(1)) == {"route@1", "small@1", "end@1"}
    assert set(run(6)) == {"route@1", "big@1", "behind_big@1", "end@1"}


def test_decisions_may_be_nested(systems: ScriptedSystems, fast_path: bool) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "outer": desk.step(
                decide=[{"when": "item.quantity > 5", "create": ["inner"]}, {"otherwise": []}]
            ),
            "inner": desk.step(
                decide=[{"when": "item.quantity > 50", "create": ["huge"]}, {"otherwise": ["big"]}]
            ),
            "big": desk.task(),
            "huge": desk.task(),
            "end": desk.task(after=["big", "huge"], join="deferred"),
        }
    )
    assert set(run(1)) == {"outer@1", "end@1"}
    assert set(run(6)) == {"outer@1", "inner@1", "big@1", "end@1"}
    assert set(run(60)) == {"outer@1", "inner@1", "huge@1", "end@1"}


def test_an_upstream_task_may_name_the_branches(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "score": desk.task(outputs={"steps": "list"}),
            "route": desk.step(
                depends_on=[{"output": "score.steps"}],
                decide={"names": "${tasks.score.steps}", "among": ["fraud", "legal"]},
            ),
            "fraud": desk.task(),
            "legal": desk.task(),
            "end": desk.task(after=["fraud", "legal"], join="deferred"),
        }
    )
    systems.sends["score"] = [desk.succeeded(steps=["legal"])]
    assert set(run(1)) == {"score@1", "route@1", "legal@1", "end@1"}


def test_a_branch_that_nobody_declared_goes_to_a_person(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "score": desk.task(outputs={"steps": "list"}),
            "route": desk.step(
                depends_on=[{"output": "score.steps"}],
                decide={"names": "${tasks.score.steps}", "among": ["fraud"]},
            ),
            "fraud": desk.task(),
        }
    )
    systems.sends["score"] = [desk.succeeded(steps=["frud"])]
    order = desk.order()
    desk.finish()
    assert desk.states_of(order)["route@1"] == "AWAITING_MANUAL"
    assert "frud" in desk.tasks_of(order)["route@1"].blocked_reason
    assert desk.plan_of(order).state == "BLOCKED"


def test_order_completes_on_evidence_not_before_an_undecided_branch(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(ROUTING)
    order = desk.order(desk.item(quantity=20))
    plan = desk.plan_of(order)
    # All required nodes count as open, also those that no decision has created yet.
    assert (plan.tasks_total, plan.mandatory_total, plan.mandatory_open) == (4, 7, 7)
    desk.finish()
    plan.refresh_from_db()
    assert (plan.tasks_total, plan.mandatory_total, plan.mandatory_open) == (5, 5, 0)
    assert not Task.objects.filter(plan=plan, key__startswith="finance").exists()


def test_each_item_takes_its_own_branch(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(ROUTING)
    order = desk.order(desk.item(quantity=1), desk.item(item_id="2", quantity=99))
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    keys = set(desk.states_of(order))
    assert {"auto@1", "manager@2", "finance@2"} <= keys
    assert not {"auto@2", "manager@1", "finance@1"} & keys


def test_a_failed_branch_blocks_the_plan_and_says_so(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(ROUTING)
    systems.sends["manager"] = [desk.rejected()]
    order = desk.order(desk.item(quantity=20))
    desk.finish()
    plan = desk.plan_of(order)
    assert plan.state == "BLOCKED"
    assert "manager@1" in plan.blocked_reason
    assert desk.states_of(order)["close@1"] == "PENDING"


def test_a_join_reads_what_is_there_for_certain_without_a_doubt(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    number = {"number": "integer"}
    desk.workflow(
        {
            "check": desk.task(outputs=number),
            "route": desk.step(
                decide=[{"when": "item.quantity > 9", "create": ["more"]}, {"otherwise": []}]
            ),
            "more": desk.task(),
            "close": desk.task(
                join="deferred",
                depends_on=[{"output": "check.number"}, {"success": "more"}],
                input={"plain": "${tasks.check.number}", "twice": "${tasks.check.number * 2}"},
            ),
        }
    )
    systems.sends["check"] = [desk.succeeded(number=4)] * 2
    run(1)
    run(10)
    sent = [one.payload for one in systems.sent if one.action == "close"]
    assert sent == [{"plain": 4, "twice": 8}] * 2
