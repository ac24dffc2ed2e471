"""How long a case may take: in working hours, and what happens when that is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.store import calendars, routing
from fulfillment.engine.work import audit, sla
from fulfillment.models import (
    BusinessCalendar,
    CaseTask,
    FalloutCase,
    OutboxEvent,
    RoutingRule,
    Subscription,
    Transition,
)
from oms.models import Order
from tests import desk, people
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
WEEK = ["mon", "tue", "wed", "thu", "fri"]
FRIDAY = datetime(2026, 5, 8, 15, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def office() -> Any:
    BusinessCalendar.objects.create(
        name="office",
        title="Office",
        spec={"timezone": "UTC", "hours": [{"days": WEEK, "from": "09:00", "to": "17:00"}]},
    )
    calendars.forget()
    routing.forget()
    yield
    calendars.forget()
    routing.forget()


def rule(**values: Any) -> None:
    RoutingRule.objects.create(
        **{
            "name": "usual",
            "position": 1,
            "owner_queue": "catalog-ops",
            "sla": timedelta(hours=4),
            **values,
        }
    )
    routing.forget()


def an_order(systems: ScriptedSystems) -> Order:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected("no_stock")]
    order = desk.order()
    desk.drain()
    return order


def at(moment: datetime) -> None:
    """Move the clock to the next moment like this one: same day of the week, same time."""
    ahead = (moment - desk.now()) % timedelta(days=7)
    desk.advance(ahead.total_seconds())


def the_case() -> FalloutCase:
    return FalloutCase.objects.get()


def test_four_business_hours_from_friday_afternoon_end_on_monday() -> None:
    due = sla.deadline(calendar="office", start=FRIDAY, within=timedelta(hours=4))
    assert due == datetime(2026, 5, 11, 11, 0, tzinfo=UTC)
    assert sla.left(calendar="office", now=FRIDAY, until=due) == timedelta(hours=4)
    saturday = FRIDAY + timedelta(days=1)
    assert sla.left(calendar="office", now=saturday, until=due) == timedelta(hours=2)
    assert sla.left(calendar="office", now=due, until=due) == timedelta()


def test_a_case_that_is_opened_on_friday_is_due_on_monday(
    systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    rule(calendar="office")
    at(FRIDAY)
    an_order(systems)
    case = the_case()
    assert (case.sla_due_at.weekday(), case.sla_due_at.hour) == (0, 11)
    clock(2 * 86_400)
    assert operations.escalate_due() == 0
    clock(86_400)
    assert operations.escalate_due() == 1


def test_business_hours_that_were_left_go_on_after_the_customer_has_answered(
    systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    rule(calendar="office")
    at(FRIDAY + timedelta(hours=1))
    an_order(systems)
    anna = people.anybody("anna", Action.CASE_AWAIT_CUSTOMER)

    def wait(**parameters: Any) -> None:
        operations.perform(
            actor=anna,
            request=operations.Request(
                action=Action.CASE_AWAIT_CUSTOMER,
                subject=f"case:{the_case().pk}",
                reason="because",
                parameters=parameters,
            ),
        )

    wait()
    left = the_case().sla_left
    assert left is not None
    assert timedelta(hours=3, minutes=59) < left <= timedelta(hours=4)
    at(FRIDAY + timedelta(days=4))
    wait(ended=True)
    case = the_case()
    assert case.sla_paused_at is None
    # Tuesday at three, and four hours of which two are on Wednesday.
    assert (case.sla_due_at.weekday(), case.sla_due_at.hour) in {(2, 10), (2, 11)}


def test_without_a_calendar_time_counts_day_and_night(systems: ScriptedSystems) -> None:
    rule()
    an_order(systems)
    case = the_case()
    assert case.sla_due_at - case.opened_at == timedelta(hours=4)


def test_a_calendar_that_is_gone_keeps_no_case_from_being_opened(
    systems: ScriptedSystems,
) -> None:
    rule(calendar="gone")
    an_order(systems)
    case = the_case()
    assert case.sla_due_at - case.opened_at == timedelta(hours=4)


def test_what_takes_too_long_goes_to_others_and_again_after_each_further_period(
    systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    rule(escalation_queue="duty-manager")
    order = an_order(systems)
    Subscription.objects.create(
        name="pager", url="https://pager.example.com/", event_types=["FalloutCaseEscalated"]
    )
    clock(4 * 3600 + 1)
    assert operations.escalate_due() == 1
    case = the_case()
    assert (case.escalation_level, case.owner_queue) == (1, "duty-manager")
    assert case.escalated_at is not None
    assert operations.escalate_due() == 0
    clock(4 * 3600 + 1)
    assert operations.escalate_due() == 1
    assert the_case().escalation_level == 2
    trail = Transition.objects.filter(entity="case", name="escalate").order_by("sequence")
    assert [(row.actor, row.details["level"]) for row in trail] == [
        ("escalation", 1),
        ("escalation", 2),
    ]
    events = OutboxEvent.objects.filter(event_type="FalloutCaseEscalated").order_by("pk")
    assert [event.payload["level"] for event in events] == [1, 2]
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_what_is_resolved_is_not_escalated(
    systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    an_order(systems)
    operations.close_case(case_id=the_case().pk, resolution="Done.", actor=desk.by("ops"))
    clock(30 * 86_400)
    assert operations.escalate_due() == 0


def test_news_about_the_same_leave_an_escalated_case_where_it_is(
    systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    rule(escalation_queue="duty-manager")
    desk.target("alpha")
    retry = {"initial_interval": "PT1S", "maximum_attempts": 9, "escalate_after": 1}
    desk.workflow({"one": desk.task(retry=retry)})
    systems.sends["one"] = [desk.failed(retry_after=timedelta(hours=5)), desk.rejected("no_stock")]
    desk.order()
    desk.drain()
    clock(4 * 3600 + 1)
    assert operations.escalate_due() == 1
    clock(2 * 3600)
    desk.drain()
    case = the_case()
    assert (case.category, case.owner_queue, case.escalation_level) == (
        "REFUSED",
        "duty-manager",
        1,
    )


def test_a_task_that_got_on_unnoticed_closes_its_case_instead(
    systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    """As in a process of the release before, which knows of no cases with several tasks."""
    order = an_order(systems)
    case = the_case()
    FalloutCase.objects.filter(pk=case.pk).update(tasks_open=0)
    CaseTask.objects.update(left_at=desk.now())
    operations.retry(task_id=desk.tasks_of(order)["one@1"].pk, actor=desk.by("ops"), reason="again")
    desk.drain()
    assert the_case().state == "OPEN"
    FalloutCase.objects.filter(pk=case.pk).update(tasks_open=1)
    CaseTask.objects.update(left_at=None)
    clock(30 * 86_400)
    operations.escalate_due()
    case = the_case()
    assert (case.state, case.escalation_level) == ("RESOLVED", 0)
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []
