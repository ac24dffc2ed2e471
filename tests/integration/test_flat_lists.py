"""A page reads about what it shows, however much is done, and however much waits beside it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from pytest_django import DjangoDbBlocker

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin import reading
from fulfillment.engine.store.database import cursor
from fulfillment.models import FalloutCase, ManualTask
from fulfillment.queries import case_queue, workload
from oms.models import Order
from tests import crowd, desk, people
from tests.api import Api
from tests.conftest import OWNER_URL, _with_database, own_database, template
from tests.desk import ScriptedSystems, by
from tests.manual_work import an_approval
from tests.pages import address_of

COPIES = 2000
LOOKED_BACK = 100
FEW = 900
"""Rows of one table, or entries of one index: those of a page, and those that it looks back."""


def _crowd() -> dict[str, int]:
    """Twelve kinds of waits, two thousand times each; newer ones that are done, for `done`.

    Those that are done had a case, and somebody decided about them.
    """
    systems = desk.fresh_systems()
    found = crowd.one_of_each()
    done = _done(systems)
    crowd.multiply(COPIES, of=[order.fulfillment_id for order in found.values()])
    crowd.multiply(3 * COPIES, of=[done.fulfillment_id])
    with cursor() as raw:
        # One after the other, as they would have come, and called so.
        raw.execute("UPDATE oms_order SET reference = 'O-' || id")
        raw.execute("SELECT max(id) FROM oms_order")
        ((last,),) = raw.fetchall()
        raw.execute(
            "UPDATE oms_order SET submitted_at = now() - (%s - id) * '1 s'::interval", [last]
        )
    database = str(connection.settings_dict["NAME"])
    with psycopg.connect(_with_database(OWNER_URL, database), autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE")
    return {name: order.pk for name, order in {**found, "done": done}.items()}


@pytest.fixture(scope="module")
def crowded(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[tuple[str, dict[str, int]]]:
    with django_db_blocker.unblock(), template("lists", _crowd) as made:
        yield made


@pytest.fixture
def shown(
    crowded: tuple[str, dict[str, int]], systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Order]]:
    """A crowd of the test's own, in lists that look back less far."""
    monkeypatch.setattr(reading, "NEWEST", LOOKED_BACK)
    monkeypatch.setattr(reading, "_MOST_FOUND", LOOKED_BACK)
    monkeypatch.setattr(workload, "MOST_BESIDE", LOOKED_BACK)
    monkeypatch.setattr(case_queue, "MOST", LOOKED_BACK)
    name, found = crowded
    with own_database(like=name):
        yield {what: Order.objects.get(pk=pk) for what, pk in found.items()}


def _done(systems: ScriptedSystems) -> Order:
    desk.workflow(
        {
            "refused": desk.task(),
            "approve": desk.step(manual=an_approval(within="P9D"), after=["refused"]),
        },
        offering="done",
    )
    systems.sends["refused"] = [desk.rejected()]
    order = desk.order(desk.item("done"), customer_name="Dora Done")
    desk.finish()
    refused = desk.tasks_of(order)["refused@1"]
    operations.retry(task_id=refused.pk, actor=by("ann"), reason="They have mended it.")
    desk.finish()
    manual = ManualTask.objects.get(fulfillment_id=order.fulfillment_id)
    operations.decide(
        manual_id=manual.pk, outcome="approved", values={}, actor=by("ann"), reason="Fine."
    )
    desk.finish()
    Order.objects.filter(pk=order.pk).update(client=desk.client("a-shop"), customer_id="C-DONE")
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert FalloutCase.objects.get(fulfillment_id=order.fulfillment_id).resolved_at
    return order


@pytest.fixture
def boss(shown: dict[str, Order]) -> Client:
    boss = Client()
    boss.force_login(User.objects.create_superuser("boss"))
    return boss


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
        "orders by state": (Order, {"state__exact": "IN_PROGRESS"}),
        "orders by a state that none has": (Order, {"state__exact": "REJECTED"}),
        "a search by customer": (Order, {"q": "HELD"}),
        "a search by reference": (Order, {"q": done.reference}),
        "a search by name": (Order, {"q": "Dora"}),
        "a search by correlation id": (Order, {"q": done.fulfillment.correlation_id}),
    }
    for what, (model, query) in lists.items():
        answer = boss.get(address_of(model, "changelist"), query)
        assert bool(answer.context["cl"].result_list) == ("none has" not in what), what
        crowd.reads_few(
            lambda model=model, query=query: boss.get(address_of(model, "changelist"), query),
            what=what,
            at_most=FEW,
        )


