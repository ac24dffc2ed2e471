"""What a worker runs again and again is planned once, and reads no table that grows."""

from __future__ import annotations

import re
from datetime import timedelta

import psycopg

from fulfillment import operations
from fulfillment.engine.store.database import Row, cursor
from fulfillment.models import HoldScope
from tests import desk
from tests.desk import ScriptedSystems, by
from tests.together import together

_SMALL = {"targetsystem", "targetcondition", "subscription", "plangraph"}


def statements_of_a_worker() -> dict[str, int]:
    """What this connection has prepared while it drained, and how often each was planned anew."""
    assert desk.drain() == 9
    with cursor() as raw:
        raw.execute("SELECT statement, custom_plans FROM pg_prepared_statements")
        found = dict(raw.fetchall())
        plans = {statement: plan_of(raw, statement) for statement in found}
    for statement, plan in plans.items():
        read_through = set(re.findall(r"Seq Scan on public\.(?:fulfillment|oms)_(\w+)", plan))
        assert read_through <= _SMALL, statement
        assert "hashed SubPlan" not in plan, f"{statement}\n{plan}"
        for condition in re.findall(r"Index Cond: .*", plan):
            # By a number alone it would be all there is of a kind: of round 0, say.
            assert not re.fullmatch(r"Index Cond: \(\w+\.\w+ = '?\d+'?\)", condition), statement
        if "AS v(id, " in statement:
            assert re.search(r"Index Cond: .*\bt.id = v.id\b", plan), f"{statement}\n{plan}"
    return found


def plan_of(raw: psycopg.Cursor[Row], statement: str) -> str:
    raw.execute(f"EXPLAIN (GENERIC_PLAN, VERBOSE) {statement}")
    return "\n".join(row[0] for row in raw.fetchall())


def test_a_worker_plans_each_statement_once_and_by_index(
    committed_db: str, systems: ScriptedSystems
) -> None:
    """Also while the tables are small, when reading them through would look cheaper."""
    desk.target("alpha", sender_slots=2, breaker_failures=3, accepted_holds_slot=True)
    desk.target("beta", rate_per_second=1000.0, rate_burst=100, reconcile_after=timedelta(0))
    timeouts = {"schedule_to_start": "PT1H", "schedule_to_close": "PT1H", "heartbeat": "PT1M"}
    desk.workflow(
        {"one": desk.task(timeouts=timeouts), "two": desk.task("beta", after=["one"])},
        deadline={"within": "P1D"},
    )
    systems.sends["two"] = [desk.unknown()]
    desk.submit_all(*[desk.request(customer_id=f"C-{n}") for n in range(5)])
    operations.place_hold(scope=HoldScope.CUSTOMER, name="C-0", reason="x", actor=by("ann"))
    (found,) = together(statements_of_a_worker)
    assert len(found) > 15
    assert {statement for statement, custom in found.items() if custom} == set()
