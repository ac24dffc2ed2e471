"""A page reads about what it shows, however much is done, and however much waits beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from fulfillment import operations
from fulfillment.admin import reading
from fulfillment.engine.store.database import cursor
from fulfillment.models import FalloutCase, ManualTask
from oms.models import Order
from tests import crowd, desk
from tests.conftest import OWNER_URL, _with_database
from tests.desk import ScriptedSystems
from tests.pages import address_of

COPIES = 2000
LOOKED_BACK = 100
FEW = 900
"""Rows of one table, or entries of one index: those of a page, and those that it looks back."""
_APPROVAL = {
    "queue": "approvals",
    "role": "manager",
    "instructions": "Look at the amount.",
    "outcomes": {"approved": "proceed", "rejected": "refuse"},
    "within": "P9D",
    "otherwise": "escalate",
}


@pytest.fixture
def shown(
    committed_db: str, systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Order]:
    """Twelve kinds of waits, two thousand times each; newer ones that are done, for `done`.

    Those that are done had a case, and somebody decided about them.
    """
    found = crowd.one_of_each()
    done = _done(systems)
    crowd.multiply(COPIES, of=[order.fulfillment_id for order in found.values()])
    crowd.multiply(3 * COPIES, of=[done.fulfillment_id])
    with cursor() as raw:
        # One after the other, as they would have come.
        raw.execute("SELECT max(id) FROM oms_order")
        ((last,),) = raw.fetchall()
        raw.execute(
            "UPDATE oms_order SET submitted_at = now() - (%s - id) * '1 s'::interval", [last]
        )
    database = str(connection.settings_dict["NAME"])
    with psycopg.connect(_with_database(OWNER_URL, database), autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE")
    monkeypatch.setattr(reading, "NEWEST", LOOKED_BACK)
    return {**found, "done": done}


def _done(systems: ScriptedSystems) -> Order:
    desk.workflow(
        {"refused": desk.task(), "approve": desk.step(manual=_APPROVAL, after=["refused"])},
        offering="done",
    )
    systems.sends["refused"] = [desk.rejected()]
    order = desk.order(desk.item("done"), customer_name="Dora Done")
    desk.finish()
    refused = desk.tasks_of(order)["refused@1"]
    operations.retry(task_id=refused.pk, actor="ann", reason="They have mended it.")
    desk.finish()
    manual = ManualTask.objects.get(fulfillment_id=order.fulfillment_id)
    operations.decide(
        manual_id=manual.pk, outcome="approved", values={}, actor="ann", reason="Fine."
    )
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert FalloutCase.objects.get(fulfillment_id=order.fulfillment_id).resolved_at
    return order


@pytest.fixture
def boss(shown: dict[str, Order]) -> Client:
    boss = Client()
    boss.force_login(User.objects.create_superuser("boss"))
    return boss


def reads_little(page: Callable[[], Any], *, what: str) -> None:
    page()
    many = {name: rows for name, rows in crowd.rows_read(page).items() if rows > FEW}
    assert not many, (what, many)


def test_lists_of_the_admin_read_a_page(boss: Client, shown: dict[str, Order]) -> None:
    done = shown["done"]
    lists = {
        "cases": (FalloutCase, {}),
        "open cases": (FalloutCase, {"state__exact": "OPEN"}),
        "closed cases": (FalloutCase, {"state__exact": "RESOLVED"}),
        "manual tasks": (ManualTask, {}),
        "open manual tasks": (ManualTask, {"state__exact": "OPEN"}),
        "decided manual tasks": (ManualTask, {"state__exact": "DECIDED"}),
        "orders": (Order, {}),
        "a search by reference": (Order, {"q": done.reference}),
        "a search by name": (Order, {"q": "Dora"}),
    }
    for what, (model, query) in lists.items():
        answer = boss.get(address_of(model, "changelist"), query)
        assert len(answer.context["cl"].result_list) >= 1, what
        reads_little(
            lambda model=model, query=query: boss.get(address_of(model, "changelist"), query),
            what=what,
        )
