"""Today asks as much, and reads as little, however much waits and however much is done."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse

from fulfillment.admin import reading
from fulfillment.engine.store.database import cursor
from fulfillment.models import FalloutCase, ManualTask, Plan, Task
from fulfillment.queries import case_queue, on_the_way, workload
from oms.admin.reports import report_address
from oms.models import Order
from oms.queries import day
from oms.reports import standing
from tests import crowd, desk
from tests.conftest import OWNER_URL, _with_database
from tests.desk import ScriptedSystems
from tests.pages import address_of, questions

COPIES = 1500
COUNTED = 100
FEW = 1300
"""Rows of one table, or entries of one index: so many figures look at COUNTED rows each."""


@pytest.fixture
def boss(committed_db: str) -> Client:
    """Whoever may see all but the health of target systems, which has a reading of its own."""
    user = User.objects.create_user("boss", is_staff=True)
    names = ("order", "falloutcase", "manualtask", "incident", "approval", "inboundevent", "task")
    user.user_permissions.add(
        *Permission.objects.filter(codename__in=[f"view_{name}" for name in names])
    )
    client = Client()
    client.force_login(user)
    return client


def _multiply(copies: int, of: list[int]) -> None:
    crowd.multiply(copies, of=of)
    database = str(connection.settings_dict["NAME"])
    with psycopg.connect(_with_database(OWNER_URL, database), autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE")


def test_today_asks_and_reads_as_much_whatever_there_is(
    boss: Client, systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = crowd.one_of_each()
    desk.workflow({"one": desk.task()}, offering="done")
    done = desk.order(desk.item("done"))
    desk.finish()

    def page() -> Any:
        answer = boss.get(reverse("admin:index"))
        assert answer.status_code == 200
        return answer

    page()
    asked = questions(page)
    _multiply(COPIES, [order.fulfillment_id for order in waiting.values()])
    _multiply(4 * COPIES, [done.fulfillment_id])
    with cursor() as raw:  # Most of what is done was done on other days.
        raw.execute(
            "UPDATE oms_order SET finished_at = finished_at - id %% 100 * '1 day'::interval "
            "WHERE finished_at IS NOT NULL AND id <> %s",
            [done.pk],
        )
    for module in (workload, day):
        monkeypatch.setattr(module, "MOST", COUNTED)
    monkeypatch.setattr(workload, "MOST_BESIDE", COUNTED)
    page()
    assert questions(page) == asked
    crowd.reads_few(page, what="the page", at_most=FEW)
    found = page().context
    assert found["day"].fallout.total == found["day"].stuck.total == COUNTED + 1


def test_lists_behind_its_figures_read_a_page_and_so_do_reports(
    boss: Client, systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = crowd.one_of_each()
    _multiply(COPIES, [order.fulfillment_id for order in waiting.values()])
    monkeypatch.setattr(reading, "NEWEST", COUNTED)
    for module in (workload, case_queue, on_the_way):
        monkeypatch.setattr(module, "MOST", COUNTED)
    monkeypatch.setattr(workload, "MOST_BESIDE", COUNTED)
    now = workload.now()
    few = list(Plan.objects.filter(workload.IS_STUCK).values_list("pk", flat=True)[:50])
    Plan.objects.filter(pk__in=few).update(stuck_at=now - timedelta(hours=30), at_risk_since=now)
    lists: dict[str, tuple[Any, dict[str, str]]] = {
        "cases overdue": (FalloutCase, {"due": "overdue"}),
        "manual tasks overdue": (ManualTask, {"due": "overdue"}),
        "in jeopardy": (Order, {"needs": "at-risk"}),
        "to be sent": (Task, {"way": "to-be-sent", "target__name__exact": "gamma"}),
        "to be sent, later": (Task, {"way": "to-be-sent", "target__name__exact": "alpha"}),
        "to be tried again": (Task, {"way": "retried", "target__name__exact": "alpha"}),
        "accepted": (Task, {"way": "accepted", "target__name__exact": "beta"}),
        "stuck": (Order, {"stuck": "any"}),
        "stuck for long": (Order, {"stuck": "over-24h"}),
        "ended today": (Order, {"ended": "today", "state__exact": "COMPLETED"}),
    }
    for what, (model, query) in lists.items():
        address = address_of(model, "changelist")

        def look(address: str = address, query: dict[str, str] = query) -> None:
            answer = boss.get(address, query)
            assert answer.status_code == 200
            assert answer.context["cl"].result_list or "ended" in query or "due" in query

        crowd.reads_few(look, what=what, at_most=FEW)
    monkeypatch.setattr(standing, "COUNTED", COUNTED)
    for page in (reverse("desk_reports"), report_address(standing.STUCK)):

        def report(page: str = page) -> None:
            assert boss.get(page).status_code == 200

        crowd.reads_few(report, what=page, at_most=FEW)