def test_lists_of_the_api_read_a_page(boss: Client, shown: dict[str, Order]) -> None:
    """Of a client whose orders are done, of one whose old orders wait, and of one without any."""
    done, last = shown["done"], Order.objects.latest("pk")
    shop, waits, newcomer = Api(name="a-shop"), Api(), Api(name="a-newcomer")
    before = (last.submitted_at - timedelta(seconds=COPIES)).isoformat()
    later = (last.submitted_at - timedelta(seconds=COPIES - 60)).isoformat()
    lists: dict[str, tuple[Api, dict[str, Any]]] = {
        "all": (shop, {}),
        "old ones": (waits, {}),
        "none": (newcomer, {}),
        "by state": (shop, {"state": "COMPLETED"}),
        "by a state that none has": (shop, {"state": "IN_PROGRESS"}),
        "old ones by state": (waits, {"state": "IN_PROGRESS"}),
        "old ones by two states": (waits, {"state": ["IN_PROGRESS", "REJECTED"]}),
        "by customer": (shop, {"customer": done.customer_id}),
        "by external id": (shop, {"external_id": done.external_id}),
        "of a time": (shop, {"submitted_from": before, "submitted_before": later}),
        "before a time": (shop, {"submitted_before": before}),
        "before a time, by state": (shop, {"submitted_before": before, "state": "COMPLETED"}),
        "since a time": (shop, {"submitted_from": before}),
        "far back": (shop, {"after": f"O-{last.pk - COPIES}"}),
        "stuck": (waits, {"stuck": "true", "limit": 3}),
        "stuck, done": (shop, {"stuck": "true"}),
        "not stuck": (waits, {"stuck": "false", "limit": 3}),
    }
    for what, (api, query) in lists.items():
        path = f"/orders?{urlencode(query, doseq=True)}"
        answer = api.get(path)
        assert answer.status_code == 200, answer.content
        none = api is newcomer or what in ("by a state that none has", "stuck, done")
        assert bool(answer.json()["orders"]) != none, what
        crowd.reads_few(lambda api=api, path=path: api.get(path), what=what, at_most=FEW)


def test_a_search_by_name_goes_through_the_newest_only(
    boss: Client, shown: dict[str, Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when none is called so, and a list of the newest would be joined with all."""
    looked_back = Order.objects.count() // 4
    monkeypatch.setattr(reading, "NEWEST", looked_back)
    assert looked_back > 3 * COPIES  # Those that are done, and some that wait.

    def search() -> None:
        assert boss.get(address_of(Order, "changelist"), {"q": "Nobody"}).status_code == 200

    search()
    read = crowd.rows_read(search)
    assert max(read.values()) == read["oms_order_pkey"]
    assert read["oms_order_pkey"] <= 3 * looked_back + FEW  # Which they are, entries and rows.
    assert "oms_order" not in read


def test_lists_of_cases_read_a_page_and_their_jobs_what_is_due(
    shown: dict[str, Order],
) -> None:
    api = Api(user=people.operator("anna", Action.CASE_ASSIGN))
    last = FalloutCase.objects.latest("pk")
    for what, query in {
        "open": {},
        "closed": {"state": "RESOLVED"},
        "all, far back": {"state": "all", "after": last.pk - 10},
        "of a queue": {"queue": "operations"},
        "of nobody": {"assigned_to": "nobody"},
        "of one order": {"order": shown["done"].reference, "state": "all"},
    }.items():
        path = f"/cases?{urlencode(query)}&limit=20"
        answer = api.get(path)
        assert answer.status_code == 200, answer.content
        assert bool(answer.json()["cases"]) == (what != "of nobody"), what
        crowd.reads_few(lambda path=path: api.get(path), what=what, at_most=FEW)
    operations.escalate_due()
    crowd.reads_few(operations.escalate_due, what="what is to be escalated", at_most=FEW)
