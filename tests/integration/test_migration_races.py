"""A migration and what happens to the order at the same moment: one of both comes first."""

from __future__ import annotations

from functools import partial

import pytest

from fulfillment.engine.work import audit
from fulfillment.models import Task
from fulfillment.operations import Verdict
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems
from tests.integration.test_migration import chain, migrate, publish
from tests.together import together

pytestmark = pytest.mark.usefixtures("committed_db", "redis_url")


def test_a_claim_that_races_the_migration_sends_under_one_plan_only(
    systems: ScriptedSystems,
) -> None:
    publish(1, chain("begin_v1", "two"))
    made: list[Order] = []
    won: set[Verdict] = set()
    for version in range(2, 14):
        made.append(order := desk.order())
        publish(version, chain(f"begin_v{version}", "two"))
        claims, (done,) = together(desk.claim, partial(migrate, order))
        won.add(done.verdict)
        keys = {task.key for task in Task.objects.filter(plan=desk.newest_plan_of(order))}
        if done.verdict is Verdict.UNSAFE:
            assert [claim.command.action for claim in claims] == [f"begin_v{version - 1}"]
            assert "is DISPATCHED, and would not exist" in done.reasons[0]
        else:
            assert {claim.command.action for claim in claims} <= {f"begin_v{version}"}
            assert {claim.plan_id for claim in claims} <= {done.plan_id}
            assert f"begin_v{version}@1" in keys
        desk.settle(*[desk.result(claim, desk.succeeded()) for claim in claims])
        desk.drain()
    for order in made:
        order.refresh_from_db()
        assert order.state == "COMPLETED"
        assert audit.verify(fulfillment_id=order.fulfillment_id) == []
    assert Verdict.MOVED in won


def test_an_answer_that_races_the_migration_settles_its_task(systems: ScriptedSystems) -> None:
    publish(1, chain("one", "two"))
    made = [desk.order() for _ in range(10)]
    claims = {claim.fulfillment_id: claim for claim in desk.claim(limit=10)}
    publish(2, chain("one", "two", "three"))
    for order in made:
        result = desk.result(claims[order.fulfillment_id], desk.succeeded())
        _, (done,) = together(partial(desk.settle, result), partial(migrate, order))
        assert done.verdict is Verdict.MOVED
        assert Task.objects.get(pk=result.task_id).state == "SUCCEEDED"
    desk.drain()
    for order in made:
        order.refresh_from_db()
        assert order.state == "COMPLETED"
        assert audit.verify(fulfillment_id=order.fulfillment_id) == []
    assert systems.actions().count("one") == 0  # claimed and settled by hand, never again
    assert systems.actions().count("three") == 10


def test_two_operators_who_migrate_the_same_order_make_one_plan(
    systems: ScriptedSystems,
) -> None:
    publish(1, chain("one"))
    order = desk.order()
    publish(2, chain("one", "two"))
    verdicts = {one.verdict for (one,) in together(*[lambda: migrate(order)] * 3)}
    assert verdicts == {Verdict.MOVED, Verdict.UNCONCERNED}
    assert order.fulfillment.plans.count() == 2
