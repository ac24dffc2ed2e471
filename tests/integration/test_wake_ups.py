"""What waits for a time is sent when it comes, without a scan: one alarm leads to the next."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from fulfillment.engine.dispatch import claiming
from fulfillment.engine.protection.admission import look_at
from fulfillment.engine.protection.limits import Allowance
from fulfillment.engine.store.database import cursor
from fulfillment.engine.work import hints
from fulfillment.engine.work.hints import Alarm
from fulfillment.models import Task
from tests import desk
from tests.desk import ScriptedSystems
from tests.waiting import until


@pytest.fixture
def alarms(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds to each moment at which somebody looks again."""
    found: list[float] = []

    def publish(*, targets: Mapping[str, int], wake_ups: Mapping[str, timedelta]) -> None:
        found.extend(delay.total_seconds() for delay in wake_ups.values())

    monkeypatch.setattr(hints, "publish", publish)
    return found


@pytest.mark.django_db
def test_every_one_of_those_that_wait_for_a_time_has_its_look(
    systems: ScriptedSystems, alarms: list[float]
) -> None:
    """Of a batch the first one's time rings; who looks then sets the alarm for the next."""
    desk.target("alpha")
    retry = {"initial_interval": "PT10S", "maximum_interval": "PT10S", "maximum_attempts": 9}
    desk.workflow({"one": desk.task(retry=retry), "two": desk.task(retry=retry)})
    systems.sends["one"] = [desk.failed(retry_after=timedelta(seconds=20))]
    systems.sends["two"] = [desk.failed(retry_after=timedelta(seconds=60))]
    order = desk.order()
    desk.drain()
    first, second = sorted(Task.objects.values_list("not_before", flat=True))
    assert first < second
    desk.advance(min(alarms))
    alarms.clear()
    desk.drain()
    assert sorted(desk.states_of(order).values()) == ["FAILED_RETRYABLE", "SUCCEEDED"]
    assert min(alarms) == pytest.approx((second - first).total_seconds(), abs=1.0)
    desk.advance(min(alarms))
    desk.drain()
    assert set(desk.states_of(order).values()) == {"SUCCEEDED"}


@pytest.mark.django_db
def test_limits_that_let_something_through_within_the_microsecond_have_their_look(
    alarms: list[float],
) -> None:
    """What is missing of a token may be less than the clock can tell."""
    row = desk.target("alpha")
    with cursor() as raw:
        seen = look_at(raw, target="alpha")
    allowed = Allowance(calls=0, queries=0, reason="rate", again_at=seen.now)
    claiming._look_again(row, seen, allowed)
    assert alarms == [0.0]


def test_an_alarm_keeps_the_earliest_time_of_each_target(monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[tuple[str, float]] = []

    def ring(*, target: str, **_: Any) -> None:
        if target in ("alarmed", "alarmed-too"):  # Alarms of tests before may ring by now.
            rung.append((target, time.time()))

    monkeypatch.setattr(hints, "nudge", ring)
    alarm, began = Alarm(), time.time()
    alarm.set(target="alarmed", queue="a", delay=timedelta(hours=1))
    alarm.set(target="alarmed-too", queue="b", delay=timedelta(seconds=0.1))
    alarm.set(target="alarmed", queue="a", delay=timedelta(seconds=0.2))
    alarm.set(target="alarmed", queue="a", delay=timedelta(minutes=1))
    until(lambda: len(rung) == 2)
    assert [target for target, _ in rung] == ["alarmed-too", "alarmed"]
    assert rung[1][1] - began >= 0.2
    alarm.set(target="alarmed", queue="a", delay=timedelta(0))
    until(lambda: len(rung) == 3)
