"""Incidents: cases with one cause are brought together, and what fixed it last is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.errors import Denied, NotPossible
from fulfillment.models import FalloutCase, Incident, Operation
from fulfillment.queries import caseload
from oms.models import Order
from tests import desk, people
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture
def fail(systems: ScriptedSystems) -> Callable[..., list[Order]]:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})

    def orders(count: int, code: str = "no_mapping") -> list[Order]:
        systems.sends["one"] = [desk.rejected(code)] * count
        answers = desk.submit_all(*(desk.request() for _ in range(count)))
        desk.drain(rounds=1000)
        references = [answer.reference for answer in answers]
        return list(Order.objects.filter(reference__in=references).order_by("pk"))

    return orders


def incident() -> Incident:
    return Incident.objects.get()


def retry(orders: Sequence[Order]) -> None:
    for order in orders:
        task = desk.tasks_of(order)["one@1"]
        operations.retry(task_id=task.pk, actor=desk.by("ops"), reason="the mapping is there now")
    desk.drain()


def close(**parameters: Any) -> operations.Done:
    return operations.perform(
        actor=people.anybody("iris", Action.INCIDENT_CLOSE),
        request=operations.Request(
            action=Action.INCIDENT_CLOSE,
            subject=f"incident:{incident().pk}",
            reason="each is another matter",
            parameters=parameters,
        ),
    )


def test_400_orders_that_fail_for_one_cause_are_400_cases_and_one_incident(
    fail: Callable[..., list[Order]],
) -> None:
    fail(400)
    assert FalloutCase.objects.count() == 400
    assert operations.group_cases() == 400
    found = incident()
    assert (found.state, found.target, found.action, found.reason_code) == (
        "OPEN",
        "alpha",
        "one",
        "no_mapping",
    )
    assert caseload.extents([found])[found.pk] == caseload.Extent(
        cases=400,
        open_cases=400,
        orders=400,
        open_orders=400,
        latest_at=FalloutCase.objects.latest("opened_at").opened_at,
    )
    assert operations.group_cases() == 0
    assert Operation.objects.filter(kind="open_incident").count() == 1


def test_few_cases_are_no_incident(fail: Callable[..., list[Order]]) -> None:
    fail(2)
    assert operations.group_cases() == 0
    assert not Incident.objects.exists()
    fail(1)
    assert operations.group_cases() == 3


def test_how_many_are_an_incident_can_be_set(
    fail: Callable[..., list[Order]], settings: Any
) -> None:
    settings.OMS_INCIDENT_CASES = 5
    fail(4)
    assert operations.group_cases() == 0
    fail(1)
    assert operations.group_cases() == 5


def test_other_causes_are_other_incidents(fail: Callable[..., list[Order]]) -> None:
    fail(3)
    fail(4, "no_stock")
    operations.group_cases()
    assert {
        one.reason_code: extent.cases
        for one in Incident.objects.all()
        for extent in [caseload.extents([one])[one.pk]]
    } == {"no_mapping": 3, "no_stock": 4}


def test_what_comes_later_joins_the_incident_that_is_open(
    fail: Callable[..., list[Order]],
) -> None:
    fail(3)
    operations.group_cases()
    fail(1)
    assert operations.group_cases() == 1
    assert incident().cases.count() == 4


def test_an_incident_is_over_when_its_cases_are(fail: Callable[..., list[Order]]) -> None:
    orders = fail(3)
    operations.group_cases()
    retry(orders[:2])
    operations.group_cases()
    assert incident().state == "OPEN"
    retry(orders[2:])
    operations.group_cases()
    found = incident()
    assert (found.state, found.resolved_by) == ("RESOLVED", "incidents")
    kinds = Operation.objects.filter(subject=f"incident:{found.pk}").order_by("pk")
    assert [one.kind for one in kinds] == ["open_incident", "resolve_incident"]


def test_the_same_cause_again_is_another_incident(fail: Callable[..., list[Order]]) -> None:
    retry_all = fail(3)
    operations.group_cases()
    retry(retry_all)
    operations.group_cases()
    fail(3)
    operations.group_cases()
    states = Incident.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == ["RESOLVED", "OPEN"]


def test_an_incident_that_is_closed_by_hand_leaves_its_cases_open(
    fail: Callable[..., list[Order]],
) -> None:
    fail(3)
    operations.group_cases()
    done = close(cause="a typo in the price list", fix="the list is corrected")
    assert "3 of its cases are still open" in done.told
    found = incident()
    assert (found.state, found.cause, found.fix, found.resolved_by) == (
        "RESOLVED",
        "a typo in the price list",
        "the list is corrected",
        "iris",
    )
    assert operations.group_cases() == 0
    assert Incident.objects.count() == 1
    with pytest.raises(NotPossible, match="by iris"):
        close()


def test_who_may_not_closes_no_incident(fail: Callable[..., list[Order]]) -> None:
    fail(3)
    operations.group_cases()
    before = Operation.objects.count()
    with pytest.raises(Denied):
        operations.perform(
            actor=people.anybody("nora"),
            request=operations.Request(
                action=Action.INCIDENT_CLOSE,
                subject=f"incident:{incident().pk}",
                reason="x",
            ),
        )
    assert incident().state == "OPEN"
    assert Operation.objects.count() == before


def test_a_grant_for_another_target_system_does_not_cover_an_incident(
    fail: Callable[..., list[Order]],
) -> None:
    fail(3)
    operations.group_cases()
    nick = people.actor(people.operator("nick", Action.INCIDENT_CLOSE, targets=["beta"]))
    with pytest.raises(Denied, match="alpha"):
        operations.perform(
            actor=nick,
            request=operations.Request(
                action=Action.INCIDENT_CLOSE, subject=f"incident:{incident().pk}", reason="x"
            ),
        )


def test_the_same_reason_says_what_fixed_it_last(fail: Callable[..., list[Order]]) -> None:
    (order,) = fail(1)
    retry([order])
    (again,) = fail(1)
    case = FalloutCase.objects.get(fulfillment=again.fulfillment_id)
    (before,) = caseload.fixed_before(fingerprint=case.fingerprint, besides=case.pk)
    assert (before.order_reference, before.resolved_by) == (order.reference, "ops")
    (step,) = before.steps
    assert (step.kind, step.actor, step.reason) == ("retry", "ops", "the mapping is there now")
    assert before.took >= before.took * 0


def test_what_has_another_reason_was_fixed_by_something_else(
    fail: Callable[..., list[Order]],
) -> None:
    retry(fail(1, "no_stock"))
    (order,) = fail(1)
    case = FalloutCase.objects.get(fulfillment=order.fulfillment_id)
    assert caseload.fixed_before(fingerprint=case.fingerprint) == []


def test_what_may_help_is_what_is_possible_now(fail: Callable[..., list[Order]]) -> None:
    (order,) = fail(1)
    case = FalloutCase.objects.get()
    assert Action.TASK_RETRY in caseload.options([case])[case.pk]
    retry([order])
    case.refresh_from_db()
    assert caseload.options([case]) == {}


def test_what_may_help_costs_the_same_for_many(fail: Callable[..., list[Order]]) -> None:
    fail(12)
    found = list(FalloutCase.objects.order_by("pk"))
    caseload.options(found[:1])

    def queries(of: Sequence[FalloutCase]) -> int:
        with CaptureQueriesContext(connection) as seen:
            caseload.options(of)
        return len(seen)

    assert queries(found) == queries(found[:2])


def test_a_case_that_is_about_another_cause_now_leaves_its_incident(
    systems: ScriptedSystems, settings: Any
) -> None:
    """What is released with the incident has its cause in common with it."""
    settings.OMS_INCIDENT_CASES = 2
    desk.target("alpha")
    # Long enough that nothing is tried again before the clock is put forward.
    retry = {"initial_interval": "PT10M", "maximum_interval": "PT10M", "escalate_after": 1}
    desk.workflow({"one": desk.task(retry={"maximum_attempts": 5, **retry})})
    systems.sends["one"] = [desk.failed("busy")] * 3 + [desk.rejected("no_mapping")] * 2
    for _ in range(3):
        desk.order()
    desk.drain()
    assert operations.group_cases() == 3
    desk.advance(3600)
    desk.drain()
    assert operations.group_cases() == 2
    found = {one.reason_code: one for one in Incident.objects.filter(state="OPEN")}
    changed = FalloutCase.objects.filter(reason_code="no_mapping")
    assert [case.incident for case in changed] == [found["no_mapping"]] * 2


def assign(name: str, **parameters: Any) -> operations.Done:
    return operations.perform(
        actor=people.anybody(name, Action.INCIDENT_ASSIGN),
        request=operations.Request(
            action=Action.INCIDENT_ASSIGN,
            subject=f"incident:{incident().pk}",
            reason="somebody has to",
            parameters=parameters,
        ),
    )


def test_one_person_has_an_incident_and_the_other_is_told_who(
    fail: Callable[..., list[Order]],
) -> None:
    fail(3)
    operations.group_cases()
    assert assign("iris").told == f"Incident {incident().pk} is iris's."
    with pytest.raises(NotPossible, match="iris has incident"):
        assign("ivan")
    assert assign("ivan", instead_of="iris").after == {"assigned_to": "ivan"}
    assert assign("ivan", to="iris", instead_of="ivan").before == {"assigned_to": "ivan"}
    with pytest.raises(NotPossible, match="no active user 'nobody'"):
        assign("ivan", to="nobody", instead_of="iris")
    assert "is nobody's" in assign("iris", release=True).told
    with pytest.raises(NotPossible, match="nobody's already"):
        assign("iris", release=True)
    assert incident().assigned_to == ""
    assert not FalloutCase.objects.exclude(assigned_to="").exists()
    assert Operation.objects.filter(kind="assign_incident").count() == 4


def test_nobody_has_what_is_closed(fail: Callable[..., list[Order]]) -> None:
    fail(3)
    operations.group_cases()
    close()
    with pytest.raises(NotPossible, match="is closed since"):
        assign("iris")
    held = frozenset({Action.INCIDENT_ASSIGN, Action.INCIDENT_CLOSE})
    assert operations.possible(subject=f"incident:{incident().pk}", held=held) == []
