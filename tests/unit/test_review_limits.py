"""What protects a target in corner cases, as arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fulfillment.engine.protection.limits import Condition, Limits, UnderWay, allowance
from fulfillment.states import Breaker

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def test_accepted_work_does_not_keep_a_broken_target_from_being_probed() -> None:
    limits = Limits(sender_slots=4, query_slots=4, breaker_failures=2)
    found = allowance(
        limits=limits,
        condition=Condition(breaker=Breaker.OPEN, breaker_until=T0),
        under_way=UnderWay(accepted=3),
        now=T0 + timedelta(seconds=1),
        wanted=10,
    )
    assert found.calls == 1
