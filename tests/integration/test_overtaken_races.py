"""A claim, and what gives its command up at the same moment: one of both comes first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.engine.plans.settlement import apply
from fulfillment.engine.tasks.outcomes import Result
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from tests import desk
from tests.desk import ScriptedSystems
from tests.integration.test_boundary_races import somebody_waits_for_the_order
from tests.together import together
from tests.waiting import until


def an_order_in_doubt() -> Claim:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow({"one": desk.task(fallback=[{"target": "beta", "action": "other"}])})
    desk.order()
    (claim,) = desk.claim("alpha")
    desk.settle(desk.result(claim, desk.unknown()))
    return claim


def claimed_during(work: Callable[[Unit], Any], *, fulfillment_id: int) -> list[Claim]:
    """What a worker of alpha claims that has looked before `work` and gets the lock after it."""
    locked = threading.Event()

    def first(unit: Unit) -> list[Claim]:
        locked.set()
        until(somebody_waits_for_the_order)
        work(unit)
        return []

    def second() -> list[Claim]:
        assert locked.wait(30)
        return desk.claim("alpha")

    _, claims = together(
        lambda: run_unit(first, fulfillment_ids=[fulfillment_id], actor="a test"), second
    )
    return claims


def test_what_has_gone_on_to_another_target_meanwhile_is_not_sent_to_the_one_before(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    claim = an_order_in_doubt()
    refused: Result = desk.result(claim, desk.rejected(), attempt_id=None)
    assert (
        claimed_during(lambda unit: apply(unit, [refused]), fulfillment_id=claim.fulfillment_id)
        == []
    )
    (next_one,) = desk.claim("beta")
    assert (next_one.command.target, next_one.command.action) == ("beta", "other")
