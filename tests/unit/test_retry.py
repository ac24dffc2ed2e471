"""When a failed attempt is tried again, and when no more."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fulfillment.engine.store.retry import RetryPolicy, backoff, may_retry, query_delay, spread

POLICY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(minutes=1),
    maximum_attempts=5,
    non_retryable=frozenset({"no_such_customer"}),
)
KEYS = [f"task {number}" for number in range(300)]


@pytest.mark.parametrize(
    ("sends", "ceiling_seconds"),
    [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (50, 60), (1000, 60), (10**9, 60)],
)
def test_the_pause_grows_with_the_sends_and_is_bounded(sends: int, ceiling_seconds: float) -> None:
    pauses = [backoff(policy=POLICY, sends=sends, key=key) for key in KEYS]
    assert min(pauses) >= timedelta(0)
    assert max(pauses) <= timedelta(seconds=ceiling_seconds)
    # Full jitter uses the whole room, so a crowd that failed together does not return together.
    assert max(pauses) > timedelta(seconds=0.9 * ceiling_seconds)
    assert min(pauses) < timedelta(seconds=0.1 * ceiling_seconds)


def test_the_largest_coefficient_and_the_longest_interval_do_not_overflow() -> None:
    policy = RetryPolicy(
        initial_interval=timedelta(days=365),
        backoff_coefficient=100.0,
        maximum_interval=timedelta(days=365),
        maximum_attempts=1000,
    )
    assert backoff(policy=policy, sends=1000, key="x") <= timedelta(days=365)


def test_the_pause_can_be_computed_again() -> None:
    assert backoff(policy=POLICY, sends=3, key="a") == backoff(policy=POLICY, sends=3, key="a")


def test_the_pause_differs_by_task_and_by_attempt() -> None:
    assert len({backoff(policy=POLICY, sends=3, key=key) for key in KEYS}) == len(KEYS)
    assert spread(key="a", attempt=1) != spread(key="a", attempt=2)


def test_what_the_target_asks_for_is_a_floor() -> None:
    asked = timedelta(minutes=10)
    assert backoff(policy=POLICY, sends=1, key="a", retry_after=asked) == asked


def test_what_the_target_asks_for_shortens_nothing() -> None:
    own = backoff(policy=POLICY, sends=5, key="a")
    assert own > timedelta(0)
    assert backoff(policy=POLICY, sends=5, key="a", retry_after=timedelta(0)) == own


@pytest.mark.parametrize("key", KEYS[:20])
def test_a_spread_lies_between_zero_and_one(key: str) -> None:
    assert 0 <= spread(key=key, attempt=1) < 1


@pytest.mark.parametrize(("sends", "allowed"), [(1, True), (4, True), (5, False), (6, False)])
def test_the_maximum_counts_every_send(sends: int, allowed: bool) -> None:
    assert may_retry(policy=POLICY, sends=sends, code="busy", retryable=True) is allowed


def test_a_non_retryable_code_ends_it_at_once() -> None:
    assert not may_retry(policy=POLICY, sends=1, code="no_such_customer", retryable=True)


@pytest.mark.parametrize(
    ("unanswered", "seconds"), [(0, 2), (1, 4), (3, 16), (7, 256), (8, 300), (10**6, 300)]
)
def test_questions_come_at_doubling_pauses_of_five_minutes_at_the_most(
    unanswered: int, seconds: float
) -> None:
    pause = query_delay(reconcile_after=timedelta(seconds=2), unanswered=unanswered)
    assert pause == timedelta(seconds=seconds)
