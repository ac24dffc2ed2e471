"""Execution windows: a command is sent while its window is open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fulfillment import stuck
from fulfillment.engine.plans.rerunning import rerun
from fulfillment.engine.store import calendars
from fulfillment.engine.work.running import run_unit
from fulfillment.errors import DefinitionInvalid
from fulfillment.models import BusinessCalendar, FalloutCase, Task
from fulfillment.queries.why import why
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ALWAYS = {"timezone": "UTC", "hours": [{"days": DAYS, "from": "00:00", "to": "24:00"}]}


def window(opens: int, closes: int, **more: Any) -> dict[str, Any]:
    """From so many hours after now to so many; on every day."""
    hour = desk.now().hour
    return {
        "days": DAYS,
        "from": f"{(hour + opens) % 24:02d}:00",
        "to": f"{(hour + closes) % 24:02d}:00",
        "timezone": "UTC",
        **more,
    }


def order_with(**spec: Any) -> Order:
    desk.target("alpha")
    retry = {"initial_interval": "PT2H", "maximum_interval": "PT2H", "maximum_attempts": 3}
    desk.workflow({"one": desk.task(retry=retry, **spec)})
    return desk.order()


def is_complete(order: Order) -> bool:
    desk.finish()
    order.refresh_from_db()
    return order.state == "COMPLETED"


def test_a_task_waits_until_its_window_opens(systems: ScriptedSystems, clock: Any) -> None:
    order = order_with(window=window(3, 5))
    assert not is_complete(order)
    task = desk.tasks_of(order)["one@1"]
    assert task.state == "READY"
    assert task.not_before - desk.now() > timedelta(hours=1)
    clock((task.not_before - desk.now()).total_seconds() + 1)
    assert is_complete(order)


def test_an_open_window_holds_nobody(systems: ScriptedSystems) -> None:
    assert is_complete(order_with(window=window(0, 2)))


def test_a_retry_waits_for_the_window_as_well(systems: ScriptedSystems, clock: Any) -> None:
    order = order_with(window=window(0, 1))
    systems.sends["one"] = [desk.failed(retry_after=timedelta(hours=1))]
    desk.finish()
    task = desk.tasks_of(order)["one@1"]
    assert task.state == "FAILED_RETRYABLE"
    # An hour later the window is shut; the next one opens the day after.
    assert task.not_before - desk.now() > timedelta(hours=20)


def test_what_was_ready_and_missed_its_window_waits_for_the_next(
    systems: ScriptedSystems, clock: Any
) -> None:
    order = order_with(window=window(0, 1))
    Task.objects.update(not_before=desk.now() - timedelta(minutes=1))
    clock(2 * 3600)
    assert not is_complete(order)
    task = desk.tasks_of(order)["one@1"]
    assert (task.state, len(systems.sent)) == ("READY", 0)
    assert task.not_before > desk.now() + timedelta(hours=20)


def test_the_calendar_counts_as_it_is_when_the_task_is_sent(
    systems: ScriptedSystems, clock: Any
) -> None:
    today = desk.now().astimezone(UTC).date().isoformat()
    row = BusinessCalendar.objects.create(name="crew", title="Crew", spec=ALWAYS)
    order = order_with(window=window(0, 2, calendar="crew"))
    row.spec = {**ALWAYS, "holidays": {"extra": [today]}}
    row.save()
    clock(5)
    calendars.forget()
    assert not is_complete(order)
    assert desk.tasks_of(order)["one@1"].not_before.date() > datetime.fromisoformat(today).date()


def test_a_calendar_that_is_gone_goes_to_a_person(systems: ScriptedSystems) -> None:
    row = BusinessCalendar.objects.create(name="crew", title="Crew", spec=ALWAYS)
    desk.target("alpha")
    desk.workflow(
        {"one": desk.task(), "two": desk.task(after=["one"], window=window(0, 2, calendar="crew"))}
    )
    order = desk.order()
    row.delete()
    calendars.forget()
    desk.finish()
    assert desk.states_of(order)["two@1"] == "AWAITING_MANUAL"
    assert "crew" in FalloutCase.objects.get().explanation


def test_an_unknown_calendar_is_refused_when_it_is_published(systems: ScriptedSystems) -> None:
    with pytest.raises(DefinitionInvalid, match="no calendar 'nowhere'"):
        order_with(window=window(0, 2, calendar="nowhere"))


def test_what_waits_for_its_window_to_be_tried_again_is_not_stuck(
    systems: ScriptedSystems, clock: Any
) -> None:
    order = order_with(window=window(0, 1))
    systems.sends["one"] = [desk.failed(retry_after=timedelta(hours=1))]
    desk.finish()
    task = desk.tasks_of(order)["one@1"]
    assert task.state == "FAILED_RETRYABLE"
    assert f"opens at {task.not_before:%Y-%m-%d %H:%M:%S} UTC" in task.blocked_reason
    clock(5 * 3600)
    assert stuck.detect_stuck() == 0
    # Once it has opened, it has as long as any other.
    clock((task.not_before - desk.now()).total_seconds() + 3600)
    assert stuck.detect_stuck() == 1


@pytest.mark.parametrize("windowed", [True, False])
def test_what_fails_again_and_again_within_its_window_is_stuck(
    systems: ScriptedSystems, clock: Any, windowed: bool
) -> None:
    desk.target("alpha")
    retry = {"initial_interval": "PT2M", "maximum_interval": "PT2M", "maximum_attempts": 100}
    within = {"window": {"days": DAYS, "from": "00:00", "to": "24:00", "timezone": "UTC"}}
    desk.workflow({"one": desk.task(retry=retry, **(within if windowed else {}))})
    systems.sends["one"] = [desk.failed()] * 100
    desk.order()
    for _ in range(20):
        desk.drain()
        clock(120)
    assert stuck.detect_stuck() == 1
    assert FalloutCase.objects.get().reason_code == "keeps_failing"


def test_publishing_goes_by_the_clock_that_is_sent_by(systems: ScriptedSystems, clock: Any) -> None:
    """A calendar that has no working day left in two years."""
    today = desk.now().date()
    never = [(today + timedelta(days=day)).isoformat() for day in range(3, 3 + 740)]
    spec = {**ALWAYS, "holidays": {"extra": never}}
    BusinessCalendar.objects.create(name="crew", title="Crew", spec=spec)
    within = {"days": DAYS, "from": "00:00", "to": "24:00", "timezone": "UTC", "calendar": "crew"}
    desk.target("alpha")
    desk.workflow({"one": desk.task(window=within)})
    clock(4 * 24 * 3600)
    with pytest.raises(DefinitionInvalid, match="opens"):
        desk.workflow({"one": desk.task(window=within)}, version=2)


def test_what_is_sent_later_is_not_in_the_way_of_others(
    systems: ScriptedSystems, clock: Any
) -> None:
    """And when its time has come, it goes by its priority again."""
    late = order_with(window=window(3, 5))
    desk.workflow({"other": desk.task()}, offering="other")
    desk.finish()
    assert desk.tasks_of(late)["one@1"].waits_for == "WINDOW"
    task = desk.tasks_of(late)["one@1"]
    Task.objects.filter(pk=task.pk).update(priority=9)
    clock((task.not_before - desk.now()).total_seconds() + 1)
    desk.order(desk.item("other"))
    (first,) = desk.claim()
    assert first.task_id == task.pk


def test_what_is_tried_again_by_hand_waits_for_its_window(
    systems: ScriptedSystems, clock: Any
) -> None:
    order = order_with(window=window(0, 2))
    (sent,) = desk.claim()
    desk.settle(desk.result(sent, desk.rejected()))
    clock(3 * 3600)
    run_unit(
        lambda unit: rerun(unit, task_id=sent.task_id),
        fulfillment_ids=[order.fulfillment_id],
        actor="ann",
    )
    assert desk.tasks_of(order)["one@1"].waits_for == "WINDOW"
    assert why(fulfillment_id=order.fulfillment_id).cause == "WINDOW"
