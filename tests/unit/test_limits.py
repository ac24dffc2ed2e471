"""Rate, ramp and breaker of a target system, as arithmetic."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulfillment.engine.protection.limits import (
    Condition,
    Limits,
    UnderWay,
    allowance,
    answered,
    begun,
    ramp_share,
    refilled,
)
from fulfillment.states import Breaker

T0 = datetime(2026, 1, 1, tzinfo=UTC)
WELL = Condition()


def limits(**given: Any) -> Limits:
    return Limits(**{"sender_slots": 16, "query_slots": 4, **given})


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def allowed(
    limit: Limits, condition: Condition = WELL, *, now: float = 0, wanted: int = 100, **way: int
) -> Any:
    return allowance(
        limits=limit,
        condition=refilled(limits=limit, condition=condition, now=at(now)),
        under_way=UnderWay(**way),
        now=at(now),
        wanted=wanted,
    )


def test_without_limits_everything_may_begin_and_some_of_it_may_be_questions() -> None:
    found = allowed(limits())
    assert (found.calls, found.queries, found.reason) == (100, 4, "")


@pytest.mark.parametrize(("sends", "queries", "free"), [(0, 0, 5), (3, 1, 1), (5, 0, 0), (9, 0, 0)])
def test_what_is_under_way_counts_against_the_limit(sends: int, queries: int, free: int) -> None:
    found = allowed(limits(concurrency=5), sends=sends, queries=queries)
    assert (found.calls, found.reason) == (free, "concurrency")


def test_accepted_work_holds_its_slot_where_the_target_says_so() -> None:
    assert allowed(limits(concurrency=5), accepted=5).calls == 0


def test_questions_have_a_share_of_their_own() -> None:
    assert allowed(limits(), queries=3).queries == 1
    assert allowed(limits(), queries=7).queries == 0


def test_a_paused_target_takes_nothing_and_only_a_person_changes_that() -> None:
    found = allowed(limits(), replace(WELL, paused=True))
    assert (found.calls, found.queries, found.reason, found.again_at) == (0, 0, "paused", None)


def test_a_burst_is_granted_once_and_then_the_rate() -> None:
    limit = limits(rate_per_second=10.0, rate_burst=5)
    first = refilled(limits=limit, condition=WELL, now=T0)
    assert allowed(limit).calls == 5
    spent = begun(limits=limit, condition=first, calls=5)
    found = allowed(limit, spent)
    assert (found.calls, found.reason) == (0, "rate")
    assert found.again_at == at(0.1)
    assert allowed(limit, spent, now=0.1).calls == 1
    assert allowed(limit, spent, now=60).calls == 5


@given(
    rate=st.floats(0.5, 200),
    burst=st.integers(1, 20),
    steps=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 30)), max_size=40),
)
def test_no_window_holds_more_than_rate_and_burst(
    rate: float, burst: int, steps: list[tuple[float, int]]
) -> None:
    limit = limits(rate_per_second=rate, rate_burst=burst)
    condition, clock, calls = WELL, 0.0, []
    for passed, wanted in steps:
        clock += passed
        condition = refilled(limits=limit, condition=condition, now=at(clock))
        found = allowed(limit, condition, now=clock, wanted=wanted)
        condition = begun(limits=limit, condition=condition, calls=found.calls)
        calls += [clock] * found.calls
    for i, first in enumerate(calls):
        for j in range(i, len(calls)):
            assert j - i + 1 <= rate * (calls[j] - first) + burst + 1e-3


def test_a_clock_that_goes_back_gives_no_tokens() -> None:
    limit = limits(rate_per_second=1.0, rate_burst=1)
    empty = Condition(rate_tokens=0, rate_at=at(10))
    back = refilled(limits=limit, condition=empty, now=at(5))
    assert back.rate_tokens == 0
    assert refilled(limits=limit, condition=back, now=at(6)).rate_tokens == 1


def test_after_a_pause_limits_grow_to_their_full_size() -> None:
    limit = limits(concurrency=100, ramp=timedelta(seconds=100))
    resumed = replace(WELL, ramp_from=T0)
    assert [
        allowed(limit, resumed, now=seconds, wanted=1000).calls for seconds in (0, 1, 10, 50, 100)
    ] == [1, 1, 10, 50, 100]


def test_without_a_limit_the_ramp_grows_to_the_slots_of_a_worker() -> None:
    limit = limits(ramp=timedelta(seconds=10))
    resumed = replace(WELL, ramp_from=T0)
    assert allowed(limit, resumed, now=5).calls == 8
    assert allowed(limit, resumed, now=10).calls == 100


def test_the_rate_grows_as_well() -> None:
    limit = limits(rate_per_second=100.0, rate_burst=50, ramp=timedelta(seconds=10))
    resumed = replace(WELL, ramp_from=T0, rate_tokens=0, rate_at=T0)
    assert allowed(limit, resumed, now=1).calls == 1
    assert allowed(limit, replace(resumed, rate_at=at(9)), now=11).calls == 50


@pytest.mark.parametrize("seconds", [-5, 0, 3, 10, 1000])
def test_a_share_lies_between_nothing_and_all(seconds: float) -> None:
    limit = limits(ramp=timedelta(seconds=10))
    share = ramp_share(limits=limit, condition=replace(WELL, ramp_from=T0), now=at(seconds))
    assert 0 <= share <= 1


BREAKER = limits(breaker_failures=3, breaker_pause=timedelta(seconds=10), breaker_probes=2)


def after(condition: Condition, *answers: bool, now: float = 0, **more: Any) -> Condition:
    for well in answers:
        condition = answered(
            limits=BREAKER, condition=condition, well=well, now=at(now), reason="silent", **more
        )
    return condition


def test_failures_in_a_row_open_the_breaker() -> None:
    opened = after(WELL, False, False, False)
    assert (opened.breaker, opened.breaker_until, opened.breaker_reason) == (
        Breaker.OPEN,
        at(10),
        "silent",
    )
    found = allowed(BREAKER, opened, now=9.9)
    assert (found.calls, found.queries, found.reason, found.again_at) == (0, 0, "breaker", at(10))


def test_a_good_answer_in_between_starts_the_count_anew() -> None:
    assert after(WELL, False, False, True, False, False).breaker == Breaker.CLOSED


def test_probes_go_one_at_a_time_and_close_it() -> None:
    opened = after(WELL, False, False, False)
    assert allowed(BREAKER, opened, now=10).calls == 1
    probing = begun(limits=BREAKER, condition=opened, calls=1)
    assert probing.breaker == Breaker.HALF_OPEN
    assert allowed(BREAKER, probing, now=10, sends=1).calls == 0
    once = after(probing, True, now=11)
    assert (once.breaker, allowed(BREAKER, once, now=11).calls) == (Breaker.HALF_OPEN, 1)
    closed = after(once, True, now=12)
    assert (closed.breaker, closed.ramp_from, closed.failures_in_a_row) == (
        Breaker.CLOSED,
        at(12),
        0,
    )
    assert allowed(BREAKER, closed, now=12).calls == 100


def test_a_probe_that_fails_opens_it_again() -> None:
    probing = begun(limits=BREAKER, condition=after(WELL, False, False, False), calls=1)
    again = after(probing, False, now=20)
    assert (again.breaker, again.breaker_until) == (Breaker.OPEN, at(30))


def test_a_straggler_neither_closes_nor_prolongs_an_open_breaker() -> None:
    opened = after(WELL, False, False, False)
    assert after(opened, True, now=5) == opened
    assert after(opened, False, now=5).breaker_until == opened.breaker_until


def test_the_target_may_ask_for_a_longer_pause() -> None:
    opened = after(WELL, False, False, False, retry_after=timedelta(seconds=90))
    assert opened.breaker_until == at(90)
    opened = after(WELL, False, False, False, retry_after=timedelta(days=300))
    assert opened.breaker_until == at(3600)


def test_a_breaker_that_is_switched_off_lets_everything_through() -> None:
    opened = after(WELL, False, False, False)
    closed = answered(limits=limits(), condition=opened, well=False, now=at(1))
    assert closed.breaker == Breaker.CLOSED
