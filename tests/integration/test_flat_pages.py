"""The page of one thing asks few questions, however many operations could be done to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin import approvals
from fulfillment.authority.authorizing import Reach
from fulfillment.models import CaseState, FalloutCase, Hold, HoldScope, ManualTask, Task
from fulfillment.operations.looking import one_look
from oms.models import Order
from tests import crowd, desk, people
from tests.desk import ScriptedSystems, by
from tests.integration.test_approvals import a_failed_charge, the_request
from tests.pages import address_of, questions

MOST: dict[type[Model], int] = {Order: 60, FalloutCase: 35, ManualTask: 25, Task: 32}
"""Questions of a page, of whoever may do everything: fewer than half of what could be asked."""


@pytest.fixture
def everybody(db: None) -> Client:
    """Whoever may see everything, and do everything."""
    user = people.operator("olga", *people.EVERYTHING)
    user.is_superuser = True
    user.save()
    client = Client()
    client.force_login(user)
    return client


def opening(client: Client, row: Model) -> Callable[[], Any]:
    def look() -> None:
        assert client.get(address_of(type(row), "change", row.pk)).status_code == 200

    return look


@pytest.mark.django_db
def test_a_page_asks_few_questions(everybody: Client, systems: ScriptedSystems) -> None:
    waiting = crowd.one_of_each()
    rows: list[tuple[str, Model]] = [
        *((f"order that waits for {name}", order) for name, order in waiting.items()),
        *((f"case {case.reason_code}", case) for case in FalloutCase.objects.all()),
        *(("manual task", one) for one in ManualTask.objects.all()),
        *((f"task {task.key}", task) for task in Task.objects.filter(fulfillment_id__isnull=False)),
    ]
    asked = {}
    for what, row in rows:
        opening(everybody, row)()
        asked[what] = (questions(opening(everybody, row)), MOST[type(row)])
    assert {what for what, (count, most) in asked.items() if count > most} == set(), asked


@pytest.mark.django_db
def test_many_holds_on_one_order_are_told_of_by_its_one_reading(
    everybody: Client, systems: ScriptedSystems
) -> None:
    """What they are on is read once; of each hold itself there is one more question."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()

    def hold() -> None:
        operations.place_hold(
            scope=HoldScope.ORDER, name=order.reference, reason="Wait.", actor=by("ann")
        )

    hold()
    opening(everybody, order)()
    before = questions(opening(everybody, order))
    for _ in range(3):
        hold()
    assert Hold.objects.filter(released_at=None).count() == 4
    assert questions(opening(everybody, order)) == before + 3


@pytest.mark.django_db
def test_what_is_shown_is_never_what_was_so_before(systems: ScriptedSystems) -> None:
    """One look remembers; whatever is done, and the look after it, finds how it is by now."""
    order = a_failed_charge(systems)
    case = FalloutCase.objects.get(fulfillment_id=order.fulfillment_id)
    olga = people.almighty()
    reach = Reach(actor=olga)
    subject = f"case:{case.pk}"

    def may() -> set[Action]:
        found = operations.possible(subject=subject, held=reach.held, reach=reach)
        return {one.action for one in found}

    with one_look():
        assert Action.CASE_CLOSE in may()
        operations.close_case(case_id=case.pk, resolution="It is done.", actor=olga)
    assert FalloutCase.objects.get(pk=case.pk).state == CaseState.RESOLVED
    assert Action.CASE_CLOSE not in may()


@pytest.mark.django_db
def test_whoever_leaves_an_approval_open_locks_nothing(systems: ScriptedSystems) -> None:
    """Opening its page takes the order's lock for a moment; looking at it again does not."""
    order = a_failed_charge(systems)
    found = operations.prepared(
        actor=people.anybody("anna", Action.TASK_RETRY), request=the_request(order)
    )
    approval = operations.ask_for_approval(prepared=found)
    client = Client()
    client.force_login(people.operator("paula", Action.APPROVE_PAYMENT))
    address = address_of(approvals.Approval, "change", approval.pk)
    again = {"HX-Request": "true", "HX-Target": "approval"}

    def locks(headers: dict[str, str]) -> list[str]:
        with CaptureQueriesContext(
            connection,
        ) as sent:
            answer = client.get(address, headers=headers)
        assert 'id="approval"' in answer.content.decode()
        return [one["sql"] for one in sent if " FOR " in one["sql"] or "SAVEPOINT" in one["sql"]]

    assert locks({})
    assert not locks(again)


@pytest.mark.django_db
def test_somebody_who_is_not_active_any_more_reaches_nothing(systems: ScriptedSystems) -> None:
    user: User = people.operator("kim", Action.CASE_CLOSE)
    actor = people.actor(user)
    assert Reach(actor=actor, user=user).held == Reach(actor=actor).held == {Action.CASE_CLOSE}
    user.is_active = False
    user.save()
    assert not Reach(actor=actor, user=user).held
    assert not Reach(actor=actor).held
    assert not Reach(actor=actor, user=User(username="another")).held
